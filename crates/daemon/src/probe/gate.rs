//! Calls that may hang for as long as a file system or a name server does.

use std::io;
use std::sync::Arc;

use tokio::sync::Semaphore;

/// Lets one such call of one check be under way. The runtime's threads for blocking calls are few; with one a check, a
/// target that hangs holds one of them and not, attempt by attempt, all.
#[derive(Debug)]
pub(super) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(super) fn new() -> Gate {
        Gate(Arc::new(Semaphore::new(1)))
    }

    /// Runs `call` on a thread where it may block. Whoever stops waiting leaves it running, and the gate closed until it
    /// has come back.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let permit = Arc::clone(&self.0).acquire_owned().await.map_err(io::Error::other)?;
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            call()
        });
        task.await.map_err(io::Error::other)?
    }
}
