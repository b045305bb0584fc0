//! `clearfilm doctor`: which engines really run here, and is everything around as it should be?

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use clearfilm::board::Board;
use clearfilm::bundle::Bundle;
use clearfilm::clock::{Clock as _, SystemClock, rfc3339};
use clearfilm::config::{Config, EngineChoice};
use clearfilm::encode::{EngineVerdict, Verdict};
use clearfilm::publish::subscribe::greet;
use clearfilm::selftest::probe::{Passed, Prober};
use clearfilm::{device, tls};
use serde_json::{Value, json};

use super::{Configured, INVALID, NOT_READY, runtime};

/// Try everything around: engines, board, disk, clock, ports, broker, certificates.
///
/// Every engine of the configured order is tried in a process of its own, also those that the
/// service would not need, and its verdict and reason are printed. Nothing of a running service is
/// touched.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    configured: Configured,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// Only the engines and the board.
    #[arg(long)]
    engines: bool,
    /// Write everything to a file that can be sent to whoever helps: no patient's data, no keys.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Longest wait for a broker's greeting.
const GREETING: Duration = Duration::from_secs(10);

/// What became of one engine.
struct Tried {
    verdict: EngineVerdict,
    passed: Option<Passed>,
}

/// One thing that was looked at: its name, and what is wrong or what was found.
struct Check(&'static str, Result<String, String>);

pub(super) fn run(doctor: &Doctor) -> anyhow::Result<ExitCode> {
    let config = match doctor.configured.load() {
        Ok(loaded) => loaded.config,
        Err(error) => {
            anstream::eprintln!("clearfilm: {error:#}");
            return Ok(ExitCode::from(INVALID));
        }
    };
    let bundle = match Bundle::load(&config.bundle) {
        Ok(bundle) => bundle,
        Err(error) => {
            anstream::eprintln!("clearfilm: {error}");
            return Ok(ExitCode::from(INVALID));
        }
    };
    let tried = engines(&bundle, &config);
    let board = Board::read(Path::new("/"));
    let checks = if doctor.engines { Vec::new() } else { around(&config)? };
    let told = as_json(&config, &bundle, &tried, &board, &checks);
    if let Some(file) = &doctor.report {
        let text = serde_json::to_string_pretty(&told)?;
        std::fs::write(file, text + "\n").with_context(|| format!("writing {}", file.display()))?;
        anstream::eprintln!("clearfilm: report written to {}", file.display());
    }
    if doctor.json {
        anstream::println!("{told}");
    } else {
        print(&tried, &board, &checks);
    }
    Ok(if chosen(&tried).is_none() {
        ExitCode::from(NOT_READY)
    } else if checks.iter().any(|Check(_, found)| found.is_err()) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Tries every engine of the order, one after the other.
fn engines(bundle: &Bundle, config: &Config) -> Vec<Tried> {
    let prober = Prober::own(bundle, config);
    let one = |&choice: &EngineChoice| match prober.probe(choice) {
        Ok(trusted) => Tried {
            verdict: trusted.passed.verdict(choice.name(), Verdict::Passed),
            passed: Some(trusted.passed),
        },
        Err(reason) => {
            Tried { verdict: EngineVerdict::rejected(choice.name(), reason), passed: None }
        }
    };
    config.engine.order.iter().map(one).collect()
}

/// The engine that the service would read with.
fn chosen(tried: &[Tried]) -> Option<&str> {
    tried.iter().find(|t| t.passed.is_some()).map(|t| t.verdict.name.as_str())
}

fn around(config: &Config) -> anyhow::Result<Vec<Check>> {
    Ok(vec![
        Check("storage", storage(config)),
        Check("dicom port", port(config.dicom.scp.listen, config)),
        Check("clock", clock()),
        Check("broker", runtime()?.block_on(broker(config))),
        Check("certificates", certificates(config)),
    ])
}

fn storage(config: &Config) -> Result<String, String> {
    let (path, least) = (&config.storage.path, config.storage.free_min);
    let stat = rustix::fs::statvfs(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let free = bytesize::ByteSize(stat.f_bavail.saturating_mul(stat.f_frsize));
    if free < least {
        return Err(format!("{}: expected {least} free, found {free}", path.display()));
    }
    tempfile_in(path).map_err(|e| format!("writing in {}: {e}", path.display()))?;
    Ok(format!("{}: {free} free, can be written", path.display()))
}

/// Makes a file and removes it.
fn tempfile_in(folder: &Path) -> std::io::Result<()> {
    let file = folder.join(format!(".doctor-{}", std::process::id()));
    std::fs::File::create(&file)?.sync_all()?;
    std::fs::remove_file(file)
}

/// Can the port be had, or does a running service hold it?
fn port(address: SocketAddr, config: &Config) -> Result<String, String> {
    let socket = config.storage.path.join(clearfilm::web::SOCKET);
    let running = std::os::unix::net::UnixStream::connect(socket).is_ok();
    match TcpListener::bind(address) {
        Ok(_) if running => Err(format!("{address}: expected the running service, found nobody")),
        Ok(_) => Ok(format!("{address} is free; the service does not run")),
        Err(_) if running => Ok(format!("{address} is held by the running service")),
        Err(error) => Err(format!("{address}: {error}")),
    }
}

/// Does the kernel say that its clock follows a time server (adjtimex(2))?
fn clock() -> Result<String, String> {
    let now = rfc3339(SystemClock.now());
    #[expect(unsafe_code, reason = "no safe wrapper; reads the kernel's state and changes nothing")]
    // SAFETY: all zeros is a valid timex, and modes 0 only reads.
    let state = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        libc::adjtimex(&raw mut timex)
    };
    if state >= 0 && state != libc::TIME_ERROR {
        Ok(format!("{now}, follows a time server"))
    } else {
        Err(format!("{now}: expected a clock that follows a time server, found one that does not"))
    }
}

async fn broker(config: &Config) -> Result<String, String> {
    let name = format!("{}-doctor", config.unit.name);
    let url = &config.mqtt.url;
    match tokio::time::timeout(GREETING, greet(&config.mqtt, name)).await {
        Ok(Ok(())) => Ok(format!("{url} greets")),
        Ok(Err(error)) => Err(format!("{url}: {error}")),
        Err(_) => Err(format!("{url}: expected a greeting within {GREETING:?}, found none")),
    }
}

fn certificates(config: &Config) -> Result<String, String> {
    let files = [&config.dicom.scp.tls.cert_file, &config.mqtt.cert_file];
    let mut told = Vec::new();
    for file in files.into_iter().filter(|f| !f.as_os_str().is_empty()) {
        let end = tls::expires(file).map_err(|e| e.to_string())?;
        if end <= SystemClock.now() {
            return Err(format!("{}: ended {}", file.display(), rfc3339(end)));
        }
        told.push(format!("{} until {}", file.display(), rfc3339(end)));
    }
    Ok(if told.is_empty() { "none configured".into() } else { told.join("; ") })
}

fn as_json(
    config: &Config,
    bundle: &Bundle,
    tried: &[Tried],
    board: &Board,
    checks: &[Check],
) -> Value {
    let engine = |t: &Tried| {
        let mut told = json!(t.verdict);
        if let (Some(members), Some(passed)) = (told.as_object_mut(), &t.passed) {
            members.insert("engine".into(), json!(passed.engine));
            members.insert("image_ms".into(), json!(passed.image_ms));
            members.insert("memory_kib".into(), json!(passed.memory_kib));
            members.insert("nearness".into(), json!(passed.nearness));
        }
        told
    };
    let check = |Check(name, found): &Check| match found {
        Ok(text) => json!({"name": name, "ok": true, "found": text}),
        Err(text) => json!({"name": name, "ok": false, "reason": text}),
    };
    json!({
        "time": rfc3339(SystemClock.now()),
        "software": {"version": device::VERSION, "commit": device::COMMIT},
        "bundle": {
            "name": bundle.manifest.name,
            "version": bundle.manifest.version,
            "digest": bundle.digest,
            "precision": bundle.manifest.encoder.precision,
        },
        "chosen": chosen(tried),
        "engines": tried.iter().map(engine).collect::<Vec<_>>(),
        "engine_configuration": config.engine,
        "board": board,
        "machine": machine(),
        "checks": checks.iter().map(check).collect::<Vec<_>>(),
    })
}

/// What a report says of the machine: kernel, system, processor, memory.
fn machine() -> Value {
    let uname = rustix::system::uname();
    let text = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let line = |file: &str, key: &str| {
        let text = text(file);
        let line = text.lines().find(|l| l.starts_with(key)).map(str::to_owned);
        line.map(|l| l[key.len()..].trim_matches([' ', '\t', ':', '=', '"']).to_owned())
    };
    json!({
        "kernel": format!("{} {}", uname.release().to_string_lossy(), uname.machine().to_string_lossy()),
        "system": line("/etc/os-release", "PRETTY_NAME"),
        "l4t": text("/etc/nv_tegra_release").lines().next(),
        "driver": text("/proc/driver/nvidia/version").lines().next(),
        "processor": line("/proc/cpuinfo", "model name").or_else(|| line("/proc/cpuinfo", "Model")),
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "memory": line("/proc/meminfo", "MemTotal"),
    })
}

fn print(tried: &[Tried], board: &Board, checks: &[Check]) {
    let chosen = chosen(tried);
    for Tried { verdict, passed } in tried {
        let name = &verdict.name;
        match passed {
            Some(p) => anstream::println!(
                "{} {name:<9} {} {} {}, nodes: {}; load {} ms, first image {} ms, then {:.1} ms, {} MiB; worst cosine {:.6}",
                if chosen == Some(name) { "*" } else { " " },
                p.engine.backend,
                p.engine.library.as_deref().unwrap_or("?"),
                p.engine.precision,
                p.nodes,
                p.load_ms,
                p.warm_up_ms,
                p.image_ms,
                p.memory_kib / 1024,
                p.nearness.cosine,
            ),
            None => anstream::println!("  {name:<9} passed over: {}", verdict.reason),
        }
    }
    match chosen {
        Some(name) => anstream::println!("the service reads with: {name}"),
        None => anstream::println!("no engine passes: the service would receive and not read"),
    }
    if let Some(model) = &board.model {
        anstream::println!("board: {model}");
    }
    if let Some(mode) = &board.power_mode {
        anstream::println!("power mode: {mode}");
    }
    for (zone, degrees) in &board.temperature_c {
        anstream::println!("temperature: {zone} {degrees:.1} C");
    }
    for device in &board.throttled {
        anstream::println!("throttled: {device}");
    }
    for Check(name, found) in checks {
        match found {
            Ok(text) => anstream::println!("ok      {name}: {text}"),
            Err(text) => anstream::println!("failed  {name}: {text}"),
        }
    }
}
