//! A table whose columns line up, and which loses columns, not meaning, on a narrow terminal.

use super::human::{cut, pad};
use super::{Look, Paint};

/// One cell.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    paint: Paint,
}

/// One column.
pub(crate) struct Column {
    /// Its heading.
    pub(crate) title: &'static str,
    /// Columns with the highest number go first when room is short; 0 never goes.
    pub(crate) drop: u8,
    /// Left out when no row says anything here.
    pub(crate) optional: bool,
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>, paint: Paint) -> Self {
        Self { text: text.into(), paint }
    }

    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self::new(text, Paint::Plain)
    }
}

const GAP: usize = 2;

/// Lays it out. The last column that is left is cut where the terminal ends.
pub(crate) fn render(columns: &[Column], rows: &[Vec<Cell>], look: &Look) -> String {
    let says = |i: usize| rows.iter().any(|r| !matches!(r[i].text.as_str(), "" | "–"));
    let mut shown: Vec<usize> = (0..columns.len()).filter(|i| !columns[*i].optional || says(*i)).collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|i| {
            rows.iter().map(|r| r[i].text.chars().count()).chain([columns[i].title.len()]).max().unwrap_or(0)
        })
        .collect();
    while let Some(width) = look.width {
        let needed: usize = shown.iter().map(|i| widths[*i] + GAP).sum::<usize>().saturating_sub(GAP);
        let victim = shown.iter().copied().filter(|i| columns[*i].drop > 0).max_by_key(|i| columns[*i].drop);
        match victim {
            Some(victim) if needed > width => shown.retain(|i| *i != victim),
            _ => break,
        }
    }
    let header: Vec<Cell> = columns.iter().map(|c| Cell::new(c.title, Paint::Dim)).collect();
    let mut text = String::new();
    for row in [&header].into_iter().chain(rows) {
        text += &line(row, &shown, &widths, look);
        text.push('\n');
    }
    text
}

fn line(row: &[Cell], shown: &[usize], widths: &[usize], look: &Look) -> String {
    let mut text = String::new();
    let mut used = 0;
    for (place, i) in shown.iter().enumerate() {
        let last = place + 1 == shown.len();
        let cell = &row[*i];
        let room = look.width.map_or(usize::MAX, |w| w.saturating_sub(used));
        let words = look.text(&cut(&cell.text, room));
        // Nothing follows the last column, so spaces after it would only wrap a full line.
        let padding = if last { 0 } else { widths[*i].saturating_sub(words.chars().count()) + GAP };
        used += words.chars().count() + padding;
        text += &look.paint(cell.paint, &words);
        text += &pad("", padding);
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(width: Option<usize>) -> String {
        let column = |title, drop| Column { title, drop, optional: true };
        let columns = [column("NAME", 0), column("PID", 2), column("MEM", 3), column("NEXT", 0)];
        let row = |cells: [&str; 4]| cells.map(Cell::plain).to_vec();
        let rows = [row(["api", "4121", "84 MB", "restart in 3 s"]), row(["worker", "–", "–", ""])];
        render(&columns, &rows, &Look { width, ..Look::SIGNS })
    }

    #[test]
    fn columns_line_up() {
        insta::assert_snapshot!(sample(None), @r"
        NAME    PID   MEM    NEXT
        api     4121  84 MB  restart in 3 s
        worker  –     –
        ");
    }

    #[test]
    fn a_narrow_terminal_loses_columns_and_then_letters() {
        insta::assert_snapshot!(sample(Some(30)), @r"
        NAME    PID   NEXT
        api     4121  restart in 3 s
        worker  –
        ");
        insta::assert_snapshot!(sample(Some(16)), @r"
        NAME    NEXT
        api     restart…
        worker
        ");
    }

    #[test]
    fn a_column_that_says_nothing_is_left_out() {
        let columns = [
            Column { title: "NAME", drop: 0, optional: false },
            Column { title: "CPU", drop: 1, optional: true },
        ];
        let rows = [vec![Cell::plain("api"), Cell::plain("–")]];
        assert_eq!(render(&columns, &rows, &Look::SIGNS), "NAME\napi\n");
    }
}
