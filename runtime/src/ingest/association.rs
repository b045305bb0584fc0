//! One association: negotiate, take commands and data sets, answer each with a status.

use std::future::Future;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use dicom_ul::Pdu;
use dicom_ul::association::server::{AsyncServerAssociation, ServerAssociationOptions};
use dicom_ul::association::{Association, Error};
use dicom_ul::pdu::{PDataValue, PDataValueType, PresentationContextResultReason};
use rustix::fd::OwnedFd;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::block_in_place;

use super::command::{
    C_CANCEL_RQ, C_ECHO_RQ, C_STORE_RQ, COMMAND_BYTES_MAX, Command, RESPONSE, SUCCESS,
    UNRECOGNIZED_OPERATION,
};
use super::door::Access;
use super::facts::{facts_in, preface};
use super::spool::Writing;
use super::{Accepted, Instance, Receiver, Refused, TRIAL_AE, syntax};
use crate::config::SopClass;
use crate::tls;

/// Verification SOP Class (C-ECHO).
pub(super) const VERIFICATION: &str = "1.2.840.10008.1.1";

impl SopClass {
    /// Its UID (PS3.6 A).
    pub(super) fn uid(self) -> &'static str {
        match self {
            Self::Cr => "1.2.840.10008.5.1.4.1.1.1",
            Self::Dx => "1.2.840.10008.5.1.4.1.1.1.1",
            Self::DxProcessing => "1.2.840.10008.5.1.4.1.1.1.1.1",
            Self::Sc => "1.2.840.10008.5.1.4.1.1.7",
        }
    }
}

/// Serves one association to its end.
pub(super) async fn handle(socket: TcpStream, address: IpAddr, receiver: &Receiver) {
    // A second handle to the same socket: the association keeps the first to itself.
    let socket_option = socket.as_fd().try_clone_to_owned().ok();
    let scp = &receiver.scp;
    let mut options = ServerAssociationOptions::new()
        .ae_access_control(Access { scp, peers: &receiver.peers, address })
        .ae_title(scp.ae_title.as_str())
        .with_abstract_syntax(VERIFICATION)
        // Without it a peer that announces a PDU of 4 GB fills the memory.
        .strict(true)
        .max_pdu_length(scp.max_pdu)
        .read_timeout(scp.idle_timeout)
        .write_timeout(scp.write_timeout);
    for class in &scp.sop_classes {
        options = options.with_abstract_syntax(class.uid());
    }
    for syntax in syntax::all().filter(|syntax| syntax.offered) {
        options = options.with_transfer_syntax(syntax.uid);
    }
    if let Some(tls) = &receiver.tls {
        let options = options.tls_config(block_in_place(|| tls.config()));
        let establishing = options.establish_tls_async(socket);
        establish(establishing, address, socket_option, receiver).await;
    } else {
        let establishing = options.establish_async(socket);
        establish(establishing, address, socket_option, receiver).await;
    }
}

/// Over TLS or a plain socket.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Waits for the association to be established, and serves it.
async fn establish<S: Stream>(
    establishing: impl Future<Output = Result<AsyncServerAssociation<S>, Error>>,
    address: IpAddr,
    socket: Option<OwnedFd>,
    receiver: &Receiver,
) {
    // The ARTIM timer of PS3.8 9.1.5: from the connection to the end of negotiation.
    let result = match tokio::time::timeout(receiver.scp.artim, establishing).await {
        Ok(Ok(association)) => {
            converse(association, socket, receiver).await;
            "served"
        }
        Ok(Err(Error::TlsHandshake { source, .. })) => {
            tracing::warn!(%address, reason = tls::reason(&source), "no TLS with a peer");
            "no-tls"
        }
        // The text of the error can quote what the peer sent: only its kind is told.
        Ok(Err(_)) => {
            tracing::info!(%address, "an association was rejected or never established");
            "rejected"
        }
        Err(_) => {
            tracing::info!(%address, "no association was asked for in time");
            "silent"
        }
    };
    receiver.metrics.association(result);
}

/// Takes PDUs until the peer releases, aborts, falls silent or breaks the protocol.
async fn converse<S: Stream>(
    mut association: AsyncServerAssociation<S>,
    socket: Option<OwnedFd>,
    receiver: &Receiver,
) {
    let mut exchange = Exchange { receiver, command: Vec::new(), incoming: None };
    let within = receiver.scp.write_timeout;
    loop {
        quick_acknowledge(socket.as_ref());
        let values = match association.receive().await {
            Ok(Pdu::PData { data }) => data,
            Ok(Pdu::ReleaseRQ) => {
                if !told(&mut association, &Pdu::ReleaseRP, within).await {
                    tracing::debug!("the peer left before its release was answered");
                }
                return;
            }
            Ok(Pdu::AbortRQ { .. }) => return,
            Ok(_) | Err(_) => {
                let reason = "expected data, release or abort, found another PDU or silence";
                return abort(association, reason, within).await;
            }
        };
        for value in values {
            let answer = match block_in_place(|| exchange.take(&association, &value)) {
                Ok(answer) => answer,
                Err(reason) => return abort(association, &reason, within).await,
            };
            let Some(data) = answer else { continue };
            let response = response(value.presentation_context_id, data);
            if !told(&mut association, &response, within).await {
                return abort(association, "the response was not taken", within).await;
            }
        }
    }
}

/// Sends; false where the peer does not take it in time.
async fn told<S: Stream>(
    association: &mut AsyncServerAssociation<S>,
    pdu: &Pdu,
    within: Duration,
) -> bool {
    if association.send(pdu).await.is_err() {
        return false;
    }
    // TLS may keep back a part of what it was given until it is flushed.
    let flushed = tokio::time::timeout(within, association.inner_stream().flush()).await;
    matches!(flushed, Ok(Ok(())))
}

async fn abort<S: Stream>(association: AsyncServerAssociation<S>, reason: &str, within: Duration) {
    tracing::info!(reason, "association aborted");
    // TLS says good-bye too, and a peer that takes nothing would hold its place for ever.
    if !matches!(tokio::time::timeout(within, association.abort()).await, Ok(Ok(()))) {
        tracing::debug!("the peer was gone before the abort");
    }
}

fn response(context: u8, data: Vec<u8>) -> Pdu {
    let value = PDataValue {
        presentation_context_id: context,
        value_type: PDataValueType::Command,
        is_last: true,
        data,
    };
    Pdu::PData { data: vec![value] }
}

/// Senders with Nagle's algorithm on (DCMTK's default) otherwise wait 40 ms an image. The system
/// turns the option off again by itself, so it is set before every receive.
fn quick_acknowledge(socket: Option<&OwnedFd>) {
    if let Some(socket) = socket
        && rustix::net::sockopt::set_tcp_quickack(socket, true).is_err()
    {
        tracing::debug!("TCP_QUICKACK cannot be set: small images arrive more slowly");
    }
}

/// What has arrived of the current command and data set.
struct Exchange<'a> {
    receiver: &'a Receiver,
    command: Vec<u8>,
    incoming: Option<Incoming<'a>>,
}

/// A C-STORE whose data set is on its way.
struct Incoming<'a> {
    command: Command,
    context: u8,
    transfer_syntax: String,
    /// Does it come from [`TRIAL_AE`]?
    trial: bool,
    /// The file it goes to, or why its bytes are thrown away: the sender has to be heard out.
    target: Result<Writing<'a>, Refused>,
}

impl<'a> Exchange<'a> {
    /// Takes one fragment; gives the response when a message is complete.
    ///
    /// An error breaks the protocol: the association is aborted.
    fn take(
        &mut self,
        association: &impl Association,
        value: &PDataValue,
    ) -> Result<Option<Vec<u8>>, String> {
        match (&value.value_type, &mut self.incoming) {
            (PDataValueType::Command, None) => {
                self.command.extend(&value.data);
                if self.command.len() > COMMAND_BYTES_MAX {
                    return Err(format!(
                        "expected a command of at most {COMMAND_BYTES_MAX} bytes, found more"
                    ));
                }
                if !value.is_last {
                    return Ok(None);
                }
                let bytes = std::mem::take(&mut self.command);
                let command = Command::parse(&bytes).map_err(|e| e.to_string())?;
                self.begin(association, value.presentation_context_id, command)
            }
            (PDataValueType::Data, Some(incoming))
                if incoming.context == value.presentation_context_id =>
            {
                incoming.push(&value.data, self.receiver.scp.max_object.as_u64());
                if !value.is_last {
                    return Ok(None);
                }
                let incoming = self.incoming.take().ok_or("a data set without a command")?;
                Ok(Some(incoming.finish(self.receiver)))
            }
            (PDataValueType::Command, Some(_)) => {
                Err("expected the rest of a data set, found a command".into())
            }
            (PDataValueType::Data, _) => {
                Err("expected a command, found a data set without one".into())
            }
        }
    }

    fn begin(
        &mut self,
        association: &impl Association,
        context: u8,
        command: Command,
    ) -> Result<Option<Vec<u8>>, String> {
        let negotiated = association
            .presentation_contexts()
            .iter()
            .find(|c| c.id == context && c.reason == PresentationContextResultReason::Acceptance)
            .ok_or_else(|| format!("expected an accepted presentation context, found {context}"))?;
        match (command.field, command.has_data_set) {
            (C_ECHO_RQ, false) => Ok(Some(command.response(SUCCESS, None))),
            (C_STORE_RQ, true) => {
                let target = self.target(
                    &command,
                    &negotiated.abstract_syntax,
                    &negotiated.transfer_syntax,
                    association.peer_ae_title(),
                );
                let transfer_syntax = negotiated.transfer_syntax.clone();
                let trial = association.peer_ae_title().trim() == TRIAL_AE;
                self.incoming = Some(Incoming { command, context, transfer_syntax, trial, target });
                Ok(None)
            }
            // PS3.7 9.3.2.3: it asks for nothing but less; and nothing here takes long enough.
            (C_CANCEL_RQ, false) => Ok(None),
            (field, _) if field & RESPONSE != 0 => {
                Err(format!("expected a request, found response {field:04x}"))
            }
            (_, false) => Ok(Some(command.response(UNRECOGNIZED_OPERATION, None))),
            // Its data set is heard out, then the same is said.
            (_, true) => {
                let (transfer_syntax, target) = (String::new(), Err(Refused::Unrecognized));
                self.incoming =
                    Some(Incoming { command, context, transfer_syntax, trial: false, target });
                Ok(None)
            }
        }
    }

    /// The file for a data set, or why there is none.
    fn target(
        &self,
        command: &Command,
        class: &str,
        transfer_syntax: &str,
        sender: &str,
    ) -> Result<Writing<'a>, Refused> {
        (self.receiver.admit)()?;
        let (Some(sop_class), Some(instance)) = (&command.sop_class, &command.sop_instance) else {
            return Err(Refused::Mismatch("expected affected SOP Class and Instance UIDs".into()));
        };
        if sop_class.as_str() != class {
            return Err(Refused::Mismatch(
                "command and presentation context name two SOP classes".into(),
            ));
        }
        let preface =
            preface(sop_class, instance, transfer_syntax, sender).map_err(Refused::Failed)?;
        let mut writing = self.receiver.spool.begin().map_err(|e| failed(&e))?;
        writing.preface(&preface).map_err(|e| failed(&e))?;
        Ok(writing)
    }
}

impl Incoming<'_> {
    fn push(&mut self, bytes: &[u8], bytes_max: u64) {
        let Ok(writing) = &mut self.target else { return };
        let problem = if writing.bytes() + bytes.len() as u64 > bytes_max {
            Some(Refused::Malformed(format!("expected at most {bytes_max} bytes, found more")))
        } else {
            writing.push(bytes).err().map(|e| failed(&e))
        };
        if let Some(problem) = problem {
            self.target = Err(problem);
        }
    }

    /// Keeps the complete data set, hands it over, and gives the response.
    fn finish(self, receiver: &Receiver) -> Vec<u8> {
        let Self { command, transfer_syntax, trial, target, .. } = self;
        let begun = receiver.clock.monotonic();
        let bytes = target.as_ref().map_or(0, Writing::bytes);
        let outcome =
            target.and_then(|writing| keep(writing, &command, &transfer_syntax, trial, receiver));
        let status = outcome.as_ref().map_or_else(Refused::status, |_| SUCCESS);
        let took = receiver.clock.monotonic().duration_since(begun);
        receiver.metrics.instance(&transfer_syntax, &format!("{status:04x}"), took);
        match outcome {
            Ok(Accepted::New | Accepted::Duplicate) => {
                receiver.metrics.receive_bytes.inc_by(bytes);
                command.response(SUCCESS, None)
            }
            Err(refused) => {
                if matches!(refused, Refused::NotDurable(_)) {
                    (receiver.distrust)();
                }
                tracing::warn!(status = format!("{status:04x}"), reason = %refused, "object not taken");
                command.response(status, Some(&refused.comment()))
            }
        }
    }
}

/// The promise: every step is durable before the next, and all of them before the response.
pub(super) fn keep(
    mut writing: Writing<'_>,
    command: &Command,
    transfer_syntax: &str,
    trial: bool,
    receiver: &Receiver,
) -> Result<Accepted, Refused> {
    writing.sync().map_err(|e| Refused::NotDurable(e.to_string()))?;
    let (limits, inflated_max) = (&receiver.limits, receiver.inflated_max);
    let facts = facts_in(writing.path(), writing.start(), transfer_syntax, limits, inflated_max);
    let facts = facts.map_err(|e| Refused::Malformed(e.to_string()))?;
    if Some(&facts.sop_instance) != command.sop_instance.as_ref()
        || Some(&facts.sop_class) != command.sop_class.as_ref()
    {
        return Err(Refused::Mismatch("command and data set name two instances".into()));
    }
    let instance = Instance {
        id: writing.id(),
        sop_class: facts.sop_class,
        sop_instance: facts.sop_instance,
        study: facts.study,
        accession: facts.accession,
        transfer_syntax: transfer_syntax
            .parse()
            .map_err(|_| Refused::Malformed("expected a transfer syntax UID".into()))?,
        digest: writing.digest(),
        bytes: writing.bytes(),
        received: receiver.clock.now(),
        trial,
    };
    writing.complete().map_err(|e| Refused::NotDurable(e.to_string()))?;
    let accepted = (receiver.accept)(&instance);
    // A file that the store failed to take stays: the row may be on the disk after all, and the
    // next start takes the file back or finds that its sender sent it again.
    if accepted == Ok(Accepted::Duplicate)
        && let Err(error) = receiver.spool.remove(instance.id)
    {
        tracing::warn!(instance = %instance.id, %error, "a copy that is not needed stays");
    }
    tracing::info!(instance = %instance.id, bytes = instance.bytes, outcome = ?accepted, "object received");
    accepted
}

fn failed(error: &dyn std::fmt::Display) -> Refused {
    Refused::Failed(error.to_string())
}
