//! Server-sent events out of bytes that come in pieces (WHATWG HTML, 9.2).

/// A block larger than this is none of a guardian's.
const LARGEST: usize = 4 << 20;

/// One block.
#[derive(PartialEq, Eq, Debug, Default)]
pub(super) struct Block {
    pub(super) id: Option<String>,
    /// Empty: the block only tells a position.
    pub(super) data: String,
}

/// What has come and is not yet a whole block.
#[derive(Default)]
pub(super) struct Parser {
    bytes: Vec<u8>,
    /// Up to here there is no end of a block.
    searched: usize,
}

impl Parser {
    /// False when this cannot be a stream of ours.
    pub(super) fn push(&mut self, piece: &[u8]) -> bool {
        self.bytes.extend_from_slice(piece);
        self.bytes.len() <= LARGEST
    }

    /// The next whole block that says something.
    pub(super) fn next(&mut self) -> Option<Block> {
        loop {
            let from = self.searched.saturating_sub(1);
            let Some(at) = self.bytes[from..].windows(2).position(|w| w == b"\n\n") else {
                self.searched = self.bytes.len();
                return None;
            };
            let rest = self.bytes.split_off(from + at + 2);
            let block = parse(&String::from_utf8_lossy(&self.bytes));
            self.bytes = rest;
            self.searched = 0;
            if block != Block::default() {
                return Some(block);
            }
        }
    }
}

fn parse(text: &str) -> Block {
    let mut block = Block::default();
    for line in text.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => block.id = Some(value.to_owned()),
            "data" => {
                if !block.data.is_empty() {
                    block.data.push('\n');
                }
                block.data.push_str(value);
            }
            // Comments have an empty field; kinds of events are in their data too.
            _ => {}
        }
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(id: Option<&str>, data: &str) -> Block {
        Block { id: id.map(str::to_owned), data: data.to_owned() }
    }

    #[test]
    fn blocks_come_whole_however_the_bytes_are_cut() {
        let text = "id: 7\n\n: a comment\n\nid: 8\nevent: told\ndata: {\"a\":1}\n\ndata: x\ndata: y\n\nid: 9\ndata: cut";
        let want = [block(Some("7"), ""), block(Some("8"), "{\"a\":1}"), block(None, "x\ny")];
        for size in 1..text.len() {
            let mut parser = Parser::default();
            let mut got = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                assert!(parser.push(piece));
                got.extend(std::iter::from_fn(|| parser.next()));
            }
            assert_eq!(got, want, "in pieces of {size}");
        }
    }

    #[test]
    fn a_block_without_end_is_refused() {
        let mut parser = Parser::default();
        assert!(parser.push(&vec![b'x'; LARGEST]));
        assert!(parser.next().is_none());
        assert!(!parser.push(b"x"));
    }
}
