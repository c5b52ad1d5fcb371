//! Words for the person at stderr that never wait for one who does not listen: a console with a selection, a full pipe.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Words that wait. Older ones matter more: they say how it began.
const KEPT: usize = 256;
/// At the end, for the words that are left.
const PATIENCE: Duration = Duration::from_millis(500);

/// See the module. A thread of its own may wait.
#[derive(Debug, Default)]
pub struct Voice(Option<(SyncSender<String>, JoinHandle<()>)>);

impl Voice {
    /// On stderr.
    #[must_use]
    pub fn new() -> Voice {
        Voice::default()
    }

    /// Says it as soon as somebody listens. What finds no room is dropped.
    pub fn say(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if self.0.is_none() {
            let (sender, receiver) = sync_channel(KEPT);
            let thread = thread::Builder::new().name("voice".to_owned()).spawn(move || speak(&receiver));
            self.0 = thread.ok().map(|thread| (sender, thread));
        }
        if let Some((sender, _)) = &self.0 {
            let _ = sender.try_send(text.to_owned());
        }
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        let Some((sender, thread)) = self.0.take() else { return };
        drop(sender);
        let began = Instant::now();
        while !thread.is_finished() && began.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn speak(words: &Receiver<String>) {
    for text in words {
        let _ = io::stderr().write_all(text.as_bytes());
    }
}
