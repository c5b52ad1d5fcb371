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
/// Room for bytes that is kept when all are read: what one `recv` asks for.
const KEPT: usize = 64 << 10;

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
    // Plain data into memory: there is nothing that could fail but memory itself.
    if let Ok(written) = postcard::to_extend(value, std::mem::take(out)) {
        *out = written;
    }
}

fn read<T: DeserializeOwned>(kind: u16, bytes: &[u8]) -> Result<T, CodecError> {
    postcard::from_bytes(bytes).map_err(|_| CodecError::Body(kind))
}

macro_rules! kinds { ($name:ident $table:ident { $($number:literal => $variant:ident),* } bare { $($bare_number:literal => $bare:ident),* }) => {
    /// Numbers and names of all kinds.
    pub const $table: &[(u16, &str)] =
        &[$(($number, stringify!($variant)),)* $(($bare_number, stringify!($bare)),)*];

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

kinds! { Request REQUESTS {
    1 => Hello, 2 => OpenSlot, 3 => CloseSlot, 4 => Spawn, 5 => Signal, 6 => Kill, 7 => Freeze, 8 => Put, 9 => Delete,
    10 => Keep, 11 => Drop, 12 => Ack, 13 => Up, 14 => Finish, 15 => WhenGone, 16 => MainPid,
    18 => Measure, 19 => Progress
} bare {} }

kinds! { Report REPORTS {
    1 => Welcome, 2 => Value, 3 => Kept, 4 => Slot, 5 => Run, 7 => Spawned, 8 => SpawnFailed, 9 => Exited,
    10 => TreeEmpty, 11 => StopRequested, 12 => Drained, 13 => Ping, 14 => Measured, 15 => SignalFailed,
    16 => Asked
} bare { 6 => Synced } }

/// Appends `message` as a frame that travels with `handles` descriptors. False: it is larger than a frame may be, or has
/// more handles; nothing was appended.
pub fn encode<M: Message>(message: &M, handles: usize, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    let kind = message.encode(out);
    let length = out.len() - start - HEADER + COUNTED;
    if length > MAX_FRAME || handles > MAX_HANDLES {
        out.truncate(start);
        return false;
    }
    // Both fit: they were compared just now.
    let (length, handles) = (length as u32, handles as u16);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 6].copy_from_slice(&kind.to_le_bytes());
    out[start + 6..start + 8].copy_from_slice(&handles.to_le_bytes());
    true
}

/// Kind of a frame whose body is frames: all of them are taken in, or none.
pub const TURN: u16 = 17;

/// Makes room for the header of a turn whose frames are appended next.
pub fn begin_turn(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; HEADER]);
}

/// Completes the header of the turn that `out` is, and gives what is to be sent: nothing for a turn without frames, the
/// frames one by one for a turn that is larger than a frame may be.
pub fn end_turn(out: &mut [u8]) -> &[u8] {
    let length = (out.len() + COUNTED).saturating_sub(HEADER);
    if length <= COUNTED {
        return &[];
    }
    match u32::try_from(length) {
        Ok(fits) if length <= MAX_FRAME => {
            out[..4].copy_from_slice(&fits.to_le_bytes());
            out[4..6].copy_from_slice(&TURN.to_le_bytes());
            out
        }
        Ok(_) | Err(_) => &out[HEADER..],
    }
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
            if kind == TURN {
                // Its frames have no handles; what stands in it are frames again, one level deep.
                let turn = Decoder { bytes: self.bytes[at + HEADER..end].to_vec(), handles: VecDeque::new() };
                turn.take_frames(out)?;
                at = end;
                continue;
            }
            if let Some(message) = M::decode(kind, &self.bytes[at + HEADER..end])? {
                out.push((message, handles));
            }
            at = end;
        }
        self.bytes.drain(..at);
        if self.bytes.is_empty() {
            self.bytes.shrink_to(KEPT);
        }
        Ok(())
    }

    /// The frames of a turn, which is whole.
    fn take_frames<M: Message>(&self, out: &mut Vec<(M, VecDeque<Handle>)>) -> Result<(), CodecError> {
        let mut at = 0;
        while let Some((kind, _, end)) = self.header(at)? {
            if let Some(message) = M::decode(kind, &self.bytes[at + HEADER..end])? {
                out.push((message, VecDeque::new()));
            }
            at = end;
        }
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
    use crate::protocol::*;
    use keepwell_os::ipc::Channel;
    use keepwell_os::{
        AsHandle, Identity, Members, ProcessStatus, Processors, Resource, Rlimit, SpawnRequest, TreeLimits,
    };
    use proptest::prelude::*;

    const PAGE: &str = include_str!("../../../docs/anchor-protocol.md");

    #[test]
    fn frames_are_the_bytes_that_the_page_shows() {
        let examples = [
            (Report::Ping(300).frame(0), "06 00 00 00 0d 00 00 00 ac 02"),
            (Request::Ack(300).frame(0), "06 00 00 00 0c 00 00 00 ac 02"),
            (Request::Keep(b"lock".to_vec()).frame(1), "09 00 00 00 0a 00 01 00 04 6c 6f 63 6b"),
        ];
        for (bytes, text) in examples {
            let hex: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(hex.join(" "), text);
            assert!(PAGE.contains(text), "the page lacks {text}");
        }
    }

    #[test]
    fn the_page_lists_every_kind_with_its_number() {
        for (number, name) in REQUESTS.iter().chain(REPORTS) {
            assert!(PAGE.contains(&format!("| {number} | `{name}` |")), "{number} {name}");
        }
    }

    #[test]
    fn frames_in_pieces_come_out_whole_and_in_order() {
        let sent = [
            Request::Put(Put { key: b"k".to_vec(), value: vec![7; 5000] }),
            Request::Finish(Finish { code: 2, text: "no\n".into() }),
        ];
        let mut bytes = Vec::new();
        sent.iter().for_each(|m| assert!(encode(m, 0, &mut bytes)));
        let (mut decoder, mut got) = (Decoder::default(), Vec::new());
        for piece in bytes.chunks(7) {
            decoder.bytes.extend_from_slice(piece);
            decoder.take::<Request>(&mut got).unwrap();
        }
        assert_eq!(got.into_iter().map(|(m, _)| m).collect::<Vec<_>>(), sent);
    }

    #[test]
    fn a_turn_comes_out_whole_or_not_at_all() {
        let mut out = Vec::new();
        begin_turn(&mut out);
        assert!(end_turn(&mut out.clone()).is_empty());
        for n in 1..=3 {
            assert!(encode(&Request::Ack(n), 0, &mut out));
        }
        let bytes = end_turn(&mut out).to_vec();
        let (mut decoder, mut got) = (Decoder::default(), Vec::new());
        decoder.bytes.extend_from_slice(&bytes[..bytes.len() - 1]);
        decoder.take::<Request>(&mut got).unwrap();
        assert!(got.is_empty(), "{got:?}");
        decoder.bytes.push(bytes[bytes.len() - 1]);
        decoder.take::<Request>(&mut got).unwrap();
        let got: Vec<Request> = got.into_iter().map(|(m, _)| m).collect();
        assert_eq!(got, [Request::Ack(1), Request::Ack(2), Request::Ack(3)]);
    }

    #[test]
    fn a_kind_of_tomorrow_is_passed_over_and_its_handles_closed() {
        let (a, b) = Channel::pair().unwrap();
        let (_, sent) = std::io::pipe().unwrap();
        a.send(&[5, 0, 0, 0, 0xff, 0x7f, 1, 0, 1], &[sent.as_handle()]).unwrap();
        a.send(&Report::Kept(b"x".to_vec()).frame(1), &[b.as_handle()]).unwrap();
        let (mut decoder, mut got) = (Decoder::default(), Vec::new());
        while got.is_empty() {
            b.recv(&mut decoder.bytes, &mut decoder.handles).unwrap();
            decoder.take::<Report>(&mut got).unwrap();
        }
        assert_eq!((got.len(), got[0].1.len(), decoder.handles.len()), (1, 1, 0));
    }

    #[test]
    fn what_is_too_large_is_not_sent() {
        let mut out = vec![9];
        let large = Request::Put(Put { key: Vec::new(), value: vec![0; MAX_FRAME] });
        assert!(!encode(&large, 0, &mut out));
        assert!(!encode(&Request::Ack(1), MAX_HANDLES + 1, &mut out));
        assert_eq!(out, [9]);
    }

    #[test]
    fn what_is_out_of_step_is_refused() {
        let refused = |bytes: &[u8]| {
            let mut decoder = Decoder { bytes: bytes.to_vec(), handles: VecDeque::new() };
            decoder.take::<Report>(&mut Vec::new()).unwrap_err()
        };
        assert_eq!(refused(&[3, 0, 0, 0, 1, 0, 0, 0]), CodecError::Length(3));
        assert_eq!(refused(&[0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]), CodecError::Length(0xffff_ffff));
        assert_eq!(refused(&[4, 0, 0, 0, 1, 0, 101, 0]), CodecError::Handles(101));
        assert_eq!(refused(&[4, 0, 0, 0, 6, 0, 1, 0]), CodecError::HandlesMissing);
        assert_eq!(refused(&[4, 0, 0, 0, 9, 0, 0, 0]), CodecError::Body(9));
    }

    trait Frame {
        fn frame(&self, handles: usize) -> Vec<u8>;
    }

    impl<M: Message> Frame for M {
        fn frame(&self, handles: usize) -> Vec<u8> {
            let mut out = Vec::new();
            assert!(encode(self, handles, &mut out));
            out
        }
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..20)
    }

    fn spawn_request() -> impl Strategy<Value = SpawnRequest> {
        let lists = (prop::collection::vec(bytes(), 0..4), prop::collection::vec(bytes(), 0..4));
        let identity = (any::<u32>(), any::<u32>(), prop::collection::vec(any::<u32>(), 0..4));
        let options = (any::<Option<u32>>(), any::<Option<i32>>(), any::<bool>(), any::<Option<u64>>());
        (bytes(), lists, identity, options).prop_map(|(program, (argv, env), (uid, gid, groups), options)| {
            let (umask, nice, on, limit) = options;
            SpawnRequest {
                join: argv.clone(),
                cwd: program.clone(),
                capabilities: on.then(|| program.clone().into_boxed_slice()),
                line: on.then(|| program.clone().into_boxed_slice()),
                program,
                argv,
                env,
                identity: on.then(|| Box::new(Identity { uid, gid, groups, account: None })),
                umask,
                nice,
                affinity: umask.map(|n| Box::new(Processors::of(&[n as u16 % 1024]))),
                oom_score_adj: nice,
                rlimits: vec![Rlimit { resource: Resource::Nproc, soft: limit, hard: None }],
                no_new_privileges: on,
                tree_limits: Box::new(TreeLimits { memory: limit, cpu_millis: umask, tasks: limit }),
            }
        })
    }

    fn request() -> impl Strategy<Value = Request> {
        let text = || "[a-z@. ]{0,12}";
        prop_oneof![
            any::<(u32, u32)>().prop_map(|(version, pid)| Request::Hello(Hello { version, pid })),
            (any::<(u32, bool, bool, u32)>(), text()).prop_map(
                |((slot, tree, separate, drain_limit), name)| {
                    Request::OpenSlot(OpenSlot { slot, name, tree, separate, drain_limit })
                }
            ),
            any::<u32>().prop_map(Request::CloseSlot),
            (any::<(u64, u32, u8)>(), spawn_request())
                .prop_map(|((run, slot, role), request)| Request::Spawn(Spawn { run, slot, role, request })),
            any::<(u64, i32, u8)>().prop_map(|(run, signal, to)| Request::Signal(Signal { run, signal, to })),
            any::<u64>().prop_map(Request::Kill),
            any::<(u32, bool)>().prop_map(|(slot, on)| Request::Freeze(Freeze { slot, on })),
            (bytes(), bytes()).prop_map(|(key, value)| Request::Put(Put { key, value })),
            bytes().prop_map(Request::Delete),
            bytes().prop_map(Request::Keep),
            bytes().prop_map(Request::Drop),
            any::<u64>().prop_map(Request::Ack),
            text().prop_map(Request::Up),
            (any::<i32>(), text()).prop_map(|(code, text)| Request::Finish(Finish { code, text })),
            any::<(bool, u32)>()
                .prop_map(|(drain, hang_after_ms)| Request::WhenGone(WhenGone { drain, hang_after_ms })),
            any::<(u64, u32)>().prop_map(|(run, pid)| Request::MainPid(MainPid { run, pid })),
            (any::<u64>(), prop::collection::vec(any::<u32>(), 0..9))
                .prop_map(|(question, slots)| Request::Measure(Measure { question, slots })),
            any::<(bool, u32, u32, u64)>().prop_map(|(stopping, left, failed, until)| {
                Request::Progress(Progress { stopping, left, failed, until })
            }),
        ]
    }

    fn report() -> impl Strategy<Value = Report> {
        let text = || "[a-z@. ]{0,12}";
        prop_oneof![
            (any::<(u32, u32, u32)>(), text(), bytes()).prop_map(
                |((version, pid, rebirths), text, options)| {
                    let (release, guardian, mechanisms) = (text.clone(), text.clone(), vec![text]);
                    Report::Welcome(Welcome {
                        version,
                        pid,
                        rebirths,
                        release,
                        guardian,
                        options,
                        mechanisms,
                    })
                }
            ),
            (bytes(), bytes()).prop_map(|(key, value)| Report::Value(Put { key, value })),
            bytes().prop_map(Report::Kept),
            Just(Report::Synced),
            any::<(u64, u32, u8, u32, u64)>().prop_map(|(run, slot, role, pid, started)| {
                Report::Run(Run { run, slot, role, pid, started })
            }),
            any::<(u64, u64, u32)>().prop_map(|(seq, run, pid)| Report::Spawned(Spawned { seq, run, pid })),
            (any::<(u64, u64, i32)>(), text()).prop_map(|((seq, run, errno), step)| Report::SpawnFailed(
                SpawnFailed { seq, run, step, errno }
            )),
            any::<(u64, u64, Option<i32>, Option<i32>, bool)>().prop_map(
                |(seq, run, code, signal, tree_empty)| {
                    let status =
                        ProcessStatus { code, signal, core_dumped: tree_empty, out_of_memory: false };
                    Report::Exited(Exited { seq, run, status, at: seq, tree_empty })
                }
            ),
            any::<(u64, u64)>().prop_map(|(seq, run)| Report::TreeEmpty(TreeEmpty { seq, run })),
            (any::<(u64, bool)>(), text())
                .prop_map(|((seq, urgent), why)| Report::StopRequested(StopRequested { seq, why, urgent })),
            (any::<(u64, u32, u8, u64)>(), bytes()).prop_map(|((seq, slot, stream, dropped), bytes)| {
                Report::Drained(Drained { seq, slot, stream, bytes, dropped })
            }),
            any::<u64>().prop_map(Report::Ping),
            (any::<(u64, u64, i32)>(), text()).prop_map(|((seq, run, signal), reason)| {
                Report::SignalFailed(SignalFailed { seq, run, signal, reason })
            }),
            (any::<u64>(), prop::collection::vec(any::<u32>(), 0..9), any::<Option<u64>>()).prop_map(
                |(question, pids, cpu_usec)| {
                    Report::Measured(Measured { question, trees: vec![Members { pids, cpu_usec }; 2] })
                }
            ),
            (any::<(u64, u8)>(), text()).prop_map(|((seq, what), text)| Report::Asked(Asked {
                seq,
                what,
                text
            })),
        ]
    }

    fn round_trip<M: Message + PartialEq + std::fmt::Debug>(sent: &[M], cut: usize) {
        let stream: Vec<u8> = sent.iter().flat_map(|m| m.frame(0)).collect();
        let (mut decoder, mut got) = (Decoder::default(), Vec::new());
        for piece in stream.chunks(cut) {
            decoder.bytes.extend_from_slice(piece);
            decoder.take::<M>(&mut got).unwrap();
        }
        assert_eq!(got.iter().map(|(m, _)| m).collect::<Vec<_>>(), sent.iter().collect::<Vec<_>>());
        assert!(decoder.bytes.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_sent_arrives(
            requests in prop::collection::vec(request(), 0..6),
            reports in prop::collection::vec(report(), 0..6),
            cut in 1_usize..50,
        ) {
            round_trip(&requests, cut);
            round_trip(&reports, cut);
        }

        #[test]
        fn handles_come_with_their_frames(counts in prop::collection::vec(0_usize..5, 1..8)) {
            let (a, b) = Channel::pair().unwrap();
            let (_, lent) = std::io::pipe().unwrap();
            for (i, count) in counts.iter().enumerate() {
                let frame = Report::Kept(vec![i as u8; i * 100]).frame(*count);
                prop_assert_eq!(a.send(&frame, &vec![lent.as_handle(); *count]).unwrap(), frame.len());
            }
            let (mut decoder, mut got) = (Decoder::default(), Vec::new());
            while got.len() < counts.len() {
                b.recv(&mut decoder.bytes, &mut decoder.handles).unwrap();
                decoder.take::<Report>(&mut got).unwrap();
            }
            let arrived: Vec<usize> = got.iter().map(|(_, handles)| handles.len()).collect();
            prop_assert_eq!(arrived, counts);
        }

        #[test]
        fn garbage_never_panics(start in prop::sample::select(vec![5_u8, 9, 30, 0]), rest in bytes(), kind in 0_u8..20) {
            let mut bytes = vec![start, 0, 0, 0, kind, 0, 0, 0];
            bytes.extend(rest);
            // Most garbage is refused; what matters is that it returns.
            let mut decoder = Decoder { bytes: bytes.clone(), handles: VecDeque::new() };
            let _ = decoder.take::<Report>(&mut Vec::new());
            let mut decoder = Decoder { bytes, handles: VecDeque::new() };
            let _ = decoder.take::<Request>(&mut Vec::new());
        }
    }
}
