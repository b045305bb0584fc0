//! Who may come in: application entities, addresses, and how many at a time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dicom_ul::association::server::AccessControl;
use dicom_ul::pdu::{AssociationRJServiceUserReason, UserIdentity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::TRIAL_AE;
use crate::clock::Clock;
use crate::config::{Peer, Scp, UnknownPeers};

/// Who may open an association from one address.
pub(super) struct Access<'a> {
    pub(super) scp: &'a Scp,
    pub(super) peers: &'a [Peer],
    pub(super) address: IpAddr,
}

impl AccessControl for Access<'_> {
    fn check_access(
        &self,
        own: &str,
        calling: &str,
        called: &str,
        _: Option<&UserIdentity>,
    ) -> Result<(), AssociationRJServiceUserReason> {
        if called.trim() != own {
            return Err(AssociationRJServiceUserReason::CalledAETitleNotRecognized);
        }
        if calling.trim() == TRIAL_AE {
            // What it sends is never told to anybody: not a title that an image may come under.
            return if self.address.is_loopback() {
                Ok(())
            } else {
                Err(AssociationRJServiceUserReason::CallingAETitleNotRecognized)
            };
        }
        let peer = self.peers.iter().find(|peer| peer.ae_title == calling.trim());
        let known = match peer {
            // A title that is in the list speaks only from its addresses, whoever else is let in.
            Some(peer) => peer.addresses.is_empty() || peer.addresses.contains(&self.address),
            None => self.scp.unknown_peers == UnknownPeers::Accept,
        };
        if known {
            Ok(())
        } else {
            Err(AssociationRJServiceUserReason::CallingAETitleNotRecognized)
        }
    }
}

/// Counts associations by address.
pub(super) struct Counts {
    clock: Arc<dyn Clock>,
    at_once: usize,
    per_minute: usize,
    by_address: Mutex<HashMap<IpAddr, Count>>,
}

/// One address: what is open, and how much of this minute is used up.
#[derive(Debug, Default)]
struct Count {
    open: usize,
    minute: Option<Instant>,
    begun: usize,
}

/// Addresses that are remembered; beyond it those without an open association are forgotten.
const ADDRESSES_MAX: usize = 4096;

const MINUTE: Duration = Duration::from_secs(60);

impl Counts {
    pub(super) fn new(scp: &Scp, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            at_once: scp.max_associations_per_peer,
            per_minute: scp.associations_per_minute,
            by_address: Mutex::default(),
        })
    }

    /// Counts one association more; none where the address has too many.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Entered> {
        let now = self.clock.monotonic();
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if by_address.len() >= ADDRESSES_MAX {
            by_address.retain(|_, count| count.open > 0);
        }
        let count = by_address.entry(address).or_default();
        if count.minute.is_none_or(|begun| now.duration_since(begun) >= MINUTE) {
            (count.minute, count.begun) = (Some(now), 0);
        }
        if count.open >= self.at_once || count.begun >= self.per_minute {
            return None;
        }
        count.open += 1;
        count.begun += 1;
        drop(by_address);
        Some(Entered { counts: Arc::clone(self), address })
    }
}

/// A counted association; leaving is dropping it.
pub(super) struct Entered {
    counts: Arc<Counts>,
    address: IpAddr,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut by_address = self.counts.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&self.address) {
            count.open = count.open.saturating_sub(1);
        }
    }
}

/// A-ASSOCIATE-RJ: rejected-transient, service provider (presentation), local limit exceeded
/// (PS3.8 9.3.4).
const LOCAL_LIMIT_EXCEEDED: [u8; 10] = [3, 0, 0, 0, 0, 4, 0, 2, 3, 2];

/// Longest request that is heard out before it is turned away: PS3.8 sets no bound, real ones have
/// less than 8 KiB.
const REQUEST_MAX: usize = 64 * 1024;

/// Hears a request out and rejects it for now; the peer may try again.
pub(super) async fn turn_away(mut socket: TcpStream, within: Duration) {
    let conversation = async {
        let mut header = [0; 6];
        socket.read_exact(&mut header).await?;
        let [_, _, length @ ..] = header;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let mut rest = vec![0; length.min(REQUEST_MAX)];
        socket.read_exact(&mut rest).await?;
        socket.write_all(&LOCAL_LIMIT_EXCEEDED).await?;
        socket.shutdown().await
    };
    if tokio::time::timeout(within, conversation).await.is_err() {
        tracing::debug!("a peer that was to be turned away said nothing");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    const ROOM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn answer(
        peers: &[Peer],
        unknown: UnknownPeers,
        calling: &str,
        called: &str,
    ) -> Option<AssociationRJServiceUserReason> {
        let scp = Scp { unknown_peers: unknown, ..Scp::default() };
        let access = Access { scp: &scp, peers, address: ROOM };
        access.check_access("CLEARFILM", calling, called, None).err()
    }

    #[test]
    fn titles_and_addresses_decide_who_comes_in() {
        use AssociationRJServiceUserReason::{
            CalledAETitleNotRecognized, CallingAETitleNotRecognized,
        };
        let peer = |title: &str, addresses: &[IpAddr]| Peer {
            ae_title: title.into(),
            addresses: addresses.into(),
        };
        let peers = [peer("DXROOM1", &[]), peer("DXROOM2", &[ROOM]), peer("DXROOM3", &[OTHER])];
        let reject = UnknownPeers::Reject;
        assert!(answer(&peers, reject, "DXROOM1 ", "CLEARFILM ").is_none());
        assert!(answer(&peers, reject, "DXROOM2", "CLEARFILM").is_none());
        assert!(matches!(
            answer(&peers, reject, "DXROOM3", "CLEARFILM"),
            Some(CallingAETitleNotRecognized)
        ));
        assert!(matches!(
            answer(&peers, reject, "SOMEBODY", "CLEARFILM"),
            Some(CallingAETitleNotRecognized)
        ));
        assert!(matches!(
            answer(&peers, reject, "DXROOM1", "PACS"),
            Some(CalledAETitleNotRecognized)
        ));
        assert!(answer(&peers, UnknownPeers::Accept, "SOMEBODY", "CLEARFILM").is_none());
        // A known title from a wrong address is nobody's, even where strangers are let in.
        assert!(answer(&peers, UnknownPeers::Accept, "DXROOM3", "CLEARFILM").is_some());
    }

    #[test]
    fn an_address_has_so_many_associations_at_once_and_in_a_minute() {
        let scp =
            Scp { max_associations_per_peer: 2, associations_per_minute: 3, ..Scp::default() };
        let counts = Counts::new(&scp, Arc::new(SystemClock));
        let first = counts.enter(ROOM);
        let second = counts.enter(ROOM);
        assert!(first.is_some() && second.is_some() && counts.enter(ROOM).is_none());
        assert!(counts.enter(OTHER).is_some(), "another address has its own");
        drop(first);
        let third = counts.enter(ROOM);
        assert!(third.is_some());
        drop((second, third));
        assert!(counts.enter(ROOM).is_none(), "a fourth in one minute");
    }
}
