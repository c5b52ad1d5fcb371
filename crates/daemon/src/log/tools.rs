//! What the sinks of all services share: they have their steps one at a time.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keepwell_core::Mono;
use keepwell_core::event::Level;
use keepwell_os::pipe::Mover;
use keepwell_os::{AsHandle, Handle, pipe};

use super::shared::SourceShared;
use super::{LogNews, WINDOW};

/// Most bytes that are moved by one call: the largest pipe that a user may make.
pub(super) const LARGEST_PIPE: usize = 1 << 20;

/// Is shown every byte that passes.
pub(super) type Seen<'a> = &'a mut dyn FnMut(&[u8]);

/// What all sinks use, one at a time.
pub(super) struct Tools {
    /// Where what is in a pipe is looked at before it is moved.
    scratch: Option<(Handle, Handle)>,
    buffer: Vec<u8>,
    pub(super) mover: Mover,
    /// Bytes in all rings.
    pub(super) rings: usize,
    pub(super) now: Mono,
    /// When records of indexes are due that wait in memory.
    pub(super) index_at: Option<Mono>,
    pub(super) news: Box<dyn Fn(LogNews) + Send>,
    /// Bytes of output that no file has got.
    lost: Arc<AtomicU64>,
}

impl Tools {
    pub(super) fn new(mover: Mover, news: Box<dyn Fn(LogNews) + Send>, lost: Arc<AtomicU64>) -> Tools {
        Tools { scratch: None, buffer: Vec::new(), mover, rings: 0, now: Mono(0), index_at: None, news, lost }
    }

    pub(super) fn lose(&self, bytes: u64) {
        self.lost.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn tell(&self, slot: u32, level: Level, text: String) {
        (self.news)(LogNews::Told { slot, level, text });
    }

    /// At least `size` bytes to use; given back with [`Tools::keep`].
    pub(super) fn buffer(&mut self, size: usize) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(size.max(buffer.len()), 0);
        buffer
    }

    pub(super) fn keep(&mut self, buffer: Vec<u8>) {
        self.buffer = buffer;
    }

    /// What is first in the pipe, without taking it out.
    pub(super) fn peek(&mut self, source: &SourceShared, len: usize) -> io::Result<Vec<u8>> {
        let mut seen = self.buffer(len);
        if self.scratch.is_none() {
            let (read, write) = pipe::pipe()?;
            // As many pieces as the source may have; where that is too much, less is seen at once.
            let _ = pipe::set_capacity(read.as_handle(), LARGEST_PIPE);
            self.scratch = Some((read, write));
        }
        let Some((read, write)) = &self.scratch else { return Err(io::ErrorKind::NotFound.into()) };
        let copied = pipe::tee(source.pipe.as_handle(), write.as_handle(), len)?;
        let mut n = 0;
        while n < copied {
            match pipe::read(read.as_handle(), &mut seen[n..copied])? {
                0 => break,
                more => n += more,
            }
        }
        seen.truncate(n);
        Ok(seen)
    }
}

/// Reads back what was just written.
pub(super) fn show(file: &File, mut offset: u64, mut len: usize, tools: &mut Tools, seen: Seen<'_>) {
    let mut buffer = tools.buffer(WINDOW);
    while len > 0 {
        let room = len.min(WINDOW);
        let Ok(n @ 1..) = pipe::read_at(file, &mut buffer[..room], offset) else { break };
        seen(&buffer[..n]);
        offset += n as u64;
        len -= n;
    }
    tools.keep(buffer);
}
