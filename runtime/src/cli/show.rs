//! How findings and drafts look in a terminal; the same for a file and for a message.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Color, Style};
use serde_json::Value;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const RED: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Red))).bold();
const YELLOW: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Yellow)));
const GREEN: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Green)));
const CYAN: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Cyan)));

/// Features named under a finding; the message holds them all.
const FEATURES_SHOWN: usize = 3;

/// Columns of a share's bar.
const BAR_COLUMNS: f64 = 10.0;

/// Writes `text` in a style; the terminal's stream drops the codes where there is no terminal.
fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// A heading over one exam or file.
pub(crate) fn heading(text: &str) -> String {
    paint(BOLD, text)
}

/// A line about something that was sent.
#[cfg(feature = "demo")]
pub(crate) fn sent(text: &str) -> String {
    paint(DIM, &format!("→ {text}"))
}

/// One message: where it came from, and what it says.
pub(crate) fn message(topic: &str, envelope: &Value) -> String {
    let payload = &envelope["payload"];
    let mut out = String::new();
    let (time, unit) = (text(&envelope["time"]), text(&envelope["unit"]["name"]));
    match topic.rsplit('/').next().unwrap_or_default() {
        "findings" => {
            let exam = text(&payload["exam"]["key"]);
            line_to(
                &mut out,
                &heading(&format!("{time}  {unit}  exam {exam}  revision {}", payload["revision"])),
            );
            out.push_str(&findings(&payload["findings"]));
            for caveat in payload["caveats"].as_array().map(Vec::as_slice).unwrap_or_default() {
                line_to(&mut out, &paint(DIM, &format!("  note: {}", text(caveat))));
            }
        }
        "report" => out.push_str(&draft(payload)),
        "gate" => {
            let word = if payload["accept"] == true { "accepted" } else { "not read" };
            line_to(
                &mut out,
                &format!("{time}  {unit}  exam {}  {word}", text(&payload["exam_key"])),
            );
            out.push_str(&checks(&payload["checks"]));
        }
        "state" => {
            let exam = text(&payload["exam_key"]);
            let reason =
                payload["reason"]["text"].as_str().map(|r| format!(": {r}")).unwrap_or_default();
            line_to(
                &mut out,
                &format!("{time}  {unit}  exam {exam}  {}{reason}", text(&payload["state"])),
            );
        }
        channel => line_to(&mut out, &format!("{time}  {unit}  {channel} {payload}")),
    }
    out
}

/// Findings: decision as symbol, word and colour, probability beside its threshold, evidence.
pub(crate) fn findings(findings: &Value) -> String {
    let mut out = String::new();
    for finding in findings.as_array().map(Vec::as_slice).unwrap_or_default() {
        let decision = text(&finding["decision"]);
        let (symbol, style) = match decision {
            "present" => ("●", RED),
            "uncertain" => ("◐", YELLOW),
            _ => ("○", GREEN),
        };
        let line = format!("{symbol} {decision:<9}");
        let name = text(&finding["code"]["display"]);
        let numbers = format!(
            "p {:.2} / threshold {:.2}",
            number(&finding["probability"]),
            number(&finding["threshold"])
        );
        let phantoms =
            if finding["validation"] == "phantoms" { "  validated on phantoms only" } else { "" };
        line_to(
            &mut out,
            &format!("  {} {name:<28} {numbers}{}", paint(style, &line), paint(DIM, phantoms)),
        );
        if decision != "absent" {
            evidence(&mut out, &finding["evidence"]);
        }
    }
    out
}

fn evidence(out: &mut String, evidence: &Value) {
    for part in
        evidence.as_array().map(Vec::as_slice).unwrap_or_default().iter().take(FEATURES_SHOWN)
    {
        let share = number(&part["share"]);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share is within -1..=1"
        )]
        let bar = "▪".repeat((share.abs() * BAR_COLUMNS).round() as usize);
        let region = part["region"]["points"].as_array().map(|p| {
            let p: Vec<String> = p.iter().map(|x| format!("{:.0}", number(x))).collect();
            format!(" at {}", p.join(","))
        });
        let feature = format!("#{} {}", part["feature"], text(&part["label"]));
        let sign = if share < 0.0 { "against" } else { "for" };
        let line = format!(
            "      {sign:<7} {bar:<10} {:>4.0}%  {feature}{}",
            share * 100.0,
            region.unwrap_or_default()
        );
        line_to(out, &paint(DIM, &line));
    }
}

/// A draft: watermark, then every section with numbered sentences.
pub(crate) fn draft(draft: &Value) -> String {
    let mut out = String::new();
    line_to(&mut out, &format!("  {}", paint(YELLOW, text(&draft["watermark"]))));
    if let Some(reason) = draft["withheld_reason"].as_str() {
        line_to(&mut out, &format!("  {} {reason}", paint(RED, "withheld:")));
    }
    for section in draft["sections"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let sentences = section["sentences"].as_array().map(Vec::as_slice).unwrap_or_default();
        if sentences.is_empty() {
            continue;
        }
        line_to(&mut out, &format!("  {}", paint(CYAN, &text(&section["code"]).to_uppercase())));
        for sentence in sentences {
            line_to(
                &mut out,
                &format!(
                    "    {:>2}  {}{}",
                    sentence["n"],
                    text(&sentence["text"]),
                    support(sentence)
                ),
            );
        }
    }
    out
}

fn support(sentence: &Value) -> String {
    let parts: Vec<String> = sentence["support"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .filter(|s| s["features"].as_array().is_some_and(|f| !f.is_empty()))
        .map(|s| {
            let features = s["features"].as_array().map(Vec::as_slice).unwrap_or_default();
            let features =
                features.iter().take(FEATURES_SHOWN).map(|f| format!("#{}", f["feature"]));
            format!("{} {}", text(&s["finding"]), features.collect::<Vec<_>>().join(" "))
        })
        .collect();
    if parts.is_empty() { String::new() } else { paint(DIM, &format!("  [{}]", parts.join("; "))) }
}

/// Answers of the gate that are not a plain pass.
pub(crate) fn checks(checks: &Value) -> String {
    let mut out = String::new();
    for check in checks.as_array().map(Vec::as_slice).unwrap_or_default() {
        let (word, style) = match text(&check["outcome"]) {
            "fail" => ("refused", RED),
            "warn" => ("note", YELLOW),
            _ => continue,
        };
        let detail = text(&check["detail"]);
        line_to(&mut out, &format!("  {} {}: {detail}", paint(style, word), text(&check["name"])));
    }
    out
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

fn line_to(out: &mut String, line: &str) {
    writeln!(out, "{}", line.trim_end()).expect("writing to a string cannot fail");
}
