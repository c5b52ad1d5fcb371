//! Words for the person at stderr that never wait for one who does not listen: a terminal held with Ctrl+S, a full pipe.
#![expect(unsafe_code, reason = "write(2) and poll(2) on a borrowed descriptor")]

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use super::ipc::{again, check_len};

/// Words that wait for room. Older ones matter more: they say how it began.
const KEPT: usize = 64 << 10;
/// What fits into a pipe or terminal that says it has room, without waiting (pipe(7), PIPE_BUF).
const PIECE: usize = 512;

/// See the module.
#[derive(Debug)]
pub struct Voice {
    /// stderr, opened anew: not to wait is a property of an opening, and stderr's own is shared with others.
    own: Option<File>,
    waiting: Vec<u8>,
}

impl Voice {
    /// On stderr as it is now.
    #[must_use]
    pub fn new() -> Voice {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_APPEND;
        let own = File::options().write(true).custom_flags(flags).open("/proc/self/fd/2").ok();
        Voice { own, waiting: Vec::new() }
    }

    /// Says it now as far as there is room, the rest with the next words. What finds no room in `KEPT` bytes is dropped.
    pub fn say(&mut self, text: &str) {
        if self.waiting.len() + text.len() <= KEPT {
            self.waiting.extend_from_slice(text.as_bytes());
        }
        while !self.waiting.is_empty() {
            match self.write() {
                Ok(n @ 1..) => drop(self.waiting.drain(..n)),
                // Nobody is there any more: nothing to wait for.
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => self.waiting.clear(),
                _ => return,
            }
        }
    }

    fn write(&mut self) -> io::Result<usize> {
        if let Some(own) = &mut self.own {
            return again(|| own.write(&self.waiting));
        }
        let mut poll = libc::pollfd { fd: 2, events: libc::POLLOUT, revents: 0 };
        // SAFETY: one entry.
        let room = unsafe { libc::poll(&raw mut poll, 1, 0) } > 0;
        if !room {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let piece = self.waiting.get(..PIECE).unwrap_or(&self.waiting);
        // SAFETY: `piece` lives through the call.
        again(|| check_len(unsafe { libc::write(2, piece.as_ptr().cast(), piece.len()) }))
    }
}

impl Default for Voice {
    fn default() -> Self {
        Voice::new()
    }
}
