//! How the dictionaries of a page are told apart: by colour, and where colours come again by form.

use maud::{Markup, html};

use super::plot::px;

/// Colours that stay apart for most eyes, on light and on dark (Okabe and Ito 2008).
const COLOURS: [&str; 7] =
    ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#7a7a00"];

/// What needs no dictionary.
pub(super) const GREY: Look<'static> = Look::plain("#8a96a3");

/// Colour, and form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) colour: &'a str,
    form: Form,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Round,
    Square,
    Diamond,
}

impl<'a> Look<'a> {
    /// Of the dictionary at this place; all of a page of 21 or fewer are different.
    pub(super) fn of(at: usize) -> Look<'static> {
        let form = match at / COLOURS.len() % 3 {
            0 => Form::Round,
            1 => Form::Square,
            _ => Form::Diamond,
        };
        Look { colour: COLOURS[at % COLOURS.len()], form }
    }

    /// Of something else.
    pub(super) const fn plain(colour: &'a str) -> Self {
        Self { colour, form: Form::Round }
    }

    /// Of its lines: strokes and gaps.
    pub(super) fn dashes(self) -> Option<&'static str> {
        match self.form {
            Form::Round => None,
            Form::Square => Some("7 3"),
            Form::Diamond => Some("2 3"),
        }
    }

    /// A mark at a place; what it is shows on request.
    pub(super) fn mark(self, [x, y]: [f64; 2], filled: bool, title: &str) -> Markup {
        let r = if filled { 5.5 } else { 4.0 };
        let (left, top, wide) = (px(x - r), px(y - r), px(2.0 * r));
        let (right, bottom) = (px(x + 1.3 * r), px(y + 1.3 * r));
        let (west, north) = (px(x - 1.3 * r), px(y - 1.3 * r));
        let (x, y, r) = (px(x), px(y), px(r));
        let outline = match self.form {
            Form::Round => format!("M{left} {y}a{r} {r} 0 1 0 {wide} 0a{r} {r} 0 1 0 -{wide} 0z"),
            Form::Square => format!("M{left} {top}h{wide}v{wide}h-{wide}z"),
            Form::Diamond => format!("M{x} {north}L{right} {y}L{x} {bottom}L{west} {y}z"),
        };
        let fill = if filled { self.colour } else { "none" };
        html! { path d=(outline) fill=(fill) stroke=(self.colour) stroke-width="2" { title { (title) } } }
    }

    /// The same beside a name.
    pub(super) fn swatch(self) -> Markup {
        let form = match self.form {
            Form::Round => "round",
            Form::Square => "square",
            Form::Diamond => "diamond",
        };
        html! { i .(form) style=(format!("background:{}", self.colour)) {} }
    }
}

/// What looks like what.
pub(super) fn key(entries: &[(&str, Look<'_>)]) -> Markup {
    html! { div .key { @for (name, look) in entries { span { (look.swatch()) (name) } } } }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn twenty_one_dictionaries_look_different() {
        let swatches: BTreeSet<String> =
            (0..21).map(|at| Look::of(at).swatch().into_string()).collect();
        assert_eq!(swatches.len(), 21);
        let lines: BTreeSet<(&str, Option<&str>)> =
            (0..21).map(|at| (Look::of(at).colour, Look::of(at).dashes())).collect();
        assert_eq!(lines.len(), 21);
    }
}
