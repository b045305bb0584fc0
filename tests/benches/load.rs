//! What is sent, and the one sender for all receivers.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use clearfilm::clock::{Clock as _, SystemClock};
use clearfilm::id::Uid;
use clearfilm::ingest::send::Sender;
use clearfilm::phantom::{Encoding, Phantom, Photometric, Projection, Variant};

use crate::figures::ms;

/// Objects of one size over so many associations at once.
pub(crate) struct Load {
    /// Height of the images, pixels of 2 bytes.
    pub(crate) rows: usize,
    /// Width.
    pub(crate) columns: usize,
    /// Associations that send at the same time; threads that write, for the disk.
    pub(crate) associations: usize,
    /// Objects of each.
    pub(crate) objects: usize,
}

/// What one round of one receiver took.
#[derive(Clone)]
pub(crate) struct Run {
    /// From the first command to the last response, ms.
    elapsed: f64,
    /// Of each object, from the first byte of its command to the response, ms.
    pub(crate) times: Vec<f64>,
}

impl Run {
    /// Objects a second.
    pub(crate) fn per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "some hundreds of objects")]
        let objects = self.times.len() as f64;
        1e3 * objects / self.elapsed
    }
}

/// Numbers given out, so that no two objects of a process are the same.
static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// Digits of a number at the end of a UID; a UID of a phantom has 38 or 39 digits behind `2.25.`.
const DIGITS: usize = 12;

/// A drawn object whose study and instance can be made another at no cost.
pub(crate) struct Numbered {
    bytes: Vec<u8>,
    /// Where in `bytes` the last digits of its UIDs stand.
    places: Vec<usize>,
}

impl Numbered {
    fn drawn(load: &Load) -> Self {
        let encoding = Encoding {
            rows: load.rows,
            columns: load.columns,
            bits_stored: 12,
            photometric: Photometric::Monochrome2,
        };
        let phantom = Phantom { seed: 1, projection: Projection::Pa, variant: Variant::Effusion };
        let bytes = phantom.to_dicom(&encoding).expect("drawn");
        let uids = [phantom.study_uid(&encoding), phantom.sop_instance_uid(&encoding)];
        let places = uids.iter().flat_map(|uid| ends(&bytes, uid)).collect();
        Self { bytes, places }
    }

    /// The bytes as another study's, never the same twice.
    pub(crate) fn next(&mut self) -> &[u8] {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let digits = format!("{number:0DIGITS$}");
        for &place in &self.places {
            self.bytes[place..place + DIGITS].copy_from_slice(digits.as_bytes());
        }
        &self.bytes
    }
}

/// Where the last digits of a UID stand in a file, wherever it names it.
fn ends(bytes: &[u8], uid: &Uid) -> Vec<usize> {
    let text = uid.as_str().as_bytes();
    // The header is at the front; pixels are not searched.
    let header = &bytes[..bytes.len().min(8_192)];
    let found = header.windows(text.len()).enumerate().filter(|(_, window)| *window == text);
    found.map(|(at, _)| at + text.len() - DIGITS).collect()
}

impl Load {
    /// Bytes of an object's pixels.
    pub(crate) fn bytes(&self) -> u64 {
        2 * (self.rows * self.columns) as u64
    }

    /// The same in MB, rounded.
    pub(crate) fn megabytes(&self) -> String {
        let tenths = (self.bytes() + 50_000) / 100_000;
        format!("{}.{}", tenths / 10, tenths % 10)
    }

    /// Sends it; every object must be answered with success.
    pub(crate) fn send(&self, receiver: SocketAddr, called: &str) -> Run {
        self.at_once(|object| {
            let opened = Sender::open(receiver, called, "BENCH", object.next());
            let mut sender = opened.expect("an association");
            // The first object of an association is not counted: buffers grow, pages are touched.
            assert_eq!(sender.store(object.next()).expect("an answer"), 0, "{called} took it not");
            move |object: &[u8]| {
                let status = sender.store(object).expect("an answer");
                assert_eq!(status, 0, "{called}: expected success, found {status:04x}");
            }
        })
    }

    /// The disk's part of it alone: each object into a new file, with the same two syncs.
    pub(crate) fn write(&self, folder: &Path) -> Run {
        self.at_once(|_| {
            let opened = File::open(folder).expect("a folder");
            move |object: &[u8]| {
                let name = NUMBER.fetch_add(1, Ordering::Relaxed);
                let (begun, complete) = (folder.join(format!("{name}.tmp")), format!("{name}.dcm"));
                let mut file = File::create_new(&begun).expect("a new file");
                file.write_all(object).and_then(|()| file.sync_all()).expect("written");
                fs::rename(&begun, folder.join(complete)).expect("renamed");
                opened.sync_all().expect("synced");
            }
        })
    }

    /// Runs what `ready` gives on every object, in as many threads as there are associations,
    /// once all are ready.
    fn at_once<T: FnMut(&[u8])>(&self, ready: impl Fn(&mut Numbered) -> T + Sync) -> Run {
        let start = Barrier::new(self.associations);
        let drawn = Numbered::drawn(self);
        let clock = SystemClock;
        let association = || {
            let mut object = Numbered { bytes: drawn.bytes.clone(), places: drawn.places.clone() };
            let mut take = ready(&mut object);
            start.wait();
            let first = clock.monotonic();
            let times = (0..self.objects).map(|_| {
                let object = object.next();
                let begun = clock.monotonic();
                take(object);
                ms(clock.monotonic().duration_since(begun))
            });
            let times: Vec<f64> = times.collect();
            (first, clock.monotonic(), times)
        };
        thread::scope(|scope| {
            let running: Vec<_> =
                (0..self.associations).map(|_| scope.spawn(association)).collect();
            let done: Vec<_> =
                running.into_iter().map(|thread| thread.join().expect("it ends")).collect();
            let first = done.iter().map(|(first, ..)| *first).min().expect("one at least");
            let last = done.iter().map(|(_, last, _)| *last).max().expect("one at least");
            let times = done.into_iter().flat_map(|(.., times)| times).collect();
            Run { elapsed: ms(last.duration_since(first)), times }
        })
    }
}
