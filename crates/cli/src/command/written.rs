//! Pieces of the configurations that commands write.

/// Text that stays as it is: `$` would begin a name to fill in.
pub(crate) fn literal(text: &str) -> String {
    quoted(&text.replace('$', "$$"))
}

/// A basic string (<https://toml.io/en/v1.0.0#string>).
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Bare where it may be (<https://toml.io/en/v1.0.0#keys>).
pub(crate) fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { quoted(name) }
}

/// The lines of `ready` and `env`, of those that there are.
pub(crate) fn ready_and_env(ready: Option<&str>, env: &[(String, String)]) -> String {
    let mut text = ready.map(|ready| format!("ready = {}\n", literal(ready))).unwrap_or_default();
    if !env.is_empty() {
        let vars: Vec<String> = env.iter().map(|(k, v)| format!("{} = {}", key(k), literal(v))).collect();
        text += &format!("env = {{ {} }}\n", vars.join(", "));
    }
    text
}
