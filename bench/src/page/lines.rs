//! Line charts, with one line per engine and its name where it ends.

use super::model::Engine;
use super::svg::{
    Scale, WIDTH, apart, below, drawing, label, line, mark, of_engine, path, shape, tip,
};
use super::text::{fit, short};

const LEFT: f64 = 46.0;
const RIGHT: f64 = 260.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 206.0;
const HEIGHT: f64 = 240.0;
/// Between the names at the lines' ends.
const GAP: f64 = 11.5;
/// Characters of a name that there is room for.
const NAME: usize = 15;

/// A value, with the lowest and the highest of its runs.
pub(super) struct Spot {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) spread: Option<(f64, f64)>,
    /// What a pointer is told.
    pub(super) tip: String,
}

pub(super) struct Line<'a> {
    pub(super) engine: &'a Engine,
    pub(super) spots: Vec<Spot>,
}

/// What an axis is of.
pub(super) struct Axis {
    pub(super) name: &'static str,
    pub(super) ticks: fn(f64) -> String,
}

pub(super) struct LineChart<'a> {
    /// For those who don't see it.
    pub(super) about: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) x_scale: Scale,
    pub(super) y_scale: Scale,
    /// Ticks of the horizontal axis other than the scale's own.
    pub(super) x_ticks: Option<Vec<f64>>,
    pub(super) lines: Vec<Line<'a>>,
    /// Whether each value has a mark.
    pub(super) marks: bool,
}

/// The horizontal scale of a chart, for values on a log scale.
pub(super) fn across(values: impl IntoIterator<Item = f64>) -> Scale {
    Scale::log(values, LEFT, RIGHT)
}

/// The same for values that have been put on a scale already.
pub(super) fn across_linear(low: f64, high: f64) -> Scale {
    Scale::linear(low, high, LEFT, RIGHT)
}

/// The vertical scale of a chart.
pub(super) fn upward(values: impl IntoIterator<Item = f64>) -> Scale {
    Scale::log(values, BOTTOM, TOP)
}

impl LineChart<'_> {
    pub(super) fn draw(&self) -> String {
        let lines: Vec<&Line<'_>> =
            self.lines.iter().filter(|line| !line.spots.is_empty()).collect();
        let ends: Vec<f64> = lines.iter().map(|line| self.end(line).1).collect();
        let heights = apart(&ends, GAP, TOP, BOTTOM);
        let mut order: Vec<usize> = (0..lines.len()).collect();
        // What is drawn last is on top.
        order.sort_by_key(|at| lines[*at].engine.is_own());
        let body: String = order.iter().map(|at| self.line(lines[*at], heights[*at])).collect();
        drawing(HEIGHT, &self.about, &(self.frame() + &body))
    }

    fn frame(&self) -> String {
        let mut text = label("axis", 0.0, 9.0, self.y.name);
        for tick in self.y_scale.ticks() {
            let y = self.y_scale.at(tick);
            text += &line("rail", (LEFT, y), (RIGHT, y));
            text += &label("tick r", LEFT - 5.0, y + 3.5, &short(&(self.y.ticks)(tick)));
        }
        let ticks = self.x_ticks.clone().unwrap_or_else(|| self.x_scale.ticks());
        text += &below(&self.x_scale, &ticks, self.x.ticks, (TOP, BOTTOM));
        text + &label("axis r", RIGHT, HEIGHT - 6.0, self.x.name)
    }

    fn place(&self, spot: &Spot) -> (f64, f64) {
        (self.x_scale.at(spot.x), self.y_scale.at(spot.y))
    }

    fn end(&self, line: &Line<'_>) -> (f64, f64) {
        line.spots.last().map_or((RIGHT, BOTTOM), |spot| self.place(spot))
    }

    fn line(&self, of: &Line<'_>, height: f64) -> String {
        let colour = of.engine.colour;
        let places: Vec<_> = of.spots.iter().map(|spot| self.place(spot)).collect();
        let mut text = tip(&of.engine.label()) + &shape("l", &path(&places));
        for (spot, (x, y)) in of.spots.iter().zip(&places) {
            if let Some((low, high)) = spot.spread {
                let (low, high) = (self.y_scale.at(low), self.y_scale.at(high));
                text += &line("whisker", (*x, low), (*x, high));
            }
            if self.marks {
                let mark = shape("m", &mark(colour, *x, *y, 3.2));
                text += &format!("<g>{}{mark}</g>", tip(&spot.tip));
            }
        }
        let (x, y) = self.end(of);
        text += &line("lead", (x + 4.0, y), (RIGHT + 8.0, height));
        text += &label("end", RIGHT + 11.0, height + 3.5, &fit(&of.engine.label(), NAME));
        of_engine(colour, &text)
    }
}

/// Room for the names.
const _: () = assert!(WIDTH - RIGHT > 90.0);
