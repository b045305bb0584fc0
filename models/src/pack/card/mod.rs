//! The model card and data sheet: written from measurements and never by hand.

mod findings;
mod made;

use clearfilm::bundle::Bundle;

use super::assemble::Measured;
use crate::evaluate::bootstrap::Estimate;

/// `card.md`.
#[must_use]
pub fn text(bundle: &Bundle, measured: &Measured) -> String {
    let parts = [
        head(measured),
        findings::stated(bundle, measured),
        findings::refused(measured),
        findings::readouts(measured),
        findings::names(bundle, measured),
        findings::strange(measured),
        made::images(measured),
        made::encoder(measured),
        made::dictionary(measured),
        made::engines(measured),
        made::golden(bundle, measured),
        tail(measured),
        findings::all_names(measured),
    ];
    parts.join("\n")
}

fn head(measured: &Measured) -> String {
    let about = &measured.about;
    let clinical = if about.clinical { "" } else { " It is **not for clinical use**." };
    format!(
        "# Model card: {} bundle, version {}\n\n{}{clinical}\n\nMade {}; every number below follows from the sources by `clearfilm-models verify --plan`.\nIntervals are 95 % and by patient (cluster bootstrap) where nothing else is said.\n",
        about.name,
        about.version,
        about.summary.join("\n\n"),
        about.created
    )
}

fn tail(measured: &Measured) -> String {
    let points = measured.about.not_measured.iter().map(|point| format!("- {point}\n"));
    format!("## What was not measured\n\n{}", points.collect::<String>())
}

/// A table; columns are as wide as they are.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let names: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    let rule: Vec<String> = head.iter().map(|_| "---".to_owned()).collect();
    let rows = rows.into_iter().map(|row| line(&row));
    [line(&names), line(&rule)].into_iter().chain(rows).collect()
}

/// A figure with its interval.
fn with_interval(of: Estimate) -> String {
    format!("{:.3} [{:.3}, {:.3}]", of.value, of.low, of.high)
}

/// A difference with its interval.
fn difference(of: Estimate) -> String {
    format!("{:+.3} [{:+.3}, {:+.3}]", of.value, of.low, of.high)
}

/// A share in percent.
fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
