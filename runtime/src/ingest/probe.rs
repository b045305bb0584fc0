//! What fuzz targets reach beside the socket: the parser of commands, without an association.

use super::command::{self, C_ECHO_RQ, C_STORE_RQ, Command};

/// The response to a command set, as the receiver forms it.
///
/// # Errors
/// Says why the command set cannot be understood.
pub fn response(bytes: &[u8], status: u16, comment: Option<&str>) -> Result<Vec<u8>, String> {
    let command = Command::parse(bytes).map_err(|e| e.to_string())?;
    Ok(command.response(status, comment))
}

/// The status in a response.
///
/// # Errors
/// The response is malformed or has none.
pub fn status(response: &[u8]) -> Result<u16, String> {
    command::status_of(response).map_err(|e| e.to_string())
}

/// A request of ours: C-STORE of an instance, or C-ECHO without one.
#[must_use]
pub fn request(message_id: u16, sop_class: &str, sop_instance: Option<&str>) -> Vec<u8> {
    let field = if sop_instance.is_some() { C_STORE_RQ } else { C_ECHO_RQ };
    command::request(field, message_id, sop_class, sop_instance)
}
