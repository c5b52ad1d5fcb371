//! `guards = [{ when = "memory > 800MB for 2m", then = "restart" }]`.

use std::borrow::Cow;
use std::time::Duration;

use keepwell_core::guard::{Figure, Then};
use toml::de::DeValue;

use super::command::CommandText;
use super::duration::{self, Span};
use super::scalar::{Filled, choice, list};
use super::size;
use crate::read::{Element, Key, Node, Reader, Table, no_hint, plain_table, schema_of, table};

/// What is above what, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct When {
    pub(crate) figure: Figure,
    pub(crate) above: u64,
    pub(crate) lasting: Duration,
}

choice! { ThenWord = Then {
    "alert" => Then::Alert,
    "restart" => Then::Restart,
} }

table! {
    /// A rule on what a service's processes use together.
    RawGuard {
        /// What is too much, and for how long without a break: `memory` or `pss` (a size), `cpu` (percent of one processor), `io` (a size a second), `disk` (a size), `descriptors` (on Windows handles), `threads`, `processes`, on Windows also `gdi_objects` and `user_objects`.
        when: When = "needed", live;
        /// With `disk`: the folder, with all that is below it.
        folder: Filled = "–", live;
        /// What follows. A restart is an ordinary stop and start, of one instance after the other, within `restart.limit`.
        then: ThenWord = "`\"alert\"`", live;
        /// Instead of a word in `then`: a program that runs as a hook does. What it ends with changes nothing.
        exec: CommandText = "–", live;
        /// With `exec`: after this it is killed.
        timeout: Span = "`\"30s\"`", live;
    }
}
plain_table!(RawGuard, "a guard", "{ when = \"memory > 800MB for 2m\", then = \"restart\" }");

/// All rules of a service.
#[derive(Clone, Debug)]
pub(crate) struct RawGuards(pub(crate) Vec<RawGuard>);

/// More rules than figures and steps between them are a mistake.
const MAX_GUARDS: usize = 32;

impl Element for RawGuards {
    fn what() -> Cow<'static, str> {
        "a list of guards".into()
    }
    fn syntax() -> Cow<'static, str> {
        "[{ when = \"memory > 800MB for 2m\", then = \"restart\" }]".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(t) => Some(Self(vec![RawGuard::read_table(r, t, key, no_hint)])),
            DeValue::Array(items) if items.len() > MAX_GUARDS => {
                r.bad(r.at(node.span()), key, format!("at most {MAX_GUARDS} guards"))
            }
            DeValue::Array(_) => list::<RawGuard, Self>(r, node, key).map(Self),
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(RawGuards, |generator| {
    let guard = RawGuard::table_schema(generator);
    schemars::json_schema!({ "anyOf": [guard, { "type": "array", "items": guard, "maxItems": MAX_GUARDS }] })
});

impl Element for When {
    fn what() -> Cow<'static, str> {
        "a condition".into()
    }
    fn syntax() -> Cow<'static, str> {
        "\"memory > 800MB for 2m\", \"cpu > 150% for 5m\", \"io > 50MB/s for 5m\", \"descriptors > 16000\", \"threads > 500\", \"processes > 20\"".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let DeValue::String(text) = node.get_ref() else { return r.wrong_type(node, key) };
        match parse(text) {
            Ok(when) => Some(when),
            Err(why) => r.bad(r.at(node.span()), key, why),
        }
    }
}
schema_of!(When, |_generator| schemars::json_schema!({
    "type": "string",
    "pattern": "^\\s*(memory|pss|cpu|io|disk|descriptors|handles|gdi_objects|user_objects|threads|processes)\\s*>",
    "examples": ["memory > 800MB for 2m", "cpu > 150% for 5m", "descriptors > 16000"]
}));

fn parse(text: &str) -> Result<When, String> {
    let Some((figure, rest)) = text.split_once('>') else {
        return Err("it has no `>`: write \"memory > 800MB for 2m\"".to_owned());
    };
    let figure = match figure.trim() {
        "memory" => Figure::Memory,
        "pss" => Figure::Pss,
        "cpu" => Figure::Cpu,
        "io" => Figure::Io,
        "disk" => Figure::Disk,
        "gdi_objects" => Figure::Gdi,
        "user_objects" => Figure::User,
        "descriptors" | "handles" => Figure::Descriptors,
        "threads" => Figure::Threads,
        "processes" => Figure::Processes,
        other => {
            let other: String = other.chars().take(20).collect();
            return Err(format!(
                "`{other}` is not watched; what is: memory, pss, cpu, io, disk, descriptors, threads, processes, gdi_objects, user_objects"
            ));
        }
    };
    let (bound, lasting) = match rest.split_once(" for") {
        Some((_, lasting)) if lasting.trim().is_empty() => {
            return Err("for how long? write \"for 2m\", or leave \"for\" out".to_owned());
        }
        Some((bound, lasting)) => (bound.trim(), duration::parse(lasting)?),
        None => (rest.trim(), Duration::ZERO),
    };
    let above = match figure {
        Figure::Memory | Figure::Pss | Figure::Disk => size::parse(bound)?,
        Figure::Io => {
            let size = bound.strip_suffix("/s").map(str::trim_end);
            size::parse(size.ok_or("write an amount a second: \"io > 50MB/s\"")?)?
        }
        Figure::Cpu => {
            let number = bound.strip_suffix('%').map(str::trim_end);
            let number = number.ok_or("write a share of one processor: \"cpu > 150%\"")?;
            duration::decimal(number, 10)
                .and_then(|n| u64::try_from(n).ok())
                .ok_or_else(|| format!("`{bound}` is no share"))?
        }
        Figure::Descriptors
        | Figure::DescriptorsOfOne
        | Figure::Gdi
        | Figure::User
        | Figure::Threads
        | Figure::Processes => bound
            .parse()
            .map_err(|_| format!("`{}` is no whole number", bound.chars().take(20).collect::<String>()))?,
    };
    match above {
        0 => Err("any service is above that".to_owned()),
        _ => Ok(When { figure, above, lasting }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_as_people_write_them() {
        let when = |figure, above, seconds| Ok(When { figure, above, lasting: Duration::from_secs(seconds) });
        assert_eq!(parse("memory > 800MB for 2m"), when(Figure::Memory, 800_000_000, 120));
        assert_eq!(parse(" memory>1GiB "), when(Figure::Memory, 1 << 30, 0));
        assert_eq!(parse("cpu > 150 % for 5m"), when(Figure::Cpu, 1_500, 300));
        assert_eq!(parse("cpu > 12.5%"), when(Figure::Cpu, 125, 0));
        assert_eq!(parse("handles > 16000"), parse("descriptors > 16000"));
        assert_eq!(parse("threads > 500 for 1m30s"), when(Figure::Threads, 500, 90));
        assert_eq!(parse("processes > 20"), when(Figure::Processes, 20, 0));
        assert_eq!(parse("pss > 1GB"), when(Figure::Pss, 1_000_000_000, 0));
        assert_eq!(parse("io > 50MB/s for 5m"), when(Figure::Io, 50_000_000, 300));
        assert_eq!(parse("disk > 10GB"), when(Figure::Disk, 10_000_000_000, 0));
        assert_eq!(parse("gdi_objects > 8000"), when(Figure::Gdi, 8_000, 0));
        assert_eq!(parse("user_objects > 8000"), when(Figure::User, 8_000, 0));
    }

    #[test]
    fn what_is_no_condition_says_why() {
        let why = |text| parse(text).unwrap_err();
        assert_eq!(why("memory < 1MB"), "it has no `>`: write \"memory > 800MB for 2m\"");
        assert_eq!(
            why("heat > 90"),
            "`heat` is not watched; what is: memory, pss, cpu, io, disk, descriptors, threads, processes, gdi_objects, user_objects"
        );
        assert_eq!(why("memory > 800"), "`800` has no unit: write \"800MB\" or \"800B\"");
        assert_eq!(why("memory > 800MB for 2"), "`2` has no unit: write \"2s\"");
        assert_eq!(why("cpu > 90% for"), "for how long? write \"for 2m\", or leave \"for\" out");
        assert_eq!(why("cpu > 2"), "write a share of one processor: \"cpu > 150%\"");
        assert_eq!(why("io > 50MB"), "write an amount a second: \"io > 50MB/s\"");
        assert_eq!(why("threads > many"), "`many` is no whole number");
        assert_eq!(why("threads > 0"), "any service is above that");
    }
}
