//! What is wrong with a configuration, where, and what would be right. Made by `read::Reader`; printed by `render`.

use std::ops::Range;
use std::path::PathBuf;

use serde::Serialize;

/// Whether a configuration with it can be accepted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The configuration is rejected.
    Error,
    /// It is accepted, but probably not what was meant.
    Warning,
}

/// A place in a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Place {
    /// As it was given to `read_sources`.
    pub file: PathBuf,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// How many characters of the line it covers, at least 1.
    pub width: u32,
    /// Byte offsets in the file.
    pub span: Range<usize>,
    /// The line's text; values of `env` are masked, and long lines cut.
    pub source_line: String,
    /// Characters cut from the line's start.
    pub cut: u32,
    /// Said under the place.
    pub label: Option<String>,
}

/// One finding.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Diagnostic {
    /// Stable, for machines: `unknown-key`.
    pub code: &'static str,
    /// How bad.
    pub severity: Severity,
    /// What is wrong, with the key's path in words.
    pub message: String,
    /// The file, if it is about one.
    pub file: Option<PathBuf>,
    /// From 1; 0 without a place.
    pub line: u32,
    /// From 1, in characters; 0 without a place.
    pub column: u32,
    /// Byte offsets in the file.
    pub span: Option<Range<usize>>,
    /// What would be right, or what exactly is wrong at the place.
    pub label: Option<String>,
    /// How the thing is written, or what to do next.
    pub help: Option<String>,
    /// The line's text; values of `env` are masked, and long lines cut.
    pub source_line: Option<String>,
    /// The place itself, for the drawing.
    #[serde(skip)]
    pub place: Option<Place>,
    /// Other places that belong to it: the first definition of a service that is defined twice.
    pub related: Vec<Place>,
}

impl Diagnostic {
    /// An error that is about no place in a file of the configuration.
    #[must_use]
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            file: None,
            line: 0,
            column: 0,
            span: None,
            label: None,
            help: None,
            source_line: None,
            place: None,
            related: vec![],
        }
    }

    /// The file that it is about.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// How the thing is written, or what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn at(mut self, place: Place) -> Self {
        self.file = Some(place.file.clone());
        self.line = place.line;
        self.column = place.column;
        self.span = Some(place.span.clone());
        self.source_line = Some(place.source_line.clone());
        self.label.clone_from(&place.label);
        self.place = Some(place);
        self
    }
}

/// All findings, in the order of their places.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// How many of them are errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.0.iter().filter(|d| d.severity == Severity::Error).count()
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(d: Diagnostic) -> Self {
        Self(vec![d])
    }
}

impl std::fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(false, false))
    }
}

impl std::error::Error for Diagnostics {}
