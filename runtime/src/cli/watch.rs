//! `clearfilm watch`: what arrives from the broker.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use clearfilm::publish::subscribe::{Follower, Received};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Configured, log, runtime, show};

/// Subscribe to the broker and print messages as they arrive.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    configured: Configured,
    /// Only this site.
    #[arg(long, default_value = "+")]
    site: String,
    /// Only this unit.
    #[arg(long, default_value = "+")]
    unit: String,
    /// One JSON object a message: topic, retained, expiry and the envelope.
    #[arg(long)]
    json: bool,
    /// Confirm every findings and report message that was printed, as this consumer (one of
    /// `mqtt.receipts`).
    #[arg(long, value_name = "CONSUMER")]
    receipts_as: Option<String>,
    /// End after this many messages.
    #[arg(long, value_name = "N")]
    count: Option<usize>,
}

/// Messages that may wait for a slow terminal before the subscriber stops taking more.
const WAITING_MAX: usize = 256;

pub(super) fn run(watch: &Watch) -> anyhow::Result<ExitCode> {
    let config = watch.configured.load()?.config;
    log::start(&config.telemetry)?;
    let filter = format!("{}/{}/{}/#", config.mqtt.root, watch.site, watch.unit);
    runtime()?.block_on(async {
        let (sender, mut messages) = mpsc::channel(WAITING_MAX);
        // A name of its own each time: two with one name would throw each other out.
        let client_id = format!("watch-{}", Uuid::new_v4().simple());
        let follower =
            Follower::new(&config.mqtt, client_id, filter).map_err(anyhow::Error::msg)?;
        let confirmer = watch.receipts_as.as_deref().map(|consumer| follower.confirmer(consumer));
        let following = tokio::spawn(follower.run(sender));
        let mut left = watch.count;
        while left != Some(0) {
            let Some(message) = messages.recv().await else { break };
            print(&message, watch.json)?;
            if let Some(Err(error)) = confirmer.as_ref().map(|c| c.confirm(&message)) {
                // It is sent again, and confirmed then.
                tracing::debug!(error, "a message was not confirmed");
            }
            left = left.map(|left| left - 1);
        }
        if left == Some(0) {
            following.abort();
            return Ok(ExitCode::SUCCESS);
        }
        following.await?.map_err(anyhow::Error::msg)?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Prints a message; when this returns, the reader of the output has it.
fn print(message: &Received, as_json: bool) -> std::io::Result<()> {
    let envelope: Value = serde_json::from_slice(&message.body).unwrap_or(Value::Null);
    let mut out = anstream::stdout().lock();
    if as_json {
        let line = json!({
            "topic": message.topic, "retained": message.retained, "expiry_s": message.expiry_s, "message": envelope,
        });
        writeln!(out, "{line}")?;
    } else {
        write!(out, "{}", show::message(&message.topic, &envelope))?;
    }
    out.flush()
}
