//! Walks a parsed TOML tree and collects every error on the way, each with its place. Elements (the modules of
//! `element`) say what a value may be; `table!` makes the tables of them, so that reading, merging with `[defaults]`,
//! the schema and the reference all come from one definition.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use schemars::Schema;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, de::DeString};

use crate::diagnostic::{Diagnostic, Diagnostics, Place, Severity};
use crate::keys::Class;
use crate::source::Source;

pub(crate) type Node<'a> = Spanned<DeValue<'a>>;
pub(crate) type Name<'a> = Spanned<DeString<'a>>;

/// Bytes `start..end` of the file with this number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct At {
    pub(crate) file: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) at: At,
}

/// A value's path: `services.web.restart`.
#[derive(Clone, Copy)]
pub(crate) struct Key<'p> {
    parent: Option<&'p Key<'p>>,
    name: &'p str,
}

impl<'p> Key<'p> {
    pub(crate) const ROOT: Key<'static> = Key { parent: None, name: "" };

    pub(crate) fn child(&'p self, name: &'p str) -> Key<'p> {
        Key { parent: Some(self), name }
    }

    /// `` `max_delay` in services.web.restart ``.
    pub(crate) fn in_words(&self) -> String {
        match self.parent {
            Some(parent) if self.name.starts_with('[') => {
                format!("item {} of {parent}", self.name.trim_matches(['[', ']']))
            }
            Some(parent) if !parent.is_root() => format!("`{}` in {parent}", self.name),
            _ => format!("`{}`", self.name),
        }
    }

    pub(crate) fn is_root(&self) -> bool {
        self.parent.is_none()
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent.filter(|p| !p.is_root()) {
            write!(f, "{parent}")?;
            if !self.name.starts_with('[') {
                f.write_str(".")?;
            }
        }
        let bare = |c: char| c.is_ascii_alphanumeric() || "_-[]".contains(c);
        if self.name.chars().all(bare) { f.write_str(self.name) } else { write!(f, "{:?}", self.name) }
    }
}

/// Something that a value of the configuration may be.
pub(crate) trait Element: Sized + Clone {
    /// With its article: `a duration`.
    fn what() -> Cow<'static, str>;
    /// How it is written, for the help under an error.
    fn syntax() -> Cow<'static, str>;
    /// The value, or `None` after an error was reported.
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self>;
    /// Takes over from `[defaults]` what this value leaves open.
    fn inherit(&mut self, _defaults: &Self) {}
}

/// An error that is being told; `Reader::push` takes it.
pub(crate) struct Draft {
    code: &'static str,
    severity: Severity,
    at: At,
    message: String,
    label: Option<String>,
    help: Option<String>,
    related: Vec<(At, String)>,
}

impl Draft {
    pub(crate) fn error(code: &'static str, at: At, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, severity: Severity::Error, at, message, label: None, help: None, related: vec![] }
    }

    pub(crate) fn warning(code: &'static str, at: At, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, at, message) }
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        let help = help.into();
        self.help = Some(help).filter(|h| !h.is_empty());
        self
    }

    pub(crate) fn also(mut self, at: At, label: impl Into<String>) -> Self {
        self.related.push((at, label.into()));
        self
    }
}

/// So many findings are kept; a file with more is broken as a whole.
const MAX_FINDINGS: usize = 500;

/// The state of one `load`.
pub(crate) struct Reader<'s> {
    pub(crate) sources: &'s [Source],
    /// Index in `sources` of the file being walked.
    pub(crate) file: u32,
    drafts: Vec<Draft>,
    errors: usize,
    /// Findings of `push_once`.
    told: BTreeSet<(At, &'static str)>,
    /// Offsets at which the lines of each file start; made when first needed.
    lines: Vec<Vec<u32>>,
    /// Values that no message may show.
    secrets: Vec<At>,
}

impl<'s> Reader<'s> {
    pub(crate) fn new(sources: &'s [Source]) -> Self {
        let lines = vec![vec![]; sources.len()];
        Self { sources, file: 0, drafts: vec![], errors: 0, told: BTreeSet::new(), lines, secrets: vec![] }
    }

    pub(crate) fn push(&mut self, draft: Draft) {
        self.errors += usize::from(draft.severity == Severity::Error);
        if self.drafts.len() < MAX_FINDINGS {
            self.drafts.push(draft);
        }
    }

    /// Tells a finding about a value that many services may have from `[defaults]`: the first of them tells it.
    pub(crate) fn push_once(&mut self, draft: Draft) {
        if self.told.insert((draft.at, draft.code)) {
            self.push(draft);
        } else {
            self.errors += usize::from(draft.severity == Severity::Error);
        }
    }

    /// How many errors there were so far; a table that raised it is not looked at further.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    pub(crate) fn at(&self, span: std::ops::Range<usize>) -> At {
        // `read_sources` takes no file beyond 16 MiB; text from elsewhere loses the place, not the message.
        let offset = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        At { file: self.file, start: offset(span.start), end: offset(span.end) }
    }

    pub(crate) fn secret(&mut self, at: At) {
        self.secrets.push(at);
    }

    /// The bytes at a place, as written.
    pub(crate) fn text(&self, at: At) -> &'s str {
        let text = self.sources.get(at.file as usize).map(|s| s.text.as_str());
        text.and_then(|t| t.get(at.start as usize..at.end as usize)).unwrap_or_default()
    }

    /// Reports a value of another type than `T`.
    pub(crate) fn wrong_type<T: Element>(&mut self, node: &Node<'_>, key: &Key<'_>) -> Option<T> {
        let found = found(node.get_ref());
        let draft = Draft::error(
            "wrong-type",
            self.at(node.span()),
            format!("{} must be {}", key.in_words(), T::what()),
        );
        self.push(draft.label(format!("found {found}")).help(T::syntax()));
        None
    }

    /// Reports a value of the right type that does not read as a `T`; `label` says what is wrong, or what to write.
    pub(crate) fn bad<T: Element>(&mut self, at: At, key: &Key<'_>, label: impl Into<String>) -> Option<T> {
        let draft = Draft::error("bad-value", at, format!("{} must be {}", key.in_words(), T::what()));
        self.push(draft.label(label).help(T::syntax()));
        None
    }

    /// Reads one field of a table.
    pub(crate) fn field<T: Element>(
        &mut self,
        name: &Name<'_>,
        node: &Node<'_>,
        key: &Key<'_>,
    ) -> Option<Located<T>> {
        let value = T::read(self, node, &key.child(name.get_ref()))?;
        Some(Located { value, at: self.at(node.span()) })
    }

    /// Reports a key that this table does not have.
    pub(crate) fn unknown_key(
        &mut self,
        name: &Name<'_>,
        key: &Key<'_>,
        known: &[&str],
        hint: Option<String>,
    ) {
        let at = self.at(name.span());
        let place = if key.is_root() { String::new() } else { format!(" in {key}") };
        let mut draft = Draft::error("unknown-key", at, format!("unknown key `{}`{place}", name.get_ref()));
        if let Some(hint) = hint {
            draft = draft.label(hint);
        } else if let Some(like) = nearest(name.get_ref(), known.iter().copied()) {
            draft = draft.label(format!("did you mean `{like}`?"));
        }
        let help = if key.parent.is_some_and(|p| p.name == "services") {
            "keys of a service: keepwell schema services".to_owned()
        } else {
            format!("keys here: {}", known.join(", "))
        };
        self.push(draft.help(help));
    }

    fn line_starts(&mut self, file: usize) -> &[u32] {
        let (Some(starts), Some(source)) = (self.lines.get_mut(file), self.sources.get(file)) else {
            return &[];
        };
        if starts.is_empty() {
            let ends = source.text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
            starts.push(0);
            starts.extend(ends.map(|(i, _)| u32::try_from(i + 1).unwrap_or(u32::MAX)));
        }
        starts
    }

    /// Where `at` is, for people.
    pub(crate) fn place(&mut self, at: At, label: Option<String>) -> Place {
        let file = at.file as usize;
        let starts = self.line_starts(file);
        let line = starts.partition_point(|s| *s <= at.start).max(1);
        let begin = starts.get(line - 1).copied().unwrap_or(0) as usize;
        let Some(source) = self.sources.get(file) else {
            return Place {
                file: "".into(),
                line: 0,
                column: 0,
                width: 1,
                span: 0..0,
                source_line: String::new(),
                cut: 0,
                label,
            };
        };
        let text = &source.text;
        let begin = if text[begin..].starts_with('\u{feff}') { begin + 3 } else { begin };
        let end = text[begin..].find('\n').map_or(text.len(), |n| begin + n);
        let whole = text[begin..end].trim_end_matches('\r');
        let floor = |n: usize| (0..=n.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        let (from, to) = (floor(at.start as usize).max(begin), floor(at.end as usize));
        let count = |s: &str| u32::try_from(s.chars().count()).unwrap_or(u32::MAX);
        let column = count(&text[begin..from.max(begin)]) + 1;
        let width = count(&text[from..to.clamp(from, (begin + whole.len()).max(from))]).max(1);
        let masked = self.mask(file, begin, whole);
        // A line of a megabyte is shown around its place.
        let cut = if column > 140 { column - 60 } else { 0 };
        let source_line = masked.chars().skip(cut as usize).take(200).collect();
        Place {
            file: source.path.clone(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column,
            width,
            span: at.start as usize..at.end as usize,
            source_line,
            cut,
            label,
        }
    }

    fn mask(&self, file: usize, begin: usize, line: &str) -> String {
        let hidden = |i: usize| {
            let inside = |s: &At| (s.start as usize..s.end as usize).contains(&(begin + i));
            self.secrets.iter().any(|s| s.file as usize == file && inside(s))
        };
        // Quotes and blanks stay, so that the line still reads as TOML.
        line.char_indices().map(|(i, c)| if hidden(i) && !"\"' ".contains(c) { '*' } else { c }).collect()
    }

    /// All findings in the order of their places: errors and warnings.
    pub(crate) fn finish(mut self) -> (Diagnostics, Vec<Diagnostic>) {
        let mut drafts = std::mem::take(&mut self.drafts);
        drafts.sort_by_key(|d| d.at);
        let mut errors = vec![];
        let mut warnings = vec![];
        for d in drafts {
            let place = self.place(d.at, d.label);
            let related = d.related.into_iter().map(|(at, label)| self.place(at, Some(label))).collect();
            let made = Diagnostic {
                severity: d.severity,
                help: d.help,
                related,
                ..Diagnostic::error(d.code, d.message)
            };
            let list = if d.severity == Severity::Error { &mut errors } else { &mut warnings };
            list.push(made.at(place));
        }
        (Diagnostics(errors), warnings)
    }
}

/// A value's type in words, with its article.
pub(crate) fn found(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The name that was probably meant, if one is near.
pub(crate) fn nearest<'n>(wrong: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let lower = wrong.to_lowercase().replace('-', "_");
    let score = |name: &str| strsim::damerau_levenshtein(&lower, &name.to_lowercase().replace('-', "_"));
    let (distance, name) = names.map(|n| (score(n), n)).min_by_key(|(d, _)| *d)?;
    // A third of the letters may be wrong; with more, the guess would be a guess.
    (distance <= (lower.chars().count().max(name.chars().count()) / 3).max(1)).then_some(name)
}

/// One key of a table, as the schema and the reference show it.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static [&'static str],
    /// Its type in words.
    pub(crate) what: fn() -> Cow<'static, str>,
    pub(crate) default: &'static str,
    /// `None`: a table whose keys differ.
    pub(crate) class: Option<Class>,
    pub(crate) schema: fn(&mut schemars::SchemaGenerator) -> Schema,
}

/// A table of the configuration, made by `table!`.
pub(crate) trait Table: Sized + Default + Clone {
    const FIELDS: &'static [Field];
    const NAMES: &'static [&'static str];
    fn read_table(r: &mut Reader<'_>, table: &DeTable<'_>, key: &Key<'_>, hint: Hint) -> Self;
    fn inherit_table(&mut self, defaults: &Self);

    /// The table's schema, closed: unknown keys are errors.
    fn table_schema(generator: &mut schemars::SchemaGenerator) -> Schema {
        let mut properties = serde_json::Map::new();
        for field in Self::FIELDS {
            let mut schema = (field.schema)(generator);
            let doc = field.doc.iter().map(|l| l.trim()).collect::<Vec<_>>().join(" ");
            schema.insert("description".to_owned(), doc.into());
            properties.insert(field.name.to_owned(), schema.into());
        }
        schemars::json_schema!({ "type": "object", "properties": properties, "additionalProperties": false })
    }
}

/// What to say of an unknown key instead of the nearest name: where it belongs, or what it is called here.
pub(crate) type Hint = fn(&str, &DeValue<'_>) -> Option<String>;

pub(crate) fn no_hint(_: &str, _: &DeValue<'_>) -> Option<String> {
    None
}

macro_rules! class {
    (live) => {
        Some($crate::keys::Class::Live)
    };
    (restart) => {
        Some($crate::keys::Class::Restart)
    };
    (table) => {
        None
    };
}

/// A table: `key: Type = "its default in words", live|restart|table;`.
macro_rules! table {
    ($(#[doc = $doc:literal])* $name:ident { $( $(#[doc = $fdoc:literal])* $field:ident : $ty:ty = $default:literal, $class:ident; )* }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, Default)]
        pub(crate) struct $name {
            $( pub(crate) $field: Option<$crate::read::Located<$ty>>, )*
            /// Keys that are written, and wrong: absent here, but not missing.
            pub(crate) bad: Vec<&'static str>,
        }

        impl $crate::read::Table for $name {
            const NAMES: &'static [&'static str] = &[$(stringify!($field)),*];
            const FIELDS: &'static [$crate::read::Field] = &[$( $crate::read::Field {
                name: stringify!($field),
                doc: &[$($fdoc),*],
                what: <$ty as $crate::read::Element>::what,
                default: $default,
                class: $crate::read::class!($class),
                schema: |generator| generator.subschema_for::<$ty>(),
            } ),*];

            fn read_table(
                r: &mut $crate::read::Reader<'_>,
                table: &toml::de::DeTable<'_>,
                key: &$crate::read::Key<'_>,
                hint: $crate::read::Hint,
            ) -> Self {
                let mut this = Self::default();
                for (name, node) in table.iter() {
                    match name.get_ref().as_ref() {
                        $( stringify!($field) => {
                            this.$field = r.field(name, node, key);
                            if this.$field.is_none() {
                                this.bad.push(stringify!($field));
                            }
                        } )*
                        other => {
                            let hint = hint(other, node.get_ref());
                            r.unknown_key(name, key, Self::NAMES, hint);
                        }
                    }
                }
                this
            }

            fn inherit_table(&mut self, defaults: &Self) {
                $( match (&mut self.$field, &defaults.$field) {
                    (Some(own), Some(shared)) => $crate::read::Element::inherit(&mut own.value, &shared.value),
                    (own @ None, Some(shared)) => *own = Some(shared.clone()),
                    (_, None) => {}
                } )*
                self.bad.extend(&defaults.bad);
            }
        }
    };
}

/// Makes a `table!` an element that is written only as a table.
macro_rules! plain_table {
    ($name:ident, $what:literal, $syntax:literal) => {
        impl $crate::read::Element for $name {
            fn what() -> std::borrow::Cow<'static, str> {
                $what.into()
            }
            fn syntax() -> std::borrow::Cow<'static, str> {
                $syntax.into()
            }
            fn read(
                r: &mut $crate::read::Reader<'_>,
                node: &$crate::read::Node<'_>,
                key: &$crate::read::Key<'_>,
            ) -> Option<Self> {
                match node.get_ref() {
                    toml::de::DeValue::Table(t) => {
                        Some($crate::read::Table::read_table(r, t, key, $crate::read::no_hint))
                    }
                    _ => r.wrong_type(node, key),
                }
            }
            fn inherit(&mut self, defaults: &Self) {
                $crate::read::Table::inherit_table(self, defaults);
            }
        }
        $crate::read::schema_of!($name, |generator| <$name as $crate::read::Table>::table_schema(generator));
    };
}

/// The schema of an element by an expression.
macro_rules! schema_of {
    ($name:ty, |$generator:ident| $schema:expr) => {
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema($generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $schema
            }
        }
    };
}

pub(crate) use {class, plain_table, schema_of, table};
