//! `clearfilm status`, `outbox`, `exam` and `alarm`: what an operator asks of the running unit,
//! over its local socket.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use clearfilm::id::ExamKey;
use clearfilm::web::SOCKET;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::{Configured, NOT_READY, runtime};

/// Longest answer that is read: a list of the whole outbox has some 20 MB.
const ANSWER_MAX: usize = 64 << 20;

/// How the running unit is doing: what `/readyz` says, its outbox and its alarms.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    configured: Configured,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Messages that wait for the broker.
#[derive(Debug, Args)]
pub(crate) struct Outbox {
    #[command(subcommand)]
    what: OutboxVerb,
    #[command(flatten)]
    configured: Configured,
    /// As JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum OutboxVerb {
    /// The oldest messages that wait.
    List {
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Try everything again now, also what the broker denied.
    Retry,
    /// Never send a message.
    Drop {
        /// Its sequence number.
        sequence: u64,
    },
}

/// Exams that the unit keeps.
#[derive(Debug, Args)]
pub(crate) struct Exam {
    #[command(subcommand)]
    what: ExamVerb,
    #[command(flatten)]
    configured: Configured,
}

#[derive(Debug, Subcommand)]
enum ExamVerb {
    /// Erase an exam: images, readings, messages that wait, and what the broker holds. The store's
    /// file is written anew at the next start.
    Erase {
        /// Its key, as the topics have it.
        key: ExamKey,
    },
}

/// What the unit wants an operator to know.
#[derive(Debug, Args)]
pub(crate) struct Alarm {
    #[command(subcommand)]
    what: AlarmVerb,
    #[command(flatten)]
    configured: Configured,
}

#[derive(Debug, Subcommand)]
enum AlarmVerb {
    /// Say that an alarm was seen to; one whose cause is still there comes again.
    Clear {
        /// Its type, the last level of its topic.
        kind: String,
    },
}

pub(super) fn status(status: &Status) -> anyhow::Result<ExitCode> {
    let Some(answer) = ask(&status.configured, Method::GET, "/status")? else {
        return Ok(ExitCode::from(NOT_READY));
    };
    if status.json {
        anstream::println!("{answer}");
    } else {
        print_status(&answer);
    }
    Ok(if answer["ok"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_status(answer: &Value) {
    for check in answer["checks"].as_array().into_iter().flatten() {
        let reason = check["reason"].as_str().unwrap_or("ok");
        anstream::println!("{:<8} {reason}", text(&check["name"]));
    }
    anstream::println!(
        "outbox   {} wait, the oldest for {} s",
        answer["outbox"]["depth"],
        answer["outbox"]["oldest_s"]
    );
    anstream::println!("inbox    {} wait", answer["inbox"]["depth"]);
    anstream::println!("readings {}", answer["readings"]);
    for alarm in answer["alarms"].as_array().into_iter().flatten() {
        let (kind, severity) = (text(&alarm["type"]), text(&alarm["severity"]));
        anstream::println!("alarm    {kind} ({severity}): {}", text(&alarm["text"]));
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn outbox(outbox: &Outbox) -> anyhow::Result<ExitCode> {
    let (method, path) = match outbox.what {
        OutboxVerb::List { limit } => (Method::GET, format!("/outbox?limit={limit}")),
        OutboxVerb::Retry => (Method::POST, "/outbox/retry".into()),
        OutboxVerb::Drop { sequence } => (Method::DELETE, format!("/outbox/{sequence}")),
    };
    let Some(answer) = ask(&outbox.configured, method, &path)? else {
        return Ok(ExitCode::from(NOT_READY));
    };
    let Some(rows) = answer["rows"].as_array().filter(|_| !outbox.json) else {
        anstream::println!("{answer}");
        return Ok(ExitCode::SUCCESS);
    };
    for row in rows {
        anstream::println!(
            "{:>8}  {:<8}  {:>8} s  {}",
            row["seq"].to_string(),
            text(&row["kind"]),
            row["age_s"].to_string(),
            text(&row["exam"])
        );
    }
    anstream::println!("{} of {} that wait", rows.len(), answer["depth"]);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn exam(exam: &Exam) -> anyhow::Result<ExitCode> {
    let ExamVerb::Erase { key } = &exam.what;
    told(&exam.configured, Method::DELETE, &format!("/exams/{key}"))
}

pub(super) fn alarm(alarm: &Alarm) -> anyhow::Result<ExitCode> {
    let AlarmVerb::Clear { kind } = &alarm.what;
    told(&alarm.configured, Method::DELETE, &format!("/alarms/{kind}"))
}

fn told(configured: &Configured, method: Method, path: &str) -> anyhow::Result<ExitCode> {
    let Some(answer) = ask(configured, method, path)? else {
        return Ok(ExitCode::from(NOT_READY));
    };
    anstream::println!("{answer}");
    Ok(ExitCode::SUCCESS)
}

/// One request; none where no unit runs, which is said.
fn ask(configured: &Configured, method: Method, path: &str) -> anyhow::Result<Option<Value>> {
    let socket = configured.load()?.config.storage.path.join(SOCKET);
    runtime()?.block_on(async {
        let stream = match UnixStream::connect(&socket).await {
            Ok(stream) => stream,
            Err(error) => {
                anstream::eprintln!(
                    "clearfilm: expected a running unit at {}, found none: {error}",
                    socket.display()
                );
                return Ok(None);
            }
        };
        answer(stream, method, path, &socket).await.map(Some)
    })
}

async fn answer(
    stream: UnixStream,
    method: Method,
    path: &str,
    socket: &Path,
) -> anyhow::Result<Value> {
    let asking = || format!("asking the unit at {}", socket.display());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.with_context(asking)?;
    let driver = tokio::spawn(connection);
    // HTTP/1.1 wants a host; a socket has none.
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    let request = request.body(Empty::<Bytes>::new()).with_context(asking)?;
    let response = sender.send_request(request).await.with_context(asking)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
    let body = body.map_err(anyhow::Error::from_boxed).with_context(asking)?.to_bytes();
    driver.abort();
    let answer: Value = serde_json::from_slice(&body).with_context(asking)?;
    anyhow::ensure!(status.is_success(), "{}", text(&answer["detail"]));
    Ok(answer)
}
