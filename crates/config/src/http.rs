//! An HTTP request as the configuration has it, and what its answer must be.

use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::Method;

/// A text that nothing prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Keeps it.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// For the one who needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// What is asked. Texts may hold `${…}`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpRequest {
    /// How it is asked.
    pub method: Method,
    /// `http://host:port/path` or `https://…`.
    pub url: Box<str>,
    /// Sent along.
    pub headers: Box<[(Box<str>, Secret)]>,
    /// The request's body.
    pub send: Option<Secret>,
    /// File of the authorities that are trusted, instead of the system's.
    pub ca: Option<Box<str>>,
    /// File of the certificate that keepwell shows, and of its key.
    pub identity: Option<(Box<str>, Box<str>)>,
}

/// Which answer passes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HttpExpect {
    /// Ranges of statuses, both ends included.
    pub status: Box<[(u16, u16)]>,
    /// Text that its body must hold.
    pub body: Option<Box<str>>,
    /// A regular expression that must match somewhere in its body.
    pub pattern: Option<Box<str>>,
    /// What its body, as JSON, must hold at these places (RFC 6901).
    pub json: Box<[(Box<str>, JsonValue)]>,
}

/// The files of a connection by TLS; absolute.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TlsPaths {
    /// The authorities that are trusted, instead of the system's.
    pub ca: Option<PathBuf>,
    /// A certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A question to the health service of gRPC. Texts may hold `${…}`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrpcAsk {
    /// `host:port` or `https://host:port`.
    pub address: Box<str>,
    /// Whose health; empty: the server's.
    pub service: Box<str>,
    /// File of the authorities that are trusted, instead of the system's.
    pub ca: Option<Box<str>>,
    /// File of the certificate that keepwell shows, and of its key.
    pub identity: Option<(Box<str>, Box<str>)>,
}

/// The same with everything filled in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrpcTarget {
    /// Name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whose health; empty: the server's.
    pub service: String,
    /// Over TLS.
    pub tls: Option<TlsPaths>,
}

/// When a line of output that matches must have come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LineRule {
    /// Since the start.
    Once,
    /// No longer ago than this.
    Within(Duration),
    /// Longer ago than this, or never.
    NotWithin(Duration),
}

/// What stands at a place in JSON.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JsonValue {
    /// A text.
    Text(Box<str>),
    /// A whole number.
    Number(i64),
    /// True or false.
    Bool(bool),
}

impl fmt::Display for JsonValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JsonValue::Text(text) => write!(f, "{text:?}"),
            JsonValue::Number(number) => number.fmt(f),
            JsonValue::Bool(yes) => yes.fmt(f),
        }
    }
}

impl HttpRequest {
    /// All that must not be shown, for a hash.
    pub(crate) fn secrets(&self) -> String {
        let mut all = String::new();
        for (name, value) in &self.headers {
            // No header holds a line's end.
            let _ = writeln!(all, "{name}: {}", value.expose());
        }
        all.push_str(self.send.as_ref().map_or("", Secret::expose));
        all
    }
}

/// As it would be written, without its secrets.
impl fmt::Display for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http = {:?}", self.url)?;
        if self.method != Method::Get {
            write!(f, ", method = \"{}\"", self.method.as_str())?;
        }
        for (n, (name, _)) in self.headers.iter().enumerate() {
            write!(f, "{}{name} = \"(hidden)\"", if n == 0 { ", headers = { " } else { ", " })?;
        }
        if !self.headers.is_empty() {
            f.write_str(" }")?;
        }
        if self.send.is_some() {
            f.write_str(", send = \"(hidden)\"")?;
        }
        if let Some(ca) = &self.ca {
            write!(f, ", ca = {ca:?}")?;
        }
        if let Some((certificate, key)) = &self.identity {
            write!(f, ", certificate = {certificate:?}, key = {key:?}")?;
        }
        Ok(())
    }
}

/// What to ask, with everything filled in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpTarget {
    /// As written.
    pub url: String,
    /// Over TLS.
    pub https: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// That of the scheme if the address has none.
    pub port: u16,
    /// With its query; at least `/`.
    pub path: String,
    /// For the `Host` header.
    pub authority: String,
    /// How it is asked.
    pub method: Method,
    /// Sent along.
    pub headers: Vec<(String, Secret)>,
    /// The request's body.
    pub send: Option<Secret>,
    /// File of the authorities that are trusted; absolute.
    pub ca: Option<PathBuf>,
    /// Files of a certificate and its key; absolute.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Which answer passes.
    pub expect: HttpExpect,
}
