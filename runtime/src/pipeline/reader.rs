//! The readers: named threads, each with one engine, that turn inbox rows into readings.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use super::engines::{self, name_of};
use super::trial::{self, Look};
use super::{Shared, count, lock};
use crate::alarm::AlarmKind;
use crate::config::EngineChoice;
use crate::decode::{Decoder, Program};
use crate::encode::{Encoder, Engine};
use crate::gate::{Check, Outcome as Answer};
use crate::id::InstanceId;
use crate::publish::Former;
use crate::pulse::Pulse;
use crate::reading::{self, Reading};
use crate::store::record::{
    ExamImage, ExamRecord, ExamRow, InboxRow, InstanceRecord, MadeBy, OutboxRow, Outcome, Reason,
    State, VALUE_VERSION, What,
};
use crate::store::{Commit, StoreError};

/// Longest wait for the bell: a ring that was missed costs no more than this.
const WAIT: Duration = Duration::from_secs(5);

/// Pause after a failed attempt, so that a broken engine does not burn through all attempts at once.
const PAUSE: Duration = Duration::from_millis(200);

/// Starts the configured number of readers, and the search for a better engine beside them.
pub(super) fn start(shared: &Arc<Shared>) -> io::Result<Vec<JoinHandle<()>>> {
    engines::try_in_order(shared);
    (1..=shared.config.engine.sessions)
        .map(|number| {
            let shared = shared.clone();
            let name = format!("reader-{number}");
            let pulse = shared.health.pulses.of(name.as_str());
            std::thread::Builder::new().name(name).spawn(move || {
                // A broken program must not go on with half a state: systemd starts it again, and
                // nothing that was accepted is lost by that.
                if catch_unwind(AssertUnwindSafe(|| work(&shared, &pulse))).is_err() {
                    tracing::error!("a reader panicked: the process ends");
                    std::process::abort();
                }
            })
        })
        .collect()
}

/// Reads until the bell is stopped: with the compiled-in engine at once, with a better one as soon
/// as one is offered. Without any, images are received and kept.
fn work(shared: &Arc<Shared>, pulse: &Pulse) {
    // The compiled-in engine is made ready now.
    pulse.promise(shared.config.storage.trial_wall);
    let mut encoder = shared.compiled_in();
    let limits = &shared.config;
    let mut decoder = Decoder::new(Program::own(), &limits.decode, &limits.dicom.limits);
    let reading = limits.decode.wall + limits.storage.trial_wall;
    while !shared.work.stopped() {
        pulse.promise(WAIT);
        // Between two images: each is read by one engine, and its messages name that one.
        encoder = shared.offered().or(encoder);
        let Some(current) = encoder.as_mut() else {
            shared.work.wait(WAIT);
            continue;
        };
        match claim(shared) {
            Ok(Some(id)) => {
                pulse.promise(reading);
                let done = one(shared, id, &mut decoder, current.as_mut());
                lock(&shared.claimed).remove(&id);
                match done {
                    Ok(Done::Settled) => {}
                    Ok(Done::EngineFailed(text)) => {
                        if shared.is_sound(current.as_mut(), &text) {
                            std::thread::sleep(PAUSE);
                        } else {
                            encoder = shared.compiled_in();
                        }
                    }
                    Err(error) => not_committed(shared, id, &error),
                }
            }
            Ok(None) => shared.work.wait(WAIT),
            Err(error) => {
                tracing::error!(%error, "the inbox cannot be read");
                shared.work.wait(WAIT);
            }
        }
    }
}

/// What came of one instance.
enum Done {
    /// It was read, set aside, or stays in the inbox.
    Settled,
    /// The engine failed; the instance stays in the inbox for another one.
    EngineFailed(String),
}

fn not_committed(shared: &Shared, id: InstanceId, error: &StoreError) {
    tracing::error!(instance = %id, %error, "not committed; it stays in the inbox");
    if shared.store.trusted().is_err() {
        shared.distrust();
    }
    std::thread::sleep(PAUSE);
}

/// How far behind the oldest instance a reader looks for one that never ended the daemon.
const LOOK_AHEAD: usize = 64;

/// The oldest instance that no other reader works on; those at which the daemon ended come last,
/// because they may do it again and the others wait for a radiologist.
fn claim(shared: &Shared) -> Result<Option<InstanceId>, StoreError> {
    let mut claimed = lock(&shared.claimed);
    let waiting = shared.store.waiting(claimed.len() + LOOK_AHEAD)?;
    let free: Vec<InstanceId> = waiting.into_iter().filter(|id| !claimed.contains(id)).collect();
    let mut chosen = free.first().copied();
    for id in free {
        if shared.store.attempts(id)? < shared.config.storage.attempts {
            chosen = Some(id);
            break;
        }
    }
    claimed.extend(chosen);
    Ok(chosen)
}

/// Reads one instance and commits what came of it.
fn one(
    shared: &Shared,
    id: InstanceId,
    decoder: &mut Decoder,
    encoder: &mut dyn Encoder,
) -> Result<Done, StoreError> {
    let begun = shared.clock.monotonic();
    let Some(row) = shared.store.begin(id)? else { return Ok(Done::Settled) };
    if row.conflict {
        let text = format!(
            "expected one object under a SOP Instance UID, found another with other bytes: image {} of exam {}",
            row.image, row.exam
        );
        shared.alarms.raise(AlarmKind::UidConflict, text);
    }
    let (path, storage) = (shared.spool.path(id), &shared.config.storage);
    // Somebody stopped the service while this image was read, or it is the image that did: then
    // another process is to find out.
    let alone = row.attempts > storage.attempts;
    let (look, engine) = if row.attempts > storage.attempts.saturating_add(storage.trials) {
        let expected = storage.attempts.saturating_add(storage.trials);
        (Look::Failed(format!("expected a reading within {expected} attempts, found none")), None)
    } else if alone {
        tracing::warn!(instance = %id, attempt = row.attempts, "read in a process of its own");
        trial::in_a_process(&shared.config, &path)
    } else {
        let look = trial::look(&path, decoder, &shared.bundle, &shared.policy, encoder);
        (look, Some(encoder.engine().clone()))
    };
    if row.instance.trial {
        return tried(shared, &row, &look).map(|()| Done::Settled);
    }
    match (look, engine) {
        (Look::Read(reading), Some(engine)) => {
            let (accepted, view) = (reading.accepted(), reading.view.name());
            commit(shared, &row, *reading, engine)?;
            let took = shared.clock.monotonic().duration_since(begun);
            shared.metrics.stage("image", took);
            tracing::info!(instance = %id, exam = %row.exam, view, accepted, ?took, "read");
        }
        (Look::EngineFailed(text), Some(engine))
            if name_of(&engine) != EngineChoice::Tract.name() =>
        {
            tracing::error!(instance = %id, text, "the engine failed");
            return Ok(Done::EngineFailed(text));
        }
        (Look::Unreadable(reason), _) => set_aside(shared, &row, State::Quarantined, reason)?,
        (Look::Read(_), None) => tracing::error!(instance = %id, "expected an engine, found none"),
        (Look::Failed(text) | Look::EngineFailed(text), _) if alone => {
            let reason = Reason { code: "failed-attempts".into(), text };
            set_aside(shared, &row, State::Failed, reason)?;
        }
        (Look::Failed(error) | Look::EngineFailed(error), _) => {
            tracing::error!(instance = %id, error, attempt = row.attempts, "not read");
            std::thread::sleep(PAUSE);
        }
    }
    Ok(Done::Settled)
}

/// Counts how an image of a trial went, and forgets it: nobody waits for a drawing.
fn tried(shared: &Shared, row: &InboxRow, look: &Look) -> Result<(), StoreError> {
    let id = row.instance.id;
    let trials = &shared.health.trials;
    let count = if matches!(look, Look::Read(_)) { &trials.read } else { &trials.failed };
    shared.store.erase(&row.exam, None)?;
    if let Err(error) = shared.spool.remove(id) {
        tracing::warn!(instance = %id, %error, "the image of a trial stays in the spool");
    }
    count.fetch_add(1, Ordering::Relaxed);
    tracing::info!(instance = %id, read = matches!(look, Look::Read(_)), "the image of a trial");
    Ok(())
}

/// Commits that an instance cannot be read; its bytes move to the quarantine, never away.
fn set_aside(
    shared: &Shared,
    row: &InboxRow,
    state: State,
    reason: Reason,
) -> Result<(), StoreError> {
    let id = row.instance.id;
    tracing::warn!(instance = %id, code = reason.code, text = reason.text, "set aside");
    shared.metrics.withheld(&reason.code);
    let record = record(shared, row, Outcome::Quarantined(reason.clone()), None);
    let messages = vec![message(shared, state_of(row, state, Some(reason)))];
    shared.store.commit(&Commit { record: &record, revision: None, messages })?;
    shared.outgoing.notify_one();
    // After the commit: killed in between, the bytes still lie in the spool.
    if let Err(error) = shared.spool.set_aside(id) {
        tracing::error!(instance = %id, %error, "the object stays in the spool");
    }
    Ok(())
}

/// Commits a reading, its exam's next revision and every message of it in one transaction.
fn commit(
    shared: &Shared,
    row: &InboxRow,
    mut reading: Reading,
    engine: Engine,
) -> Result<(), StoreError> {
    if row.conflict {
        let detail =
            "expected one object under its SOP Instance UID, found another with other bytes before";
        reading.gate.add(Check {
            name: "uid".into(),
            outcome: Answer::Warn,
            code: None,
            detail: Some(detail.into()),
        });
    }
    let by = MadeBy::new(shared.software.clone(), engine, &shared.bundle, shared.policy.intended);
    count::reading(&shared.metrics, &reading);
    let accepted = reading.accepted();
    let refusal = reading.gate.refusal().map(|(code, text)| Reason { code, text });
    let withheld = reading.withheld();
    let record = record(shared, row, Outcome::Reading(Box::new(reading)), Some(by));
    let _one_at_a_time = lock(&shared.committing);
    let exam = shared.store.exam(&row.exam)?;
    let revision = revision(shared, row, &exam, &record)?;
    let mut messages = vec![What::Gate { instance: row.instance.id }];
    if accepted {
        messages.insert(0, state_of(row, State::Gated, None));
        messages.push(state_of(row, State::Read, None));
    } else {
        let state = if withheld { State::Withheld } else { State::Refused };
        messages.push(state_of(row, state, refusal));
    }
    if let Some((revision, _)) = &revision {
        let (exam, number) = (revision.exam.clone(), revision.revision);
        if !revision.images.is_empty() {
            messages.push(What::Findings { exam: exam.clone(), revision: number });
        }
        messages.push(What::Report { exam, revision: number });
    }
    let messages = messages.into_iter().map(|what| message(shared, what)).collect();
    let revision = revision.as_ref().map(|(record, row)| (record, row));
    let begun = shared.clock.monotonic();
    shared.store.commit(&Commit { record: &record, revision, messages })?;
    shared.metrics.stage("store", shared.clock.monotonic().duration_since(begun));
    shared.outgoing.notify_one();
    Ok(())
}

/// The exam's next revision; none where an image that is not read joins others that were.
fn revision(
    shared: &Shared,
    row: &InboxRow,
    exam: &ExamRow,
    newest: &InstanceRecord,
) -> Result<Option<(ExamRecord, ExamRow)>, StoreError> {
    let mut records = Vec::new();
    for id in &exam.read {
        records.extend(shared.store.record(*id)?);
    }
    let Outcome::Reading(reading) = &newest.outcome else { return Ok(None) };
    if !reading.accepted() && !records.is_empty() {
        return Ok(None);
    }
    records.push(newest.clone());
    let images = images_of(&records);
    let readings: Vec<(&str, &Reading)> = records.iter().filter_map(read_of).collect();
    let combined = reading::combine(&readings, &shared.bundle, &shared.policy);
    let Some(by) = newest.by.clone() else { return Ok(None) };
    let record = ExamRecord {
        v: VALUE_VERSION,
        exam: row.exam.clone(),
        study: row.instance.study.clone(),
        accession: row.instance.accession.clone(),
        modality: reading.modality.clone(),
        revision: exam.revision + 1,
        replaces: exam.messages,
        images,
        findings: combined.findings,
        not_assessed: combined.not_assessed,
        caveats: combined.caveats,
        draft: combined.draft,
        by,
        instance: row.instance.id,
        time: newest.time,
    };
    let former =
        Former { device: &shared.device, mqtt: &shared.config.mqtt, software: &shared.software };
    let mut read = exam.read.clone();
    if reading.accepted() {
        read.push(row.instance.id);
    }
    let row = ExamRow {
        v: VALUE_VERSION,
        read,
        revision: record.revision,
        messages: Some(former.ids(&record)),
        withdrawn: false,
        ..exam.clone()
    };
    Ok(Some((record, row)))
}

fn images_of(records: &[InstanceRecord]) -> Vec<ExamImage> {
    let image = |record: &InstanceRecord| {
        let (name, reading) = read_of(record)?;
        Some(ExamImage {
            name: name.into(),
            sop_instance: record.instance.sop_instance.clone(),
            view: reading.view,
            conformance: reading.gate.checks.clone(),
            ood: reading.ood.clone().filter(|_| reading.accepted())?,
        })
    };
    records.iter().filter_map(image).collect()
}

fn read_of(record: &InstanceRecord) -> Option<(&str, &Reading)> {
    match &record.outcome {
        Outcome::Reading(reading) => Some((record.image.as_str(), reading)),
        Outcome::Quarantined(_) => None,
    }
}

fn record(shared: &Shared, row: &InboxRow, outcome: Outcome, by: Option<MadeBy>) -> InstanceRecord {
    InstanceRecord {
        v: VALUE_VERSION,
        instance: row.instance.clone(),
        exam: row.exam.clone(),
        image: row.image.clone(),
        outcome,
        by,
        time: shared.clock.now(),
    }
}

fn message(shared: &Shared, what: What) -> OutboxRow {
    OutboxRow { v: VALUE_VERSION, what, time: shared.clock.now() }
}

fn state_of(row: &InboxRow, state: State, reason: Option<Reason>) -> What {
    What::State {
        exam: row.exam.clone(),
        image: row.image.clone(),
        instance: row.instance.id,
        state,
        reason,
    }
}
