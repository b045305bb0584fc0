//! What is stated, how well it holds, and against what it was held.

use clearfilm::bundle::{Bundle, Validation};

use super::super::assemble::Measured;
use super::super::readings::{SHIPPED, Table};
use super::{difference, percent, table, with_interval};
use crate::calibrate::calibration::Outcome;
use crate::calibrate::finding::{Cut, Finding};
use crate::calibrate::proportion::Proportion;

/// Findings that ship, those of radiographs apart from those of phantoms.
pub(super) fn stated(bundle: &Bundle, measured: &Measured) -> String {
    let mut text = String::from("## Findings that the bundle states\n\n");
    for (kind, title) in [
        (Validation::Radiographs, "Validated on radiographs of patients"),
        (Validation::Phantoms, "Validated on drawn phantoms only"),
    ] {
        text += &format!("### {title}\n\n");
        let rows: Vec<Vec<String>> = outcomes(measured)
            .filter(|(validation, outcome)| *validation == kind && outcome.ships)
            .filter_map(|(_, outcome)| {
                let finding = outcome.finding.as_ref().ok()?;
                let rule = bundle.rules.findings.iter().find(|rule| rule.id == outcome.id)?;
                Some(row(&rule.code.display, rule.weights.len(), finding))
            })
            .collect();
        if rows.is_empty() {
            text += "None.\n\n";
            continue;
        }
        text += &table(
            &[
                "finding",
                "features",
                "images with / without",
                "AUROC",
                "over acquisition",
                "over grey values",
                "present: sensitivity / specificity",
                "not absent: sensitivity / specificity",
                "calibration error",
            ],
            rows,
        );
        if kind == Validation::Phantoms {
            text += "\nA phantom shows one thing at a time and each equally often; probabilities are calibrated to that and mean nothing elsewhere. These findings say how a drawing is read, not a patient, and are hidden unless the configuration asks for them.\n";
        }
        text.push('\n');
    }
    text += "Every image was scored by a rule that was fitted without its patient. Sensitivity and specificity have the intervals of Clopper and Pearson, which take images for independent. *Promised* means that enough images set the threshold for conformal risk control to bind it.\n";
    text
}

fn outcomes(measured: &Measured) -> impl Iterator<Item = (Validation, &Outcome)> {
    let calibration = &measured.calibration;
    let both = calibration.plan.images.iter().zip(&calibration.collections);
    both.flat_map(|(asked, found)| found.findings.iter().map(|o| (asked.validation, o)))
}

fn row(name: &str, features: usize, finding: &Finding) -> Vec<String> {
    let against = |versus: &str| {
        let found = finding.against.iter().find(|d| d.versus == versus);
        found.map_or("none".into(), |d| difference(d.difference))
    };
    vec![
        name.to_owned(),
        features.to_string(),
        format!("{} / {}", finding.readout.images[0], finding.readout.images[1]),
        with_interval(finding.readout.auroc),
        against("acquisition"),
        against("grey values"),
        cut(&finding.present),
        cut(&finding.uncertain),
        format!("{:.3}", finding.calibration_error),
    ]
}

fn cut(of: &Cut) -> String {
    let share = |p: &Proportion| format!("{:.2} [{:.2}, {:.2}]", p.value, p.low, p.high);
    format!(
        "from {:.4}{}: {} / {}",
        of.probability,
        if of.promised { ", promised" } else { ", no guarantee" },
        share(&of.sensitivity),
        share(&of.specificity)
    )
}

/// Findings that were asked for on radiographs and do not ship.
pub(super) fn refused(measured: &Measured) -> String {
    let mut text = String::from("## Findings that did not hold on radiographs\n\n");
    let rows: Vec<Vec<String>> = outcomes(measured)
        .filter(|(validation, outcome)| *validation == Validation::Radiographs && !outcome.ships)
        .map(|(_, outcome)| match &outcome.finding {
            Ok(finding) => {
                let row = row(&outcome.id, finding.rule.weights.len(), finding);
                let [name, _, images, auroc, acquisition, grey, ..] = &row[..] else {
                    return Vec::new();
                };
                let chance = finding.chance.map_or("not asked".into(), |p| format!("{p:.4}"));
                let [name, images, auroc, acquisition, grey] =
                    [name, images, auroc, acquisition, grey].map(String::clone);
                vec![name, images, auroc, acquisition, grey, chance]
            }
            Err(none) => {
                let rest = std::iter::repeat_n(String::from("-"), 4);
                [outcome.id.clone(), none.to_string()].into_iter().chain(rest).collect()
            }
        })
        .collect();
    if rows.is_empty() {
        return text + "None.\n";
    }
    text += &table(
        &[
            "finding",
            "images with / without",
            "AUROC",
            "over acquisition",
            "over grey values",
            "chance with others' labels",
        ],
        rows,
    );
    text + "\nA finding ships on radiographs only where the lower end of its AUROC lies above 0.5, the lower ends of both differences above 0, and the labels of other patients of the same strata come to an AUROC as high in no more than 5 % for all findings together.\n"
}

/// Labels by what they are read from.
pub(super) fn readouts(measured: &Measured) -> String {
    let mut text = String::from("## What the features carry, beside simpler things\n\n");
    for readout in &measured.readouts {
        text += &aurocs(readout);
        text += &differences(readout);
    }
    for (name, run, tables) in &measured.instead {
        let mean = |table: &Table| {
            let row = table.rows.last()?;
            let (_, value) = row.from.iter().find(|(from, _)| from == SHIPPED)?;
            value.map(with_interval)
        };
        let latents = run.pointer("/recipe/latents").map_or("unknown".into(), ToString::to_string);
        let fvu = run.pointer("/held_out/fvu").and_then(serde_json::Value::as_f64);
        text += &format!(
            "Another dictionary was trained and does not ship: {name} ({} latents, held-out FVU {}). Its {}: {}.\n\n",
            latents,
            fvu.map_or("unknown".into(), |fvu| format!("{fvu:.4}")),
            tables
                .first()
                .and_then(|table| table.rows.last())
                .map_or("mean", |row| row.label.as_str()),
            tables.first().and_then(mean).unwrap_or("none".into())
        );
    }
    text + "*dictionary*: the rule of a finding, at most twelve features with weights of 0 or more. *embedding*: all its values. *acquisition*: position, spacing, sex, age, size and follow-up number. *grey values*: eight statistics of the picture. *teachers*: the pooled features of the two ImageNet networks that taught the encoder. All but the rule are logistic regressions whose ridge is chosen by cross-fitting among the patients that they are fitted on.\nFindings other than pneumonia are read among abnormal images; pneumonia among images that were matched for how they were taken.\n"
}

fn aurocs(table_of: &Table) -> String {
    let mut names = vec!["label", "images with / without"];
    let first = table_of.rows.first();
    names.extend(first.iter().flat_map(|row| row.from.iter().map(|(from, _)| from.as_str())));
    let rows = table_of.rows.iter().map(|row| {
        let images =
            row.images.map_or(String::new(), |[with, without]| format!("{with} / {without}"));
        let cells = row.from.iter().map(|(_, of)| of.map_or("none".into(), with_interval));
        [row.label.clone(), images].into_iter().chain(cells).collect()
    });
    format!("### AUROC, {}\n\n{}\n", table_of.how, table(&names, rows))
}

/// What is read from what, less what simpler things give, label by label and in the mean.
fn differences(table_of: &Table) -> String {
    let first = table_of.rows.first();
    let pairs = first.iter().flat_map(|row| row.against.iter().map(|(a, b, _)| (a, b)));
    let names: Vec<String> = pairs.map(|(of, versus)| format!("{of} less {versus}")).collect();
    let head: Vec<&str> = ["label"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let rows = table_of.rows.iter().map(|row| {
        let by = row.against.iter().map(|(.., by)| by.map_or("none".into(), difference));
        [row.label.clone()].into_iter().chain(by).collect()
    });
    format!("Paired differences of AUROC:\n\n{}\n", table(&head, rows))
}

/// How many features have a name, and what it is worth.
pub(super) fn names(bundle: &Bundle, measured: &Measured) -> String {
    let all = &bundle.features.features;
    let named = all.iter().filter(|feature| feature.label_auroc.is_some()).count();
    let mut text = format!(
        "## Names of features\n\n{} of {} features are described, {named} of them by a label that they go with; `named_by` in `features.json` says how. No clinician has looked at a name.\n\n",
        all.len(),
        bundle.sae.b_enc.len()
    );
    text += &table(
        &[
            "collection",
            "images naming / judging",
            "features asked",
            "labels",
            "named",
            "kept",
            "mean lift of all named",
        ],
        measured.names.iter().map(|(name, found)| {
            vec![
                name.clone(),
                format!("{} / {}", found.images[0], found.images[1]),
                format!("{} of {}", found.asked[0], found.asked[1]),
                found.labels.to_string(),
                found.found.len().to_string(),
                found.kept().count().to_string(),
                found.mean_lift().map_or("none".into(), |lift| format!("{lift:+.3}")),
            ]
        }),
    );
    text + "\n*Kept* is a name whose lift over features that fire as often lies above 0 at the lower end on the patients that did not name it; each stands at the end of this card.\n"
}

/// Every name that was given, kept or not.
pub(super) fn all_names(measured: &Measured) -> String {
    let head = [
        "feature",
        "goes with",
        "AUROC on other patients",
        "lift over features that fire as often",
        "chance",
        "kept",
    ];
    let rows = measured.names.iter().flat_map(|(name, found)| {
        found.found.iter().map(move |association| {
            vec![
                association.latent.to_string(),
                format!("{} ({name})", association.label),
                with_interval(association.auroc),
                difference(association.lift),
                format!("{:.4}", association.naming.1),
                if association.kept { "yes" } else { "no" }.to_owned(),
            ]
        })
    });
    format!(
        "## Appendix: every name\n\n*chance*: that any feature of the collection would be named so by labels of other patients.\n\n{}",
        table(&head, rows)
    )
}

/// How strange images are told.
pub(super) fn strange(measured: &Measured) -> String {
    let ood = &measured.ood;
    let rows = ood.sets.iter().map(|set| {
        let out = &set.out;
        vec![
            set.set.clone(),
            format!("{} from {}", out.of, set.sources),
            format!("{:.2}", set.median),
            format!("{} [{}, {}]", percent(out.value), percent(out.low), percent(out.high)),
            percent(set.noticed),
            percent(set.alone[0]),
            percent(set.alone[1]),
        ]
    });
    format!(
        "## Out of distribution\n\nFitted on {} usual images ({} principal components of the pooled tokens, {} of their variance, and the share of an image that the dictionary leaves over); out above {:.4}, borderline above {:.4}, both from {} usual images that it was not fitted on. Nothing was fitted to the strange sets below them. *matched*: grey values brought to the distribution of adult radiographs. The last two columns are each question alone at as many false alarms.\n\n{}",
        ood.images[0],
        ood.components,
        percent(ood.variance),
        ood.threshold,
        ood.borderline,
        ood.images[1],
        table(
            &[
                "images",
                "how many",
                "median score",
                "out",
                "out or borderline",
                "distance alone",
                "dictionary alone"
            ],
            rows
        )
    )
}
