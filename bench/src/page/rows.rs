//! Charts of horizontal rows: bars, ranges, and marks with whiskers, with the numbers beside them.

use super::svg::{Scale, WIDTH, below, drawing, label, line, mark, rect, shape, tip};
use super::text::fit;

/// Where the plot ends, and the columns of numbers.
const RIGHT: f64 = 246.0;
const COLUMNS: [f64; 2] = [302.0, WIDTH];
const TOP: f64 = 18.0;

/// What is drawn of a row's value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A bar from the beginning of the scale.
    Bar,
    /// A bar over a band that ends at the chart's reference.
    Bullet,
    /// A bar from the chart's reference.
    Apart,
    /// A mark, with whiskers.
    Mark,
    /// A mark, and a line to a higher value.
    Range,
}

/// Where the names are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    Left,
    /// Above each row, if they are long.
    Above,
}

#[derive(Default)]
pub(super) struct Row {
    pub(super) name: String,
    /// Of its colour and its mark: an engine's, or none.
    pub(super) colour: Option<usize>,
    /// Drawn as an outline, since it isn't like the others.
    pub(super) hollow: bool,
    pub(super) value: f64,
    /// The lowest and the highest of its runs; of a range the value and its other end.
    pub(super) spread: Option<(f64, f64)>,
    pub(super) columns: [String; 2],
    pub(super) tip: String,
}

pub(super) struct RowChart {
    /// For those who don't see it.
    pub(super) about: String,
    pub(super) shape: Shape,
    pub(super) names: Names,
    pub(super) scale: Scale,
    pub(super) ticks: fn(f64) -> String,
    /// Drawn through all rows.
    pub(super) reference: Option<f64>,
    /// Above the plot and above the columns.
    pub(super) heads: [&'static str; 3],
    pub(super) rows: Vec<Row>,
}

/// A scale for a chart whose names are there.
pub(super) fn linear(names: Names, low: f64, high: f64) -> Scale {
    Scale::linear(low, high, names.end(), RIGHT)
}

pub(super) fn log(names: Names, values: impl IntoIterator<Item = f64>) -> Scale {
    Scale::log(values, names.end(), RIGHT)
}

pub(super) fn log_bars(names: Names, values: impl IntoIterator<Item = f64>) -> Scale {
    Scale::log_bars(values, names.end(), RIGHT)
}

impl Names {
    /// Where the plot begins.
    fn end(self) -> f64 {
        if self == Self::Left { 104.0 } else { 16.0 }
    }

    fn height(self) -> f64 {
        if self == Self::Left { 20.0 } else { 37.0 }
    }

    /// Characters of a name that there is room for.
    fn most(self) -> usize {
        if self == Self::Left { 16 } else { 56 }
    }

    /// Where the middle of the plot is in a row.
    fn middle(self) -> f64 {
        if self == Self::Left { 10.0 } else { 23.0 }
    }
}

impl RowChart {
    pub(super) fn draw(&self) -> String {
        let bottom = TOP + self.rows.len() as f64 * self.names.height() + 2.0;
        let [plot, first, second] = self.heads;
        let mut text = label("axis", self.names.end(), 9.0, plot);
        text += &label("axis r", COLUMNS[0], 9.0, first);
        text += &label("axis r", COLUMNS[1], 9.0, second);
        text += &below(&self.scale, &self.scale.ticks(), self.ticks, (TOP, bottom));
        if let Some(reference) = self.reference {
            let x = self.scale.at(reference);
            text += &line("reference behind", (x, TOP - 3.0), (x, bottom));
        }
        for (at, row) in self.rows.iter().enumerate() {
            let top = TOP + at as f64 * self.names.height();
            text += &self.row(row, top);
            if let Some(reference) = self.reference {
                // In front of the row, but not of its name.
                let (x, y) = (self.scale.at(reference), top + self.names.middle());
                text += &line("reference", (x, y - 10.0), (x, y + 10.0));
            }
        }
        drawing(bottom + 17.0, &self.about, &text)
    }

    fn row(&self, row: &Row, top: f64) -> String {
        let y = top + self.names.middle();
        let name_y = if self.names == Names::Left { y + 3.8 } else { top + 11.0 };
        let [first, second] = &row.columns;
        let data = row.colour.map(|e| format!(r#" data-e="{e}""#)).unwrap_or_default();
        let class = row.colour.map_or("plain".into(), |colour| format!("e{colour}"));
        let hollow = if row.hollow { " hollow" } else { "" };
        // It stands out where others are beside it.
        let own = row.colour == Some(0) && self.names == Names::Left;
        let own = if own { " own" } else { "" };
        format!(
            r#"<g class="s {class}{hollow}{own}"{data}>{}{}{}{}{}</g>"#,
            tip(&row.tip),
            label("name", 0.0, name_y, &fit(&row.name, self.names.most())),
            self.value(row, y),
            label("number r", COLUMNS[0], y + 3.8, first),
            label("number r", COLUMNS[1], y + 3.8, second),
        )
    }

    fn value(&self, row: &Row, y: f64) -> String {
        let (begin, at) = (self.names.end(), self.scale.at(row.value));
        let end = self.reference.map_or(begin, |reference| self.scale.at(reference));
        let bar = |class: &str, (from, to): (f64, f64), height: f64| {
            let (left, width) = (from.min(to), (to - from).abs().max(1.0));
            rect(class, (left, y - height / 2.0), (width, height))
        };
        let whisker = row.spread.map(|(low, high)| {
            let (low, high) = (self.scale.at(low), self.scale.at(high));
            let caps = if self.shape == Shape::Range { [high, high] } else { [low, high] };
            let cap = |x: f64| line("whisker", (x, y - 3.0), (x, y + 3.0));
            line("whisker", (low, y), (high, y)) + &caps.map(cap).concat()
        });
        let whisker = whisker.unwrap_or_default();
        let spot = || shape("m", &mark(row.colour.unwrap_or(0), at, y, 3.6));
        match self.shape {
            Shape::Bar => bar("bar", (begin, at), 12.0) + &whisker,
            Shape::Bullet => {
                bar("band", (begin, end), 14.0) + &bar("bar", (begin, at), 7.0) + &whisker
            }
            Shape::Apart => bar("bar", (end, at), 10.0) + &whisker,
            Shape::Mark | Shape::Range => whisker + &spot(),
        }
    }
}
