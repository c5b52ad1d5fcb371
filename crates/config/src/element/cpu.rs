//! Shares: `"25%"` of a delay, `"50%"` or `"1.5"` of a processor.

use std::borrow::Cow;
use std::fmt;

use toml::de::DeValue;

use super::duration::decimal;
use crate::read::{Element, Key, Node, Reader, schema_of};

/// 0 to 100 percent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Percent(pub(crate) u8);

impl Element for Percent {
    fn what() -> Cow<'static, str> {
        "a percentage".into()
    }
    fn syntax() -> Cow<'static, str> {
        "a percentage is a whole number from 0 to 100 with its sign: \"25%\"".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let at = r.at(node.span());
        match node.get_ref() {
            DeValue::String(s) => {
                let number = s.trim().strip_suffix('%').map(str::trim_end);
                match number.map(str::parse::<u8>) {
                    Some(Ok(n)) if n <= 100 => Some(Self(n)),
                    Some(_) => r.bad(at, key, "not from 0 to 100"),
                    None => r.bad(at, key, "the sign is missing: write \"25%\""),
                }
            }
            DeValue::Integer(_) | DeValue::Float(_) => {
                let number = r.text(at);
                r.bad(at, key, format!("write \"{number}%\""))
            }
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(Percent, |_generator| schemars::json_schema!({
    "type": "string", "pattern": "^\\s*[0-9]{1,3}\\s*%\\s*$", "examples": ["25%"]
}));

/// A share of processor time, in thousandths of one processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuShare(pub u32);

impl Element for CpuShare {
    fn what() -> Cow<'static, str> {
        "a share of processor time".into()
    }
    fn syntax() -> Cow<'static, str> {
        "in percent of one processor, or in processors: \"50%\", \"150%\", \"1.5\"".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let at = r.at(node.span());
        match node.get_ref() {
            DeValue::String(s) => match share(s.trim()) {
                Ok(n) => Some(Self(n)),
                Err(why) => r.bad(at, key, why),
            },
            DeValue::Integer(_) | DeValue::Float(_) => {
                let number = r.text(at);
                r.bad(at, key, format!("write \"{number}%\", or \"{number}\" for processors"))
            }
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(CpuShare, |_generator| schemars::json_schema!({
    "type": "string", "pattern": "^\\s*[0-9]+(\\.[0-9]+)?\\s*%?\\s*$", "examples": ["50%", "1.5"]
}));

fn share(text: &str) -> Result<u32, String> {
    if text.starts_with('-') {
        return Err("a share cannot be negative".to_owned());
    }
    let (number, unit) = match text.strip_suffix('%') {
        Some(number) => (number.trim_end(), 10),
        None => (text, 1000),
    };
    let thousandths = decimal(number, unit).ok_or_else(|| format!("`{number}` is no number"))?;
    match u32::try_from(thousandths) {
        // The kernel's quota is at least 1 ms of 100 ms (Documentation/admin-guide/cgroup-v2.rst, cpu.max).
        Ok(0..10) => Err("less than 1%, the least that the kernel can give".to_owned()),
        Ok(n) if n <= 10_000_000 => Ok(n),
        Ok(_) | Err(_) => Err("more processors than any host has".to_owned()),
    }
}

impl fmt::Display for CpuShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 10 {
            0 => write!(f, "{}%", self.0 / 10),
            tenth => write!(f, "{}.{tenth}%", self.0 / 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_in_percent_and_in_processors() {
        assert_eq!(share("50%"), Ok(500));
        assert_eq!(share("150 %"), Ok(1500));
        assert_eq!(share("1.5"), Ok(1500));
        assert_eq!(share("0.5%"), Err("less than 1%, the least that the kernel can give".to_owned()));
        assert_eq!(share("all"), Err("`all` is no number".to_owned()));
        assert_eq!(share("-1"), Err("a share cannot be negative".to_owned()));
        assert_eq!(CpuShare(1500).to_string(), "150%");
        assert_eq!(CpuShare(1505).to_string(), "150.5%");
    }
}
