//! `restart = "on-failure"`, or a table of the policy's numbers.

use std::borrow::Cow;

use keepwell_core::spec::{OnCrashLoop, Policy};
use toml::de::DeValue;

use super::cpu::Percent;
use super::duration::Span;
use super::scalar::{Int, choice, list};
use crate::read::{Element, Key, Located, Node, Reader, Table, no_hint, plain_table, schema_of, table};

choice! { PolicyWord = Policy {
    "always" => Policy::Always,
    "on-failure" => Policy::OnFailure,
    "never" => Policy::Never,
} }

choice! { OnCrashLoopWord = OnCrashLoop {
    "retry" => OnCrashLoop::Retry,
    "give_up" => OnCrashLoop::GiveUp,
} }

table! {
    /// When and how a program that ended is started again. Short: `restart = "on-failure"` sets the policy alone.
    RawRestart {
        /// Which ends are followed by a restart: `"always"`, `"on-failure"` or `"never"`.
        policy: PolicyWord = "`\"always\"`; `\"never\"` for a oneshot", live;
        /// Delay of the first restart in a row, doubled each time; `"0s"` restarts at once. The first crash after a healthy spell restarts at once in any case.
        delay: Span = "`\"1s\"`", live;
        /// The doubling stops here.
        max_delay: Span = "`\"60s\"`, or `delay` if that is longer", live;
        /// By how much a delay is moved at random, either way, so that many services do not restart in step.
        jitter: Percent = "`\"25%\"`", live;
        /// The count of restarts in a row starts anew after this long in health.
        reset_after: Span = "`\"60s\"`", live;
        /// More restarts than `max` within `window` are a crash loop, and so are `max` attempts in a row that never became healthy; `"off"` for no bound.
        limit: RawLimit = "`{ max = 5, window = \"60s\" }`", table;
        /// Beyond the limit: `"retry"` tries on, ever more slowly up to every 5 minutes; `"give_up"` leaves it until an operator or a new configuration.
        on_crash_loop: OnCrashLoopWord = "`\"retry\"`", live;
        /// What the program's exit codes mean.
        exit_codes: RawExitCodes = "see below", table;
    }
}

impl Element for RawRestart {
    fn what() -> Cow<'static, str> {
        "a restart policy".into()
    }
    fn syntax() -> Cow<'static, str> {
        "a string (\"always\", \"on-failure\" or \"never\") or a table ({ policy = \"always\", delay = \"1s\", \
         max_delay = \"60s\" })"
            .into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::String(_) => {
                let policy = PolicyWord::read(r, node, key)?;
                Some(Self {
                    policy: Some(Located { value: policy, at: r.at(node.span()) }),
                    ..Self::default()
                })
            }
            DeValue::Table(t) => Some(Self::read_table(r, t, key, no_hint)),
            _ => r.wrong_type(node, key),
        }
    }
    fn inherit(&mut self, defaults: &Self) {
        self.inherit_table(defaults);
    }
}
schema_of!(RawRestart, |generator| schemars::json_schema!({ "anyOf": [
    generator.subschema_for::<PolicyWord>(), Self::table_schema(generator)
] }));

table! {
    /// How many restarts are too many.
    LimitTable {
        /// Restarts.
        max: Int<1, 1_000_000> = "5", live;
        /// A sliding window.
        window: Span = "`\"60s\"`", live;
    }
}

/// `"off"`, or a table.
#[derive(Clone, Debug)]
pub(crate) enum RawLimit {
    Off,
    Of(LimitTable),
}

impl Element for RawLimit {
    fn what() -> Cow<'static, str> {
        "a restart limit".into()
    }
    fn syntax() -> Cow<'static, str> {
        "a table ({ max = 5, window = \"60s\" }) or the string \"off\"".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let at = r.at(node.span());
        match node.get_ref() {
            DeValue::String(s) if s == "off" => Some(Self::Off),
            DeValue::String(_) => r.bad(at, key, "the only word here is \"off\""),
            DeValue::Integer(_) => {
                let number = r.text(at);
                r.bad(at, key, format!("within which time? write {{ max = {number}, window = \"60s\" }}"))
            }
            DeValue::Table(t) => Some(Self::Of(LimitTable::read_table(r, t, key, no_hint))),
            _ => r.wrong_type(node, key),
        }
    }
    fn inherit(&mut self, defaults: &Self) {
        if let (Self::Of(own), Self::Of(shared)) = (self, defaults) {
            own.inherit_table(shared);
        }
    }
}
schema_of!(RawLimit, |generator| schemars::json_schema!({ "anyOf": [
    { "const": "off" }, LimitTable::table_schema(generator)
] }));

table! {
    /// Exit codes by meaning; a code in none of these lists is `retry`.
    RawExitCodes {
        /// It ended well.
        success: Codes = "`[0]`", live;
        /// It ended badly, and another try may help.
        retry: Codes = "`[]`", live;
        /// No try helps until the configuration or the program file changes.
        config_error: Codes = "`[78]` (`EX_CONFIG` of sysexits.h)", live;
        /// No try helps: it is given up at once.
        fatal: Codes = "`[]`", live;
    }
}
plain_table!(
    RawExitCodes,
    "a table of exit codes",
    "{ success = [0], retry = [], config_error = [78], fatal = [] }"
);

/// A list of exit codes.
#[derive(Clone, Debug)]
pub(crate) struct Codes(pub(crate) Vec<i32>);

impl Element for Codes {
    fn what() -> Cow<'static, str> {
        "a list of exit codes".into()
    }
    fn syntax() -> Cow<'static, str> {
        "a list of numbers from 0 to 255: [0, 3]".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let codes = list::<Int<0, 255>, Self>(r, node, key)?;
        let mut codes: Vec<i32> = codes.into_iter().filter_map(|c| i32::try_from(c.0).ok()).collect();
        codes.sort_unstable();
        codes.dedup();
        Some(Self(codes))
    }
}
schema_of!(Codes, |generator| schemars::json_schema!({
    "type": "array", "items": generator.subschema_for::<Int<0, 255>>()
}));
