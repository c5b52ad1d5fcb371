//! Keys of the registry: of this host, or in the file of a `reg export`
//! (<https://learn.microsoft.com/troubleshoot/windows-server/performance/distribute-registry-changes>).

use std::collections::BTreeMap;

use keepwell_service::manager::registry::{SERVICES, StoredKey};

/// By path, in lower case since the registry does not tell cases apart.
pub(super) type Keys = BTreeMap<String, Key>;

/// One key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Key {
    /// As it was written.
    pub(super) path: String,
    /// By name, in lower case; the default value has no name.
    pub(super) values: BTreeMap<String, Entry>,
}

/// A value under its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// As it was written.
    pub(super) name: String,
    pub(super) value: Value,
}

/// What a value can be here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Value {
    /// `REG_SZ`.
    Text(String),
    /// `REG_EXPAND_SZ`: `%NAME%` are to be filled in.
    Expand(String),
    /// `REG_MULTI_SZ`.
    List(Vec<String>),
    /// `REG_DWORD` or `REG_QWORD`.
    Number(u64),
    /// Any other.
    Bytes(Vec<u8>),
}

/// How the bytes of a text are letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Letters {
    /// UTF-16, as Windows has it.
    Wide,
    /// One byte each, as version 4 of the file had it.
    Narrow,
}

impl Key {
    fn new(path: &str) -> Self {
        Key { path: path.to_owned(), values: BTreeMap::new() }
    }

    fn put(&mut self, name: &str, value: Value) {
        self.values.insert(name.to_lowercase(), Entry { name: name.to_owned(), value });
    }
}

/// The keys of a service of this host.
pub(super) fn keys(service: &str, stored: Vec<StoredKey>) -> Keys {
    let mut keys = Keys::new();
    for one in stored {
        let below = if one.below.is_empty() { String::new() } else { format!(r"\{}", one.below) };
        let mut key = Key::new(&format!(r"HKEY_LOCAL_MACHINE\{SERVICES}\{service}{below}"));
        for value in one.values {
            // A number of another length than its kind has is none.
            let read = decoded(value.kind, &value.bytes, Letters::Wide).unwrap_or(Value::Bytes(value.bytes));
            key.put(&value.name, read);
        }
        keys.insert(key.path.to_lowercase(), key);
    }
    keys
}

/// `reg` writes UTF-16 with a mark of its byte order; older ones, and people, write bytes.
pub(super) fn text(bytes: &[u8]) -> String {
    let wide = |read: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes[2..].chunks_exact(2).map(|b| read([b[0], b[1]])).collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes),
        bytes => String::from_utf8_lossy(bytes).trim_start_matches('\u{feff}').to_owned(),
    }
}

/// What is wrong with a file, and in which line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wrong {
    pub(super) line: usize,
    pub(super) why: String,
}

/// Reads the file's text.
///
/// # Errors
/// Says what is wrong.
pub(super) fn parse(text: &str) -> Result<Keys, Wrong> {
    let mut lines = text.lines().enumerate().map(|(i, l)| (i + 1, l)).peekable();
    let header = lines.by_ref().find(|(_, l)| !l.trim().is_empty()).map(|(_, l)| l.trim());
    let letters = match header {
        Some("Windows Registry Editor Version 5.00") => Letters::Wide,
        Some("REGEDIT4") => Letters::Narrow,
        Some(_) | None => {
            let why =
                "it is no export of the registry, which begins with `Windows Registry Editor Version 5.00`";
            return Err(Wrong { line: 1, why: why.into() });
        }
    };
    let (mut keys, mut current) = (Keys::new(), None);
    while let Some((number, first)) = lines.next() {
        let mut line = first.trim_start().to_owned();
        if line.trim_end().is_empty() || line.starts_with(';') {
            continue;
        }
        if let Some(path) = line.trim_end().strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            let lower = path.to_lowercase();
            keys.entry(lower.clone()).or_insert_with(|| Key::new(path));
            current = Some(lower);
            continue;
        }
        while let Some(joint) = unfinished(&line) {
            let Some((_, more)) = lines.next() else { break };
            match joint {
                Joint::Bytes => {
                    line.truncate(line.trim_end().len() - 1);
                    line.push_str(more.trim_start());
                }
                Joint::Text => {
                    line.push('\n');
                    line.push_str(more);
                }
            }
        }
        let wrong = |why: &str| Wrong { line: number, why: why.to_owned() };
        let Some((name, value)) = pair(&line, letters) else {
            let what = if first.trim_start().starts_with('[') {
                "the key has no `]`"
            } else {
                "it is neither a key nor a value"
            };
            return Err(wrong(what));
        };
        let key = current.as_ref().and_then(|c| keys.get_mut(c));
        key.ok_or_else(|| wrong("it is a value without a key"))?.put(&name, value);
    }
    Ok(keys)
}

/// What a line lacks that goes on in the next one.
enum Joint {
    /// More bytes.
    Bytes,
    /// The end of a text.
    Text,
}

fn unfinished(line: &str) -> Option<Joint> {
    let rest = match line.strip_prefix('@') {
        Some(rest) => rest,
        None => string(line)?.1,
    };
    let value = rest.trim_start().strip_prefix('=')?.trim_start();
    if value.starts_with('"') {
        return string(value).is_none().then_some(Joint::Text);
    }
    value.trim_end().ends_with('\\').then_some(Joint::Bytes)
}

fn pair(line: &str, letters: Letters) -> Option<(String, Value)> {
    let (name, rest) = match line.strip_prefix('@') {
        Some(rest) => (String::new(), rest),
        None => string(line)?,
    };
    let rest = rest.trim_start().strip_prefix('=')?.trim();
    Some((name, value(rest, letters)?))
}

/// Text in quotes, and what follows it.
fn string(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix('"')?;
    let (mut out, mut escaped) = (String::new(), false);
    for (i, c) in body.char_indices() {
        match c {
            c if escaped => {
                out.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((out, &body[i + 1..])),
            c => out.push(c),
        }
    }
    None
}

fn value(text: &str, letters: Letters) -> Option<Value> {
    if text.starts_with('"') {
        return string(text).map(|(text, _)| Value::Text(text));
    }
    if let Some(number) = text.strip_prefix("dword:") {
        return u32::from_str_radix(number, 16).ok().map(|n| Value::Number(n.into()));
    }
    let (kind, bytes) = text.split_once(':')?;
    let kind = match kind.strip_prefix("hex")? {
        "" => 3,
        kind => u32::from_str_radix(kind.strip_prefix('(')?.strip_suffix(')')?, 16).ok()?,
    };
    let bytes = bytes.split(',').map(str::trim).filter(|b| !b.is_empty());
    let bytes: Option<Vec<u8>> = bytes.map(|b| u8::from_str_radix(b, 16).ok()).collect();
    decoded(kind, &bytes?, letters)
}

/// By the kinds of <https://learn.microsoft.com/windows/win32/sysinfo/registry-value-types>.
fn decoded(kind: u32, bytes: &[u8], letters: Letters) -> Option<Value> {
    let text = || match letters {
        Letters::Wide => {
            let units: Vec<u16> = bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
            String::from_utf16_lossy(&units)
        }
        Letters::Narrow => String::from_utf8_lossy(bytes).into_owned(),
    };
    // A text may end without its zero, and what follows a zero is none of it.
    let one = || text().split('\0').next().unwrap_or_default().to_owned();
    Some(match kind {
        1 => Value::Text(one()),
        2 => Value::Expand(one()),
        7 => Value::List(text().split('\0').filter(|t| !t.is_empty()).map(str::to_owned).collect()),
        4 => Value::Number(u32::from_le_bytes(bytes.try_into().ok()?).into()),
        11 => Value::Number(u64::from_le_bytes(bytes.try_into().ok()?)),
        _ => Value::Bytes(bytes.to_vec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'k>(keys: &'k Keys, key: &str, name: &str) -> &'k Value {
        &keys[key].values[name].value
    }

    #[test]
    fn an_export_is_read() {
        let text = "Windows Registry Editor Version 5.00\r\n\r\n; mine\r\n[HKEY_LOCAL_MACHINE\\A\\B]\r\n\"Path\"=\"C:\\\\a \\\"b\\\"\"\r\n\"Start\"=dword:0000000a\r\n\"List\"=hex(7):61,00,00,00,\\\r\n  62,00,63,00,00,00,00,00\r\n@=\"default\"\r\n\"Exp\"=hex(2):25,00,41,00,25,00,00,00\r\n\"Bin\"=hex:01,02\r\n\"Two\"=\"one\r\ntwo\\\\\"\r\n\"Long\"=hex(b):01,00,00,00,00,00,00,00\r\n";
        let keys = parse(text).unwrap();
        let key = r"hkey_local_machine\a\b";
        assert_eq!(keys[key].path, r"HKEY_LOCAL_MACHINE\A\B");
        assert_eq!(keys[key].values["path"].name, "Path");
        assert_eq!(value(&keys, key, "path"), &Value::Text("C:\\a \"b\"".into()));
        assert_eq!(value(&keys, key, "start"), &Value::Number(10));
        assert_eq!(value(&keys, key, "list"), &Value::List(vec!["a".into(), "bc".into()]));
        assert_eq!(value(&keys, key, ""), &Value::Text("default".into()));
        assert_eq!(value(&keys, key, "exp"), &Value::Expand("%A%".into()));
        assert_eq!(value(&keys, key, "bin"), &Value::Bytes(vec![1, 2]));
        assert_eq!(value(&keys, key, "two"), &Value::Text("one\ntwo\\".into()));
        assert_eq!(value(&keys, key, "long"), &Value::Number(1));
    }

    #[test]
    fn the_older_file_has_letters_of_one_byte() {
        let keys = parse("REGEDIT4\n[k]\n\"a\"=hex(7):61,62,00,63,00,00\n").unwrap();
        assert_eq!(value(&keys, "k", "a"), &Value::List(vec!["ab".into(), "c".into()]));
    }

    #[test]
    fn both_kinds_of_bytes_are_text() {
        let wide: Vec<u8> =
            [0xff, 0xfe].into_iter().chain("ä".encode_utf16().flat_map(u16::to_le_bytes)).collect();
        assert_eq!(super::text(&wide), "ä");
        assert_eq!(super::text("\u{feff}ä".as_bytes()), "ä");
        assert_eq!(super::text(&[0xff, 0xfe]), "");
    }

    #[test]
    fn the_registry_itself_is_read_alike() {
        use keepwell_service::manager::registry::StoredValue;
        let stored = vec![StoredKey {
            below: "Parameters".into(),
            values: vec![
                StoredValue { name: "A".into(), kind: 1, bytes: vec![0x61, 0, 0, 0] },
                StoredValue { name: "B".into(), kind: 4, bytes: vec![1, 0] },
            ],
        }];
        let keys = keys("Web", stored);
        let key = r"hkey_local_machine\system\currentcontrolset\services\web\parameters";
        assert_eq!(value(&keys, key, "a"), &Value::Text("a".into()));
        assert_eq!(value(&keys, key, "b"), &Value::Bytes(vec![1, 0]));
    }

    #[test]
    fn what_is_no_export_is_refused_by_line() {
        let header = "Windows Registry Editor Version 5.00\n";
        assert_eq!(parse("").unwrap_err().line, 1);
        assert!(parse("[k]").unwrap_err().why.contains("no export"));
        for (wrong, line) in [
            ("\"a\"=\"b\"", 2),
            ("[k]\nrubbish", 3),
            ("[k]\n\n\"a\"=dword:xyz", 4),
            ("[k]\n\"a", 3),
            ("[k]\n\"a\"=\"b", 3),
            ("[k]\n\"a\"=hex(7):zz", 3),
            ("[k]\n\"a\"=odd:1", 3),
            ("[k]\n\"a\"=hex(b):01", 3),
            ("[k", 2),
            ("[k]\n\"a\"=-", 3),
        ] {
            assert_eq!(parse(&format!("{header}{wrong}")).unwrap_err().line, line, "{wrong}");
        }
    }
}
