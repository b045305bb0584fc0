//! Clocks that are wrong: no way past the end of a document, and nobody locked out afterwards.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use clearfilm::clock::{Clock as _, StoppedClock, SystemClock};
use clearfilm::config::Config;
use clearfilm_fleet::agent::{Agent, AgentError};
use clearfilm_fleet::source::Source;

use crate::attacks::refuses;
use crate::office::{Device, SCENE};
use crate::signing::Mirror;

/// Asks at a time and believes the answer: was the clock believed?
fn ask(device: &Device, repository: &Path, now: DateTime<Utc>) -> Result<bool, AgentError> {
    let config = Config::load(Some(&device.folder.path().join("config.toml")));
    let config = config.map_err(|error| AgentError::Settings(error.into()))?.config;
    let clock = StoppedClock::at(now);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| AgentError::Settings(error.into()))?;
    let source = Source::folder(repository).map_err(|error| AgentError::Refused(error.into()))?;
    let agent = Agent::new(&config, &clock)?;
    runtime.block_on(async {
        let told = agent.ask(&source).await?;
        let trusted = told.time_trusted;
        agent.believe(told)?;
        Ok(trusted)
    })
}

#[test]
fn a_clock_that_was_ahead_locks_nobody_out() {
    let now = SystemClock.now();
    let device = Device::shipped(&SCENE.first.join("metadata/1.root.json"));
    let repository = SCENE.office.repository();
    // Nearly as far ahead as the timestamp holds; then as far as nothing holds.
    ask(&device, &repository, now + TimeDelta::days(6)).expect("it still holds");
    let refused = ask(&device, &repository, now + TimeDelta::days(3650));
    assert!(refused.expect_err("it ended").to_string().starts_with("freeze: "));
    // The clock is right again, and what holds for a day only is new.
    let short = Mirror::of(&repository);
    short.alter("timestamp", &["timestamp"], |signed| {
        signed["version"] = serde_json::json!(99);
        signed["expires"] =
            serde_json::json!((now + TimeDelta::days(1)).format("%FT%TZ").to_string());
    });
    assert!(ask(&device, &short.path(), now).expect("it holds"), "the clock is believed");
}

#[test]
fn a_clock_in_1970_is_not_believed_and_no_way_past_an_end() {
    let device = Device::like(&SCENE.device);
    let repository = SCENE.office.repository();
    assert!(!ask(&device, &repository, DateTime::UNIX_EPOCH).expect("it holds"));
    // A signer's clock is a day ahead of this machine's, which the library looks at: what ends in half
    // a day has ended by the signer's word alone.
    let now = SystemClock.now();
    let at = |ahead: TimeDelta| serde_json::json!((now + ahead).format("%FT%TZ").to_string());
    let mirror = Mirror::of(&repository);
    let sign = |expires: Option<TimeDelta>| {
        if let Some(expires) = expires {
            mirror.alter("app", &["app"], |signed| signed["expires"] = at(expires));
        }
        mirror.alter("timestamp", &["timestamp"], |signed| {
            signed["version"] = serde_json::json!(99);
            signed["x-signed-at"] = at(TimeDelta::days(1));
        });
    };
    sign(None);
    ask(&device, &mirror.path(), DateTime::UNIX_EPOCH).expect("it holds");
    sign(Some(TimeDelta::hours(12)));
    let refused = ask(&device, &mirror.path(), DateTime::UNIX_EPOCH).expect_err("it ended");
    assert!(refused.to_string().starts_with("freeze: app "), "{refused}");
}

#[test]
fn a_timestamp_that_does_not_say_when_it_was_signed_is_refused() {
    for said in [serde_json::Value::Null, "yesterday".into(), "2999-01-01T00:00:00Z".into()] {
        let mirror = Mirror::new();
        mirror.alter("timestamp", &["timestamp"], |signed| signed["x-signed-at"] = said);
        refuses(&Device::like(&SCENE.device), &mirror, "malformed");
    }
}
