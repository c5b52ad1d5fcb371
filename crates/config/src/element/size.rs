//! `"10MB"`, `"10MiB"`, `"64K"`.

use std::borrow::Cow;
use std::fmt;

use toml::de::DeValue;

use super::duration::decimal;
use crate::read::{Element, Key, Node, Reader, schema_of};

/// A number of bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) u64);

/// As `dd` and `du` read them: a letter alone, and with `iB`, counts in 1024; with `B`, in 1000.
const UNITS: [(&str, u64); 13] = [
    ("B", 1),
    ("K", 1 << 10),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("M", 1 << 20),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("G", 1 << 30),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("T", 1 << 40),
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
];

impl Element for Size {
    fn what() -> Cow<'static, str> {
        "a size".into()
    }
    fn syntax() -> Cow<'static, str> {
        "a size is a number with a unit: \"10MB\" (10 · 1000²), \"10MiB\" or \"10M\" (10 · 1024²), \"64K\", \"2GiB\"".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let at = r.at(node.span());
        match node.get_ref() {
            DeValue::String(s) => match parse(s) {
                Ok(n) => Some(Self(n)),
                Err(why) => r.bad(at, key, why),
            },
            DeValue::Integer(_) | DeValue::Float(_) => {
                let number = r.text(at);
                r.bad(at, key, format!("a bare number has no unit: write \"{number}MB\" or \"{number}B\""))
            }
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(Size, |_generator| schemars::json_schema!({
    "type": "string",
    "pattern": "^\\s*[0-9]+(\\.[0-9]+)?\\s*([KkMmGgTt]([Ii]?[Bb])?|[Bb])\\s*$",
    "examples": ["64K", "10MB", "256MiB", "2GiB"]
}));

/// Reads a size as the configuration and the command line write it: `10MB`, `64K`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("it is empty: write \"10MB\"".to_owned());
    }
    if text.starts_with('-') {
        return Err("a size cannot be negative".to_owned());
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    if number.is_empty() {
        return Err("it does not start with a number".to_owned());
    }
    if unit.is_empty() {
        return Err(format!("`{number}` has no unit: write \"{number}MB\" or \"{number}B\""));
    }
    let Some((_, bytes)) = UNITS.iter().find(|(u, _)| u.eq_ignore_ascii_case(unit)) else {
        return Err(format!("unknown unit `{}`", unit.chars().take(20).collect::<String>()));
    };
    let total = decimal(number, u128::from(*bytes)).ok_or_else(|| format!("`{number}` is no number"))?;
    // Offsets in files are signed.
    let fits = u64::try_from(total).ok().filter(|n| i64::try_from(*n).is_ok());
    fits.ok_or_else(|| "larger than any file can be".to_owned())
}

/// A size as it would be written: `10MB`.
#[derive(Clone, Copy)]
pub(crate) struct Written(pub(crate) u64);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHORTEST: [(&str, u64); 8] = [
            ("TB", 1_000_000_000_000),
            ("TiB", 1 << 40),
            ("GB", 1_000_000_000),
            ("GiB", 1 << 30),
            ("MB", 1_000_000),
            ("MiB", 1 << 20),
            ("KB", 1_000),
            ("KiB", 1 << 10),
        ];
        let whole = |size: &u64| self.0 >= *size && self.0.is_multiple_of(*size);
        match SHORTEST.iter().find(|(_, size)| whole(size)) {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        assert_eq!(parse("10MB"), Ok(10_000_000));
        assert_eq!(parse("10MiB"), Ok(10 << 20));
        assert_eq!(parse("10M"), Ok(10 << 20));
        assert_eq!(parse("64K"), Ok(65_536));
        assert_eq!(parse("64 kb"), Ok(64_000));
        assert_eq!(parse("1.5GiB"), Ok(3 << 29));
        assert_eq!(parse("100B"), Ok(100));
    }

    #[test]
    fn what_is_no_size_says_why() {
        let why = |text| parse(text).unwrap_err();
        assert_eq!(why(""), "it is empty: write \"10MB\"");
        assert_eq!(why("10"), "`10` has no unit: write \"10MB\" or \"10B\"");
        assert_eq!(why("-1MB"), "a size cannot be negative");
        assert_eq!(why("10 apples"), "unknown unit `apples`");
        assert_eq!(why("MB"), "it does not start with a number");
        assert_eq!(why("99999999TB"), "larger than any file can be");
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in ["10MB", "10MiB", "64KiB", "2GiB", "3TB", "7B"] {
            assert_eq!(Written(parse(text).unwrap()).to_string(), text);
        }
    }
}
