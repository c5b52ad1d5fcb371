//! One connection: a frame goes, its answer comes, within a time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::endpoint::{Endpoint, Opened};
use super::frame::Decoder;

/// What came back.
pub(super) struct Answer {
    pub(super) command: u8,
    pub(super) payload: Vec<u8>,
}

pub(super) enum Connection {
    Socket(Wire<Socket>),
    Pipe(Worker),
}

impl Connection {
    pub(super) fn open(endpoint: &Endpoint, timeout: Duration) -> io::Result<Connection> {
        match endpoint.open(timeout)? {
            Opened::Socket(socket) => Ok(Connection::Socket(Wire::new(socket))),
            Opened::Pipe(pipe) => Ok(Connection::Pipe(Worker::start(pipe)?)),
        }
    }

    /// Sends a frame and waits for what is answered. After an error the connection is of no more use.
    pub(super) fn exchange(&mut self, frame: &[u8], timeout: Duration) -> io::Result<Answer> {
        match self {
            Connection::Socket(wire) => wire.exchange(frame, Some(Instant::now() + timeout)),
            Connection::Pipe(worker) => worker.exchange(frame, timeout),
        }
    }
}

pub(super) struct Wire<S> {
    stream: S,
    decoder: Decoder,
}

impl<S: Read + Write> Wire<S> {
    fn new(stream: S) -> Wire<S> {
        Wire { stream, decoder: Decoder::default() }
    }

    fn exchange(&mut self, frame: &[u8], until: Option<Instant>) -> io::Result<Answer> {
        self.stream.write_all(frame)?;
        let mut piece = [0; 4096];
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => {
                    return Ok(Answer { command: frame.command, payload: frame.payload.into_owned() });
                }
                Ok(None) => {}
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
            // An answer that comes byte by byte is bounded too.
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.decoder.push(&piece[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// A pipe's reads and writes know no timeout, so they happen on a thread of their own. One that is given up ends when
/// keepwell closes its side, or answers.
pub(super) struct Worker {
    frames: SyncSender<Vec<u8>>,
    answers: Receiver<io::Result<Answer>>,
}

impl Worker {
    fn start(pipe: File) -> io::Result<Worker> {
        // One frame is under way at a time.
        let (frames, asked) = sync_channel::<Vec<u8>>(1);
        let (answer, answers) = sync_channel(1);
        thread::Builder::new().name("keepwell-beat".into()).spawn(move || {
            let mut wire = Wire::new(pipe);
            for frame in asked {
                let result = wire.exchange(&frame, None);
                let over = result.is_err();
                if answer.send(result).is_err() || over {
                    break;
                }
            }
        })?;
        Ok(Worker { frames, answers })
    }

    fn exchange(&mut self, frame: &[u8], timeout: Duration) -> io::Result<Answer> {
        self.frames.try_send(frame.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        self.answers.recv_timeout(timeout).map_err(|_| io::ErrorKind::TimedOut)?
    }
}
