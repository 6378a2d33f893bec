//! Columns that line up.

use std::fmt;

/// Rows of cells, printed with two spaces between columns. A column in which every cell is a number
/// is set to the right.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a row of headings.
    #[must_use]
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()] }
    }

    /// Adds a row, of as many cells as there are headings.
    pub fn row<I: IntoIterator<Item = String>>(&mut self, cells: I) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Whether there is nothing under the headings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }
}

fn is_number(cell: &str) -> bool {
    cell == "-" || cell.starts_with(|c: char| c.is_ascii_digit())
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows[0].len();
        let cells = |at: usize| self.rows.iter().filter_map(move |row| row.get(at));
        let width = |at| cells(at).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let right = |at| cells(at).skip(1).all(|cell| is_number(cell));
        let to_right: Vec<bool> = (0..columns).map(right).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (at, cell) in row.iter().enumerate() {
                let (width, gap) = (widths[at], if at > 0 { "  " } else { "" });
                line += &if to_right[at] {
                    format!("{gap}{cell:>width$}")
                } else {
                    format!("{gap}{cell:<width$}")
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_stand_to_the_right() {
        let mut table = Table::new(&["group", "role", "lag"]);
        table.row(["7".into(), "leader".into(), "12".into()]);
        table.row(["1234567".into(), "follower".into(), "-".into()]);
        let text = "  group  role      lag\n      7  leader     12\n1234567  follower    -\n";
        assert_eq!(table.to_string(), text);
    }
}
