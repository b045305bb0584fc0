//! A server that speaks `/v1/chat/completions`: it holds every request against the protocol, and
//! answers from the pixels and words that it is shown.

#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod pictures;
mod sees;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// What is done with a request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// A right answer.
    Answer,
    /// These words in the place of an answer.
    Words(String),
    /// A message with these fields, and this reason to finish.
    Message(Value, &'static str),
    /// This status, with these lines of header.
    Status(u16, &'static str),
    /// Half of a right answer, then the connection is closed.
    Cut,
    /// Nothing, for longer than anybody waits.
    Silence,
    /// No answer: whoever asked is ended first.
    Kill,
}

/// Which request is answered how: its number from 1, and its body.
pub(crate) type Rule = dyn Fn(usize, &Value) -> Act + Send + Sync;

/// What the server saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Requests.
    pub(crate) count: usize,
    /// How often each body got its whole answer.
    pub(crate) answered: BTreeMap<String, usize>,
    /// What was wrong with a request.
    pub(crate) wrong: Vec<String>,
    /// Sizes of the pictures.
    pub(crate) sizes: Vec<[u32; 2]>,
    /// Bodies, in their order.
    pub(crate) bodies: Vec<Value>,
    /// Values of `authorization`.
    pub(crate) keys: Vec<String>,
    /// The process that [`Act::Kill`] ends.
    pub(crate) victim: Option<i32>,
}

/// A running server; it ends with the program.
pub(crate) struct Server {
    pub(crate) url: String,
    seen: Arc<Mutex<Seen>>,
    rule: Arc<Mutex<Arc<Rule>>>,
}

impl Server {
    pub(crate) fn start(rule: impl Fn(usize, &Value) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let rule: Arc<Mutex<Arc<Rule>>> = Arc::new(Mutex::new(Arc::new(rule)));
        let (own, asked) = (Arc::clone(&seen), Arc::clone(&rule));
        let accept = move || {
            for stream in listener.incoming().flatten() {
                let (seen, rule) = (Arc::clone(&own), Arc::clone(&asked));
                let serve = move || serve(stream, &seen, &rule);
                thread::Builder::new().name("connection".into()).spawn(serve).expect("a thread");
            }
        };
        thread::Builder::new().name("server".into()).spawn(accept).expect("a thread");
        Self { url, seen, rule }
    }

    /// One that answers everything.
    pub(crate) fn right() -> Self {
        Self::start(|_, _| Act::Answer)
    }

    /// Behaves otherwise from now on.
    pub(crate) fn becomes(&self, rule: impl Fn(usize, &Value) -> Act + Send + Sync + 'static) {
        *self.rule.lock().expect("whole") = Arc::new(rule);
    }

    pub(crate) fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every request was as the protocol has it, and none was answered twice.
    #[track_caller]
    pub(crate) fn check(&self) {
        self.seen(|seen| {
            assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);
            assert!(seen.answered.values().all(|times| *times == 1), "a call was repeated");
        });
    }
}

fn serve(stream: TcpStream, seen: &Mutex<Seen>, rule: &Mutex<Arc<Rule>>) {
    let mut reader = BufReader::new(stream);
    while let Some((line, headers, body)) = request(&mut reader) {
        let text = String::from_utf8_lossy(&body).into_owned();
        let parsed: Value = serde_json::from_slice(&body).unwrap_or_default();
        let mut wrong = Vec::new();
        if line != "POST /v1/chat/completions HTTP/1.1" {
            wrong.push(line);
        }
        if headers.get("content-type").is_none_or(|t| t != "application/json") {
            wrong.push("no content-type of JSON".into());
        }
        let pictures = sees::request(&parsed, &mut wrong);
        let number = {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.count += 1;
            seen.wrong.extend(wrong);
            seen.sizes.extend(pictures.iter().map(|p| [p.width(), p.height()]));
            seen.bodies.push(parsed.clone());
            seen.keys.extend(headers.get("authorization").cloned());
            seen.count
        };
        let rule = Arc::clone(&rule.lock().expect("whole"));
        let act = rule(number, &parsed);
        let (head, reply) = response(&act, &parsed, &pictures);
        let whole = !matches!(act, Act::Cut | Act::Silence | Act::Kill);
        match act {
            Act::Silence => {
                // The client gives up long before and closes the connection.
                let waits = reader.get_ref().set_read_timeout(Some(Duration::from_secs(60)));
                waits.expect("a time-out");
                let mut rest = [0];
                assert_eq!(reader.read(&mut rest).unwrap_or(0), 0);
                return;
            }
            Act::Kill => {
                let victim = seen.lock().unwrap_or_else(PoisonError::into_inner).victim;
                let process = victim.and_then(rustix::process::Pid::from_raw).expect("a process");
                rustix::process::kill_process(process, rustix::process::Signal::KILL)
                    .expect("killed");
                return;
            }
            Act::Answer | Act::Words(_) | Act::Message(..) | Act::Status(..) | Act::Cut => {}
        }
        let sent = if whole { reply.len() } else { reply.len() / 2 };
        if whole && head.starts_with("HTTP/1.1 200") {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            *seen.answered.entry(text).or_default() += 1;
        }
        let stream = reader.get_mut();
        let written = stream.write_all(head.as_bytes());
        if written.and_then(|()| stream.write_all(&reply[..sent])).is_err() || !whole {
            return;
        }
    }
}

type Request = (String, BTreeMap<String, String>, Vec<u8>);

fn request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length")?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((line.trim().to_owned(), headers, body))
}

/// Head and body of what is sent.
fn response(act: &Act, body: &Value, pictures: &[image::GrayImage]) -> (String, Vec<u8>) {
    let words = |content: Value, finish: &str, logprobs: Value| {
        let choice = json!({"index": 0, "message": content, "finish_reason": finish,
            "logprobs": logprobs});
        json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "drawn-4b",
            "system_fingerprint": "fp_test", "choices": [choice],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}})
    };
    let said = |text: String| json!({"role": "assistant", "content": text, "refusal": null});
    let (status, lines, reply) = match act {
        Act::Status(status, lines) => {
            (*status, *lines, json!({"error": {"message": "no", "type": "server_error"}}))
        }
        Act::Words(text) => (200, "", words(said(text.clone()), "stop", Value::Null)),
        Act::Message(message, finish) => (200, "", words(message.clone(), finish, Value::Null)),
        Act::Answer | Act::Cut | Act::Silence | Act::Kill => {
            let (answer, logprobs) = sees::answer(body, pictures);
            (200, "", words(said(answer.to_string()), "stop", logprobs))
        }
    };
    let reply = reply.to_string().into_bytes();
    let length = reply.len();
    let head = format!(
        "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n{lines}\r\n"
    );
    (head, reply)
}
