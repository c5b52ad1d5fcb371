//! One frame as bytes, and bytes as frames. It reads and writes nothing by itself.

use std::borrow::Cow;

/// The first two bytes of every frame.
pub const MAGIC: [u8; 2] = [0x4D, 0x53];
/// Magic, command, length and checksum.
pub const HEADER: usize = 11;
/// The longest payload.
pub const MAX_PAYLOAD: usize = 64 << 10;

/// Set in the command of an answer.
pub const ANSWER: u8 = 0x80;
/// The command of the answer to what cannot be taken; its payload says why.
pub const REFUSED: u8 = 0xFF;

/// What a program asks for or says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Command {
    /// A sign of life. Its payload means nothing.
    Heartbeat = 0x01,
    /// What it says of itself: see [`Report`](super::Report). A sign of life too.
    Status = 0x02,
    /// The service's token; over TCP the first frame.
    Hello = 0x10,
    /// It is ready.
    Ready = 0x11,
    /// It is on its way down.
    Stopping = 0x12,
    /// It needs so many milliseconds more, as four bytes, little endian.
    ExtendTimeout = 0x13,
}

impl Command {
    /// The command of this number.
    #[must_use]
    pub fn of(number: u8) -> Option<Command> {
        Some(match number {
            0x01 => Command::Heartbeat,
            0x02 => Command::Status,
            0x10 => Command::Hello,
            0x11 => Command::Ready,
            0x12 => Command::Stopping,
            0x13 => Command::ExtendTimeout,
            _ => return None,
        })
    }
}

/// One frame whose length and checksum are right. The command may be an unknown one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// The number of a [`Command`], or of an answer.
    pub command: u8,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: Cow<'a, [u8]>,
}

/// Bytes that are no frame. Nothing after them can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// It does not begin as a frame does.
    #[error("a frame begins with 4D 53, not with {0:02X} {1:02X}")]
    Magic(u8, u8),
    /// It says that it is longer than any frame.
    #[error("a payload has at most 65536 bytes, not {0}")]
    Length(u32),
    /// The payload is not the one that was sent.
    #[error("the payload's CRC-32 is {found:08X}, and the frame says {said:08X}")]
    Checksum {
        /// In the header.
        said: u32,
        /// Of the payload.
        found: u32,
    },
}

impl FrameError {
    /// The word for it in an answer: `magic`, `length`, `checksum`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            FrameError::Magic(..) => "magic",
            FrameError::Length(_) => "length",
            FrameError::Checksum { .. } => "checksum",
        }
    }
}

/// Appends a frame. A payload that is too long is cut: check it before.
pub fn encode(command: u8, payload: &[u8], to: &mut Vec<u8>) {
    let payload = &payload[..payload.len().min(MAX_PAYLOAD)];
    to.reserve(HEADER + payload.len());
    to.extend_from_slice(&MAGIC);
    to.push(command);
    to.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    to.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    to.extend_from_slice(payload);
}

/// The first frame of `bytes` and its length in all; `None`: there is more to come. What is wrong is told as soon as the
/// bytes show it.
///
/// # Errors
/// The bytes do not begin with a frame.
pub fn decode(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some(magic) = bytes.first_chunk::<2>() else { return Ok(None) };
    if *magic != MAGIC {
        return Err(FrameError::Magic(magic[0], magic[1]));
    }
    let Some(length) = number(bytes, 3) else { return Ok(None) };
    let Some(end) = usize::try_from(length).ok().filter(|n| *n <= MAX_PAYLOAD).map(|n| HEADER + n) else {
        return Err(FrameError::Length(length));
    };
    let (Some(said), Some(payload)) = (number(bytes, 7), bytes.get(HEADER..end)) else { return Ok(None) };
    // Most frames are empty heartbeats.
    let found = if payload.is_empty() { 0 } else { crc32fast::hash(payload) };
    if said != found {
        return Err(FrameError::Checksum { said, found });
    }
    Ok(Some((Frame { command: bytes[2], payload: Cow::Borrowed(payload) }, end)))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.first_chunk::<4>().map(|four| u32::from_le_bytes(*four))
}

/// Frames out of a stream that comes in pieces. It holds one frame that has not come whole, and what was pushed last.
#[derive(Debug, Default)]
pub struct Decoder {
    held: Vec<u8>,
    at: usize,
}

impl Decoder {
    /// Takes what has come.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.held.drain(..self.at);
            self.at = 0;
        }
        if self.held.is_empty() && self.held.capacity() > HEADER + MAX_PAYLOAD {
            self.held = Vec::new();
        }
        self.held.extend_from_slice(bytes);
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// What comes next is no frame; it stays so.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let Some((frame, length)) = decode(&self.held[self.at..])? else { return Ok(None) };
        self.at += length;
        Ok(Some(frame))
    }

    /// Bytes that belong to no whole frame yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.held.len() - self.at
    }
}
