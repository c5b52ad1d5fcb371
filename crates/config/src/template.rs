//! `${service}`, `${instance}` and names listed in `env`.
//!
//! Two rules, by who sees the text. A command or a hook may be a shell's: what is not ours stays as it is. Everywhere
//! else no shell ever looks, so an unknown `${name}` can only be a mistake.

use std::borrow::Cow;

/// Who might see the text after us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rule {
    /// A shell might: unknown names stay.
    Shell,
    /// Nobody: unknown names are errors.
    Plain,
}

/// A name that is not known, at this byte of the text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Unknown {
    pub(crate) offset: usize,
    /// As written, with its braces.
    pub(crate) written: String,
    /// What stands between them.
    pub(crate) name: String,
}

/// A part of a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part<'t> {
    Text(&'t str),
    /// `$$`.
    Dollar,
    /// `${…}` as written, and what is in it.
    Name {
        written: &'t str,
        name: &'t str,
    },
}

/// Cuts the next part off `rest`. A `${` without its `}` is a name that nobody has: the empty one.
fn next(rest: &str) -> Option<(Part<'_>, &str)> {
    if rest.is_empty() {
        return None;
    }
    let Some(dollar) = rest.find('$') else { return Some((Part::Text(rest), "")) };
    if dollar > 0 {
        return Some((Part::Text(&rest[..dollar]), &rest[dollar..]));
    }
    if let Some(after) = rest.strip_prefix("$$") {
        return Some((Part::Dollar, after));
    }
    if let Some(inner) = rest.strip_prefix("${") {
        let Some(end) = inner.find('}') else { return Some((Part::Name { written: rest, name: "" }, "")) };
        let (written, after) = rest.split_at(end + 3);
        return Some((Part::Name { written, name: &inner[..end] }, after));
    }
    let end = rest[1..].find('$').map_or(rest.len(), |n| n + 1);
    Some((Part::Text(&rest[..end]), &rest[end..]))
}

/// The text with its names filled in. `lookup` gives the value of a name that may stand here.
pub(crate) fn expand<'t, 'v>(
    text: &'t str,
    rule: Rule,
    mut lookup: impl FnMut(&str) -> Option<Cow<'v, str>>,
) -> Result<Cow<'t, str>, Unknown> {
    if !text.contains('$') {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some((part, after)) = next(rest) {
        match part {
            Part::Text(t) => out.push_str(t),
            Part::Dollar => out.push('$'),
            Part::Name { written, name } => match (lookup(name), rule) {
                (Some(value), _) => out.push_str(&value),
                (None, Rule::Shell) => {
                    // `${X:-${service}}`: what stands inside a shell's own braces is read on, not skipped.
                    out.push_str("${");
                    rest = &rest[2..];
                    continue;
                }
                (None, Rule::Plain) => {
                    let offset = text.len() - rest.len();
                    return Err(Unknown { offset, written: written.to_owned(), name: name.to_owned() });
                }
            },
        }
        rest = after;
    }
    Ok(Cow::Owned(out))
}

/// The names that stand in a text, for finding out what a value needs.
pub(crate) fn names(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        while let Some((part, after)) = next(rest) {
            if let Part::Name { name, .. } = part {
                // As `expand` does: within a shell's own braces there may be more of them.
                rest = &rest[2..];
                return Some(name);
            }
            rest = after;
        }
        None
    })
}

/// A `$NAME` without braces, which is never filled in.
pub(crate) fn bare_name(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some((part, after)) = next(rest) {
        if let Part::Text(t) = part
            && let Some(name) = t.strip_prefix('$')
        {
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
            if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                return Some(&name[..end]);
            }
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str, rule: Rule) -> Result<String, Unknown> {
        let lookup = |name: &str| match name {
            "service" => Some("web".into()),
            "instance" => Some("2".into()),
            "PORT" => Some("8080".into()),
            _ => None,
        };
        expand(text, rule, lookup).map(Cow::into_owned)
    }

    #[test]
    fn names_are_filled_in_and_the_rest_survives() {
        let shell = |text| fill(text, Rule::Shell).unwrap();
        assert_eq!(shell("${service}-${instance}:${PORT}"), "web-2:8080");
        assert_eq!(shell("$$ $$$$ $$HOME"), "$ $$ $HOME");
        assert_eq!(
            shell("$HOME $(date) `x` ${X:-y} ${UNLISTED} ${ $"),
            "$HOME $(date) `x` ${X:-y} ${UNLISTED} ${ $"
        );
        assert_eq!(shell("${X:-${service}}"), "${X:-web}");
        assert_eq!(shell("${#a[@]} ${a%%.*}"), "${#a[@]} ${a%%.*}");
        assert_eq!(shell("$$${PORT}"), "$8080");
    }

    #[test]
    fn where_no_shell_looks_an_unknown_name_is_an_error() {
        let wrong = |offset, written: &str, name: &str| {
            Err(Unknown { offset, written: written.to_owned(), name: name.to_owned() })
        };
        assert_eq!(fill("a/${servcie}", Rule::Plain), wrong(2, "${servcie}", "servcie"));
        assert_eq!(fill("a/${service", Rule::Plain), wrong(2, "${service", ""));
        assert_eq!(fill("$$${", Rule::Plain), wrong(2, "${", ""));
        assert_eq!(fill("$HOME/$$", Rule::Plain), Ok("$HOME/$".to_owned()));
    }

    #[test]
    fn bare_names_are_noticed() {
        assert_eq!(bare_name("$HOME/x"), Some("HOME"));
        assert_eq!(bare_name("a$$HOME ${x} $1"), None);
        assert_eq!(bare_name("a$b"), Some("b"));
    }
}
