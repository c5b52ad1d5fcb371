//! How things look: colours, symbols and widths, and the only place that writes to stdout.
//!
//! `human` and `json` make text from wire values and write nothing themselves.

pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod human;
pub(crate) mod incidents;
pub(crate) mod json;
pub(crate) mod status;
pub(crate) mod table;

use std::io::{self, IsTerminal, Write};

use crate::failure::{Failure, Result};

/// `--color`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb
    #[default]
    Auto,
    /// Also into pipes and files
    Always,
    /// Never
    Never,
}

/// What the reader's screen can show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Look {
    /// ANSI colours.
    pub(crate) color: bool,
    /// Symbols and typographic signs beyond ASCII.
    pub(crate) unicode: bool,
    /// Columns; `None`: no bound (a pipe or a file).
    pub(crate) width: Option<usize>,
}

/// Colours by meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Paint {
    /// As it is.
    Plain,
    /// All is well.
    Good,
    /// On its way.
    Busy,
    /// Needs a look.
    Warn,
    /// Needs a hand.
    Bad,
    /// Less important.
    Dim,
    /// A heading, or a command to type.
    Strong,
    /// One of six, to tell services apart.
    Name(usize),
}

impl Paint {
    fn code(self) -> &'static str {
        // Colours of names leave out red and yellow, which mean trouble.
        const NAMES: [&str; 6] = ["36", "35", "34", "32", "96", "95"];
        match self {
            Paint::Plain => "",
            Paint::Good => "32",
            Paint::Busy => "36",
            Paint::Warn => "33",
            Paint::Bad => "31",
            Paint::Dim => "2",
            Paint::Strong => "1",
            Paint::Name(n) => NAMES[n % NAMES.len()],
        }
    }
}

/// What decides how things look, so that tests need no terminal.
struct Screen {
    terminal: bool,
    no_color: bool,
    dumb: bool,
    utf8: bool,
    width: Option<usize>,
}

impl Look {
    /// Of stdout.
    pub(crate) fn stdout(choice: ColorChoice) -> Self {
        let width = terminal_size::terminal_size().map(|(w, _)| usize::from(w.0));
        Self::decide(choice, &Screen::here(io::stdout().is_terminal(), width))
    }

    /// Of stderr.
    pub(crate) fn stderr(choice: ColorChoice) -> Self {
        Self::decide(choice, &Screen::here(io::stderr().is_terminal(), None))
    }

    fn decide(choice: ColorChoice, screen: &Screen) -> Self {
        let color = match choice {
            ColorChoice::Auto => screen.terminal && !screen.no_color && !screen.dumb,
            ColorChoice::Always => true,
            ColorChoice::Never => false,
        };
        let symbols = screen.terminal || choice == ColorChoice::Always;
        Self {
            color,
            unicode: symbols && screen.utf8 && !screen.dumb,
            width: screen.width.filter(|w| screen.terminal && *w > 0),
        }
    }

    /// No colours, ASCII, no bound.
    #[cfg(test)]
    pub(crate) const PLAIN: Look = Look { color: false, unicode: false, width: None };

    /// No colours, all signs.
    #[cfg(test)]
    pub(crate) const SIGNS: Look = Look { color: false, unicode: true, width: None };

    /// The text in a colour, if there are any.
    pub(crate) fn paint(&self, paint: Paint, text: &str) -> String {
        match (self.color, paint.code()) {
            (false, _) | (_, "") => text.to_owned(),
            (true, code) => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }

    /// The text with the signs that this screen can show, and without what would move its cursor.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len());
        for c in strip_colors(text).chars() {
            match c {
                '\n' => shown.push('\n'),
                '\t' => shown.push(' '),
                c if c.is_control() => {}
                c if self.unicode || c.is_ascii() => shown.push(c),
                '·' | '–' | '—' => shown.push('-'),
                '…' => shown.push_str("..."),
                '→' => shown.push_str("->"),
                '≤' => shown.push_str("<="),
                '≥' => shown.push_str(">="),
                '×' => shown.push('x'),
                '│' => shown.push('|'),
                // A name or a message in another script is worth more than a pure alphabet.
                c => shown.push(c),
            }
        }
        shown
    }
}

impl Screen {
    fn here(terminal: bool, width: Option<usize>) -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG"));
        // Windows has no such variables, and its consoles have shown Unicode for long.
        let utf8 = std::env::consts::OS == "windows" || locale.is_some_and(|l| is_utf8(&l));
        Self {
            terminal,
            no_color: set("NO_COLOR").is_some(),
            dumb: set("TERM").is_some_and(|t| t == "dumb"),
            utf8,
            width,
        }
    }
}

fn is_utf8(locale: &str) -> bool {
    let locale = locale.to_ascii_lowercase();
    locale.ends_with("utf-8")
        || locale.ends_with("utf8")
        || locale.contains("utf-8@")
        || locale.contains("utf8@")
}

/// Writes data, at once.
///
/// # Errors
/// A silent one when the reader is gone.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| Failure::writing(&e))
}

/// Writes one line of talk. Nobody may be listening, which changes nothing.
pub(crate) fn talk(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Takes out escape sequences (ECMA-48 CSI and OSC), which mean nothing in a file.
pub(crate) fn strip_colors(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        match (c, letters.peek()) {
            ('\x1b', Some('[')) => {
                letters.next();
                let _final = letters.find(|c| ('\x40'..='\x7e').contains(c));
            }
            ('\x1b', Some(']')) => {
                let _bell = letters.find(|c| matches!(c, '\x07' | '\x1b'));
                letters.next_if_eq(&'\\');
            }
            ('\x1b', _) => {}
            (c, _) => kept.push(c),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen() -> Screen {
        Screen { terminal: true, no_color: false, dumb: false, utf8: true, width: Some(80) }
    }

    #[test]
    fn a_pipe_is_plain() {
        let look = Look::decide(ColorChoice::Auto, &Screen { terminal: false, ..screen() });
        assert_eq!(look, Look::PLAIN);
    }

    #[test]
    fn no_color_keeps_the_signs() {
        let look = Look::decide(ColorChoice::Auto, &Screen { no_color: true, ..screen() });
        assert_eq!((look.color, look.unicode, look.width), (false, true, Some(80)));
    }

    #[test]
    fn a_dumb_terminal_and_an_old_locale_are_ascii() {
        let dumb = Look::decide(ColorChoice::Auto, &Screen { dumb: true, ..screen() });
        assert_eq!((dumb.color, dumb.unicode), (false, false));
        let old = Look::decide(ColorChoice::Auto, &Screen { utf8: false, ..screen() });
        assert_eq!((old.color, old.unicode), (true, false));
    }

    #[test]
    fn always_reaches_through_a_pipe() {
        let look = Look::decide(ColorChoice::Always, &Screen { terminal: false, no_color: true, ..screen() });
        assert_eq!((look.color, look.unicode, look.width), (true, true, None));
    }

    #[test]
    fn locales() {
        assert!(is_utf8("de_DE.UTF-8") && is_utf8("C.utf8") && is_utf8("sr_RS.UTF-8@latin"));
        assert!(!is_utf8("C") && !is_utf8("de_DE.ISO-8859-1"));
    }

    #[test]
    fn text_cannot_move_the_cursor() {
        assert_eq!(Look::SIGNS.text("a\x1b[2Jb\rc → d"), "abc → d");
        assert_eq!(Look::PLAIN.text("60s → 2m · ≤ 10 s…"), "60s -> 2m - <= 10 s...");
    }

    #[test]
    fn escape_sequences_stay_out_of_files() {
        assert_eq!(strip_colors("a\x1b[1;31mb\x1b[0mc\x1b]0;title\x07d\x1b]8;;u\x1b\\e\x1bf"), "abcdef");
    }
}
