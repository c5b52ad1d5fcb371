//! `limits = { memory = "256MB", tasks = 100 }`.

use std::borrow::Cow;
use std::fmt;

use toml::de::DeValue;

use super::cpu::CpuShare;
use super::scalar::Int;
use super::size::{self, Size};
use crate::read::{Element, Key, Node, Reader, plain_table, schema_of, table};

/// A number of bytes, or no bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    /// So many.
    Bytes(u64),
    /// As many as wanted.
    Unlimited,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Bytes(n) => size::Written(*n).fmt(f),
            Bound::Unlimited => f.write_str("unlimited"),
        }
    }
}

impl Element for Bound {
    fn what() -> Cow<'static, str> {
        "a size or \"unlimited\"".into()
    }
    fn syntax() -> Cow<'static, str> {
        "\"0B\", \"100MB\", \"unlimited\"".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let at = r.at(node.span());
        match node.get_ref() {
            DeValue::String(s) if s == "unlimited" => Some(Self::Unlimited),
            DeValue::String(s) => match size::parse(s) {
                Ok(n) => Some(Self::Bytes(n)),
                Err(why) => r.bad(at, key, why),
            },
            DeValue::Integer(_) | DeValue::Float(_) => {
                let number = r.text(at);
                r.bad(at, key, format!("a bare number has no unit: write \"{number}B\""))
            }
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(Bound, |generator| schemars::json_schema!({ "anyOf": [
    { "const": "unlimited" }, generator.subschema_for::<Size>()
] }));

table! {
    /// What a service may use. Cgroups bound it where they can be used, else `setrlimit`; `keepwell status` says which.
    RawLimits {
        /// Open files and sockets of each process.
        nofile: Int<1, 1_073_741_816> = "as keepwell was started with", restart;
        /// The largest core file: a size or `"unlimited"`; `"0B"` writes none.
        core: Bound = "as keepwell was started with", restart;
        /// Memory of the whole tree; beyond it the kernel ends a process.
        memory: Size = "no limit", restart;
        /// Processor time of the whole tree, in percent of one processor (`"50%"`) or in processors (`"1.5"`).
        cpu: CpuShare = "no limit", restart;
        /// Processes and threads of the whole tree.
        tasks: Int<1, 4_194_304> = "no limit", restart;
    }
}
plain_table!(
    RawLimits,
    "a table of limits",
    "{ nofile = 4096, core = \"0B\", memory = \"256MB\", cpu = \"50%\", tasks = 100 }"
);
