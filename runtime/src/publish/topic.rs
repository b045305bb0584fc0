//! Topics as a type that round-trips: no topic is ever glued together elsewhere.

use std::fmt;

use crate::alarm::AlarmKind;
use crate::id::ExamKey;
use crate::store::record::ExamTopic;

/// Where a device's messages go: `{root}/{site}/{unit}/...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// `clearfilm/v1`.
    pub root: String,
    /// Site.
    pub site: String,
    /// Device id.
    pub unit: String,
    /// What about it.
    pub channel: Channel,
}

/// The part of a topic below the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// Online or not: birth and will.
    Status,
    /// Versions, limits, topics, schemas.
    About,
    /// Periodic summary.
    Health,
    /// What the update agent does.
    Update,
    /// Something that an operator has to know.
    Alarm(AlarmKind),
    /// Of one exam.
    Exam(ExamKey, ExamChannel),
}

/// The part of a topic below an exam.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExamChannel {
    /// Transitions.
    State,
    /// What the gate said.
    Gate,
    /// Findings.
    Findings,
    /// Draft report.
    Report,
    /// From a consumer: it has a message durably.
    Receipt,
}

impl From<ExamTopic> for ExamChannel {
    fn from(topic: ExamTopic) -> Self {
        match topic {
            ExamTopic::State => Self::State,
            ExamTopic::Gate => Self::Gate,
            ExamTopic::Findings => Self::Findings,
            ExamTopic::Report => Self::Report,
        }
    }
}

impl ExamChannel {
    /// Its level in the topic.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Gate => "gate",
            Self::Findings => "findings",
            Self::Report => "report",
            Self::Receipt => "receipt",
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { root, site, unit, channel } = self;
        write!(f, "{root}/{site}/{unit}/")?;
        match channel {
            Channel::Status => f.write_str("status"),
            Channel::About => f.write_str("about"),
            Channel::Health => f.write_str("health"),
            Channel::Update => f.write_str("update"),
            Channel::Alarm(kind) => write!(f, "alarm/{}", kind.name()),
            Channel::Exam(key, channel) => write!(f, "exam/{key}/{}", channel.name()),
        }
    }
}

impl Topic {
    /// Reads a topic under `root`; none where it is not one of ours.
    ///
    /// ```
    /// use clearfilm::publish::Topic;
    /// let text = "clearfilm/v1/north/north-dx-2/exam/mfrggzdfmztwq2lknnwg23tpob/findings";
    /// let topic = Topic::parse("clearfilm/v1", text).unwrap();
    /// assert_eq!(topic.unit, "north-dx-2");
    /// assert_eq!(topic.to_string(), text);
    /// assert!(Topic::parse("clearfilm/v1", "clearfilm/v2/north/north-dx-2/status").is_none());
    /// ```
    #[must_use]
    pub fn parse(root: &str, text: &str) -> Option<Self> {
        let rest = text.strip_prefix(root)?.strip_prefix('/')?;
        let levels: Vec<&str> = rest.split('/').collect();
        let (site, unit, channel) = match levels[..] {
            [site, unit, "status"] => (site, unit, Channel::Status),
            [site, unit, "about"] => (site, unit, Channel::About),
            [site, unit, "health"] => (site, unit, Channel::Health),
            [site, unit, "update"] => (site, unit, Channel::Update),
            [site, unit, "alarm", kind] => (site, unit, Channel::Alarm(AlarmKind::named(kind)?)),
            [site, unit, "exam", key, channel] => {
                let channels = [
                    ExamChannel::State,
                    ExamChannel::Gate,
                    ExamChannel::Findings,
                    ExamChannel::Report,
                    ExamChannel::Receipt,
                ];
                let channel = channels.into_iter().find(|c| c.name() == channel)?;
                (site, unit, Channel::Exam(key.parse().ok()?, channel))
            }
            _ => return None,
        };
        Some(Self { root: root.into(), site: site.into(), unit: unit.into(), channel })
    }
}
