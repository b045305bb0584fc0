//! C-STORE and C-ECHO as a sender: for the demo, for commissioning and for tests.

use std::fmt::Display;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use dicom_object::FileMetaTable;
use dicom_ul::Pdu;
use dicom_ul::association::client::{ClientAssociation, ClientAssociationOptions};
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

/// An association that is open for one kind of object and takes any number of them.
///
/// Dropped without [`Sender::release`] it just closes its connection.
pub struct Sender {
    association: ClientAssociation<TcpStream>,
    peer: SocketAddr,
    class: String,
    transfer_syntax: String,
    context: u8,
    message_id: u16,
}

impl Sender {
    /// Opens an association for objects of the SOP class and transfer syntax of `file`, a Part 10
    /// file that is not sent yet.
    ///
    /// # Errors
    /// The file is no DICOM file, the association fails, or the receiver wants no such object.
    pub fn open(
        peer: SocketAddr,
        called: &str,
        calling: &str,
        file: &[u8],
    ) -> Result<Self, SendError> {
        let Object { class, transfer_syntax, .. } = Object::of(file)?;
        let opening = "opening an association with";
        let mut association = options(called, calling)
            .with_presentation_context(class.clone(), vec![transfer_syntax.clone()])
            .establish(peer)
            .map_err(|e| failed(opening, peer, e))?;
        let Some(context) = association.presentation_contexts().first().map(|c| c.id) else {
            return Err(SendError::NotAccepted { peer, class, transfer_syntax });
        };
        // Otherwise the end of each object waits until the receiver acknowledges what came before.
        let undelayed = association.inner_stream().set_nodelay(true);
        undelayed.map_err(|e| failed(opening, peer, e))?;
        Ok(Self { association, peer, class, transfer_syntax, context, message_id: 0 })
    }

    /// Sends one Part 10 file; gives the status of the response.
    ///
    /// # Errors
    /// The file is no DICOM file or of another kind than the association was opened for, or the
    /// association fails before the response.
    pub fn store(&mut self, file: &[u8]) -> Result<u16, SendError> {
        let Object { class, instance, transfer_syntax, data_set } = Object::of(file)?;
        if (&class, &transfer_syntax) != (&self.class, &self.transfer_syntax) {
            return Err(SendError::NotAccepted { peer: self.peer, class, transfer_syntax });
        }
        let peer = self.peer;
        // PS3.7 9.1.1.1.1: it tells the operations of an association apart, of which one is under way.
        self.message_id = self.message_id.wrapping_add(1);
        let request = command::request(C_STORE_RQ, self.message_id, &class, Some(&instance));
        let value = PDataValue {
            presentation_context_id: self.context,
            value_type: PDataValueType::Command,
            is_last: true,
            data: request,
        };
        self.association
            .send(&Pdu::PData { data: vec![value] })
            .map_err(|e| failed("sending to", peer, e))?;
        let mut writer = self.association.send_pdata(self.context);
        let written = writer.write_all(data_set).and_then(|()| writer.finish());
        written.map_err(|e| failed("sending to", peer, e))?;
        status(self.association.receive().map_err(|e| failed("waiting for", peer, e))?, peer)
    }

    /// Releases the association.
    ///
    /// # Errors
    /// The receiver does not answer the release.
    pub fn release(self) -> Result<(), SendError> {
        let peer = self.peer;
        self.association.release().map_err(|e| failed("releasing the association with", peer, e))
    }
}

/// What a C-STORE needs of a Part 10 file.
struct Object<'a> {
    class: String,
    instance: String,
    transfer_syntax: String,
    data_set: &'a [u8],
}

impl<'a> Object<'a> {
    fn of(file: &'a [u8]) -> Result<Self, SendError> {
        let mut data_set = file.get(128..).ok_or(SendError::NotDicom)?;
        let meta = FileMetaTable::from_reader(&mut data_set).map_err(|_| SendError::NotDicom)?;
        let text = |uid: &str| uid.trim_end_matches(['\0', ' ']).to_owned();
        Ok(Self {
            class: text(meta.media_storage_sop_class_uid()),
            instance: text(meta.media_storage_sop_instance_uid()),
            transfer_syntax: text(meta.transfer_syntax()),
            data_set,
        })
    }
}

/// Sends one Part 10 file over an association of its own; gives the status of the response.
///
/// # Errors
/// The file is no DICOM file, or the association fails before the response.
pub fn store(peer: SocketAddr, called: &str, calling: &str, file: &[u8]) -> Result<u16, SendError> {
    let mut sender = Sender::open(peer, called, calling, file)?;
    let status = sender.store(file)?;
    sender.release()?;
    Ok(status)
}

/// C-ECHO; gives the status of the response.
///
/// # Errors
/// The association fails before the response.
pub fn echo(peer: SocketAddr, called: &str, calling: &str) -> Result<u16, SendError> {
    let syntaxes = vec![IMPLICIT_VR_LITTLE_ENDIAN];
    let mut association = options(called, calling)
        .with_presentation_context(VERIFICATION, syntaxes)
        .establish(peer)
        .map_err(|e| failed("opening an association with", peer, e))?;
    let context = association.presentation_contexts().first().map_or(1, |c| c.id);
    let data = command::request(C_ECHO_RQ, 1, VERIFICATION, None);
    let value = PDataValue {
        presentation_context_id: context,
        value_type: PDataValueType::Command,
        is_last: true,
        data,
    };
    let sent = association.send(&Pdu::PData { data: vec![value] });
    sent.map_err(|e| failed("sending to", peer, e))?;
    let answer = association.receive().map_err(|e| failed("waiting for", peer, e))?;
    let status = status(answer, peer)?;
    association.release().map_err(|e| failed("releasing the association with", peer, e))?;
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

fn failed(action: &'static str, peer: SocketAddr, error: impl Display) -> SendError {
    SendError::Association { action, peer, text: error.to_string() }
}

fn status(pdu: Pdu, peer: SocketAddr) -> Result<u16, SendError> {
    let failed = |text: String| failed("waiting for", peer, text);
    let Pdu::PData { data } = pdu else {
        return Err(failed("expected a response, found another PDU".into()));
    };
    let bytes: Vec<u8> = data.into_iter().flat_map(|value| value.data).collect();
    command::status_of(&bytes).map_err(|e| failed(e.to_string()))
}
