//! What is asked: text and pictures, and the form that an answer must have.
//!
//! The bytes of a request are formed in one fixed order, because its reply is kept under their
//! SHA-256. Neither the server's address nor its key are among them.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde::Serialize;
use serde_json::Value;

use super::server::Server;

/// A piece of what a user says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Words of ours. What others wrote stands in them as a JSON string ([`quoted`]).
    Text(String),
    /// A picture, by its path below the collection's root.
    Picture(String),
}

/// One question.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// Who the model is to be.
    pub system: String,
    /// What it is asked, in order.
    pub user: Vec<Part>,
    /// What it may answer.
    pub form: Form,
    /// Whether the probabilities of its tokens are wanted.
    pub logprobs: bool,
}

/// The form of an answer: an object with these fields and no others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Form {
    /// Short, for the server.
    #[serde(skip)]
    pub name: &'static str,
    r#type: &'static str,
    properties: BTreeMap<&'static str, Field>,
    required: Vec<&'static str>,
    #[serde(rename = "additionalProperties")]
    additional: bool,
}

/// A value of an answer, as JSON Schema says it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Field {
    /// Words.
    String {},
    /// One of a few numbers.
    Integer {
        /// Which.
        r#enum: Vec<u32>,
    },
    /// A list of exactly so many.
    #[serde(rename_all = "camelCase")]
    Array {
        /// Of what.
        items: Box<Field>,
        /// At least.
        min_items: usize,
        /// At most.
        max_items: usize,
    },
}

impl Form {
    /// An object with these fields, all of them required.
    #[must_use]
    pub fn new(name: &'static str, fields: Vec<(&'static str, Field)>) -> Self {
        let required = fields.iter().map(|(name, _)| *name).collect();
        let properties = fields.into_iter().collect();
        Self { name, r#type: "object", properties, required, additional: false }
    }

    /// Whether an answer has exactly these fields, each within its range, and no blank words.
    #[must_use]
    pub fn admits(&self, answer: &Value) -> bool {
        answer.as_object().is_some_and(|fields| {
            let fits = |(name, field): (&&str, &Field)| {
                fields.get(*name).is_some_and(|value| field.admits(value))
            };
            fields.len() == self.properties.len() && self.properties.iter().all(fits)
        })
    }
}

impl Field {
    /// `count` numbers out of those from `low` to `high`.
    #[must_use]
    pub fn numbers(count: usize, [low, high]: [u32; 2]) -> Self {
        let items = Box::new(Self::Integer { r#enum: (low..=high).collect() });
        Self::Array { items, min_items: count, max_items: count }
    }

    fn admits(&self, value: &Value) -> bool {
        match self {
            Self::String {} => value.as_str().is_some_and(|words| !words.trim().is_empty()),
            Self::Integer { r#enum } => {
                value.as_u64().is_some_and(|n| r#enum.iter().any(|one| u64::from(*one) == n))
            }
            Self::Array { items, min_items, max_items } => value.as_array().is_some_and(|list| {
                (*min_items..=*max_items).contains(&list.len())
                    && list.iter().all(|one| items.admits(one))
            }),
        }
    }
}

/// Somebody else's words as a JSON string: whatever stands in them, they cannot end it.
#[must_use]
pub fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: [Message<'a>; 2],
    response_format: Format<'a>,
    temperature: f64,
    max_tokens: u32,
    seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u32>,
    stream: bool,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Content<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Plain(&'a str),
    Parts(Vec<Piece<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Piece<'a> {
    Text { text: &'a str },
    ImageUrl { image_url: Url },
}

#[derive(Serialize)]
struct Url {
    url: String,
}

#[derive(Serialize)]
struct Format<'a> {
    r#type: &'static str,
    json_schema: Named<'a>,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    strict: bool,
    schema: &'a Form,
}

/// Alternatives of each token that a judge is asked for: room for both answers and some blanks.
const ALTERNATIVES: u32 = 5;

/// The bytes that are sent; `pictures` are PNG files, one for each [`Part::Picture`].
///
/// # Errors
/// None that texts and numbers can cause.
pub fn body(ask: &Ask, server: &Server, pictures: &[Vec<u8>]) -> serde_json::Result<Vec<u8>> {
    let mut pictures = pictures.iter();
    let piece = |part: &'_ Part| match part {
        Part::Text(_) => None,
        Part::Picture(_) => pictures.next().map(|png| Piece::ImageUrl {
            image_url: Url { url: format!("data:image/png;base64,{}", BASE64.encode(png)) },
        }),
    };
    let drawn: Vec<Option<Piece<'_>>> = ask.user.iter().map(piece).collect();
    let pieces = ask.user.iter().zip(drawn).filter_map(|(part, drawn)| match part {
        Part::Text(text) => Some(Piece::Text { text }),
        Part::Picture(_) => drawn,
    });
    let asks = ask.logprobs && server.logprobs;
    let body = Body {
        model: &server.model,
        messages: [
            Message { role: "system", content: Content::Plain(&ask.system) },
            Message { role: "user", content: Content::Parts(pieces.collect()) },
        ],
        response_format: Format {
            r#type: "json_schema",
            json_schema: Named { name: ask.form.name, strict: true, schema: &ask.form },
        },
        temperature: server.temperature,
        max_tokens: server.tokens_max,
        seed: server.seed,
        logprobs: asks.then_some(true),
        top_logprobs: asks.then_some(ALTERNATIVES),
        stream: false,
    };
    serde_json::to_vec(&body)
}
