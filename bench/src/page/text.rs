//! Numbers and names as text.

use crate::report::thousands;

/// Text as HTML takes it, in elements and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(char),
        }
    }
    escaped
}

/// Three significant digits of what is below 1000.
fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A number divided by a power of 1000, and which.
fn scaled(value: f64, units: &[&str]) -> (f64, usize) {
    let (mut value, mut at) = (value, 0);
    while value.abs() >= 999.5 && at + 1 < units.len() {
        value /= 1e3;
        at += 1;
    }
    (value, at)
}

const COUNTS: [&str; 4] = ["", "\u{a0}k", "\u{a0}M", "\u{a0}G"];
const TIMES: [&str; 4] = ["\u{a0}ns", "\u{a0}µs", "\u{a0}ms", "\u{a0}s"];

/// `1234567` as `1.23 M`.
pub(super) fn count(value: f64) -> String {
    let (value, unit) = scaled(value, &COUNTS);
    digits(value) + COUNTS[unit]
}

/// A time that is given in nanoseconds.
pub(super) fn nanoseconds(value: f64) -> String {
    let (value, unit) = scaled(value, &TIMES);
    digits(value) + TIMES[unit]
}

/// A time that is given in microseconds.
pub(super) fn microseconds(value: f64) -> String {
    nanoseconds(value * 1e3)
}

/// The same without digits that say nothing, for an axis.
pub(super) fn short(text: &str) -> String {
    let (number, unit) = text.split_once('\u{a0}').unwrap_or((text, ""));
    let number = match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => number,
    };
    if unit.is_empty() { number.to_owned() } else { format!("{number}\u{a0}{unit}") }
}

/// A factor: `4.50×`.
pub(super) fn ratio(value: f64) -> String {
    let text = if value < 0.1 { format!("{value:.3}") } else { digits(value) };
    text + "×"
}

/// The same for an axis: `0.5×`.
pub(super) fn factor(value: f64) -> String {
    let places = if value == 0.0 || value >= 0.1 { 2 } else { 3 };
    format!("{}×", short(&format!("{value:.places$}")))
}

/// A whole number: `16,384`.
pub(super) fn whole(value: f64) -> String {
    thousands(value.max(0.0).round() as u64)
}

/// A size in bytes.
pub(super) fn bytes(value: u64) -> String {
    match value {
        v if v >= 1 << 20 && v % (1 << 20) == 0 => format!("{}\u{a0}MiB", v >> 20),
        v if v >= 1 << 10 && v % (1 << 10) == 0 => format!("{}\u{a0}KiB", v >> 10),
        v => format!("{v}\u{a0}B"),
    }
}

/// Not more than so many characters, if need be with an ellipsis.
pub(super) fn fit(text: &str, most: usize) -> String {
    match text.chars().count() {
        count if count > most => text.chars().take(most - 1).chain(['…']).collect(),
        _ => text.to_owned(),
    }
}

/// `3 runs`, `1 run`.
pub(super) fn plural(count: usize, noun: &str) -> String {
    format!("{}\u{a0}{noun}{}", whole(count as f64), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_markup() {
        assert_eq!(escape("<a b=\"c\">'&"), "&lt;a b=&quot;c&quot;&gt;&#39;&amp;");
    }

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        let plain = |text: String| text.replace('\u{a0}', " ");
        assert_eq!(plain(count(1_234_567.0)), "1.23 M");
        assert_eq!(plain(count(999.7)), "1.00 k");
        assert_eq!(plain(count(12.34)), "12.3");
        assert_eq!(plain(microseconds(0.25)), "250 ns");
        assert_eq!(plain(microseconds(1500.0)), "1.50 ms");
        assert_eq!(plain(nanoseconds(2e12)), "2000 s");
        assert_eq!(ratio(4.5), "4.50×");
        assert_eq!(ratio(0.0123), "0.012×");
    }

    #[test]
    fn axes_have_no_idle_digits() {
        assert_eq!(short(&count(1000.0)), "1\u{a0}k");
        assert_eq!(short(&count(100.0)), "100");
        assert_eq!(short(&count(0.5)), "0.5");
        assert_eq!([0.0, 0.05, 0.5, 20.0].map(factor), ["0×", "0.05×", "0.5×", "20×"]);
    }

    #[test]
    fn what_is_too_long_ends_with_an_ellipsis() {
        assert_eq!(fit("größer", 6), "größer");
        assert_eq!(fit("größer", 5), "größ…");
    }

    #[test]
    fn sizes_are_in_the_largest_unit_that_fits() {
        let plain = |size| bytes(size).replace('\u{a0}', " ");
        assert_eq!(plain(16), "16 B");
        assert_eq!(plain(65_536), "64 KiB");
        assert_eq!(plain(1 << 20), "1 MiB");
        assert_eq!(plain(1500), "1500 B");
    }
}
