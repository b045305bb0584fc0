//! `clearfilm-fleet inventory`: what a broker holds of every unit.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use clearfilm::config::Config;
use clearfilm::publish::subscribe::Follower;
use clearfilm_fleet::inventory::Inventory;
use tokio::sync::mpsc;
use uuid::Uuid;

/// List every unit that the broker knows: state, versions, engine, certificate, outbox, update, alarms.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// A configuration whose `[mqtt]` section says which broker, and as whom.
    #[arg(long, value_name = "FILE", default_value = "/etc/clearfilm/config.toml")]
    config: PathBuf,
    /// Only this site.
    #[arg(long, default_value = "+")]
    site: String,
    /// How long to wait for messages after the last one came.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// As JSON, by site/unit.
    #[arg(long)]
    json: bool,
}

/// Messages that may wait to be looked at.
const WAITING_MAX: usize = 256;

pub(crate) async fn run(list: &List) -> anyhow::Result<String> {
    let mqtt = Config::load(Some(&list.config))?.config.mqtt;
    let (sender, mut messages) = mpsc::channel(WAITING_MAX);
    for filter in ["+", "alarm/+"] {
        // What is said of exams is not asked for: it is none of an operator's business.
        let filter = format!("{}/{}/+/{filter}", mqtt.root, list.site);
        let client_id = format!("inventory-{}", Uuid::new_v4().simple());
        let follower = Follower::new(&mqtt, client_id, filter).map_err(anyhow::Error::msg)?;
        // Both end with this process.
        tokio::spawn(follower.run(sender.clone()));
    }
    let mut inventory = Inventory::default();
    while let Ok(Some(message)) = tokio::time::timeout(list.wait, messages.recv()).await {
        inventory.take(&mqtt.root, &message.topic, &message.body);
    }
    ensure!(
        !inventory.0.is_empty(),
        "expected a message of a unit at {} within {:?}, found none",
        mqtt.url,
        list.wait
    );
    if list.json {
        return Ok(serde_json::to_string_pretty(&inventory).context("writing JSON")? + "\n");
    }
    Ok(inventory.table())
}
