//! Addresses of readiness checks, taken apart.

use crate::config::Method;
use crate::http::{HttpExpect, HttpTarget};

/// Takes `http://host:port/path` (or `https`) apart (RFC 9110, 4.2.1; RFC 3986, 3.2).
pub(crate) fn http_target(url: &str) -> Result<HttpTarget, String> {
    let (https, rest) = match url.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        Some(_) | None => return Err("it does not start with http:// or https://".to_owned()),
    };
    if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("an address holds no blanks".to_owned());
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err("a user and password in the address are not sent: take them out".to_owned());
    }
    let (host, port) = host_port(authority)?;
    let path = path.split('#').next().unwrap_or_default();
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok(HttpTarget {
        url: url.to_owned(),
        https,
        host,
        port: port.unwrap_or(if https { 443 } else { 80 }),
        path,
        authority: authority.to_owned(),
        method: Method::Get,
        headers: Vec::new(),
        send: None,
        ca: None,
        identity: None,
        expect: HttpExpect::default(),
    })
}

/// `host`, `host:port`, `[::1]:port`.
pub(crate) fn host_port(text: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("the bracket is not closed")?;
            let port = match after {
                "" => None,
                after => {
                    Some(after.strip_prefix(':').ok_or("after the bracket stands a port: \"[::1]:80\"")?)
                }
            };
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(format!("`{host}` is no IPv6 address"));
            }
            (host, port)
        }
        None => match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return Err("an IPv6 address stands in brackets: \"[::1]:80\"".to_owned());
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err("the host is missing".to_owned());
    }
    if host.contains(|c: char| c.is_whitespace() || c == '/') {
        return Err(format!("`{host}` is no host"));
    }
    let number = |p: &str| match p.parse::<u16>() {
        Ok(n) if n > 0 && !p.starts_with('+') => Ok(n),
        Ok(_) | Err(_) => Err(format!("`{p}` is no port: they go from 1 to 65535")),
    };
    Ok((host.to_owned(), port.map(number).transpose()?))
}
