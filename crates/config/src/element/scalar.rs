//! Plain values: text, flags, integers in a range, one word of a few.

use std::borrow::Cow;

use toml::de::DeValue;

use crate::read::{Element, Key, Node, Reader, schema_of};

/// An integer from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Int<const MIN: i64, const MAX: i64>(pub(crate) i64);

impl<const MIN: i64, const MAX: i64> Element for Int<MIN, MAX> {
    fn what() -> Cow<'static, str> {
        match MAX {
            i64::MAX => format!("a whole number of at least {MIN}").into(),
            _ => format!("a whole number from {MIN} to {MAX}").into(),
        }
    }
    fn syntax() -> Cow<'static, str> {
        "".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let n = match node.get_ref() {
            DeValue::Integer(n) => n,
            DeValue::String(s) if s.parse::<i64>().is_ok() => {
                return r.bad(r.at(node.span()), key, format!("write {s} without quotes"));
            }
            _ => return r.wrong_type(node, key),
        };
        match i64::from_str_radix(n.as_str(), n.radix()) {
            Ok(n) if (MIN..=MAX).contains(&n) => Some(Self(n)),
            Ok(n) if n < MIN => r.bad(r.at(node.span()), key, format!("at least {MIN}")),
            Ok(_) | Err(_) => r.bad(r.at(node.span()), key, format!("at most {MAX}")),
        }
    }
}

impl<const MIN: i64, const MAX: i64> schemars::JsonSchema for Int<MIN, MAX> {
    fn schema_name() -> Cow<'static, str> {
        format!("Int_{MIN}_{MAX}").into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        match MAX {
            i64::MAX => schemars::json_schema!({ "type": "integer", "minimum": MIN }),
            _ => schemars::json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX }),
        }
    }
}

impl Element for bool {
    fn what() -> Cow<'static, str> {
        "true or false".into()
    }
    fn syntax() -> Cow<'static, str> {
        "written without quotes: true or false".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Boolean(b) => Some(*b),
            _ => r.wrong_type(node, key),
        }
    }
}

/// Text that is not empty.
#[derive(Clone, Debug)]
pub(crate) struct Text(pub(crate) Box<str>);

impl Element for Text {
    fn what() -> Cow<'static, str> {
        "text".into()
    }
    fn syntax() -> Cow<'static, str> {
        "text stands in quotes: \"…\"; in single quotes nothing is an escape: '…'".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let DeValue::String(s) = node.get_ref() else { return r.wrong_type(node, key) };
        if s.is_empty() {
            return r.bad(r.at(node.span()), key, "it is empty");
        }
        no_nul::<Self>(r, node, key, s)?;
        Some(Self(s.as_ref().into()))
    }
}
schema_of!(Text, |_generator| schemars::json_schema!({ "type": "string", "minLength": 1 }));

/// No program can be given a NUL byte: it ends every C string.
pub(crate) fn no_nul<T: Element>(
    r: &mut Reader<'_>,
    node: &Node<'_>,
    key: &Key<'_>,
    text: &str,
) -> Option<()> {
    if text.contains('\0') {
        let _: Option<T> =
            r.bad(r.at(node.span()), key, "it holds a NUL character, which no program can be given");
        return None;
    }
    Some(())
}

/// A path or address in which `${service}`, `${instance}` and names of `env` are filled in.
#[derive(Clone, Debug)]
pub(crate) struct Filled(pub(crate) Box<str>);

impl Element for Filled {
    fn what() -> Cow<'static, str> {
        "text".into()
    }
    fn syntax() -> Cow<'static, str> {
        "text stands in quotes: \"…\"; ${service}, ${instance} and names listed in `env` are filled in".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let DeValue::String(s) = node.get_ref() else { return r.wrong_type(node, key) };
        if s.is_empty() {
            return r.bad(r.at(node.span()), key, "it is empty");
        }
        no_nul::<Self>(r, node, key, s)?;
        Some(Self(s.as_ref().into()))
    }
}
schema_of!(Filled, |_generator| schemars::json_schema!({ "type": "string", "minLength": 1 }));

/// One text, or a list of them.
#[derive(Clone, Debug)]
pub(crate) struct Texts(pub(crate) Box<[Box<str>]>);

impl Element for Texts {
    fn what() -> Cow<'static, str> {
        "text or a list of texts".into()
    }
    fn syntax() -> Cow<'static, str> {
        "one: \"a\"; several: [\"a\", \"b\"]".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::String(_) => Text::read(r, node, key).map(|t| Self([t.0].into())),
            DeValue::Array(_) => {
                list::<Text, Self>(r, node, key).map(|l| Self(l.into_iter().map(|t| t.0).collect()))
            }
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(Texts, |_generator| schemars::json_schema!({ "anyOf": [
    { "type": "string", "minLength": 1 },
    { "type": "array", "items": { "type": "string", "minLength": 1 } }
] }));

/// Reads a list of `T` for an element `Whole`; all errors of its items are told.
pub(crate) fn list<T: Element, Whole: Element>(
    r: &mut Reader<'_>,
    node: &Node<'_>,
    key: &Key<'_>,
) -> Option<Vec<T>> {
    let DeValue::Array(items) = node.get_ref() else {
        let _: Option<Whole> = r.wrong_type(node, key);
        return None;
    };
    let mut all = Vec::with_capacity(items.len());
    let mut whole = true;
    for (i, item) in items.iter().enumerate() {
        match T::read(r, item, &key.child(&format!("[{}]", i + 1))) {
            Some(t) => all.push(t),
            None => whole = false,
        }
    }
    whole.then_some(all)
}

/// One word of a few: the words, and what each means.
macro_rules! choice {
    ($name:ident = $target:ty { $($word:literal => $value:expr),+ $(,)? }) => {
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $name(pub(crate) $target);

        impl $name {
            const WORDS: &'static [&'static str] = &[$($word),+];

            pub(crate) fn word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self($value)),)+
                    _ => None,
                }
            }
        }

        impl $crate::read::Element for $name {
            fn what() -> std::borrow::Cow<'static, str> {
                $crate::element::scalar::one_of(Self::WORDS).into()
            }
            fn syntax() -> std::borrow::Cow<'static, str> {
                "".into()
            }
            fn read(
                r: &mut $crate::read::Reader<'_>,
                node: &$crate::read::Node<'_>,
                key: &$crate::read::Key<'_>,
            ) -> Option<Self> {
                let toml::de::DeValue::String(s) = node.get_ref() else { return r.wrong_type(node, key) };
                let like = $crate::read::nearest(s, Self::WORDS.iter().copied());
                Self::word(s).or_else(|| {
                    let label = like.map_or("unknown word".to_owned(), |w| format!("did you mean \"{w}\"?"));
                    r.bad(r.at(node.span()), key, label)
                })
            }
        }
        $crate::read::schema_of!($name, |_generator| schemars::json_schema!({ "enum": [$($word),+] }));
    };
}

/// `one of "a", "b"`.
pub(crate) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("\"{w}\"")).collect();
    format!("one of {}", quoted.join(", "))
}

pub(crate) use choice;
