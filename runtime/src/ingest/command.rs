//! DIMSE commands: the command set is parsed strictly by our own few lines.
//!
//! A command set is always implicit VR little endian and holds group 0000 only (PS3.7 6.3.1), so
//! a general parser, which would believe any declared length, is not needed for it.

use crate::id::Uid;

/// Longest command set taken, bytes: ours and those of known senders have less than 400.
pub(super) const COMMAND_BYTES_MAX: usize = 16 * 1024;

// Command fields, PS3.7 E.1.
pub(super) const C_STORE_RQ: u16 = 0x0001;
pub(super) const C_ECHO_RQ: u16 = 0x0030;
pub(super) const C_CANCEL_RQ: u16 = 0x0FFF;
/// Set in the command field of every response.
pub(super) const RESPONSE: u16 = 0x8000;

// Status codes, PS3.7 C and PS3.4 B.2.3.
pub(super) const SUCCESS: u16 = 0x0000;
pub(super) const UNRECOGNIZED_OPERATION: u16 = 0x0211;

/// (0000,0800) of a command without a data set.
const NO_DATA_SET: u16 = 0x0101;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    /// (0000,0100).
    pub(super) field: u16,
    /// (0000,0110).
    pub(super) message_id: u16,
    /// (0000,0002).
    pub(super) sop_class: Option<Uid>,
    /// (0000,1000).
    pub(super) sop_instance: Option<Uid>,
    /// (0000,0800): a data set follows.
    pub(super) has_data_set: bool,
}

/// Why a command set cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("command set: expected {expected}, found {found}")]
pub(super) struct CommandError {
    expected: &'static str,
    found: String,
}

impl Command {
    /// Parses a whole command set.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, CommandError> {
        let (mut field, mut message_id, mut data_set) = (None, None, None);
        let (mut sop_class, mut sop_instance) = (None, None);
        for element in elements(bytes) {
            let (element, value) = element?;
            match element {
                0x0002 => sop_class = Some(uid(value)?),
                0x0100 => field = Some(number(value)?),
                0x0110 => message_id = Some(number(value)?),
                0x0800 => data_set = Some(number(value)?),
                0x1000 => sop_instance = Some(uid(value)?),
                _ => {}
            }
        }
        let missing = |expected| CommandError { expected, found: "none".into() };
        Ok(Self {
            field: field.ok_or_else(|| missing("a command field (0000,0100)"))?,
            message_id: message_id.ok_or_else(|| missing("a message id (0000,0110)"))?,
            has_data_set: data_set.ok_or_else(|| missing("a data set type (0000,0800)"))?
                != NO_DATA_SET,
            sop_class,
            sop_instance,
        })
    }

    /// What a sender would have announced an object with.
    pub(super) fn of_store(sop_class: Uid, sop_instance: Uid) -> Self {
        Self {
            field: C_STORE_RQ,
            message_id: 0,
            sop_class: Some(sop_class),
            sop_instance: Some(sop_instance),
            has_data_set: true,
        }
    }

    /// The response to this request, its message id echoed; `comment` says why it failed.
    pub(super) fn response(&self, status: u16, comment: Option<&str>) -> Vec<u8> {
        let mut body = Vec::new();
        if let Some(class) = &self.sop_class {
            put(&mut body, 0x0002, &padded(class.as_str(), 0));
        }
        put(&mut body, 0x0100, &(self.field | RESPONSE).to_le_bytes());
        put(&mut body, 0x0120, &self.message_id.to_le_bytes());
        put(&mut body, 0x0800, &NO_DATA_SET.to_le_bytes());
        put(&mut body, 0x0900, &status.to_le_bytes());
        if let Some(comment) = comment {
            // (0000,0902) is LO: at most 64 characters, no backslash; ours are ASCII.
            let comment: String = comment
                .chars()
                .filter(|c| c.is_ascii_graphic() || *c == ' ')
                .filter(|c| *c != '\\')
                .take(64)
                .collect();
            put(&mut body, 0x0902, &padded(&comment, b' '));
        }
        if let Some(instance) = &self.sop_instance {
            put(&mut body, 0x1000, &padded(instance.as_str(), 0));
        }
        with_group_length(body)
    }
}

/// A request of ours: C-ECHO, or C-STORE with the instance that follows.
pub(super) fn request(
    field: u16,
    message_id: u16,
    sop_class: &str,
    sop_instance: Option<&str>,
) -> Vec<u8> {
    let mut body = Vec::new();
    put(&mut body, 0x0002, &padded(sop_class, 0));
    put(&mut body, 0x0100, &field.to_le_bytes());
    put(&mut body, 0x0110, &message_id.to_le_bytes());
    if sop_instance.is_some() {
        // (0000,0700) priority: medium.
        put(&mut body, 0x0700, &0_u16.to_le_bytes());
    }
    let data_set = if sop_instance.is_some() { 0x0001 } else { NO_DATA_SET };
    put(&mut body, 0x0800, &data_set.to_le_bytes());
    if let Some(instance) = sop_instance {
        put(&mut body, 0x1000, &padded(instance, 0));
    }
    with_group_length(body)
}

/// Status (0000,0900) of a response.
pub(super) fn status_of(bytes: &[u8]) -> Result<u16, CommandError> {
    for element in elements(bytes) {
        if let (0x0900, value) = element? {
            return number(value);
        }
    }
    Err(CommandError { expected: "a status (0000,0900)", found: "none".into() })
}

/// The elements of a command set, `(element number, value)`.
fn elements(mut rest: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), CommandError>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let element = first_element(rest);
        rest = element.as_ref().map_or(&[][..], |(_, _, after)| *after);
        Some(element.map(|(number, value, _)| (number, value)))
    })
}

fn first_element(bytes: &[u8]) -> Result<(u16, &[u8], &[u8]), CommandError> {
    let wrong = |expected, found: String| CommandError { expected, found };
    let Some((header, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(wrong("an element of at least 8 bytes", format!("{} bytes", bytes.len())));
    };
    let group = u16::from_le_bytes([header[0], header[1]]);
    if group != 0 {
        return Err(wrong("group 0000 only", format!("group {group:04x}")));
    }
    let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    match usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length)) {
        Some((value, after)) => Ok((u16::from_le_bytes([header[2], header[3]]), value, after)),
        None => Err(wrong(
            "a length within the command set",
            format!("{length} of {} bytes", rest.len()),
        )),
    }
}

fn number(value: &[u8]) -> Result<u16, CommandError> {
    let bytes = value.try_into().map_err(|_| CommandError {
        expected: "an unsigned short of 2 bytes",
        found: format!("{} bytes", value.len()),
    })?;
    Ok(u16::from_le_bytes(bytes))
}

fn uid(value: &[u8]) -> Result<Uid, CommandError> {
    let text = std::str::from_utf8(value).unwrap_or_default();
    text.parse().map_err(|_| CommandError {
        expected: "a UID of 1 to 64 digits and dots",
        found: format!("{} bytes", value.len()),
    })
}

fn put(out: &mut Vec<u8>, element: u16, value: &[u8]) {
    let length = u32::try_from(value.len()).expect("values of ours have at most 64 bytes");
    out.extend([0, 0]);
    out.extend(element.to_le_bytes());
    out.extend(length.to_le_bytes());
    out.extend(value);
}

/// Text padded to even length (PS3.5 6.2: UI with NUL, others with space).
fn padded(text: &str, pad: u8) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    if bytes.len() % 2 == 1 {
        bytes.push(pad);
    }
    bytes
}

fn with_group_length(body: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("command sets of ours have less than 400 bytes");
    let mut set = Vec::with_capacity(body.len() + 12);
    put(&mut set, 0x0000, &length.to_le_bytes());
    set.extend(body);
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASS: &str = "1.2.840.10008.5.1.4.1.1.1.1";

    #[test]
    fn a_request_round_trips_and_its_response_echoes_the_message_id() {
        let bytes = request(C_STORE_RQ, 517, CLASS, Some("1.2.3"));
        let command = Command::parse(&bytes).expect("parsed");
        assert_eq!(
            (command.field, command.message_id, command.has_data_set),
            (C_STORE_RQ, 517, true)
        );
        let response = command.response(0xA700, Some("disk \\ full"));
        assert_eq!(status_of(&response), Ok(0xA700));
        let echoed =
            elements(&response).map(|e| e.expect("well formed")).find(|(e, _)| *e == 0x0120);
        assert_eq!(echoed.expect("there").1, 517_u16.to_le_bytes());
        let comment =
            elements(&response).map(|e| e.expect("well formed")).find(|(e, _)| *e == 0x0902);
        assert_eq!(comment.expect("there").1, b"disk  full");
    }

    #[test]
    fn a_command_set_that_lies_about_a_length_is_refused_at_once() {
        let mut bytes = request(C_ECHO_RQ, 1, CLASS, None);
        bytes[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Command::parse(&bytes).expect_err("refused").to_string().contains("4294967295"));
    }

    #[test]
    fn other_groups_and_missing_fields_are_refused_by_name() {
        let mut bytes = request(C_ECHO_RQ, 1, CLASS, None);
        bytes[0] = 8;
        assert!(Command::parse(&bytes).expect_err("refused").to_string().contains("group 0008"));
        let only_class = with_group_length({
            let mut body = Vec::new();
            put(&mut body, 0x0002, &padded(CLASS, 0));
            body
        });
        assert!(
            Command::parse(&only_class).expect_err("refused").to_string().contains("0000,0100")
        );
    }
}
