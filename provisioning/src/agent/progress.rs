//! What the agent tells the daemon, which tells the hospital: one small file that anybody on the
//! device may read.

use std::path::Path;

use chrono::{DateTime, Utc};
use clearfilm::update::{FILE, FORM, Report, Underway};

use super::State;
use crate::files::{self, FileError};
use crate::release::Sha256;

/// What was told last, and what is to be told.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// When the repository was asked.
    pub checked: Option<DateTime<Utc>>,
    /// When it was believed.
    pub believed: Option<DateTime<Utc>>,
    /// Why nothing can be updated.
    pub problem: Option<String>,
    /// What the release on its way waits for.
    pub why: Option<String>,
    written: Option<Report>,
}

impl Progress {
    /// Goes on with what was written last: an agent that is started anew has not forgotten when the
    /// repository was believed.
    pub(super) fn resumed(folder: &Path) -> Self {
        let before = Report::read(folder);
        let (checked, believed) =
            before.map_or((None, None), |report| (report.checked, report.believed));
        Self { checked, believed, ..Self::default() }
    }

    /// Writes the file where it says something new.
    ///
    /// # Errors
    /// The disk fails.
    pub(super) fn keep(
        &mut self,
        folder: &Path,
        state: &State,
        current: Option<Sha256>,
    ) -> Result<(), FileError> {
        let underway = state.install.as_ref().map(|install| Underway {
            release: digest(&install.release),
            name: install.name.to_string(),
            phase: install.phase.name().into(),
            why: self.why.clone(),
        });
        let ran = state.bad.iter().filter(|bad| bad.ran).map(|bad| digest(&bad.release));
        let report = Report {
            form: FORM.into(),
            release: current.as_ref().map(digest),
            underway,
            checked: self.checked,
            believed: self.believed,
            problem: self.problem.clone(),
            failed: state.bad.last().map(|bad| format!("{}: {}", digest(&bad.release), bad.reason)),
            withdrawn: ran.collect(),
        };
        if self.written.as_ref() == Some(&report) {
            return Ok(());
        }
        let file = folder.join(FILE);
        let json =
            serde_json::to_vec(&report).map_err(|e| files::io("writing", &file)(e.into()))?;
        files::put(&file, &json, 0o644)?;
        self.written = Some(report);
        Ok(())
    }
}

/// As messages name it.
fn digest(release: &Sha256) -> String {
    format!("sha256:{release}")
}
