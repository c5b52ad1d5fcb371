//! Who a service runs as, and the mask of the files that it makes.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use toml::de::DeValue;

use crate::read::{Element, Key, Node, Reader, schema_of};

/// A user or a group, as it was written; looked up when a process is started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Account {
    /// By name.
    Name(Arc<str>),
    /// By number.
    Id(u32),
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Account::Name(name) => write!(f, "\"{name}\""),
            Account::Id(id) => write!(f, "{id}"),
        }
    }
}

impl Element for Account {
    fn what() -> Cow<'static, str> {
        "a name or a number".into()
    }
    fn syntax() -> Cow<'static, str> {
        "by name: \"www-data\"; by number: 33".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let at = r.at(node.span());
        match node.get_ref() {
            DeValue::String(s) if s.is_empty() => r.bad(at, key, "it is empty"),
            DeValue::String(s) if s.contains(|c: char| c.is_control() || c == ':' || c == '/') => {
                r.bad(at, key, "no name holds a colon, a slash or a control character")
            }
            DeValue::String(s) if s.bytes().all(|b| b.is_ascii_digit()) => {
                r.bad(at, key, format!("a number is written without quotes: {s}"))
            }
            DeValue::String(s) => Some(Self::Name(s.as_ref().into())),
            // The kernel takes the largest one, -1, as "leave it" (setresuid(2)).
            DeValue::Integer(n) => match u32::from_str_radix(n.as_str(), n.radix()) {
                Ok(id) if id != u32::MAX => Some(Self::Id(id)),
                Ok(_) | Err(_) => r.bad(at, key, "numbers go from 0 to 4294967294"),
            },
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(Account, |_generator| schemars::json_schema!({ "anyOf": [
    { "type": "string", "minLength": 1 },
    { "type": "integer", "minimum": 0, "maximum": 4_294_967_294_u32 }
] }));

/// Permission bits that new files do not get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Umask(pub(crate) u32);

impl Element for Umask {
    fn what() -> Cow<'static, str> {
        "a mask in octal digits".into()
    }
    fn syntax() -> Cow<'static, str> {
        "three octal digits in quotes: \"022\"".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let at = r.at(node.span());
        match node.get_ref() {
            DeValue::String(s) => {
                let octal = (1..=4).contains(&s.len()) && s.bytes().all(|b| (b'0'..=b'7').contains(&b));
                match u32::from_str_radix(s, 8) {
                    Ok(mask) if octal && mask <= 0o777 => Some(Self(mask)),
                    Ok(_) | Err(_) => r.bad(at, key, "not from \"000\" to \"777\""),
                }
            }
            DeValue::Integer(_) => {
                let number = r.text(at);
                let digits = number.strip_prefix("0o").unwrap_or(number);
                r.bad(at, key, format!("write \"{digits:0>3}\""))
            }
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(Umask, |_generator| schemars::json_schema!({
    "type": "string", "pattern": "^0?[0-7]{1,3}$", "examples": ["022", "077"]
}));
