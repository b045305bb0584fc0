//! Open-i, Indiana University's collection (Demner-Fushman et al. 2016): reports as
//! `ecgen-radiology/*.xml`, pictures as PNG anywhere below the root.
//!
//! Labels are the headings of the major MeSH terms, the part before `/`. The collection numbers
//! reports, not patients: each report counts as one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use roxmltree::{Document, Node};

use super::report::{self, Reports};
use super::{LayoutError, Listing, tree};
use crate::table::{Mark, Record};

/// Where the reports lie.
const REPORTS: &str = "ecgen-radiology";

/// The term of reports that nobody indexed: their labels are not known.
const NOT_INDEXED: &str = "no indexing";

struct Report {
    id: String,
    images: Vec<String>,
    /// None where nobody indexed it.
    headings: Option<BTreeSet<String>>,
    /// What was found, and what is made of it.
    text: String,
}

/// Sections of a report that say what its pictures show; the others tell why they were taken.
const SECTIONS: [&str; 2] = ["FINDINGS", "IMPRESSION"];

pub(super) fn list(root: &Path) -> Result<Listing, LayoutError> {
    let reports = read(root)?;
    let labels = labels(&reports);
    let mut files = BTreeMap::new();
    for path in tree::pictures(root)? {
        let name = path.rsplit('/').next().unwrap_or(&path);
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned();
        files.entry(stem).or_insert(path);
    }
    let mut listing = Listing { labels, records: Vec::new(), absent: 0 };
    for report in &reports {
        for image in &report.images {
            match files.get(image) {
                Some(path) => listing.records.push(report.record(path, &listing.labels)),
                None => listing.absent += 1,
            }
        }
    }
    Ok(listing)
}

/// The collection's reports; they need no pictures.
pub(super) fn reports(root: &Path) -> Result<Reports, LayoutError> {
    let reports = read(root)?;
    let labels = labels(&reports);
    let one = |report: &Report| report::Report {
        id: report.id.clone(),
        patient: report.id.clone(),
        text: report.text.clone(),
        labels: report.marks(&labels),
    };
    let reports = reports.iter().map(one).collect();
    Ok(Reports { labels, reports })
}

fn labels(reports: &[Report]) -> Vec<String> {
    let headings = reports.iter().filter_map(|report| report.headings.as_ref());
    headings.flatten().cloned().collect::<BTreeSet<String>>().into_iter().collect()
}

fn read(root: &Path) -> Result<Vec<Report>, LayoutError> {
    let folder = root.join(REPORTS);
    let expected = || format!("{REPORTS}/*.xml");
    let missing = || LayoutError::Table { root: root.into(), expected: expected() };
    if !folder.is_dir() {
        return Err(missing());
    }
    let is_report = |path: &Path| path.extension().is_some_and(|ending| ending == "xml");
    let reports = tree::files(&folder, is_report)?;
    let reports: Vec<Report> =
        reports.iter().map(|name| report(&folder.join(name))).collect::<Result<_, _>>()?;
    if reports.is_empty() {
        return Err(missing());
    }
    Ok(reports)
}

impl Report {
    fn record(&self, path: &str, labels: &[String]) -> Record {
        Record {
            image: path.into(),
            patient: Some(self.id.clone()),
            study: Some(self.id.clone()),
            labels: self.marks(labels),
            ..Record::default()
        }
    }

    fn marks(&self, labels: &[String]) -> Vec<Option<Mark>> {
        let mark = |label: &String| {
            let headings = self.headings.as_ref()?;
            Some(if headings.contains(label) { Mark::Present } else { Mark::Absent })
        };
        labels.iter().map(mark).collect()
    }
}

fn report(file: &Path) -> Result<Report, LayoutError> {
    let text =
        fs::read_to_string(file).map_err(|source| LayoutError::Io { file: file.into(), source })?;
    let bad = |text: String| LayoutError::Xml { file: file.into(), text };
    let document = Document::parse(&text).map_err(|error| bad(error.to_string()))?;
    let named = |name: &'static str| {
        document.descendants().filter(move |node: &Node<'_, '_>| node.has_tag_name(name))
    };
    let id = named("uId").find_map(|node| node.attribute("id"));
    let id = id.ok_or_else(|| bad("expected an element uId with an id, found none".into()))?;
    let images = named("parentImage").filter_map(|node| node.attribute("id")).map(Into::into);
    let terms = named("major").filter_map(|node| node.text());
    let heading = |term: &str| term.split('/').next().unwrap_or(term).trim().to_lowercase();
    let headings: BTreeSet<String> =
        terms.map(heading).filter(|heading| !heading.is_empty()).collect();
    let indexed = !headings.is_empty() && !headings.contains(NOT_INDEXED);
    let is_section = |node: &Node<'_, '_>| {
        node.attribute("Label").is_some_and(|label| SECTIONS.contains(&label))
    };
    let texts = named("AbstractText").filter(is_section).filter_map(|node| node.text());
    let text = texts.map(str::trim).collect::<Vec<_>>().join("\n");
    let headings = indexed.then_some(headings);
    Ok(Report { id: id.into(), images: images.collect(), headings, text })
}
