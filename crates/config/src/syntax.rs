//! Errors of the TOML text itself, in words of people who write configurations.

use std::ops::Range;

use toml::de::{DeTable, DeValue, Error};

use crate::read::{Draft, Reader};

/// What is wrong, said better than the parser can.
struct Words {
    message: &'static str,
    label: String,
    help: &'static str,
}

/// Reports the parser's errors; `document` is what it could make of the text.
pub(crate) fn report(r: &mut Reader<'_>, document: &DeTable<'_>, errors: &[Error]) {
    let text = r.sources.get(r.file as usize).map_or("", |s| s.text.as_str());
    find_secrets(r, document);
    let mut last = None;
    for e in errors {
        let span = e.span().unwrap_or(0..0);
        let line = line_of(text, span.start);
        // One line is rarely wrong in more than one way; the parser's later findings about it are echoes.
        if last.replace(line.start) == Some(line.start) {
            continue;
        }
        hide_env(r, text, &line);
        if e.message().starts_with("duplicate key") {
            duplicate(r, document, text, line, span);
            continue;
        }
        let other_language = other_language(&text[line.clone()]);
        let words = other_language.or_else(|| better(e.message(), text, &span)).unwrap_or(Words {
            message: "the file is no valid TOML",
            label: e.message().to_owned(),
            help: "",
        });
        let at = r.at(span);
        r.push(Draft::error("syntax", at, words.message).label(words.label).help(words.help));
        if words.message == OTHER_LANGUAGE {
            return;
        }
    }
}

/// The line, without its end, in which byte `at` stands.
fn line_of(text: &str, at: usize) -> Range<usize> {
    let bytes = text.as_bytes();
    let at = at.min(bytes.len());
    let start = bytes[..at].iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
    let end = bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| at + n);
    start..end
}

const OTHER_LANGUAGE: &str = "the file is not written in TOML";

fn other_language(line: &str) -> Option<Words> {
    let line = line.trim();
    let help = if line.starts_with('{') {
        "this looks like JSON; here it is [services.web], and below it command = \"server\""
    } else if !line.contains('=') && (line.ends_with(':') || line.contains(": ")) && !line.starts_with('[') {
        "this looks like YAML; here it is [services.web], and below it command = \"server\""
    } else {
        return None;
    };
    Some(Words { message: OTHER_LANGUAGE, label: "from here on".to_owned(), help })
}

fn better(message: &str, text: &str, span: &Range<usize>) -> Option<Words> {
    let here = text.get(span.start..).unwrap_or_default();
    if message.contains("missing escaped value") {
        return Some(Words {
            message: "a backslash that starts no known escape",
            label: format!("`\\{}` is no escape", here.chars().next().unwrap_or(' ')),
            help: "in double quotes a backslash starts an escape (\\n, \\t, \\\\); in single quotes it is plain: \
                   'C:\\path', '\\d+'",
        });
    }
    if message.contains("unicode") || message.contains("hex") && message.contains("escape") {
        return Some(Words {
            message: "an escape without its digits",
            label: message.to_owned(),
            help: "in single quotes a backslash is plain: 'C:\\users'",
        });
    }
    let before = text.get(..span.start).unwrap_or_default().trim_end_matches([' ', '\t']);
    let is_value = before.ends_with(['=', '[', ',']) && !line_of(text, span.start).is_empty();
    if is_value && here.starts_with(|c: char| c.is_alphabetic() || "/.~$-<*".contains(c)) {
        let word: String = here.chars().take_while(|c| c.is_alphabetic()).collect();
        let label = match word.to_ascii_lowercase().as_str() {
            "true" | "false" | "yes" | "no" | "on" | "off" => {
                "true and false are written like this, in small letters"
            }
            _ => "put it in quotes",
        };
        let help = "text stands in quotes: name = \"text\"";
        return Some(Words { message: "text without quotes", label: label.to_owned(), help });
    }
    let closed = |label: &str, help| {
        Some(Words { message: "the file is no valid TOML", label: label.to_owned(), help })
    };
    match message {
        m if m.contains("invalid basic string") || m.contains("invalid literal string") => closed(
            "the quote that started this text is not closed",
            "text of several lines stands in \"\"\"…\"\"\"",
        ),
        m if m.contains("unclosed table") => closed("`]` is missing", "a table's name: [services.web]"),
        _ => None,
    }
}

/// The same key, or the same table, a second time. Where the first one is, the recovered document knows.
fn duplicate(r: &mut Reader<'_>, document: &DeTable<'_>, text: &str, line: Range<usize>, span: Range<usize>) {
    let at = r.at(span.clone());
    let name = r.text(at).trim_matches(['"', '\'']);
    let header = text[line.clone()].trim_start().starts_with('[');
    let mut first = None;
    if header {
        first = same_header(text, &line, &span);
    } else {
        last_before(document, name, span.start, &mut first);
    }
    let service = header
        && matches!(document.get("services").map(|s| s.get_ref()), Some(DeValue::Table(t)) if t.contains_key(name));
    let draft = if service {
        Draft::error("duplicate-service", at, format!("service `{name}` is defined twice"))
            .help("a service is defined once; put both into one table")
    } else {
        Draft::error("duplicate-key", at, format!("`{name}` is written twice in one table"))
            .help("take one of them away")
    };
    let draft = draft.label("a second time");
    let draft = match first {
        Some(span) => {
            let first = r.at(span);
            draft.also(first, "first here")
        }
        None => draft,
    };
    r.push(draft);
}

/// The same header in an earlier line, and there the part that `span` is in this one.
fn same_header(text: &str, line: &Range<usize>, span: &Range<usize>) -> Option<Range<usize>> {
    let wanted = text[line.clone()].trim_end();
    let mut start = 0;
    for earlier in text[..line.start].split_inclusive('\n') {
        if earlier.trim_end() == wanted {
            let offset = start + (span.start - line.start);
            return Some(offset..offset + span.len());
        }
        start += earlier.len();
    }
    None
}

/// The last key of this name that stands before byte `end`.
fn last_before(table: &DeTable<'_>, name: &str, end: usize, found: &mut Option<Range<usize>>) {
    for (key, node) in table.iter() {
        let span = key.span();
        if key.get_ref() == name && span.end <= end && found.as_ref().is_none_or(|f| f.start < span.start) {
            *found = Some(span);
        }
        if let DeValue::Table(inner) = node.get_ref() {
            last_before(inner, name, end, found);
        }
    }
}

/// Marks what stands in tables named `env` or `headers`, so that a message about another part of the line does not show it.
fn find_secrets(r: &mut Reader<'_>, table: &DeTable<'_>) {
    for (name, node) in table.iter() {
        let DeValue::Table(inner) = node.get_ref() else { continue };
        if matches!(name.get_ref().as_ref(), "env" | "headers") {
            for value in inner.values() {
                let at = r.at(value.span());
                r.secret(at);
            }
        }
        find_secrets(r, inner);
    }
}

/// A broken line need not be in the recovered document: within `env`, what follows its first `=` is hidden too.
fn hide_env(r: &mut Reader<'_>, text: &str, line: &Range<usize>) {
    let header = text[..line.start].lines().rev().map(str::trim).find(|l| l.starts_with('['));
    let in_table = header.is_some_and(|h| h.split('#').next().unwrap_or(h).trim_end().ends_with("env]"));
    let written = &text[line.clone()];
    let own = written.trim_start().split(['=', ' ', '.']).next().unwrap_or_default();
    let by_path =
        written.split('=').next().is_some_and(|key| key.split('.').any(|part| part.trim() == "env"));
    if (in_table && !written.trim_start().starts_with('[')) || own == "env" || by_path {
        let from = written.find('=').map_or(0, |n| n + 1);
        let at = r.at(line.start + from..line.end);
        r.secret(at);
    }
}
