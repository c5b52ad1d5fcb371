//! The daemon's end of the conversation with its anchor.

use std::collections::VecDeque;
use std::io;

use keepwell_os::ipc::Channel;
use keepwell_os::wait::{Interest, Waiter};
use keepwell_os::{AsHandle, BorrowedHandle, Handle};

use crate::codec::{self, Decoder};
use crate::protocol::{Report, Request};

/// The descriptor at which a daemon finds its end.
pub const DAEMON_HANDLE: u32 = 3;
/// Bytes gathered before they are sent without waiting for the end of the turn.
const GATHER: usize = 256 * 1024;

/// See the module. Requests are gathered until `flush`, or until one travels with handles.
#[derive(Debug)]
pub struct Link {
    channel: Channel,
    out: Vec<u8>,
    decoder: Decoder,
    closed: bool,
}

impl Link {
    /// The end that the anchor gave to this process.
    ///
    /// # Errors
    /// When there is none: the process was not started by an anchor.
    pub fn from_inherited() -> io::Result<Link> {
        Channel::from_inherited(DAEMON_HANDLE).map(Link::new)
    }

    /// A link over a channel.
    #[must_use]
    pub fn new(channel: Channel) -> Link {
        Link { channel, out: Vec::new(), decoder: Decoder::default(), closed: false }
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

    /// Gathers a request. One with handles is sent at once, after all before it. One that is larger than a frame may be is
    /// left out: where its size is somebody else's choice, use [`Link::offer`].
    pub fn send(&mut self, request: &Request, handles: &[BorrowedHandle<'_>]) {
        let _ = self.offer(request, handles);
    }

    /// The same, and says whether it fits into a frame.
    #[must_use]
    pub fn offer(&mut self, request: &Request, handles: &[BorrowedHandle<'_>]) -> bool {
        if !handles.is_empty() {
            self.flush();
        }
        let fits = codec::encode(request, handles.len(), &mut self.out);
        if !handles.is_empty() || self.out.len() >= GATHER {
            self.write_all(if fits { handles } else { &[] });
        }
        fits
    }

    /// Sends what was gathered. Waits while the anchor's buffer is full: it reads without pause, so that is short, and
    /// without it there is nothing to decide anyway.
    pub fn flush(&mut self) {
        self.write_all(&[]);
    }

    fn write_all(&mut self, handles: &[BorrowedHandle<'_>]) {
        let (mut at, mut handles) = (0, handles);
        while at < self.out.len() && !self.closed {
            match self.channel.send(&self.out[at..], handles) {
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
        self.out.clear();
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
