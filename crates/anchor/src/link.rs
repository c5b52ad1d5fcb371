//! The daemon's end of the conversation with its anchor.

use std::collections::VecDeque;
use std::io;

use keepwell_os::ipc::Channel;
use keepwell_os::wait::{Interest, Waiter};
use keepwell_os::{AsHandle, BorrowedHandle, Handle};

use crate::codec::{self, Decoder};
use crate::protocol::{Report, Request};

/// Bytes gathered before they are sent without waiting for the end of the turn: restarts of some hundred services in one
/// turn. A start of more is told in pieces.
const GATHER: usize = 1 << 20;
/// Room for them that is kept from turn to turn: a restart needs a few kilobytes.
const KEPT: usize = 16 << 10;

/// See the module. Requests are gathered until `flush` and then travel in one frame, which the anchor takes in whole or
/// not at all: a daemon that dies leaves no half of a turn behind. What travels with handles goes ahead of them.
#[derive(Debug)]
pub struct Link {
    channel: Channel,
    /// The turn: room for its header, then its frames.
    out: Vec<u8>,
    /// The turn lets go of something that a later request with handles may bring anew.
    lets_go: bool,
    decoder: Decoder,
    closed: bool,
}

impl Link {
    /// The end that the anchor gave to this process.
    ///
    /// # Errors
    /// When there is none: the process was not started by an anchor.
    pub fn from_inherited() -> io::Result<Link> {
        Channel::from_inherited().map(Link::new)
    }

    /// A link over a channel.
    #[must_use]
    pub fn new(channel: Channel) -> Link {
        Link { channel, out: Vec::new(), lets_go: false, decoder: Decoder::default(), closed: false }
    }

    /// Becomes readable when there are reports.
    #[must_use]
    pub fn handle(&self) -> BorrowedHandle<'_> {
        self.channel.as_handle()
    }

    /// The anchor has closed its end, or died.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Gathers a request. One with handles is sent at once, ahead of the turn. One that is larger than a frame may be is left
    /// out: where its size is somebody else's choice, use [`Link::offer`].
    pub fn send(&mut self, request: &Request, handles: &[BorrowedHandle<'_>]) {
        let _ = self.offer(request, handles);
    }

    /// The same, and says whether it fits into a frame.
    #[must_use]
    pub fn offer(&mut self, request: &Request, handles: &[BorrowedHandle<'_>]) -> bool {
        if !handles.is_empty() {
            if self.lets_go {
                self.flush();
            }
            let mut frame = Vec::new();
            let fits = codec::encode(request, handles.len(), &mut frame);
            self.write_all(&frame, if fits { handles } else { &[] });
            return fits;
        }
        self.lets_go |= matches!(request, Request::Drop(_) | Request::CloseSlot(_));
        if self.out.is_empty() {
            codec::begin_turn(&mut self.out);
        }
        let fits = codec::encode(request, 0, &mut self.out);
        if self.out.len() >= GATHER {
            self.flush();
        }
        fits
    }

    /// Sends what was gathered. Waits while the anchor's buffer is full: it reads without pause, so that is short, and
    /// without it there is nothing to decide anyway.
    pub fn flush(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        self.write_all(codec::end_turn(&mut out), &[]);
        self.lets_go = false;
        out.clear();
        out.shrink_to(KEPT);
        self.out = out;
    }

    fn write_all(&mut self, bytes: &[u8], handles: &[BorrowedHandle<'_>]) {
        let (mut at, mut handles) = (0, handles);
        while at < bytes.len() && !self.closed {
            match self.channel.send(&bytes[at..], handles) {
                Ok(n) => {
                    at += n;
                    handles = &[];
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.closed |= wait_for(&self.channel, Interest::ReadWrite).is_err();
                    // Reports that come meanwhile are taken in, so that the two never wait for each other.
                    self.read();
                }
                Err(_) => self.closed = true,
            }
        }
    }

    /// Every report that has come, without waiting.
    ///
    /// # Errors
    /// When the stream is out of step.
    pub fn recv(&mut self) -> io::Result<Vec<(Report, VecDeque<Handle>)>> {
        let mut reports = Vec::new();
        self.read();
        self.decoder.take(&mut reports).map_err(io::Error::other)?;
        Ok(reports)
    }

    fn read(&mut self) {
        loop {
            match self.channel.recv(&mut self.decoder.bytes, &mut self.decoder.handles) {
                Ok(n) if n > 0 => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => {
                    self.closed = true;
                    return;
                }
            }
        }
    }

    /// At least one report, waiting for it.
    ///
    /// # Errors
    /// `UnexpectedEof`: the anchor is gone. Otherwise the stream is out of step.
    pub fn wait_recv(&mut self) -> io::Result<Vec<(Report, VecDeque<Handle>)>> {
        loop {
            let reports = self.recv()?;
            if !reports.is_empty() {
                return Ok(reports);
            }
            if self.closed {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            wait_for(&self.channel, Interest::Read)?;
        }
    }
}

fn wait_for(channel: &Channel, interest: Interest) -> io::Result<()> {
    let mut waiter = Waiter::new()?;
    waiter.add(channel.as_handle(), 0, interest)?;
    waiter.wait(None, &mut Vec::new())
}
