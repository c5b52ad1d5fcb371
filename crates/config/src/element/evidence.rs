//! `evidence` of `[healing]`: what is looked at before what failed and lives is ended.

use std::borrow::Cow;

use toml::de::DeValue;

use super::duration::Span;
use super::scalar::Int;
use super::size::Size;
use crate::read::{Element, Key, Node, Reader, Table, no_hint, schema_of, table};

table! {
    /// What is looked at before what failed and lives is ended, and how much of it is kept in `evidence` in the state folder.
    EvidenceTable {
        /// The end waits so long for it at most, and goes on without it then.
        timeout: Span = "`\"2s\"`", live;
        /// Lines of output, the last ones.
        lines: Int<0, 100_000> = "100", live;
        /// What is known of one run is cut here.
        size: Size = "`\"256KiB\"`", live;
        /// Of so many runs it is kept, the newest.
        keep: Int<1, 10_000> = "20", live;
        /// And so much in all, dumps included.
        keep_size: Size = "`\"64MiB\"`", live;
        /// The stacks of all threads, by gdb, where it is installed. It stops the process meanwhile.
        stacks: bool = "`false`", live;
        /// A core dump by gcore, where it is installed; on Windows a minidump. Dumps hold what the program had in its memory, secrets too.
        dump: bool = "`false`", live;
    }
}

/// `"off"`, or a table.
#[derive(Clone, Debug)]
pub(crate) enum RawEvidence {
    Off,
    Of(Box<EvidenceTable>),
}

impl Element for RawEvidence {
    fn what() -> Cow<'static, str> {
        "what evidence is".into()
    }
    fn syntax() -> Cow<'static, str> {
        "a table ({ lines = 100, timeout = \"2s\" }) or the string \"off\"".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::String(s) if s == "off" => Some(Self::Off),
            DeValue::String(_) => r.bad(r.at(node.span()), key, "the only word here is \"off\""),
            DeValue::Table(t) => Some(Self::Of(Box::new(EvidenceTable::read_table(r, t, key, no_hint)))),
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(RawEvidence, |generator| schemars::json_schema!({ "anyOf": [
    { "const": "off" }, EvidenceTable::table_schema(generator)
] }));
