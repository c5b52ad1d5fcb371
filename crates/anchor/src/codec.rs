//! Frames to bytes and back. See [`crate::protocol`] for their shape.

use std::collections::VecDeque;

use keepwell_os::Handle;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::protocol::{MAX_FRAME, MAX_HANDLES, Report, Request};

/// `length`, `kind`, `handles`.
const HEADER: usize = 8;
/// What `length` counts besides the body.
const COUNTED: usize = 4;

/// Why a stream of frames cannot be read on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The stream is out of step, or the other end is no anchor and no daemon.
    #[error("a frame of {0} bytes is longer than any frame may be, or shorter")]
    Length(usize),
    /// More handles than a frame may carry.
    #[error("a frame announces {0} handles")]
    Handles(usize),
    /// A frame's handles did not come with it.
    #[error("a frame came without its handles")]
    HandlesMissing,
    /// A body of a known kind that does not fit it.
    #[error("a frame of kind {0} cannot be read")]
    Body(u16),
}

/// A message that can stand in a frame.
pub trait Message: Sized {
    /// Appends kind and body of `self`.
    fn encode(&self, out: &mut Vec<u8>) -> u16;
    /// Reads a body; `None` for a kind of a later version.
    ///
    /// # Errors
    /// When the body does not fit the kind.
    fn decode(kind: u16, body: &[u8]) -> Result<Option<Self>, CodecError>;
}

fn body<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    // Plain data in memory: there is nothing that could fail but memory itself.
    if let Ok(bytes) = postcard::to_allocvec(value) {
        out.extend_from_slice(&bytes);
    }
}

fn read<T: DeserializeOwned>(kind: u16, bytes: &[u8]) -> Result<T, CodecError> {
    postcard::from_bytes(bytes).map_err(|_| CodecError::Body(kind))
}

macro_rules! kinds { ($name:ident { $($number:literal => $variant:ident),* } bare { $($bare_number:literal => $bare:ident),* }) => {
    impl Message for $name {
        fn encode(&self, out: &mut Vec<u8>) -> u16 {
            match self {
                $($name::$variant(v) => { body(v, out); $number })*
                $($name::$bare => $bare_number,)*
            }
        }
        fn decode(kind: u16, bytes: &[u8]) -> Result<Option<Self>, CodecError> {
            Ok(Some(match kind {
                $($number => $name::$variant(read(kind, bytes)?),)*
                $($bare_number => $name::$bare,)*
                _ => return Ok(None),
            }))
        }
    }
} }

kinds! { Request {
    1 => Hello, 2 => OpenSlot, 3 => CloseSlot, 4 => Spawn, 5 => Signal, 6 => Kill, 7 => Freeze, 8 => Put, 9 => Delete,
    10 => Keep, 11 => Drop, 12 => Ack, 13 => Up, 14 => Finish, 15 => WhenGone, 16 => MainPid
} bare {} }

kinds! { Report {
    1 => Welcome, 2 => Value, 3 => Kept, 4 => Slot, 5 => Run, 7 => Spawned, 8 => SpawnFailed, 9 => Exited,
    10 => TreeEmpty, 11 => StopRequested, 12 => Drained, 13 => Ping
} bare { 6 => Synced } }

/// Appends `message` as a frame that travels with `handles` descriptors.
pub fn encode<M: Message>(message: &M, handles: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    let kind = message.encode(out);
    let length = u32::try_from(out.len() - start - HEADER + COUNTED).unwrap_or(u32::MAX);
    let handles = u16::try_from(handles).unwrap_or(u16::MAX);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 6].copy_from_slice(&kind.to_le_bytes());
    out[start + 6..start + 8].copy_from_slice(&handles.to_le_bytes());
}

/// Puts a stream of bytes and descriptors together to messages.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes not yet read; filled by `ipc::Channel::recv`.
    pub bytes: Vec<u8>,
    /// Descriptors not yet given out, in the order of their frames.
    pub handles: VecDeque<Handle>,
}

impl Decoder {
    /// Every whole message that has arrived, with its handles. Frames of unknown kind are passed over and their handles
    /// closed.
    ///
    /// # Errors
    /// When the stream is out of step; it cannot be read on.
    pub fn take<M: Message>(&mut self, out: &mut Vec<(M, VecDeque<Handle>)>) -> Result<(), CodecError> {
        let mut at = 0;
        while let Some((kind, count, end)) = self.header(at)? {
            if self.handles.len() < count {
                return Err(CodecError::HandlesMissing);
            }
            let rest = self.handles.split_off(count);
            let handles = std::mem::replace(&mut self.handles, rest);
            if let Some(message) = M::decode(kind, &self.bytes[at + HEADER..end])? {
                out.push((message, handles));
            }
            at = end;
        }
        self.bytes.drain(..at);
        Ok(())
    }

    /// Kind, number of handles and end of the frame at `at`, if it is whole.
    fn header(&self, at: usize) -> Result<Option<(u16, usize, usize)>, CodecError> {
        let Some(h) = self.bytes.get(at..at + HEADER) else { return Ok(None) };
        let length = u32::from_le_bytes([h[0], h[1], h[2], h[3]]) as usize;
        if !(COUNTED..=MAX_FRAME).contains(&length) {
            return Err(CodecError::Length(length));
        }
        let handles = usize::from(u16::from_le_bytes([h[6], h[7]]));
        if handles > MAX_HANDLES {
            return Err(CodecError::Handles(handles));
        }
        let end = at + HEADER - COUNTED + length;
        Ok((end <= self.bytes.len()).then_some((u16::from_le_bytes([h[4], h[5]]), handles, end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Finish, Put};
    use proptest::prelude::*;

    #[test]
    fn a_frame_is_these_bytes() {
        let mut out = Vec::new();
        encode(&Request::Ack(300), 0, &mut out);
        assert_eq!(out, [6, 0, 0, 0, 12, 0, 0, 0, 0xac, 0x02]);
    }

    #[test]
    fn frames_in_pieces_come_out_whole_and_in_order() {
        let sent = [
            Request::Put(Put { key: b"k".to_vec(), value: vec![7; 5000] }),
            Request::Finish(Finish { code: 2, text: "no\n".into() }),
        ];
        let mut bytes = Vec::new();
        sent.iter().for_each(|m| encode(m, 0, &mut bytes));
        let (mut decoder, mut got) = (Decoder::default(), Vec::new());
        for piece in bytes.chunks(7) {
            decoder.bytes.extend_from_slice(piece);
            decoder.take::<Request>(&mut got).unwrap();
        }
        assert_eq!(got.into_iter().map(|(m, _)| m).collect::<Vec<_>>(), sent);
    }

    #[test]
    fn a_kind_of_tomorrow_is_passed_over() {
        let mut decoder = Decoder::default();
        decoder.bytes.extend_from_slice(&[5, 0, 0, 0, 0xff, 0x7f, 0, 0, 1]);
        encode(&Report::Ping(1), 0, &mut decoder.bytes);
        let mut got = Vec::new();
        decoder.take::<Report>(&mut got).unwrap();
        assert_eq!(got.len(), 1);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder { bytes, handles: VecDeque::new() };
            let mut got: Vec<(Report, _)> = Vec::new();
            // Most garbage is refused; what matters is that it returns.
            let _ = decoder.take(&mut got);
        }
    }
}
