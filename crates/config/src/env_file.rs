//! `env_file`: read at each start, so that a changed file counts from the next one.

use std::collections::BTreeMap;
use std::fs;

use crate::config::{Context, ServiceConfig};
use crate::diagnostic::Diagnostic;
use crate::element::env::reserved;
use crate::resolve::Filler;
use crate::source::words;
use crate::template::Rule;

impl ServiceConfig {
    pub(crate) fn read_env_file(
        &self,
        instance: u16,
        cx: &Context,
    ) -> Result<BTreeMap<String, String>, Diagnostic> {
        let Some(text) = &self.env_file else { return Ok(BTreeMap::new()) };
        let filler = Filler::new(&self.name, instance, &self.env, cx);
        let failed =
            |why: String| Diagnostic::error("env-file", format!("services.{}: env_file {why}", self.name));
        let path = match filler.fill(text, Rule::Plain) {
            Ok(path) => cx.base.join(path.as_ref()),
            Err(t) => return Err(failed(t.words())),
        };
        let content = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) => {
                return Err(
                    failed(format!("{} cannot be read: {}", path.display(), words(&path, &e))).in_file(path)
                );
            }
        };
        let Ok(content) = String::from_utf8(content) else {
            return Err(failed(format!("{} is not UTF-8", path.display())).in_file(path));
        };
        env_lines(&content).map_err(|(line, why)| {
            let mut d = failed(format!("{}:{line}: {why}", path.display()))
                .in_file(path)
                .help("a line is NAME=value, NAME=\"value\" or NAME='value'; `#` starts a comment");
            d.line = line;
            d
        })
    }
}

/// `NAME=value` lines; an error names its line and never the value.
fn env_lines(content: &str) -> Result<BTreeMap<String, String>, (u32, String)> {
    let mut all = BTreeMap::new();
    for (number, line) in (1..).zip(content.trim_start_matches('\u{feff}').lines()) {
        let line = line.trim();
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |why: String| (number, why);
        let (name, value) = line.split_once('=').ok_or_else(|| wrong("a line without `=`".to_owned()))?;
        let (name, value) = (name.trim_end(), value.trim_start());
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(wrong("a line whose name is empty or holds a blank".to_owned()));
        }
        if reserved(name) {
            return Err(wrong(format!("`{name}` is set by keepwell and cannot be set")));
        }
        if value.contains('\0') {
            return Err(wrong(format!("`{name}` holds a NUL character")));
        }
        let value = match value.chars().next() {
            Some(q @ ('"' | '\'')) => {
                let inner = value[1..].strip_suffix(q);
                let inner = inner
                    .ok_or_else(|| wrong(format!("the quote of `{name}` is not closed at the line's end")))?;
                if q == '"' { unescape(inner) } else { inner.to_owned() }
            }
            _ => value.to_owned(),
        };
        all.insert(name.to_owned(), value);
    }
    Ok(all)
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some(c @ ('\\' | '"' | '$' | '`')) => out.push(c),
                Some(c) => out.extend(['\\', c]),
                None => out.push('\\'),
            },
            (c, false) => out.push(c),
        }
    }
    out
}
