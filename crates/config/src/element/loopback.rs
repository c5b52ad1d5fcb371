//! Where something of the guardian listens: a port of this host alone, until there is encryption and authentication.

use std::borrow::Cow;
use std::net::SocketAddr;

use toml::de::DeValue;

use crate::read::{Element, Key, Node, Reader, schema_of};

/// A port on this host itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loopback(pub(crate) SocketAddr);

impl Element for Loopback {
    fn what() -> Cow<'static, str> {
        "an address of this host and a port".into()
    }
    fn syntax() -> Cow<'static, str> {
        "\"127.0.0.1:9750\" or \"[::1]:9750\"".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let DeValue::String(text) = node.get_ref() else { return r.wrong_type(node, key) };
        // One name has two addresses on many hosts, and a listener has one.
        let text =
            text.strip_prefix("localhost:").map_or(text.to_string(), |port| format!("127.0.0.1:{port}"));
        let found = text.parse::<SocketAddr>();
        let refusal = match found {
            Ok(at) if !at.ip().is_loopback() => "it is for this host alone: 127.0.0.1 or [::1]",
            Ok(at) if at.port() == 0 => "a port from 1 to 65535: nobody could know which one it is",
            Ok(at) => return Some(Self(at)),
            Err(_) => "an address and a port",
        };
        r.bad(r.at(node.span()), key, refusal)
    }
}
schema_of!(Loopback, |_generator| schemars::json_schema!({ "type": "string", "minLength": 1 }));
