//! Bytes into lines of bounded length.

use keepwell_sdk::wire::LogLine;

use super::{NOTE, WINDOW};

/// Puts lines together from pieces. Holds at most [`WINDOW`] bytes.
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
}

/// A line, or a piece of one that is too long or not finished.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Piece<'a> {
    /// Without its newline.
    pub(super) bytes: &'a [u8],
    /// The line goes on.
    pub(super) partial: bool,
}

impl Lines {
    /// Takes `bytes` in and gives each line that they end, in order.
    pub(super) fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Piece<'_>)) {
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            match part.strip_suffix(b"\n") {
                Some(line) if self.begun.is_empty() && line.len() <= WINDOW => {
                    each(Piece { bytes: line, partial: false });
                }
                Some(end) => {
                    self.hold(end, &mut each);
                    each(Piece { bytes: &self.begun, partial: false });
                    self.begun = Vec::new();
                }
                None => self.hold(part, &mut each),
            }
        }
    }

    /// What has begun and not ended.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.begun)
    }

    fn hold(&mut self, mut bytes: &[u8], each: &mut impl FnMut(Piece<'_>)) {
        while self.begun.len() + bytes.len() > WINDOW {
            let (head, rest) = bytes.split_at(WINDOW - self.begun.len());
            self.begun.extend_from_slice(head);
            bytes = rest;
            let cut = whole_characters(&self.begun);
            each(Piece { bytes: &self.begun[..cut], partial: true });
            self.begun.drain(..cut);
        }
        self.begun.extend_from_slice(bytes);
    }
}

/// How much of `bytes` does not end within a character.
fn whole_characters(bytes: &[u8]) -> usize {
    let last = bytes.len().saturating_sub(4);
    match bytes[last..].utf8_chunks().last() {
        // Bytes that can never become a character are cut as they come.
        Some(chunk) if !chunk.invalid().is_empty() => match std::str::from_utf8(chunk.invalid()) {
            Err(e) if e.error_len().is_none() => bytes.len() - chunk.invalid().len(),
            Ok(_) | Err(_) => bytes.len(),
        },
        Some(_) | None => bytes.len(),
    }
}

/// A piece as it is shown.
pub(super) fn shown(service: &str, stream: usize, piece: Piece<'_>) -> LogLine {
    let note = piece.bytes.strip_prefix(NOTE.as_bytes());
    LogLine {
        service: service.to_owned(),
        stream: if stream == 0 { "out" } else { "err" }.to_owned(),
        line: String::from_utf8_lossy(note.unwrap_or(piece.bytes)).into_owned(),
        partial: piece.partial,
        note: note.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> (Vec<(String, bool)>, Vec<u8>) {
        let (mut lines, mut got) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.feed(piece, |p| got.push((String::from_utf8_lossy(p.bytes).into_owned(), p.partial)));
        }
        (got, lines.rest())
    }

    #[test]
    fn pieces_become_lines() {
        let (got, rest) = lines(&[b"one\ntw", b"", b"o\n\n", b"three"]);
        let texts: Vec<&str> = got.iter().map(|(t, _)| t.as_str()).collect();
        assert_eq!(texts, ["one", "two", ""]);
        assert!(got.iter().all(|(_, partial)| !partial));
        assert_eq!(rest, b"three");
    }

    #[test]
    fn a_line_too_long_comes_in_pieces_that_lose_nothing() {
        let long = "ä€𝄞x".repeat(30_000);
        for step in [1, 1000, WINDOW, long.len()] {
            let chunks: Vec<&[u8]> = long.as_bytes().chunks(step).chain([b"\nnext\n".as_slice()]).collect();
            let (got, rest) = lines(&chunks);
            let (next, pieces) = got.split_last().unwrap();
            assert_eq!(next.0, "next");
            assert_eq!(pieces.iter().map(|(t, _)| t.as_str()).collect::<String>(), long);
            let (last, cut) = pieces.split_last().unwrap();
            assert!(cut.len() >= 4 && cut.iter().all(|(_, partial)| *partial) && !last.1 && rest.is_empty());
        }
    }

    #[test]
    fn nonsense_is_cut_as_it_comes() {
        let (got, rest) = lines(&[&vec![0xff; 3 * WINDOW + 10], b"\n"]);
        assert_eq!(got.iter().filter(|(_, partial)| *partial).count(), 3);
        assert!(rest.is_empty());
        assert_eq!(whole_characters(b"ab\xf0\x9d"), 2);
        assert_eq!(whole_characters(b"ab\x9d\x9d"), 4);
        assert_eq!(whole_characters(b""), 0);
    }

    #[test]
    fn notes_are_known_by_their_beginning() {
        let note = shown("web", 1, Piece { bytes: b"[keepwell] 3 bytes were dropped", partial: false });
        assert_eq!(
            (note.note, note.line.as_str(), note.stream.as_str()),
            (true, "3 bytes were dropped", "err")
        );
        assert!(!shown("web", 0, Piece { bytes: b"hello", partial: false }).note);
    }
}
