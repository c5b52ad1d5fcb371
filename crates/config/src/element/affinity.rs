//! The processors that a service may run on: `"0-3,8"`.

use std::borrow::Cow;
use std::fmt;

use toml::de::DeValue;

use crate::read::{Element, Key, Node, Reader, schema_of};

/// Their numbers, each once, in order; at least one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Affinity(pub Box<[u16]>);

/// What `sched_setaffinity(2)` can say in its usual form; Windows can say less.
const MOST: u16 = 1024;

/// What a text means, or why it means nothing.
fn parse(text: &str) -> Result<Affinity, &'static str> {
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<u16>().ok().filter(|n| plain && *n < MOST).ok_or("numbers go from 0 to 1023")
    };
    let mut all = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first.trim())?, number(last.trim())?);
        if last < first {
            return Err("a range goes from the lower number to the higher");
        }
        all.extend(first..=last);
    }
    all.sort_unstable();
    all.dedup();
    Ok(Affinity(all.into()))
}

/// As short as it can be written.
impl fmt::Display for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.0.chunk_by(|a, b| b - a == 1);
        let parts: Vec<String> = rows
            .map(|row| match row {
                [first, .., last] => format!("{first}-{last}"),
                [only] => only.to_string(),
                [] => String::new(),
            })
            .collect();
        write!(f, "\"{}\"", parts.join(","))
    }
}

impl Element for Affinity {
    fn what() -> Cow<'static, str> {
        "numbers of processors".into()
    }
    fn syntax() -> Cow<'static, str> {
        "\"0-3,8\"".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let at = r.at(node.span());
        match node.get_ref() {
            DeValue::String(s) => match parse(s) {
                Ok(affinity) => Some(affinity),
                Err(why) => r.bad(at, key, why),
            },
            DeValue::Integer(_) => {
                let number = r.text(at);
                r.bad(at, key, format!("write \"{number}\""))
            }
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(Affinity, |_generator| schemars::json_schema!({
    "type": "string",
    "pattern": "^ *[0-9]+ *(- *[0-9]+ *)?(, *[0-9]+ *(- *[0-9]+ *)?)*$"
}));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_numbers_and_numbers_ranges() {
        for (text, numbers, short) in [
            ("0", &[0][..], "\"0\""),
            ("0-3,8", &[0, 1, 2, 3, 8], "\"0-3,8\""),
            (" 8 , 1 - 2,2, 0", &[0, 1, 2, 8], "\"0-2,8\""),
            ("1023", &[1023], "\"1023\""),
        ] {
            let affinity = parse(text).unwrap();
            assert_eq!((&*affinity.0, affinity.to_string().as_str()), (numbers, short));
        }
        for text in ["", "a", "1,", "3-1", "-1", "+1", "1024", "1-2-3", "1 2"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
