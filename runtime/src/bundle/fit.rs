//! Do words and rules fit the numbers and each other?

use super::{Bundle, BundleError, Calibration, FEATURES, FINDINGS, FORMAT, FindingRule, REPORT};

impl Bundle {
    /// Words and rules fit the numbers and each other.
    pub(super) fn check_words(&self) -> Result<(), BundleError> {
        let value = |file: &str, expected: String, found: String| {
            Err(BundleError::Value { file: file.into(), expected, found })
        };
        for (file, format) in [
            (FEATURES, self.features.format),
            (FINDINGS, self.rules.format),
            (REPORT, self.templates.format),
        ] {
            if format != FORMAT {
                return value(file, format!("format = {FORMAT}"), format.to_string());
            }
        }
        let d_sae = self.manifest.sae.d_sae;
        for feature in &self.features.features {
            if feature.latent.position() >= d_sae {
                return value(
                    FEATURES,
                    format!("latents below {d_sae}"),
                    feature.latent.to_string(),
                );
            }
        }
        for rule in &self.rules.findings {
            let id = &rule.id;
            if let Some(w) = rule.weights.iter().find(|w| self.features.get(w.latent).is_none()) {
                return value(
                    FINDINGS,
                    format!("{id}: latents that features.json names"),
                    w.latent.to_string(),
                );
            }
            if let Some(found) = rule_problem(rule) {
                return value(
                    FINDINGS,
                    format!("{id}: finite numbers and 0 < uncertain_from <= threshold < 1"),
                    found,
                );
            }
            if !self.templates.findings.contains_key(id) {
                return value(REPORT, format!("sentences for the finding {id}"), "none".into());
            }
        }
        let unknown = self
            .templates
            .findings
            .keys()
            .find(|id| self.rules.findings.iter().all(|r| r.id != **id));
        if let Some(id) = unknown {
            return value(
                REPORT,
                "sentences for findings of findings.json only".into(),
                id.clone(),
            );
        }
        if !self.templates.technique.contains_key("unknown") {
            return value(
                REPORT,
                "a technique sentence for the view unknown".into(),
                "none".into(),
            );
        }
        Ok(())
    }
}

fn rule_problem(rule: &FindingRule) -> Option<String> {
    let FindingRule {
        bias, calibration: Calibration { a, b, .. }, threshold, uncertain_from, ..
    } = rule;
    let numbers = [*bias, *a, *b, *threshold, *uncertain_from];
    let weights = rule.weights.iter().map(|w| w.weight);
    if let Some(odd) = numbers.into_iter().chain(weights).find(|n| !n.is_finite()) {
        return Some(odd.to_string());
    }
    let ordered = 0.0 < *uncertain_from && uncertain_from <= threshold && *threshold < 1.0;
    (!ordered).then(|| format!("{uncertain_from} and {threshold}"))
}
