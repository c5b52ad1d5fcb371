//! `"10s"`, `"1m30s"`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use toml::de::DeValue;

use crate::read::{Element, Key, Node, Reader, schema_of};

/// A span of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span(pub(crate) Duration);

/// A century; what is longer is a slip of the keys, and arithmetic on it could overflow.
const LONGEST: u128 = 36_500 * 86_400 * 1_000_000_000;

const UNITS: [(&str, u128); 6] = [
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

impl Element for Span {
    fn what() -> Cow<'static, str> {
        "a duration".into()
    }
    fn syntax() -> Cow<'static, str> {
        "a duration is a number with a unit (ms, s, m, h, d): \"200ms\", \"10s\", \"1m30s\", \"2h\", \"1d\""
            .into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let at = r.at(node.span());
        match node.get_ref() {
            DeValue::String(s) => match parse(s) {
                Ok(d) => Some(Self(d)),
                Err(why) => r.bad(at, key, why),
            },
            DeValue::Integer(_) | DeValue::Float(_) => {
                let number = r.text(at);
                r.bad(at, key, format!("a bare number has no unit: write \"{number}s\""))
            }
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(Span, |_generator| schemars::json_schema!({
    "type": "string",
    "pattern": "^\\s*([0-9]+(\\.[0-9]+)?\\s*(ms|s|min|m|h|d)\\s*)+$",
    "examples": ["200ms", "10s", "1m30s", "2h", "1d"]
}));

/// Reads a duration as the configuration and the command line write it: `200ms`, `1m30s`, `2h`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("it is empty: write \"10s\"".to_owned());
    }
    if rest.starts_with('-') {
        return Err("a duration cannot be negative".to_owned());
    }
    let mut total: u128 = 0;
    let mut smallest = u128::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        if number.is_empty() {
            let word: String = after.chars().take_while(|c| !c.is_whitespace()).take(20).collect();
            return Err(format!("`{word}` does not start with a number"));
        }
        let after = after.trim_start();
        let letters = after.find(|c: char| c.is_ascii_digit() || c.is_whitespace()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        if unit.is_empty() {
            return Err(format!("`{number}` has no unit: write \"{}s\"", text.trim()));
        }
        let Some((_, nanos)) = UNITS.iter().find(|(u, _)| *u == unit) else {
            return Err(format!("unknown unit `{}`", unit.chars().take(20).collect::<String>()));
        };
        if *nanos >= smallest {
            return Err(format!("`{unit}` comes after a unit that is not larger"));
        }
        smallest = *nanos;
        let part = decimal(number, *nanos).ok_or_else(|| format!("`{number}` is no number"))?;
        total = total.saturating_add(part);
        rest = after.trim_start();
    }
    if total > LONGEST {
        return Err("longer than a century".to_owned());
    }
    let (secs, nanos) = (total / 1_000_000_000, total % 1_000_000_000);
    Ok(Duration::new(u64::try_from(secs).unwrap_or(0), u32::try_from(nanos).unwrap_or(0)))
}

/// `1.5` of `unit`, without floats; `None` for what is no number. Beyond nine decimals is noise.
pub(crate) fn decimal(number: &str, unit: u128) -> Option<u128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || part.is_empty() || part.len() > 9 || whole.len() > 18 {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(part.len()).ok()?);
    let whole: u128 = whole.parse().ok()?;
    let part: u128 = part.parse().ok()?;
    whole.checked_mul(unit)?.checked_add(part.checked_mul(unit)? / scale)
}

/// A duration as it would be written: `1m30s`. What `parse` reads back as the same.
#[derive(Clone, Copy)]
pub(crate) struct Written(pub(crate) Duration);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ms = self.0.as_millis();
        if ms == 0 {
            let sub = self.0.as_nanos();
            return if sub == 0 { f.write_str("0s") } else { write!(f, "0.{sub:06}ms") };
        }
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            if ms >= size {
                write!(f, "{}{unit}", ms / size)?;
                ms %= size;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_people_write_them() {
        let ms = |text| parse(text).map(|d| d.as_millis());
        assert_eq!(ms("200ms"), Ok(200));
        assert_eq!(ms("10s"), Ok(10_000));
        assert_eq!(ms("1m30s"), Ok(90_000));
        assert_eq!(ms("1 min 30 s"), Ok(90_000));
        assert_eq!(ms("2h"), Ok(7_200_000));
        assert_eq!(ms("1d"), Ok(86_400_000));
        assert_eq!(ms("1.5s"), Ok(1_500));
        assert_eq!(ms("0s"), Ok(0));
    }

    #[test]
    fn what_is_no_duration_says_why() {
        let why = |text| parse(text).unwrap_err();
        assert_eq!(why(""), "it is empty: write \"10s\"");
        assert_eq!(why("10"), "`10` has no unit: write \"10s\"");
        assert_eq!(why("-5s"), "a duration cannot be negative");
        assert_eq!(why("10 parsecs"), "unknown unit `parsecs`");
        assert_eq!(why("30s1m"), "`m` comes after a unit that is not larger");
        assert_eq!(why("1s 1s"), "`s` comes after a unit that is not larger");
        assert_eq!(why("soon"), "`soon` does not start with a number");
        assert_eq!(why("1.2.3s"), "`1.2.3` is no number");
        assert_eq!(why("99999999d"), "longer than a century");
        assert_eq!(why("999999999999999999999999d"), "`999999999999999999999999` is no number");
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in ["0s", "200ms", "1s500ms", "1m30s", "2h", "1d", "1d1h1m1s1ms"] {
            assert_eq!(Written(parse(text).unwrap()).to_string(), text);
        }
        assert_eq!(parse(&Written(Duration::from_micros(250)).to_string()), Ok(Duration::from_micros(250)));
    }
}
