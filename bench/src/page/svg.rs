//! Scales, ticks and marks.

use super::text::{escape, short};

/// Units of a chart's width. Charts are about as wide as this in pixels, so that their text is as
/// large on a telephone as on a desk.
pub(super) const WIDTH: f64 = 360.0;
/// Width of a character at an axis, about.
const CHARACTER: f64 = 5.6;
/// Shapes of others' marks, so that a colour isn't all that tells engines apart.
const POLYGONS: usize = 5;

/// Where values are, on one axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    log: bool,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// Values from `low` to `high` at `from` to `to`.
    pub(super) fn linear(low: f64, high: f64, from: f64, to: f64) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self { log: false, low, high, from, to }
    }

    /// The same with equal ratios at equal distances; a little wider than the values.
    pub(super) fn log(values: impl IntoIterator<Item = f64>, from: f64, to: f64) -> Self {
        let values = values.into_iter().filter(|value| value.is_finite() && *value > 0.0);
        let (low, high) = values
            .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if high > 0.0 { (low, high) } else { (1.0, 10.0) };
        let room = (high / low).powf(0.04).max(1.12);
        Self { log: true, low: low / room, high: high * room, from, to }
    }

    /// The same from a power of ten on, for bars, which begin somewhere.
    pub(super) fn log_bars(values: impl IntoIterator<Item = f64>, from: f64, to: f64) -> Self {
        let scale = Self::log(values, from, to);
        Self { low: 10_f64.powf(scale.low.log10().floor()), ..scale }
    }

    /// Where a value is; at the end that is nearer if it is outside.
    pub(super) fn at(&self, value: f64) -> f64 {
        let share = match self.log {
            true => (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Round values to write at the axis.
    pub(super) fn ticks(&self) -> Vec<f64> {
        if !self.log {
            return self.steps(5.0);
        }
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let decades = (self.high / self.low).log10();
        let factors: &[f64] = match decades {
            d if d < 1.3 => &[1.0, 2.0, 5.0],
            d if d < 2.0 => &[1.0, 3.0],
            _ => &[1.0],
        };
        let step = (decades / 6.0).ceil().max(1.0) as usize;
        let powers = (first..=last).step_by(step);
        let all = powers.flat_map(|power| factors.iter().map(move |f| f * 10_f64.powi(power)));
        let ticks: Vec<f64> = all.filter(|tick| self.has(*tick)).collect();
        if ticks.len() < 2 { self.steps(5.0) } else { ticks }
    }

    /// At most so many round values at equal distances, roughly.
    fn steps(&self, most: f64) -> Vec<f64> {
        let rough = (self.high - self.low) / most;
        let power = 10_f64.powf(rough.log10().floor());
        let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * power >= rough);
        let step = factor.unwrap_or(10.0) * power;
        let first = (self.low / step).ceil() as i64;
        let all = (first..first + 20).map(|at| at as f64 * step);
        all.filter(|tick| self.has(*tick)).collect()
    }

    fn has(&self, value: f64) -> bool {
        value >= self.low * 0.999_999 && value <= self.high * 1.000_001
    }
}

/// A line through points.
pub(super) fn path(points: &[(f64, f64)]) -> String {
    let at = |(index, (x, y)): (usize, &(f64, f64))| {
        format!("{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' })
    };
    points.iter().enumerate().map(at).collect()
}

/// An engine's mark as a path: a disc for Ringleader, a polygon for each other one.
pub(super) fn mark(colour: usize, x: f64, y: f64, size: f64) -> String {
    let polygon = |corners: usize, turn: f64| {
        let angle = |at: usize| turn + std::f64::consts::TAU * at as f64 / corners as f64;
        let size = size * 1.2;
        let corner = |at: usize| (x + size * angle(at).sin(), y - size * angle(at).cos());
        path(&(0..corners).map(corner).collect::<Vec<_>>()) + "Z"
    };
    let half = std::f64::consts::PI;
    let Some(other) = colour.checked_sub(1) else {
        return format!(
            "M{:.1} {y:.1}a{size} {size} 0 1 0 {d} 0a{size} {size} 0 1 0 -{d} 0Z",
            x - size,
            d = size * 2.0
        );
    };
    match other % POLYGONS {
        0 => polygon(4, half / 4.0),
        1 => polygon(3, 0.0),
        2 => polygon(4, 0.0),
        3 => polygon(3, half),
        _ => polygon(5, 0.0),
    }
}

pub(super) fn line(class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) -> String {
    format!(r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#)
}

pub(super) fn rect(class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) -> String {
    let size = format!(r#"width="{width:.1}" height="{height:.1}""#);
    format!(r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" {size}/>"#)
}

pub(super) fn shape(class: &str, path: &str) -> String {
    format!(r#"<path class="{class}" d="{path}"/>"#)
}

/// What is an engine's, and turns pale when another one is pointed at.
pub(super) fn of_engine(colour: usize, body: &str) -> String {
    format!(r#"<g class="s e{colour}" data-e="{colour}">{body}</g>"#)
}

/// Text; the class says where it is anchored.
pub(super) fn label(class: &str, x: f64, y: f64, text: &str) -> String {
    format!(r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{}</text>"#, escape(text))
}

/// What a pointer that rests there is told.
pub(super) fn tip(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("<title>{}</title>", escape(text)) }
}

/// Vertical lines from `top` to `bottom`, and the values that they stand for below, as far as these
/// have room.
pub(super) fn below(
    scale: &Scale,
    ticks: &[f64],
    text: fn(f64) -> String,
    (top, bottom): (f64, f64),
) -> String {
    let mut drawn = String::new();
    let mut end = f64::NEG_INFINITY;
    for tick in ticks {
        let (x, text) = (scale.at(*tick), short(&text(*tick)));
        drawn += &line("rail", (x, top), (x, bottom));
        let half = text.chars().count() as f64 * CHARACTER / 2.0;
        if x - half > end {
            drawn += &label("tick c", x, bottom + 13.0, &text);
            end = x + half + 1.0;
        }
    }
    drawn
}

/// A whole drawing, with what it is for those who don't see it.
pub(super) fn drawing(height: f64, about: &str, body: &str) -> String {
    format!(
        r#"<svg viewBox="0 0 {WIDTH} {height:.0}" role="img" aria-label="{}">{body}</svg>"#,
        escape(about)
    )
}

/// Moves labels apart that want to be at these heights, by `gap` at least, between `low` and
/// `high`; closer than that if there is no room. The order stays.
pub(super) fn apart(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
    let gap = gap.min((high - low) / wanted.len().saturating_sub(1).max(1) as f64);
    let mut heights = wanted.to_vec();
    let mut least = low;
    for at in &order {
        heights[*at] = heights[*at].max(least);
        least = heights[*at] + gap;
    }
    let mut most = high;
    for at in order.iter().rev() {
        heights[*at] = heights[*at].min(most);
        most = heights[*at] - gap;
    }
    heights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ratios_are_at_equal_distances() {
        let scale = Scale::log([1.0, 10_000.0], 0.0, 100.0);
        let step = scale.at(100.0) - scale.at(10.0);
        assert!((scale.at(1000.0) - scale.at(100.0) - step).abs() < 1e-9);
        assert_eq!(scale.ticks(), [1.0, 10.0, 100.0, 1000.0, 10_000.0]);
        assert!(scale.at(1.0) > 0.0 && scale.at(10_000.0) < 100.0, "there is room");
    }

    #[test]
    fn what_is_outside_or_no_number_stays_at_the_edge() {
        let scale = Scale::log([1.0, 10.0], 0.0, 100.0);
        for value in [0.0, -5.0] {
            assert_eq!(scale.at(value), 0.0);
        }
        assert_eq!(scale.at(f64::INFINITY), 100.0);
        let empty = Scale::log([], 0.0, 100.0);
        assert!(empty.at(3.0).is_finite() && empty.ticks().len() > 1);
        assert!(Scale::linear(2.0, 2.0, 0.0, 1.0).at(2.0).is_finite());
    }

    #[test]
    fn every_range_has_some_ticks_but_not_too_many() {
        for (low, high) in [(1.0, 1.05), (3.0, 4.0), (90.0, 210.0), (7.0, 900.0), (1e-3, 1e12)] {
            let ticks = Scale::log([low, high], 0.0, 100.0).ticks();
            assert!((2..=9).contains(&ticks.len()), "{low} to {high}: {ticks:?}");
        }
        assert_eq!(Scale::linear(0.0, 1.1, 0.0, 1.0).ticks(), [0.0, 0.5, 1.0]);
    }

    #[test]
    fn ticks_that_are_too_near_have_a_line_but_no_text() {
        let scale = Scale::log([1.0, 1024.0], 0.0, 200.0);
        let drawn = below(&scale, &[1.0, 1000.0, 1024.0], |tick| format!("{tick}"), (0.0, 10.0));
        assert_eq!((drawn.matches("<line").count(), drawn.matches("<text").count()), (3, 2));
    }

    #[test]
    fn bars_begin_at_a_power_of_ten() {
        let scale = Scale::log_bars([2_000.0, 90_000.0], 0.0, 100.0);
        assert_eq!(scale.at(1000.0), 0.0);
    }

    #[test]
    fn labels_keep_their_order_and_their_distance() {
        let heights = apart(&[50.0, 51.0, 10.0, 52.0, 99.0], 10.0, 0.0, 100.0);
        assert!(heights[2] < heights[0] && heights[0] < heights[1] && heights[1] < heights[3]);
        let mut sorted = heights.clone();
        sorted.sort_by(f64::total_cmp);
        assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] > 9.999), "{sorted:?}");
        let tight = apart(&[5.0; 30], 10.0, 0.0, 100.0);
        assert!(tight.iter().all(|at| (-1e-9..=100.001).contains(at)), "{tight:?}");
    }
}
