//! C-STORE and C-ECHO as a sender: for the demo, for commissioning and for tests.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use dicom_object::FileMetaTable;
use dicom_ul::Pdu;
use dicom_ul::association::client::ClientAssociationOptions;
use dicom_ul::pdu::{PDataValue, PDataValueType};

use super::association::VERIFICATION;
use super::command::{self, C_ECHO_RQ, C_STORE_RQ};

/// Longest wait for a response: a receiver that syncs to a slow card still answers within it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The default transfer syntax, which every application entity knows (PS3.5 10.1).
const IMPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2";

/// Why an object was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It is no DICOM file.
    #[error("expected a DICOM file with preamble and file meta group, found another")]
    NotDicom,
    /// The association failed.
    #[error("{action} {peer}: {text}")]
    Association {
        /// What was tried.
        action: &'static str,
        /// With whom.
        peer: SocketAddr,
        /// Why it failed.
        text: String,
    },
    /// The receiver did not accept this kind of object.
    #[error(
        "{peer}: expected a presentation context for {class} in {transfer_syntax}, found none accepted"
    )]
    NotAccepted {
        /// Who.
        peer: SocketAddr,
        /// SOP class.
        class: String,
        /// Transfer syntax.
        transfer_syntax: String,
    },
}

/// Sends one Part 10 file over an association of its own; gives the status of the response.
///
/// # Errors
/// The file is no DICOM file, or the association fails before the response.
pub fn store(peer: SocketAddr, called: &str, calling: &str, file: &[u8]) -> Result<u16, SendError> {
    let mut rest = file.get(128..).ok_or(SendError::NotDicom)?;
    let meta = FileMetaTable::from_reader(&mut rest).map_err(|_| SendError::NotDicom)?;
    let text = |uid: &str| uid.trim_end_matches(['\0', ' ']).to_owned();
    let (class, instance) =
        (text(meta.media_storage_sop_class_uid()), text(meta.media_storage_sop_instance_uid()));
    let transfer_syntax = text(meta.transfer_syntax());
    let failed = |action| {
        move |e: dicom_ul::association::Error| SendError::Association {
            action,
            peer,
            text: e.to_string(),
        }
    };
    let mut association = options(called, calling)
        .with_presentation_context(class.clone(), vec![transfer_syntax.clone()])
        .establish(peer)
        .map_err(failed("opening an association with"))?;
    let Some(context) = association.presentation_contexts().first().map(|c| c.id) else {
        return Err(SendError::NotAccepted { peer, class, transfer_syntax });
    };
    let request = command::request(C_STORE_RQ, 1, &class, Some(&instance));
    let value = PDataValue {
        presentation_context_id: context,
        value_type: PDataValueType::Command,
        is_last: true,
        data: request,
    };
    association.send(&Pdu::PData { data: vec![value] }).map_err(failed("sending to"))?;
    let mut writer = association.send_pdata(context);
    let written = writer.write_all(rest).and_then(|()| writer.finish());
    written.map_err(|e| SendError::Association {
        action: "sending to",
        peer,
        text: e.to_string(),
    })?;
    let status = status(association.receive().map_err(failed("waiting for"))?, peer)?;
    association.release().map_err(failed("releasing the association with"))?;
    Ok(status)
}

/// C-ECHO; gives the status of the response.
///
/// # Errors
/// The association fails before the response.
pub fn echo(peer: SocketAddr, called: &str, calling: &str) -> Result<u16, SendError> {
    let failed = |action| {
        move |e: dicom_ul::association::Error| SendError::Association {
            action,
            peer,
            text: e.to_string(),
        }
    };
    let syntaxes = vec![IMPLICIT_VR_LITTLE_ENDIAN];
    let mut association = options(called, calling)
        .with_presentation_context(VERIFICATION, syntaxes)
        .establish(peer)
        .map_err(failed("opening an association with"))?;
    let context = association.presentation_contexts().first().map_or(1, |c| c.id);
    let data = command::request(C_ECHO_RQ, 1, VERIFICATION, None);
    let value = PDataValue {
        presentation_context_id: context,
        value_type: PDataValueType::Command,
        is_last: true,
        data,
    };
    association.send(&Pdu::PData { data: vec![value] }).map_err(failed("sending to"))?;
    let status = status(association.receive().map_err(failed("waiting for"))?, peer)?;
    association.release().map_err(failed("releasing the association with"))?;
    Ok(status)
}

fn options<'a>(called: &'a str, calling: &'a str) -> ClientAssociationOptions<'a> {
    ClientAssociationOptions::new()
        .called_ae_title(called)
        .calling_ae_title(calling)
        .strict(true)
        .connection_timeout(TIMEOUT)
        .read_timeout(TIMEOUT)
        .write_timeout(TIMEOUT)
}

fn status(pdu: Pdu, peer: SocketAddr) -> Result<u16, SendError> {
    let failed = |text: String| SendError::Association { action: "waiting for", peer, text };
    let Pdu::PData { data } = pdu else {
        return Err(failed("expected a response, found another PDU".into()));
    };
    let bytes: Vec<u8> = data.into_iter().flat_map(|value| value.data).collect();
    command::status_of(&bytes).map_err(|e| failed(e.to_string()))
}
