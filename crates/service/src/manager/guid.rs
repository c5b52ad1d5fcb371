//! GUIDs as text, for triggers.

/// Data of a GUID: `Data1`, `Data2`, `Data3`, `Data4`.
pub(crate) type Parts = (u32, u16, u16, [u8; 8]);

/// `1f81d131-3fac-4537-9e0c-7e7b0c2f4b55`, with or without braces.
pub(crate) fn parse(text: &str) -> Option<Parts> {
    let text = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
    let groups: Vec<&str> = text.split('-').collect();
    let [a, b, c, d, e] = groups.as_slice() else { return None };
    if [a, b, c, d, e].map(|g| g.len()) != [8, 4, 4, 4, 12] {
        return None;
    }
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let tail = number(d)? << 48 | number(e)?;
    Some((number(a)? as u32, number(b)? as u16, number(c)? as u16, tail.to_be_bytes()))
}

#[cfg(any(windows, test))]
pub(crate) fn text((a, b, c, d): Parts) -> String {
    let tail = u64::from_be_bytes(d);
    format!("{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", tail >> 48, tail & 0xffff_ffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_read_and_written() {
        let known = "1f81d131-3fac-4537-9e0c-7e7b0c2f4b55";
        let parts = parse(known).unwrap();
        assert_eq!(parts.0, 0x1f81_d131);
        assert_eq!(parts.3, [0x9e, 0x0c, 0x7e, 0x7b, 0x0c, 0x2f, 0x4b, 0x55]);
        assert_eq!(text(parts), known);
        assert_eq!(parse(&format!("{{{known}}}")), Some(parts));
        for wrong in
            ["", "1f81d131", "1f81d131-3fac-4537-9e0c-7e7b0c2f4b5", "1f81d131-3fac-4537-9e0c-7e7b0c2f4bxx"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
