//! Plots as SVG: axes, a frame, and marks on it.

use maud::{Markup, html};

use super::look::Look;

/// From values to places.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    /// Ends of the values; both > 0 on a logarithmic axis.
    pub(super) values: [f64; 2],
    /// Where they lie, in pixels.
    pub(super) places: [f64; 2],
    /// Powers of ten at equal distances?
    pub(super) logarithmic: bool,
}

impl Axis {
    pub(super) fn linear(values: [f64; 2], places: [f64; 2]) -> Self {
        Self { values, places, logarithmic: false }
    }

    /// Where a value lies; what is outside lies at the end.
    pub(super) fn at(&self, value: f64) -> f64 {
        let scale = |x: f64| if self.logarithmic { x.max(f64::MIN_POSITIVE).log10() } else { x };
        let [low, high] = self.values.map(scale);
        let share = ((scale(value) - low) / (high - low)).clamp(0.0, 1.0);
        self.places[0] + share * (self.places[1] - self.places[0])
    }

    /// Values to write beside it: some five round ones, or powers of ten.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let [low, high] = self.values;
        if self.logarithmic {
            #[expect(clippy::cast_possible_truncation, reason = "exponents of fp64")]
            let (from, to) = (low.log10().ceil() as i32, high.log10().floor() as i32);
            return (from..=to).map(|exponent| 10_f64.powi(exponent)).collect();
        }
        let step = round_step((high - low) / 5.0);
        let mut tick = (low / step).ceil() * step;
        let mut ticks = Vec::new();
        while tick <= high + step * 1e-9 {
            // So that 0 is not written as 1e-17.
            ticks.push((tick / step).round() * step + 0.0);
            tick += step;
        }
        ticks
    }
}

/// The next of 1, 2, 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.max(f64::MIN_POSITIVE).log10().floor());
    let times = [1.0, 2.0, 5.0].into_iter().find(|times| times * power >= step * 0.999);
    times.unwrap_or(10.0) * power
}

/// A number as a person writes it: three places at most, no trailing zeros.
pub(super) fn short(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let magnitude = value.abs();
    if magnitude > 0.0 && magnitude < 1e-3 {
        return format!("{value:.0e}");
    }
    let places = if magnitude >= 100.0 {
        0
    } else if magnitude >= 10.0 {
        1
    } else {
        3
    };
    let text = format!("{value:.places$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    text.to_owned()
}

/// A picture with both axes, and marks inside.
pub(super) struct Frame {
    pub(super) size: [f64; 2],
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// What stands along the axes.
    pub(super) names: [String; 2],
    /// For those who do not see it.
    pub(super) title: String,
}

/// Room for an axis' numbers and name, and for nothing.
pub(super) const LEFT: f64 = 58.0;
pub(super) const BELOW: f64 = 44.0;
pub(super) const MARGIN: f64 = 12.0;

impl Frame {
    /// Of this size, with axes over these values.
    pub(super) fn new(
        size: [f64; 2],
        x: [f64; 2],
        y: [f64; 2],
        names: [&str; 2],
        title: &str,
    ) -> Self {
        let [width, height] = size;
        Self {
            size,
            x: Axis::linear(x, [LEFT, width - MARGIN]),
            y: Axis::linear(y, [height - BELOW, MARGIN]),
            names: names.map(str::to_owned),
            title: title.to_owned(),
        }
    }

    pub(super) fn draw(&self, marks: &Markup) -> Markup {
        let [width, height] = self.size;
        let (bottom, right) = (height - BELOW, width - MARGIN);
        html! {
            svg viewBox=(format!("0 0 {width} {height}")) role="img" aria-label=(self.title) {
                @for tick in self.y.ticks() {
                    @let y = self.y.at(tick);
                    line .grid x1=(LEFT) x2=(right) y1=(px(y)) y2=(px(y)) {}
                    text .tick x=(LEFT - 8.0) y=(px(y + 3.5)) text-anchor="end" { (short(tick)) }
                }
                @for tick in self.x.ticks() {
                    @let x = self.x.at(tick);
                    line .grid x1=(px(x)) x2=(px(x)) y1=(MARGIN) y2=(bottom) {}
                    text .tick x=(px(x)) y=(bottom + 16.0) text-anchor="middle" { (short(tick)) }
                }
                (marks)
                text .axis x=(px((LEFT + right) / 2.0)) y=(height - 8.0) text-anchor="middle" { (self.names[0]) }
                @let middle = px(f64::midpoint(MARGIN, bottom));
                text .axis transform=(format!("translate(14 {middle}) rotate(-90)")) text-anchor="middle" { (self.names[1]) }
            }
        }
    }
}

/// A place in a picture, to a tenth of a pixel.
pub(super) fn px(value: f64) -> String {
    format!("{value:.1}")
}

/// A line through points.
pub(super) fn path(points: impl Iterator<Item = (f64, f64)>, look: Look<'_>) -> Markup {
    let mut text = String::new();
    for (at, (x, y)) in points.enumerate() {
        let letter = if at == 0 { 'M' } else { 'L' };
        text.push_str(&format!("{letter}{x:.1} {y:.1}"));
    }
    html! { path .line d=(text) stroke=(look.colour) stroke-dasharray=[look.dashes()] {} }
}

/// How often values fall between edges, as a stepped outline.
pub(super) fn outline(frame: &Frame, edges: &[f64], counts: &[f64], look: Look<'_>) -> Markup {
    let floor = frame.y.at(frame.y.values[0]);
    let mut points = vec![(frame.x.at(edges[0]), floor)];
    for (count, ends) in counts.iter().zip(edges.windows(2)) {
        points.extend(ends.iter().map(|edge| (frame.x.at(*edge), frame.y.at(*count))));
    }
    points.push((frame.x.at(edges[edges.len() - 1]), floor));
    path(points.into_iter(), look)
}

/// Shares of values between edges.
pub(super) fn shares(values: impl Iterator<Item = f64>, edges: &[f64]) -> Vec<f64> {
    let mut counts = vec![0.0; edges.len() - 1];
    let mut all = 0.0;
    for value in values {
        let at = edges.partition_point(|edge| *edge <= value).saturating_sub(1);
        counts[at.min(edges.len() - 2)] += 1.0;
        all += 1.0;
    }
    counts.iter_mut().for_each(|count| *count /= f64::max(all, 1.0));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_round_numbers_at_their_places() {
        let axis = Axis::linear([0.43, 1.0], [0.0, 57.0]);
        assert_eq!(axis.ticks().iter().map(|t| short(*t)).collect::<Vec<_>>(), ["0.6", "0.8", "1"]);
        assert!((axis.at(0.63) - 20.0).abs() < 1e-9);
        let axis = Axis { values: [1e-4, 1.0], places: [0.0, 40.0], logarithmic: true };
        assert_eq!(axis.ticks().len(), 5);
        assert!((axis.at(1e-2) - 20.0).abs() < 1e-9);
    }

    #[test]
    fn every_value_falls_into_one_step() {
        assert_eq!(shares([0.0, 0.5, 1.0, 2.0].into_iter(), &[0.0, 0.5, 1.0]), [0.25, 0.75]);
    }
}
