//! `["net_bind_service"]`. Names and numbers: capabilities(7), linux/capability.h.

use std::borrow::Cow;

use toml::de::DeValue;

use super::scalar::list;
use crate::read::{Element, Key, Node, Reader, nearest, schema_of};

/// In the order of their numbers, which count from 0.
pub(crate) const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

#[derive(Clone, Copy, Debug)]
struct Capability(u8);

impl Element for Capability {
    fn what() -> Cow<'static, str> {
        "a capability".into()
    }
    fn syntax() -> Cow<'static, str> {
        "a capability is written by its name, with or without CAP_: \"net_bind_service\"; man 7 capabilities lists them"
            .into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let DeValue::String(s) = node.get_ref() else { return r.wrong_type(node, key) };
        let lower = s.to_ascii_lowercase();
        let bare = lower.strip_prefix("cap_").unwrap_or(&lower);
        let number = NAMES.iter().position(|n| *n == bare).and_then(|n| u8::try_from(n).ok());
        number.map(Self).or_else(|| {
            let like = nearest(bare, NAMES.iter().copied());
            let label = like.map_or("unknown capability".to_owned(), |n| format!("did you mean \"{n}\"?"));
            r.bad(r.at(node.span()), key, label)
        })
    }
}

/// What a service may do beyond its user, sorted, each once.
#[derive(Clone, Debug)]
pub(crate) struct Capabilities(pub(crate) Box<[u8]>);

impl Element for Capabilities {
    fn what() -> Cow<'static, str> {
        "a list of capabilities".into()
    }
    fn syntax() -> Cow<'static, str> {
        "a list of names: [\"net_bind_service\"]; [] drops all".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let mut all: Vec<u8> = list::<Capability, Self>(r, node, key)?.into_iter().map(|c| c.0).collect();
        all.sort_unstable();
        all.dedup();
        Some(Self(all.into()))
    }
}
schema_of!(Capabilities, |_generator| schemars::json_schema!({
    "type": "array", "items": { "type": "string", "examples": NAMES.as_slice() }
}));
