//! A file of messages: a DLL that holds a message table and nothing else, so that it can be read and never run.
//!
//! Formats: <https://learn.microsoft.com/windows/win32/debug/pe-format> (headers, "The .rsrc Section"), `MESSAGE_RESOURCE_DATA` in
//! winnt.h.

use std::collections::BTreeMap;

/// Messages by id.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MessageTable {
    messages: BTreeMap<u16, String>,
}

/// `RT_MESSAGETABLE`.
const KIND: u32 = 11;
/// Neutral English is what a viewer falls back to, whatever language its user has.
const LANGUAGE: u32 = 0x409;
/// Of the section, in memory.
const ADDRESS: u32 = 0x1000;
/// What sections are aligned to, in the file; the headers take one such piece.
const PIECE: usize = 0x200;
/// The flag of an entry whose text has 16 bits a character.
const WIDE: u16 = 1;

impl MessageTable {
    /// Without messages.
    #[must_use]
    pub fn new() -> MessageTable {
        MessageTable::default()
    }

    /// Adds a message, or another text for one. `%1`, `%2`, … stand for the texts of an event, `%%` for a percent sign
    /// (FormatMessage).
    #[must_use]
    pub fn message(mut self, id: u16, text: impl Into<String>) -> MessageTable {
        self.messages.insert(id, text.into());
        self
    }

    /// The ids and their texts.
    pub fn messages(&self) -> impl Iterator<Item = (u16, &str)> {
        self.messages.iter().map(|(id, text)| (*id, text.as_str()))
    }

    /// The bytes of the DLL. The same messages give the same bytes.
    #[must_use]
    pub fn to_dll(&self) -> Vec<u8> {
        let section = section(&self.table());
        let raw = section.len().next_multiple_of(PIECE);
        let mut file = headers(section.len() as u32, raw as u32);
        file.resize(PIECE, 0);
        file.extend(&section);
        file.resize(PIECE + raw, 0);
        file
    }

    /// `MESSAGE_RESOURCE_DATA`: a block for each row of ids without a gap, then the entries.
    fn table(&self) -> Vec<u8> {
        let mut rows: Vec<(u16, u16)> = Vec::new();
        for id in self.messages.keys() {
            match rows.last_mut() {
                Some((_, last)) if id - *last == 1 => *last = *id,
                _ => rows.push((*id, *id)),
            }
        }
        let mut blocks = Bytes::default();
        let mut entries = Bytes::default();
        let begin = 4 + 12 * rows.len();
        blocks.u32(rows.len() as u32);
        for (first, last) in rows {
            blocks.u32(first.into());
            blocks.u32(last.into());
            blocks.u32((begin + entries.0.len()) as u32);
            for text in self.messages.range(first..=last).map(|(_, text)| text) {
                // Messages end with a line end, as those that Windows' own tools make do.
                let mut wide: Vec<u16> = text.encode_utf16().take(LONGEST).chain([13, 10, 0]).collect();
                wide.resize(wide.len().next_multiple_of(2), 0);
                entries.u16(4 + 2 * wide.len() as u16);
                entries.u16(WIDE);
                wide.into_iter().for_each(|c| entries.u16(c));
            }
        }
        blocks.0.extend(entries.0);
        blocks.0
    }
}

/// An entry says its length in 16 bits of bytes.
const LONGEST: usize = 32_000;

/// The section: three levels of folders with one thing in each (kind, name, language), where the data are, and the data.
fn section(data: &[u8]) -> Vec<u8> {
    const FOLDER: u32 = 24;
    const INNER: u32 = 0x8000_0000;
    let mut out = Bytes::default();
    for (id, next) in [(KIND, INNER | FOLDER), (1, INNER | (2 * FOLDER)), (LANGUAGE, 3 * FOLDER)] {
        out.u32(0);
        out.u32(0);
        out.u32(0);
        out.u16(0);
        out.u16(1);
        out.u32(id);
        out.u32(next);
    }
    out.u32(ADDRESS + 3 * FOLDER + 16);
    out.u32(data.len() as u32);
    out.u32(0);
    out.u32(0);
    out.0.extend(data);
    out.0
}

/// The old header, the new one, and that of the one section.
fn headers(size: u32, raw: u32) -> Vec<u8> {
    const NEW: u32 = 0x40;
    const OPTIONAL: u16 = 112 + 16 * 8;
    let mut out = Bytes::default();
    out.0.extend(b"MZ");
    out.0.resize(0x3c, 0);
    out.u32(NEW);
    out.0.extend(b"PE\0\0");
    // For x86-64, which no viewer looks at: it maps the file as data. No time, so that the same messages give the same file.
    out.u16(0x8664);
    out.u16(1);
    out.u32(0);
    out.u32(0);
    out.u32(0);
    out.u16(OPTIONAL);
    // A DLL, loaded anywhere.
    out.u16(0x2022);
    // PE32+: no code, no entry point.
    out.u16(0x20b);
    out.u16(0);
    [0, raw, 0, 0, 0].into_iter().for_each(|n| out.u32(n));
    out.u64(0x1_8000_0000);
    out.u32(ADDRESS);
    out.u32(PIECE as u32);
    // Versions: of the system (6.0), of the image, of the subsystem (6.0), and a zero.
    [6, 0, 0, 0, 6, 0, 0, 0].into_iter().for_each(|n| out.u16(n));
    out.u32(ADDRESS + size.next_multiple_of(ADDRESS));
    out.u32(PIECE as u32);
    out.u32(0);
    // Of the graphical subsystem, as all DLLs without code are; no execution of data, any address.
    out.u16(2);
    out.u16(0x140);
    [0x10_0000, 0x1000, 0x10_0000, 0x1000].into_iter().for_each(|n| out.u64(n));
    out.u32(0);
    out.u32(16);
    for place in 0..16 {
        let resources = place == 2;
        out.u32(if resources { ADDRESS } else { 0 });
        out.u32(if resources { size } else { 0 });
    }
    out.0.extend(b".rsrc\0\0\0");
    [size, ADDRESS, raw, PIECE as u32, 0, 0, 0].into_iter().for_each(|n| out.u32(n));
    // Initialised data, to be read.
    out.u32(0x4000_0040);
    out.0
}

/// Numbers in the order of bytes that Windows has.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u16(&mut self, n: u16) {
        self.0.extend(n.to_le_bytes());
    }

    fn u32(&mut self, n: u32) {
        self.0.extend(n.to_le_bytes());
    }

    fn u64(&mut self, n: u64) {
        self.0.extend(n.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8], at: usize, len: usize) -> usize {
        bytes[at..at + len].iter().rev().fold(0, |n, b| n << 8 | usize::from(*b))
    }

    /// The messages of a DLL, found as a loader does: through its headers, its one section, and the folders in that.
    fn read(dll: &[u8]) -> Vec<(usize, String)> {
        assert_eq!(&dll[..2], b"MZ");
        let new = number(dll, 0x3c, 4);
        assert_eq!(&dll[new..new + 4], b"PE\0\0");
        assert_eq!(number(dll, new + 6, 2), 1, "one section");
        let (optional, length) = (new + 24, number(dll, new + 20, 2));
        assert_eq!(number(dll, optional, 2), 0x20b);
        assert_eq!(number(dll, optional + 16, 4), 0, "nothing to run");
        let header = optional + length;
        let (address, raw) = (number(dll, header + 12, 4), number(dll, header + 20, 4));
        assert!(raw + number(dll, header + 16, 4) <= dll.len());
        assert_eq!(number(dll, optional + 112 + 2 * 8, 4), address, "the resources are the section");
        let section = &dll[raw..];
        let inner = |folder: usize, id: usize| {
            assert_eq!((number(section, folder + 12, 2), number(section, folder + 14, 2)), (0, 1));
            assert_eq!(number(section, folder + 16, 4), id);
            number(section, folder + 20, 4) & 0x7fff_ffff
        };
        let data = inner(inner(inner(0, 11), 1), 0x409);
        let begin = number(section, data, 4) - address;
        let table = &section[begin..begin + number(section, data + 4, 4)];
        let mut all = Vec::new();
        for block in 0..number(table, 0, 4) {
            let block = 4 + 12 * block;
            let mut at = number(table, block + 8, 4);
            for id in number(table, block, 4)..=number(table, block + 4, 4) {
                assert_eq!((at % 4, number(table, at + 2, 2)), (0, 1));
                let length = number(table, at, 2);
                let wide: Vec<u16> =
                    (at + 4..at + length).step_by(2).map(|at| number(table, at, 2) as u16).collect();
                all.push((id, String::from_utf16(&wide).unwrap().trim_end_matches('\0').to_owned()));
                at += length;
            }
        }
        all
    }

    #[test]
    fn what_is_written_can_be_read() {
        let table = MessageTable::new()
            .message(3, "three")
            .message(1, "%1 is one")
            .message(2, "zwei: ü 世界")
            .message(700, "");
        let expected = [(1, "%1 is one\r\n"), (2, "zwei: ü 世界\r\n"), (3, "three\r\n"), (700, "\r\n")];
        assert_eq!(read(&table.to_dll()), expected.map(|(id, text)| (id, text.to_owned())));
        assert_eq!(table.to_dll(), table.clone().to_dll());
        assert_eq!(table.messages().count(), 4);
    }

    #[test]
    fn a_table_of_any_size_is_a_whole_file() {
        assert_eq!(read(&MessageTable::new().to_dll()), []);
        let long = "x".repeat(40_000);
        let table =
            (0..200).fold(MessageTable::new(), |table, id| table.message(id * 3, format!("{id} {long}")));
        let dll = table.to_dll();
        assert_eq!(dll.len() % PIECE, 0);
        let all = read(&dll);
        assert_eq!((all.len(), all[199].1.len()), (200, LONGEST + 2));
    }
}
