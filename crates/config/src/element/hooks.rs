//! `hooks = { pre_start = "./prepare", post_stop = { command = […], timeout = "5s" } }`.

use std::borrow::Cow;

use toml::de::DeValue;

use super::command::CommandText;
use super::duration::Span;
use crate::read::{
    Draft, Element, Key, Located, Node, Reader, Table, no_hint, plain_table, schema_of, table,
};

table! {
    /// A program around a service's life. Short: the command alone.
    RawHook {
        /// The program: a list, or a string that is split as a shell would.
        command: CommandText = "needed", live;
        /// After this it is killed and has failed.
        timeout: Span = "`\"30s\"`", live;
        /// A failure is told and changes nothing.
        may_fail: bool = "false", live;
    }
}

impl Element for RawHook {
    fn what() -> Cow<'static, str> {
        "a hook".into()
    }
    fn syntax() -> Cow<'static, str> {
        "a command (\"./prepare --fast\" or [\"./prepare\", \"--fast\"]) or a table ({ command = \"./prepare\", \
         timeout = \"30s\", may_fail = false })"
            .into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::String(_) | DeValue::Array(_) => {
                let value = CommandText::read(r, node, key)?;
                Some(Self { command: Some(Located { value, at: r.at(node.span()) }), ..Self::default() })
            }
            DeValue::Table(t) => {
                let hook = Self::read_table(r, t, key, no_hint);
                if !t.contains_key("command") {
                    let d = Draft::error(
                        "missing-key",
                        r.at(node.span()),
                        format!("`command` is missing in {key}"),
                    );
                    r.push(d.label("a hook needs a program").help(Self::syntax()));
                    return None;
                }
                Some(hook)
            }
            _ => r.wrong_type(node, key),
        }
    }
    fn inherit(&mut self, defaults: &Self) {
        self.inherit_table(defaults);
    }
}
schema_of!(RawHook, |generator| schemars::json_schema!({ "anyOf": [
    generator.subschema_for::<CommandText>(), Self::table_schema(generator)
] }));

table! {
    /// Programs around a service's life. Each runs with the service's own environment, folder and user.
    RawHooks {
        /// Before the program; a failure fails the start unless it `may_fail`.
        pre_start: RawHook = "none", table;
        /// When it is ready, or runs where there is no check; a failure stops the run unless it `may_fail`.
        post_start: RawHook = "none", table;
        /// Before the first step of `stop`, while the program still runs.
        pre_stop: RawHook = "none", table;
        /// When all its processes are gone, after a stop and after an exit alike.
        post_stop: RawHook = "none", table;
        /// While the service is up, when the host goes to sleep. This and the next three are heard of by a guardian that is a service of Windows.
        on_suspend: RawHook = "none", table;
        /// The same, when the host has woken up.
        on_resume: RawHook = "none", table;
        /// The same, when it changes from mains to battery or back, or its charge does.
        on_power_change: RawHook = "none", table;
        /// The same, when a user's session begins, ends, is locked, unlocked, connected or disconnected.
        on_session: RawHook = "none", table;
    }
}
plain_table!(
    RawHooks,
    "a table of hooks",
    "{ pre_start = \"./prepare\", post_stop = [\"./tidy\", \"--all\"] }"
);
