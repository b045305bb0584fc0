//! Who is asked: a server that speaks OpenAI's `/v1/chat/completions`, and how much may be asked of
//! it.

use serde::{Deserialize, Serialize};

/// One server and model.
///
/// Which of these decide the bytes of a request, and so what its reply is kept under: `model`,
/// `tokens_max`, `temperature` and `seed`. The rest may change between two runs of one folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Up to and with the version, `http://127.0.0.1:8080/v1`; `/chat/completions` is added.
    pub url: String,
    /// As the server calls it.
    pub model: String,
    /// Environment variable that holds the key; a plan never does.
    #[serde(default)]
    pub key_env: Option<String>,
    /// Tokens of a reply, at most.
    #[serde(default = "tokens_max")]
    pub tokens_max: u32,
    /// 0: the likeliest token each time.
    #[serde(default)]
    pub temperature: f64,
    /// For servers that draw tokens.
    #[serde(default)]
    pub seed: u64,
    /// Whether a judge is asked for the probabilities of its tokens; some servers refuse a request
    /// that asks.
    #[serde(default)]
    pub logprobs: bool,
    /// How it is asked, and how often.
    #[serde(default)]
    pub limits: Limits,
    /// What tokens cost.
    #[serde(default)]
    pub price: Price,
}

/// What a server is spared, and what it may not do to us.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// From connecting to the reply's last byte, s.
    pub timeout_s: u64,
    /// Largest reply, bytes.
    pub reply_bytes_max: u64,
    /// Times that one request is sent, 1 or more, where the server or the line fail.
    pub attempts: u32,
    /// Wait after the first attempt, s; doubled after each. `Retry-After` in seconds counts instead.
    pub backoff_s: f64,
    /// No wait is longer, s, whatever the server asks for.
    pub backoff_max_s: f64,
    /// Requests at the same time, 1 or more.
    pub concurrency: usize,
    /// Attempts of one run over all; the run then stops, and goes on when it is started again.
    pub requests_max: u64,
    /// What one run may cost, in the currency of [`Price`]; no request begins beyond it, so that
    /// the excess is that of `concurrency` requests at most.
    pub cost_max: f64,
    /// The run stops when so many requests in a row failed on the line or at the server.
    pub failures_in_a_row_max: u64,
    /// Whether requests whose kept reply was of no use are asked again.
    pub retry_failed: bool,
}

impl Default for Limits {
    /// Of a server on the same machine; MedGemma's naming of 30 images takes a minute on a CPU.
    fn default() -> Self {
        Self {
            timeout_s: 600,
            reply_bytes_max: 1 << 20,
            attempts: 4,
            backoff_s: 1.0,
            backoff_max_s: 60.0,
            concurrency: 1,
            requests_max: 100_000,
            cost_max: 10.0,
            failures_in_a_row_max: 20,
            retry_failed: false,
        }
    }
}

/// Prices in any one currency for a million tokens; 0 for a server of one's own.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Price {
    /// Of requests, pictures included as the server counts them.
    pub prompt: f64,
    /// Of replies.
    pub reply: f64,
}

/// MedSAE's code asks for 300 to name and 500 to judge.
fn tokens_max() -> u32 {
    500
}
