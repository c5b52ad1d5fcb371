//! Draws findings for people: the shape of a compiler's message, since that is what hands know.

use std::fmt::Write as _;

use crate::diagnostic::{Diagnostic, Diagnostics, Place, Severity};

/// More than this many findings tell nobody anything; the rest is counted.
const SHOWN: usize = 50;

struct Style {
    red: &'static str,
    yellow: &'static str,
    blue: &'static str,
    bold: &'static str,
    off: &'static str,
    corner: &'static str,
    bar: &'static str,
}

impl Style {
    fn new(color: bool, ascii: bool) -> Self {
        let pick = |code: &'static str| if color { code } else { "" };
        Self {
            red: pick("\x1b[1;31m"),
            yellow: pick("\x1b[1;33m"),
            blue: pick("\x1b[34m"),
            bold: pick("\x1b[1m"),
            off: pick("\x1b[0m"),
            corner: if ascii { "-->" } else { "┌" },
            bar: if ascii { "|" } else { "│" },
        }
    }
}

impl Diagnostics {
    /// The findings as text for a terminal, each with its place drawn; ends with a line end. `ascii`: no line-drawing
    /// characters.
    #[must_use]
    pub fn render(&self, color: bool, ascii: bool) -> String {
        let style = Style::new(color, ascii);
        let mut out = String::new();
        for d in self.0.iter().take(SHOWN) {
            one(&mut out, d, &style);
        }
        if let Some(more @ 1..) = self.0.len().checked_sub(SHOWN) {
            let _ = writeln!(out, "{more} more of the same kind are not shown.");
        }
        out
    }
}

impl Diagnostic {
    /// This finding alone, as [`Diagnostics::render`] draws it.
    #[must_use]
    pub fn render(&self, color: bool, ascii: bool) -> String {
        let mut out = String::new();
        one(&mut out, self, &Style::new(color, ascii));
        out
    }
}

fn one(out: &mut String, d: &Diagnostic, s: &Style) {
    let (tint, word) = match d.severity {
        Severity::Error => (s.red, "error"),
        Severity::Warning => (s.yellow, "warning"),
    };
    let _ = writeln!(out, "{tint}{word}{}{}: {}{}", s.off, s.bold, printable(&d.message), s.off);
    let gutter =
        d.place.iter().chain(&d.related).map(|p| p.line.max(1).ilog10() as usize + 1).max().unwrap_or(1);
    match (&d.place, &d.file) {
        (Some(place), _) => draw(out, place, gutter, tint, s),
        (None, Some(file)) => {
            let file = printable(&file.display().to_string());
            let line = if d.line > 0 { format!(":{}", d.line) } else { String::new() };
            let _ = writeln!(out, "{:gutter$} {}{}{} {file}{line}", "", s.blue, s.corner, s.off);
        }
        (None, None) => {}
    }
    for place in &d.related {
        draw(out, place, gutter, s.blue, s);
    }
    if let Some(help) = &d.help {
        for (i, line) in help.lines().enumerate() {
            let mark = if i == 0 { "=" } else { " " };
            let _ = writeln!(out, "{:gutter$} {}{mark}{} {}", "", s.blue, s.off, printable(line));
        }
    }
}

fn draw(out: &mut String, p: &Place, gutter: usize, tint: &str, s: &Style) {
    let (blue, off) = (s.blue, s.off);
    let file = printable(&p.file.display().to_string());
    let _ = writeln!(out, "{:gutter$} {blue}{}{off} {file}:{}:{}", "", s.corner, p.line, p.column);
    let _ = writeln!(out, "{blue}{:gutter$} {}{off} {}", p.line, s.bar, printable(&p.source_line));
    let indent = " ".repeat(p.column.saturating_sub(1 + p.cut) as usize);
    let room = p.source_line.chars().count().saturating_sub(indent.len()).max(1);
    let carets = "^".repeat((p.width as usize).clamp(1, room));
    let label = p.label.as_deref().unwrap_or_default();
    let line = format!("{indent}{tint}{carets} {}{off}", printable(label));
    let _ = writeln!(out, "{blue}{:gutter$} {}{off} {}", "", s.bar, line.trim_end());
}

/// What a file holds must not steer a terminal: control characters become visible, one for one, so that columns hold.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            // Bidirectional overrides would show another text than the file holds.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            c => c,
        })
        .collect()
}
