//! A program and its arguments: a list, or a string that is split as a POSIX shell would, without expansion
//! (POSIX.1-2024, Shell Command Language, 2.2 Quoting); on Windows as CommandLineToArgvW does.

use std::borrow::Cow;

use toml::de::DeValue;

use super::scalar::no_nul;
use crate::read::{At, Element, Key, Node, Reader, schema_of};

/// As it was written.
#[derive(Clone, Debug)]
pub(crate) enum CommandText {
    /// `["python3", "-m", "http.server"]`.
    Words(Box<[Box<str>]>),
    /// `"python3 -m http.server"`.
    Line(Box<str>),
}

#[derive(Clone, Debug)]
struct Word(Box<str>);

impl Element for Word {
    fn what() -> Cow<'static, str> {
        "text".into()
    }
    fn syntax() -> Cow<'static, str> {
        "each argument stands in quotes: [\"server\", \"--port\", \"8080\"]".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let at = r.at(node.span());
        match node.get_ref() {
            DeValue::String(s) => {
                no_nul::<Self>(r, node, key, s)?;
                Some(Self(s.as_ref().into()))
            }
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
                let written = r.text(at);
                r.bad(at, key, format!("write \"{written}\""))
            }
            _ => r.wrong_type(node, key),
        }
    }
}

impl Element for CommandText {
    fn what() -> Cow<'static, str> {
        "a command".into()
    }
    fn syntax() -> Cow<'static, str> {
        "a list ([\"python3\", \"-m\", \"http.server\"]) or a string that is split as a shell would \
         (\"python3 -m http.server\")"
            .into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let at = r.at(node.span());
        match node.get_ref() {
            DeValue::String(s) if s.trim().is_empty() => {
                r.bad(at, key, "it is empty: nothing could be started")
            }
            DeValue::String(s) => {
                no_nul::<Self>(r, node, key, s)?;
                Some(Self::Line(s.as_ref().into()))
            }
            DeValue::Array(items) if items.is_empty() => {
                r.bad(at, key, "it is empty: nothing could be started")
            }
            DeValue::Array(_) => {
                let words = super::scalar::list::<Word, Self>(r, node, key)?;
                if words.first().is_some_and(|w| w.0.trim().is_empty()) {
                    return r.bad(at, key, "the program's name is empty");
                }
                Some(Self::Words(words.into_iter().map(|w| w.0).collect()))
            }
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(CommandText, |_generator| schemars::json_schema!({ "anyOf": [
    { "type": "string", "minLength": 1 },
    { "type": "array", "items": { "type": "string" }, "minItems": 1 }
] }));

/// Why a string cannot be split.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SplitError {
    /// Byte in the string.
    pub offset: usize,
    /// What is wrong there.
    pub why: &'static str,
}

/// Words of a command line, and what a shell would have taken for more than a word.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Split {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// The first word that is an operator to a shell and plain text here, with its byte: `|`, `&&`, `>`.
    pub operator: Option<(usize, String)>,
}

/// Splits a string into words as a POSIX shell does: blanks separate, quotes join, a backslash takes the next character
/// as it is. Nothing is expanded.
///
/// # Errors
/// An unterminated quote or a backslash at the end.
pub fn split(line: &str) -> Result<Split, SplitError> {
    let mut out = Split::default();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut start = 0;
    let mut chars = line.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        if word.is_none() {
            (start, quoted) = (i, false);
        }
        match c {
            ' ' | '\t' | '\n' | '\r' => {
                if let Some(word) = word.take() {
                    out.finish(word, start, quoted);
                }
            }
            '\'' => {
                quoted = true;
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some((_, '\'')) => break,
                        Some((_, c)) => word.push(c),
                        None => return Err(SplitError { offset: i, why: "this quote is never closed" }),
                    }
                }
            }
            '"' => {
                quoted = true;
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some((_, '"')) => break,
                        // Within double quotes a backslash is special before these only (POSIX 2.2.3).
                        Some((_, '\\')) => match chars.next() {
                            Some((_, c @ ('$' | '`' | '"' | '\\'))) => word.push(c),
                            Some((_, '\n')) => {}
                            Some((_, c)) => word.extend(['\\', c]),
                            None => return Err(SplitError { offset: i, why: "this quote is never closed" }),
                        },
                        Some((_, c)) => word.push(c),
                        None => return Err(SplitError { offset: i, why: "this quote is never closed" }),
                    }
                }
            }
            '\\' => match chars.next() {
                Some((_, '\n')) => {}
                Some((_, c)) => {
                    quoted = true;
                    word.get_or_insert_default().push(c);
                }
                None => return Err(SplitError { offset: i, why: "nothing follows this backslash" }),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    if let Some(word) = word {
        out.finish(word, start, quoted);
    }
    Ok(out)
}

/// Splits a string into words as Windows' programs do (CommandLineToArgvW): the first one ends at its closing quote or at a
/// blank; then backslashes are themselves unless a quote follows, and two quotes within quotes are one, and end them.
///
/// # Errors
/// An unterminated quote, which the system would close by itself at the end.
pub(crate) fn split_windows(line: &str) -> Result<Split, SplitError> {
    let mut out = Split::default();
    let open = |offset| SplitError { offset, why: "this quote is never closed" };
    let start = line.len() - line.trim_start_matches(BLANKS).len();
    let text = line.get(start..).unwrap_or_default();
    let (program, mut rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or_else(|| open(start))?,
        None => text.split_at(text.find(BLANKS).unwrap_or(text.len())),
    };
    if text.is_empty() {
        return Ok(out);
    }
    out.finish(program.to_owned(), start, text.starts_with('"'));
    loop {
        rest = rest.trim_start_matches(BLANKS);
        let begins = line.len() - rest.len();
        if rest.is_empty() {
            return Ok(out);
        }
        let (word, after, quoted) = windows_word(rest).map_err(|offset| open(begins + offset))?;
        rest = after;
        out.finish(word, begins, quoted);
    }
}

/// The first word, what follows it, and whether quotes stood in it. The error is the place of a quote that is open.
fn windows_word(text: &str) -> Result<(String, &str, bool), usize> {
    let (mut word, mut quotes, mut opened, mut quoted, mut backslashes) = (String::new(), 0, 0, false, 0);
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            backslashes += 1;
            continue;
        }
        if c != '"' {
            word.extend(std::iter::repeat_n('\\', std::mem::take(&mut backslashes)));
            if quotes == 0 && BLANKS.contains(&c) {
                return Ok((word, text.get(at..).unwrap_or_default(), quoted));
            }
            word.push(c);
            continue;
        }
        word.extend(std::iter::repeat_n('\\', backslashes / 2));
        if std::mem::take(&mut backslashes) % 2 == 1 {
            word.push('"');
        } else {
            (quotes, opened, quoted) = (quotes + 1, if quotes == 0 { at } else { opened }, true);
        }
        // Of each three in a row, counted from the one that opened, the last is a quote of the text and ends what is quoted.
        while let Some((at, _)) = chars.next_if(|(_, next)| *next == '"') {
            (quotes, opened, quoted) = (quotes + 1, if quotes == 0 { at } else { opened }, true);
            if quotes == 3 {
                word.push('"');
                quotes = 0;
            }
        }
        quotes %= 2;
    }
    word.extend(std::iter::repeat_n('\\', backslashes));
    if quotes == 0 { Ok((word, "", quoted)) } else { Err(opened) }
}

/// What stands between words on Windows.
const BLANKS: [char; 2] = [' ', '\t'];

impl Split {
    fn finish(&mut self, word: String, start: usize, quoted: bool) {
        let operators = ["|", "||", "&&", "&", ";", ">", ">>", "<", "<<", "2>", "2>&1", ">&2", "&>"];
        if !quoted && self.operator.is_none() && operators.contains(&word.as_str()) {
            self.operator = Some((start, word.clone()));
        }
        self.words.push(word);
    }
}

/// The place of byte `offset` of a string's content; the whole value where escapes make them differ.
pub(crate) fn inside(r: &Reader<'_>, at: At, content: &str, offset: usize) -> At {
    let raw = r.text(at);
    let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|q| raw.starts_with(q)).unwrap_or_default();
    let inner = raw.get(quote.len()..raw.len().saturating_sub(quote.len())).unwrap_or_default();
    // The line end right after an opening triple quote is not part of the text.
    let trimmed = match quote.len() {
        3 => inner.strip_prefix("\r\n").or(inner.strip_prefix('\n')).unwrap_or(inner),
        _ => inner,
    };
    if trimmed != content || offset >= content.len() {
        return at;
    }
    let before = u32::try_from(quote.len() + inner.len() - trimmed.len() + offset).unwrap_or(0);
    let width = content[offset..].chars().next().map_or(1, char::len_utf8);
    let start = at.start + before;
    At { start, end: start + u32::try_from(width).unwrap_or(1), ..at }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        split(line).unwrap().words
    }

    #[test]
    fn splits_as_a_shell() {
        assert_eq!(words("a b  c\td\ne"), ["a", "b", "c", "d", "e"]);
        assert_eq!(words(r#"sh -c 'echo "$HOME"'"#), ["sh", "-c", r#"echo "$HOME""#]);
        assert_eq!(words(r#"a"b c"d e\ f"#), ["ab cd", "e f"]);
        assert_eq!(words(r#""a\"b" "\$x" "\n" '\n'"#), [r#"a"b"#, "$x", r"\n", r"\n"]);
        assert_eq!(words(r#"'' "" x"#), ["", "", "x"]);
        assert_eq!(words("a\\\nb"), ["ab"]);
        assert_eq!(words("größe 'ß'"), ["größe", "ß"]);
        assert_eq!(words("echo # no comment"), ["echo", "#", "no", "comment"]);
        assert_eq!(words("  "), Vec::<String>::new());
    }

    #[test]
    fn splits_as_windows_programs_do() {
        // What the system itself makes of the same lines is a test of `os`.
        for block in include_str!("../../tests/command_lines.txt").split("\n\n") {
            let mut lines = block.lines().filter(|l| !l.starts_with('#'));
            let Some(line) = lines.next() else { continue };
            let expected: Vec<&str> =
                lines.map(|l| l.strip_prefix("  [").and_then(|l| l.strip_suffix(']')).unwrap()).collect();
            assert_eq!(split_windows(line).unwrap().words, expected, "{line}");
        }
        assert_eq!(split_windows(" \t ").unwrap().words, Vec::<String>::new());
        assert_eq!(split_windows(" a b").unwrap().words, ["a", "b"]);
        assert_eq!(split_windows("a | b").unwrap().operator, Some((2, "|".to_owned())));
        for (line, offset) in [(r#"a "b c"#, 2), (r#""C:\x y"#, 0), (r#"a b"c"#, 3), (r#"a "x" y "" "z"#, 11)]
        {
            assert_eq!(split_windows(line).unwrap_err().offset, offset, "{line}");
        }
    }

    #[test]
    fn what_is_left_open_is_told_with_its_place() {
        assert_eq!(
            split("echo 'a b").unwrap_err(),
            SplitError { offset: 5, why: "this quote is never closed" }
        );
        assert_eq!(
            split("echo x\"a").unwrap_err(),
            SplitError { offset: 6, why: "this quote is never closed" }
        );
        assert_eq!(
            split("echo a\\").unwrap_err(),
            SplitError { offset: 6, why: "nothing follows this backslash" }
        );
    }

    #[test]
    fn operators_are_noticed_unless_quoted() {
        assert_eq!(split("a | b").unwrap().operator, Some((2, "|".to_owned())));
        assert_eq!(split("a && b; c").unwrap().operator, Some((2, "&&".to_owned())));
        assert_eq!(split("grep '|' file").unwrap().operator, None);
        assert_eq!(split(r"find -exec x \;").unwrap().operator, None);
    }
}
