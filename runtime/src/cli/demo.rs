//! `clearfilm demo`: the appliance embedded whole, with a broker, a sender and a screen.
//!
//! Nothing here takes a short cut: phantoms go through the real receiver over loopback, and what
//! is printed is what a separate subscriber gets back from the broker.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytesize::ByteSize;
use clap::Args;
use clearfilm::clock::SystemClock;
use clearfilm::config::{Config, Mqtt, UnknownPeers};
use clearfilm::ingest::send;
use clearfilm::phantom::{Encoding, Phantom, Projection, Variant};
use clearfilm::pipeline::Appliance;
use clearfilm::publish::subscribe::Follower;
use rumqttd::{Broker, ConnectionSettings, RouterConfig, ServerSettings};
use serde_json::Value;
use tokio::sync::mpsc;

use super::{NOT_READY, log, runtime, show};

/// The whole appliance with an embedded broker, reading phantoms that it sends to itself.
///
/// Draws chest phantoms, sends them over DICOM to the real receiver, and prints the findings and
/// drafts that a subscriber gets back from the broker. Then it keeps listening, so that any DICOM
/// sender can be tried on it. It needs no configuration, no network and no data, and leaves
/// nothing behind. Phantoms are drawings, the bundle is not MedCLIP, nothing is for clinical use.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Phantoms to send, one of each variant in turn.
    #[arg(long, default_value_t = 6)]
    count: u64,
    /// First seed; other seeds draw other chests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// DICOM port; without it 11112, or any free one.
    #[arg(long)]
    port: Option<u16>,
    /// MQTT port; without it 1883, or any free one.
    #[arg(long)]
    mqtt_port: Option<u16>,
    /// Do not start the broker: to see that nothing is printed but what it carries.
    #[arg(long)]
    no_broker: bool,
    /// End when the phantoms were read, or when patience ends.
    #[arg(long)]
    once: bool,
    /// How long to wait for the drafts: starting the engine takes seconds, a reading less than one.
    #[arg(long, default_value = "60s", value_parser = humantime_serde::re::humantime::parse_duration)]
    patience: Duration,
    /// Log more than errors.
    #[arg(short, long)]
    verbose: bool,
}

/// Messages that may wait for a slow terminal.
const WAITING_MAX: usize = 256;

pub(super) fn run(demo: &Demo) -> anyhow::Result<ExitCode> {
    let folder = tempfile::Builder::new()
        .prefix("clearfilm-demo-")
        .tempdir()
        .context("making a folder for the demo")?;
    let mut config = configuration(demo)?;
    config.storage.path = folder.path().into();
    log::start(&config.telemetry)?;
    let broker = (!demo.no_broker).then(|| start_broker(&config.mqtt)).transpose()?;
    banner(&config, broker.is_some());
    let mqtt = config.mqtt.clone();
    let appliance = Appliance::open(config, Arc::new(SystemClock))?;
    let outcome = runtime()?.block_on(show_and_serve(demo, appliance, mqtt));
    folder.close().context("removing the demo's folder")?;
    outcome
}

fn configuration(demo: &Demo) -> anyhow::Result<Config> {
    let mut config = Config::load(None)?.config;
    config.unit.site = "demo".into();
    config.unit.name = "demo-unit".into();
    config.dicom.scp.listen = free_port(demo.port, 11112)?;
    config.dicom.scp.unknown_peers = UnknownPeers::Accept;
    config.mqtt.url = format!("mqtt://{}", free_port(demo.mqtt_port, 1883)?);
    // The demo holds a few images and leaves nothing behind.
    config.storage.free_min = ByteSize::mib(64);
    // Another program on this machine may have these ports.
    config.http.listen.clear();
    config.telemetry.metrics.clear();
    // The bundle's findings hold on phantoms only, and phantoms are what it reads here.
    config.bundle.unvalidated = true;
    if !demo.verbose {
        // The broker calls every client that leaves an error.
        config.telemetry.log = "error,rumqttd=off".into();
    }
    Ok(config)
}

/// The wanted port, or the usual one where it is free, or any.
fn free_port(wanted: Option<u16>, usual: u16) -> anyhow::Result<SocketAddr> {
    let ports = wanted.map_or_else(|| vec![usual, 0], |port| vec![port]);
    let bound =
        ports.into_iter().find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    let listener = bound
        .with_context(|| format!("finding a free port on loopback, {wanted:?} was asked for"))?;
    Ok(listener.local_addr()?)
}

fn start_broker(mqtt: &Mqtt) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let (_, port) = mqtt.address().map_err(anyhow::Error::msg)?;
    let connections = ConnectionSettings {
        connection_timeout_ms: 5_000,
        max_payload_size: usize::try_from(mqtt.max_packet.as_u64())?,
        max_inflight_count: usize::from(mqtt.inflight),
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server = ServerSettings {
        name: "demo".into(),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        tls: None,
        next_connection_delay_ms: 1,
        connections,
    };
    // The sizes of rumqttd's own example configuration, less its ten thousand connections.
    let router = RouterConfig {
        max_connections: 64,
        max_outgoing_packet_count: 200,
        max_segment_size: 100 * 1024 * 1024,
        max_segment_count: 10,
        ..RouterConfig::default()
    };
    let servers = HashMap::from([("demo".to_owned(), server)]);
    let mut broker =
        Broker::new(rumqttd::Config { router, v5: Some(servers), ..rumqttd::Config::default() });
    let thread = std::thread::Builder::new().name("broker".into()).spawn(move || {
        if let Err(error) = broker.start() {
            anstream::eprintln!("clearfilm: the demo's broker ended: {error}");
        }
    });
    thread.context("starting the broker's thread")
}

fn banner(config: &Config, broker: bool) {
    let broker = if broker { config.mqtt.url.as_str() } else { "switched off" };
    anstream::println!(
        "{}",
        show::heading(
            "Clearfilm demo: phantoms (drawings), a bundle that is not MedCLIP, not for clinical use"
        )
    );
    anstream::println!(
        "  DICOM {} as {}, MQTT {broker}\n",
        config.dicom.scp.listen,
        config.dicom.scp.ae_title
    );
}

/// Runs the appliance, sends the phantoms and prints what comes back.
async fn show_and_serve(demo: &Demo, appliance: Appliance, mqtt: Mqtt) -> anyhow::Result<ExitCode> {
    let (sender, messages) = mpsc::channel(WAITING_MAX);
    let filter = format!("{}/+/+/exam/+/+", mqtt.root);
    let follower =
        Follower::new(&mqtt, "demo-screen".into(), filter).map_err(anyhow::Error::msg)?;
    let following = tokio::spawn(follower.run(sender));
    let (ready, listening) = tokio::sync::oneshot::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(appliance.run(
        move |address| {
            if ready.send(address).is_err() {
                tracing::debug!("nobody waits for the address");
            }
        },
        async move {
            if stopped.await.is_err() {
                tracing::debug!("the demo ended");
            }
        },
    ));
    let outcome = match listening.await {
        Ok(address) => play(demo, address, messages).await,
        // The reason is what `running` gives below.
        Err(_) => Ok(ExitCode::FAILURE),
    };
    drop(stop);
    following.abort();
    running.await??;
    outcome
}

async fn play(
    demo: &Demo,
    address: SocketAddr,
    mut messages: mpsc::Receiver<clearfilm::publish::subscribe::Received>,
) -> anyhow::Result<ExitCode> {
    let (count, seed) = (demo.count, demo.seed);
    let sending = tokio::task::spawn_blocking(move || send_phantoms(address, seed, count));
    let mut screen = Screen::default();
    let deadline = tokio::time::Instant::now() + demo.patience;
    while screen.drafts < count {
        match tokio::time::timeout_at(deadline, messages.recv()).await {
            Ok(Some(message)) => screen.show(&message.topic, &message.body),
            Ok(None) | Err(_) => break,
        }
    }
    sending.await??;
    if screen.drafts < count {
        anstream::println!(
            "{} of {count} drafts came back from the broker within {} s",
            screen.drafts,
            demo.patience.as_secs()
        );
    }
    if demo.once {
        return Ok(if screen.drafts == count {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(NOT_READY)
        });
    }
    anstream::println!("{}", show::heading("Listening; ends with Ctrl-C. Try:"));
    anstream::println!("  storescu -aec CLEARFILM {} {} FILE.dcm", address.ip(), address.port());
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    loop {
        tokio::select! {
            message = messages.recv() => match message {
                Some(message) => screen.show(&message.topic, &message.body),
                None => return Ok(ExitCode::SUCCESS),
            },
            _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn send_phantoms(address: SocketAddr, first: u64, count: u64) -> anyhow::Result<()> {
    for (seed, variant) in (first..first + count).zip(Variant::ALL.into_iter().cycle()) {
        let projection = if seed % 2 == 0 { Projection::Ap } else { Projection::Pa };
        let file = Phantom { seed, projection, variant }.to_dicom(&Encoding::default())?;
        let status = send::store(address, "CLEARFILM", "DEMO", &file)?;
        anyhow::ensure!(
            status == 0,
            "sending phantom {seed}: expected status 0000, found {status:04x}"
        );
        anstream::println!(
            "{}",
            show::sent(&format!(
                "phantom {seed} ({}, {}) sent, {} bytes",
                variant.name(),
                projection.name(),
                file.len()
            ))
        );
    }
    Ok(())
}

/// Puts the messages of an exam together as they arrive.
#[derive(Default)]
struct Screen {
    drafts: u64,
    findings: HashMap<String, Value>,
}

impl Screen {
    fn show(&mut self, topic: &str, body: &[u8]) {
        let envelope: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let Some((exam, kind)) = topic.rsplit_once('/') else { return };
        match kind {
            // Printed together with the draft, which follows it.
            "findings" => {
                self.findings.insert(exam.to_owned(), envelope);
            }
            "report" => {
                if let Some(findings) = self.findings.remove(exam) {
                    anstream::print!("{}", show::message(&format!("{exam}/findings"), &findings));
                }
                anstream::println!("{}", show::message(topic, &envelope));
                self.drafts += 1;
            }
            "gate" if envelope["payload"]["accept"] == false => {
                anstream::print!("{}", show::message(topic, &envelope))
            }
            _ => {}
        }
    }
}
