//! What came back: an answer of the form that was asked for, or a failure of one kind.
//!
//! A reply is data, never trusted beyond its form: nothing in it is searched for, it parses or does
//! not.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::chat::Form;

/// Why there is no answer. None of these is a zero, and none is left out of the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// The server filtered the content, or the model declined, or said nothing.
    Refusal,
    /// No JSON.
    Malformed,
    /// JSON of another shape, length or range.
    Shape,
    /// Words that a description may not have, twice ([`super::describe::words`]).
    Language,
    /// No whole reply in time.
    Timeout,
    /// HTTP 429, to the last attempt.
    TooManyRequests,
    /// HTTP 5xx, to the last attempt.
    ServerError,
    /// Another HTTP status.
    HttpOther,
    /// Nobody answered there.
    Connection,
    /// The reply broke off: on the line, or at the most tokens (`finish_reason` of `length`).
    Truncated,
    /// Larger than a reply may be.
    Oversize,
}

impl Failure {
    /// Whether the line or the server failed, so that another attempt may do better.
    #[must_use]
    pub fn passes(self) -> bool {
        matches!(
            self,
            Self::Timeout
                | Self::TooManyRequests
                | Self::ServerError
                | Self::Connection
                | Self::Truncated
        )
    }
}

/// How often each kind of failure was met.
pub type Failures = BTreeMap<Failure, u64>;

/// Adds one.
pub(super) fn count(failures: &mut Failures, failure: Failure) {
    *failures.entry(failure).or_default() += 1;
}

/// Tokens, as the server counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Of requests.
    #[serde(default, rename = "prompt_tokens")]
    pub prompt: u64,
    /// Of replies.
    #[serde(default, rename = "completion_tokens")]
    pub reply: u64,
}

/// A whole reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// What the model said, of the form that was asked for.
    answer: serde_json::Value,
    /// Probability of 1 against 0 at the last such token; none where the server does not say.
    pub one: Option<f64>,
}

/// What surrounds the model's words, and what the server says of itself. Unlike an answer it may
/// have fields that we do not know: servers add their own.
#[derive(Debug, Default, Deserialize)]
pub struct Envelope {
    /// The model that answered, in the server's words.
    #[serde(default)]
    pub model: Option<String>,
    /// The server's build.
    #[serde(default)]
    pub system_fingerprint: Option<String>,
    /// Tokens.
    #[serde(default)]
    pub usage: Option<Usage>,
    #[serde(default)]
    choices: Vec<Choice>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    finish_reason: Option<String>,
    message: Message,
    #[serde(default)]
    logprobs: Option<Logprobs>,
}

#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Logprobs {
    #[serde(default)]
    content: Option<Vec<Token>>,
}

#[derive(Debug, Deserialize)]
struct Token {
    token: String,
    #[serde(default)]
    top_logprobs: Vec<Alternative>,
}

#[derive(Debug, Deserialize)]
struct Alternative {
    token: String,
    logprob: f64,
}

impl Reply {
    /// Of a body that came whole, with HTTP 200: what surrounds it, and an answer of that form.
    pub fn of(bytes: &[u8], form: &Form) -> (Envelope, Result<Self, Failure>) {
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else {
            return (Envelope::default(), Err(Failure::Malformed));
        };
        let Ok(mut envelope) = serde_json::from_value::<Envelope>(value) else {
            return (Envelope::default(), Err(Failure::Shape));
        };
        let reply = match envelope.choices.drain(..).next() {
            Some(choice) => choice.reply(form),
            None => Err(Failure::Shape),
        };
        (envelope, reply)
    }

    /// The answer.
    ///
    /// # Errors
    /// It is of another shape.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        T::deserialize(&self.answer).map_err(|_| Failure::Shape)
    }
}

impl Choice {
    fn reply(self, form: &Form) -> Result<Reply, Failure> {
        let finish = self.finish_reason.as_deref();
        if finish == Some("length") {
            return Err(Failure::Truncated);
        }
        let refused = self.message.refusal.is_some_and(|words| !words.trim().is_empty());
        let content = self.message.content.unwrap_or_default();
        if refused || finish == Some("content_filter") || content.trim().is_empty() {
            return Err(Failure::Refusal);
        }
        let tokens = self.logprobs.and_then(|l| l.content).unwrap_or_default();
        let answer = answer(&content, form)?;
        Ok(Reply { answer, one: tokens.iter().rev().find_map(Token::one) })
    }
}

impl Token {
    /// p(1) / (p(0) + p(1)), where this token is one of the two and both have a probability
    /// (Delphi's `classifier.py`).
    fn one(&self) -> Option<f64> {
        let of = |digit: &str| {
            let alike = self.top_logprobs.iter().filter(|a| a.token.trim() == digit);
            alike.map(|a| a.logprob.exp()).sum::<f64>()
        };
        let [zero, one] = [of("0"), of("1")];
        let known = matches!(self.token.trim(), "0" | "1") && zero + one > 0.0;
        known.then(|| one / (zero + one))
    }
}

fn answer(content: &str, form: &Form) -> Result<serde_json::Value, Failure> {
    let value = serde_json::from_str(unfenced(content)).map_err(|_| Failure::Malformed)?;
    if form.admits(&value) { Ok(value) } else { Err(Failure::Shape) }
}

/// The words without the code fence that some models put around JSON.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let Some(inner) = text.strip_prefix("```").and_then(|t| t.strip_suffix("```")) else {
        return text;
    };
    // The language stands on the fence's line.
    inner.split_once('\n').map_or(inner, |(_, inner)| inner).trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::chat::Field;

    fn form() -> Form {
        Form::new("marks", vec![("present", Field::numbers(2, [0, 1]))])
    }

    #[track_caller]
    fn check(content: &str, expected: Result<(), Failure>) {
        assert_eq!(answer(content, &form()).map(|_| ()), expected, "{content}");
    }

    #[test]
    fn an_answer_parses_or_is_a_failure_of_one_kind() {
        check(r#"{"present":[0,1]}"#, Ok(()));
        check("```json\n{\"present\":[0,1]}\n```", Ok(()));
        check("Sure: {\"present\":[0,1]}", Err(Failure::Malformed));
        check(r#"{"present":[0,1,1]}"#, Err(Failure::Shape));
        check(r#"{"present":[0,1],"because":"x"}"#, Err(Failure::Shape));
        check(r#"{"present":[0,2]}"#, Err(Failure::Shape));
        check(r#"{"present":[0,"1"]}"#, Err(Failure::Shape));
        check("[0,1]", Err(Failure::Shape));
    }

    #[test]
    fn the_probability_is_that_of_the_last_token_that_is_an_answer() {
        let of = |token: &str, p: &[(&str, f64)]| {
            let top = p.iter().map(|(t, p)| format!(r#"{{"token":"{t}","logprob":{}}}"#, p.ln()));
            let top = top.collect::<Vec<_>>().join(",");
            format!(r#"{{"token":"{token}","top_logprobs":[{top}]}}"#)
        };
        let tokens = [of("0", &[("0", 0.9)]), of("1", &[("1", 0.3), (" 0", 0.1)]), of("}", &[])];
        let bytes = format!(
            r#"{{"choices":[{{"finish_reason":"stop","message":{{"content":"{{\"present\":[1,1]}}"}},
            "logprobs":{{"content":[{}]}}}}]}}"#,
            tokens.join(",")
        );
        let (_, reply) = Reply::of(bytes.as_bytes(), &form());
        let one = reply.expect("a reply").one.expect("known");
        assert!((one - 0.75).abs() < 1e-12, "{one}");
    }
}
