//! Errors of the TOML text itself, in words of people who write configurations.

use toml::de::{DeTable, DeValue, Error};

use crate::read::{Draft, Reader};

/// One line is rarely wrong in more than one way, and the parser's later findings about it are echoes.
pub(crate) fn report(r: &mut Reader<'_>, errors: &[Error]) {
    let text = r.sources.get(r.file as usize).map_or("", |s| s.text.as_str());
    let mut last_line = None;
    for e in errors {
        let span = e.span().unwrap_or(0..0);
        let start = span.start.min(text.len());
        let line = text.as_bytes()[..start].iter().filter(|b| **b == b'\n').count();
        if last_line == Some(line) {
            continue;
        }
        last_line = Some(line);
        let (message, label, help) = words(e.message(), text, start);
        let mut draft = Draft::error("syntax", r.at(span), message).label(label);
        if let Some(help) = help {
            draft = draft.help(help);
        }
        r.push(draft);
    }
}

fn words(message: &str, text: &str, start: usize) -> (String, String, Option<String>) {
    let begin = text.as_bytes()[..start].iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
    let line = text.as_bytes()[begin..].split(|b| *b == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    if message.starts_with("duplicate key") {
        let help = "a key is written once in its table; take one of them away";
        return (
            "the same key twice in one table".to_owned(),
            "here again".to_owned(),
            Some(help.to_owned()),
        );
    }
    if message.contains("escape")
        || message.contains("unicode 8-digit")
        || message.contains("unicode 4-digit")
    {
        let help = "in double quotes a backslash starts an escape (\\n, \\t, \\\\); in single quotes it is plain: \
                    'C:\\path', '\\d+'";
        return (
            "a backslash that starts no known escape".to_owned(),
            message.to_owned(),
            Some(help.to_owned()),
        );
    }
    if message.contains("string values must be quoted") || line.contains('=') && message.contains("unquoted")
    {
        let help = "text stands in quotes: name = \"text\"";
        return ("text without quotes".to_owned(), message.to_owned(), Some(help.to_owned()));
    }
    let help = match line.trim_start() {
        l if l.starts_with('{') => {
            Some("this looks like JSON; the configuration is TOML: [services.web]".to_owned())
        }
        l if !l.contains('=') && l.contains(": ") || l.trim_end().ends_with(':') => Some(
            "this looks like YAML; the configuration is TOML: name = \"text\" under [services.web]"
                .to_owned(),
        ),
        _ => None,
    };
    ("the file is no valid TOML".to_owned(), message.to_owned(), help)
}

/// Marks what stands in tables named `env`, so that a message about another part of the line does not show it.
pub(crate) fn find_secrets(r: &mut Reader<'_>, table: &DeTable<'_>) {
    for (name, node) in table.iter() {
        match node.get_ref() {
            DeValue::Table(t) if name.get_ref() == "env" => {
                for value in t.values() {
                    let at = r.at(value.span());
                    r.secret(at);
                }
            }
            DeValue::Table(t) => find_secrets(r, t),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => {}
        }
    }
}
