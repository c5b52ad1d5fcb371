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
    let mut widths: Vec<usize> = (0..columns.len())
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
    shorten_first(&mut widths, &shown, look);
    let header: Vec<Cell> = columns.iter().map(|c| Cell::new(c.title, Paint::Dim)).collect();
    let mut text = String::new();
    for row in [&header].into_iter().chain(rows) {
        text += &line(row, &shown, &widths, look);
        text.push('\n');
    }
    text
}

/// Long names give way to what else is to be said, as far as somebody can still tell them apart.
fn shorten_first(widths: &mut [usize], shown: &[usize], look: &Look) {
    const NAME: usize = 16;
    const LAST: usize = 24;
    let ([first, middle @ .., last], Some(width)) = (shown, look.width) else { return };
    let middle: usize = middle.iter().map(|i| widths[*i] + GAP).sum();
    let room = width.saturating_sub(middle + GAP + widths[*last].min(LAST));
    widths[*first] = widths[*first].min(room.max(NAME));
}

/// Cuts out the middle, since names that begin alike often end differently.
fn cut_middle(text: &str, width: usize) -> String {
    let length = text.chars().count();
    let kept = width.saturating_sub(1);
    let begin: String = text.chars().take(kept.div_ceil(2)).collect();
    let end: String = text.chars().skip(length - kept / 2).collect();
    format!("{begin}…{end}")
}

fn line(row: &[Cell], shown: &[usize], widths: &[usize], look: &Look) -> String {
    let mut text = String::new();
    let mut used = 0;
    for (place, i) in shown.iter().enumerate() {
        let last = place + 1 == shown.len();
        let cell = &row[*i];
        let room = look.width.map_or(usize::MAX, |w| w.saturating_sub(used));
        // A screen without `…` gets three dots.
        let name = if look.unicode { widths[*i] } else { widths[*i].saturating_sub(2) };
        let fitting = match place == 0 && !last && cell.text.chars().count() > widths[*i] {
            true => cut_middle(&cell.text, name),
            false => cell.text.clone(),
        };
        let words = look.text(&cut(&fitting, room));
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
    fn a_long_name_leaves_room_for_what_happens_next() {
        let column = |title, drop| Column { title, drop, optional: true };
        let columns = [column("NAME", 0), column("STATE", 0), column("PID", 1), column("NEXT", 0)];
        let row = |cells: [&str; 4]| cells.map(Cell::plain).to_vec();
        let long = "a-service-whose-name-says-all-there-is-to-say-number-";
        let rows = [
            row([&format!("{long}1"), "ready", "1", ""]),
            row([&format!("{long}2"), "backing off", "–", "restart in 3 s"]),
        ];
        let look = Look { width: Some(60), ..Look::SIGNS };
        insta::assert_snapshot!(render(&columns, &rows, &look), @r"
        NAME                             STATE        NEXT
        a-service-whose…to-say-number-1  ready
        a-service-whose…to-say-number-2  backing off  restart in 3 s
        ");
        let ascii = render(&columns, &rows, &Look { unicode: false, ..look });
        assert!(ascii.contains("a-service-whos...o-say-number-1  ready\n"), "{ascii}");
        insta::assert_snapshot!(render(&columns, &rows, &Look { width: Some(40), ..look }), @r"
        NAME              STATE        NEXT
        a-servic…umber-1  ready
        a-servic…umber-2  backing off  restart…
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
