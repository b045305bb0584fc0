//! What a broker holds of every unit: the fleet at a glance, with no server of its own.

use std::collections::BTreeMap;

use clearfilm::publish::{Channel, Topic};
use serde::Serialize;
use serde_json::Value;

/// One unit, as its retained messages have it.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Unit {
    /// `online`, `offline` or `stopped`.
    pub state: Option<String>,
    /// Version of the software.
    pub version: Option<String>,
    /// The release that brought it; none: the factory's.
    pub release: Option<String>,
    /// The bundle's name and version.
    pub bundle: Option<String>,
    /// The engine that reads.
    pub engine: Option<String>,
    /// Days until the first of its certificates ends.
    pub certificate_days: Option<i64>,
    /// Messages that no broker has acknowledged.
    pub outbox: Option<u64>,
    /// Age of the oldest of them, s.
    pub outbox_oldest_s: Option<u64>,
    /// What the update agent is about, or why it cannot.
    pub update: Option<String>,
    /// Alarms that are raised.
    pub alarms: Vec<String>,
}

/// Every unit by `site/unit`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(transparent)]
pub struct Inventory(pub BTreeMap<String, Unit>);

impl Inventory {
    /// Takes a message of a unit; one of an exam, or of somebody else, says nothing here.
    pub fn take(&mut self, root: &str, topic: &str, body: &[u8]) {
        let Some(topic) = Topic::parse(root, topic) else { return };
        let Ok(envelope) = serde_json::from_slice::<Value>(body) else { return };
        let payload = &envelope["payload"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let unit = self.0.entry(format!("{}/{}", topic.site, topic.unit)).or_default();
        match topic.channel {
            Channel::Status => unit.state = text(&payload["state"]),
            Channel::About => {
                unit.version = text(&payload["software"]["version"]);
                unit.release = text(&payload["software"]["release"]);
                let bundle = &payload["bundle"];
                unit.bundle = text(&bundle["name"])
                    .map(|name| format!("{name} {}", bundle["version"].as_str().unwrap_or("?")));
                let engine = &payload["engine"];
                unit.engine = text(&engine["backend"]).map(|backend| {
                    format!("{backend} {}", engine["provider"].as_str().unwrap_or("?"))
                });
            }
            Channel::Health => {
                unit.certificate_days = payload["certificate_days"].as_i64();
                unit.outbox = payload["outbox"]["depth"].as_u64();
                unit.outbox_oldest_s = payload["outbox"]["oldest_s"].as_u64();
            }
            Channel::Update => {
                let underway = &payload["underway"];
                let going = text(&underway["phase"]).map(|phase| {
                    let why = underway["why"].as_str().map(|why| format!(" ({why})"));
                    format!(
                        "{} {phase}{}",
                        underway["name"].as_str().unwrap_or("?"),
                        why.unwrap_or_default()
                    )
                });
                unit.update = going.or_else(|| text(&payload["problem"]));
            }
            Channel::Alarm(kind) => unit.alarms.push(kind.name().into()),
            Channel::Exam(..) => {}
        }
    }

    /// A table for people, a line each.
    #[must_use]
    pub fn table(&self) -> String {
        let head = [
            "unit", "state", "version", "release", "bundle", "engine", "cert", "outbox", "update",
            "alarms",
        ];
        let rows: Vec<[String; 10]> = self.0.iter().map(|(name, unit)| unit.row(name)).collect();
        let mut lines: Vec<Vec<String>> = vec![head.map(str::to_owned).into()];
        lines.extend(rows.into_iter().map(Vec::from));
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
        let widths: Vec<usize> = (0..head.len()).filter_map(width).collect();
        let mut text = String::new();
        for line in &lines {
            let cells: Vec<String> =
                line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            text += cells.join("  ").trim_end();
            text.push('\n');
        }
        text
    }
}

impl Unit {
    fn row(&self, name: &str) -> [String; 10] {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        // Enough to tell releases apart; JSON has the whole.
        let release = self.release.as_deref().and_then(|release| release.strip_prefix("sha256:"));
        let release = release.map_or("factory", |release| &release[..release.len().min(12)]);
        let outbox = match (self.outbox, self.outbox_oldest_s) {
            (Some(depth), Some(age)) => format!("{depth}, {age} s"),
            _ => "-".into(),
        };
        [
            name.into(),
            or_dash(&self.state),
            or_dash(&self.version),
            if self.version.is_some() { release.into() } else { "-".into() },
            or_dash(&self.bundle),
            or_dash(&self.engine),
            self.certificate_days.map_or_else(|| "-".into(), |days| format!("{days} d")),
            outbox,
            or_dash(&self.update),
            if self.alarms.is_empty() { "-".into() } else { self.alarms.join(", ") },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_what_its_retained_messages_say() {
        let mut inventory = Inventory::default();
        let mut take = |topic: &str, payload: &str| {
            let body = format!("{{\"payload\":{payload}}}");
            inventory.take(
                "clearfilm/v1",
                &format!("clearfilm/v1/north/dx-1/{topic}"),
                body.as_bytes(),
            );
        };
        take("status", r#"{"state":"online"}"#);
        take(
            "about",
            r#"{"software":{"version":"0.2.0","release":"sha256:b7fc57783659b462"},
                "bundle":{"name":"demo","version":"1"},"engine":{"backend":"ort","provider":"cpu"}}"#,
        );
        take("health", r#"{"certificate_days":31,"outbox":{"depth":2,"oldest_s":7}}"#);
        take(
            "update",
            r#"{"underway":{"name":"0.3.0","phase":"ready","why":"quiet: images arrive"}}"#,
        );
        take("alarm/disk-low", r#"{"type":"disk-low"}"#);
        take("exam/mfrggzdfmztwq2lknnwg23tpob/findings", "{}");
        inventory.take("clearfilm/v1", "other/topic", b"x");
        let expected = "\
unit        state   version  release       bundle  engine   cert  outbox  update                              alarms
north/dx-1  online  0.2.0    b7fc57783659  demo 1  ort cpu  31 d  2, 7 s  0.3.0 ready (quiet: images arrive)  disk-low
";
        assert_eq!(inventory.table(), expected);
    }

    #[test]
    fn a_unit_of_which_little_is_known_has_a_line_too() {
        let mut inventory = Inventory::default();
        let body = br#"{"payload":{"state":"offline"}}"#;
        inventory.take("clearfilm/v1", "clearfilm/v1/north/dx-1/status", body);
        let expected =
            "north/dx-1  offline  -        -        -       -       -     -       -       -\n";
        assert!(inventory.table().ends_with(expected), "{}", inventory.table());
    }
}
