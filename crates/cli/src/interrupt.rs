//! Ctrl+C during a wait: the command says what goes on in the background, instead of dying without a word.

use tokio::sync::watch;

use crate::failure::{Failure, Result, io_words};

/// Knows whether Ctrl+C was pressed since it was made.
pub(crate) struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// From now on Ctrl+C does not end this process.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn listen() -> Result<Self> {
        let (tell, heard) = watch::channel(false);
        // Polled once before it is handed over, so that no key press falls between.
        let mut pressed = Box::pin(tokio::signal::ctrl_c());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        if let std::task::Poll::Ready(Err(e)) = pressed.as_mut().poll(&mut context) {
            return Err(Failure::failed(format!("Ctrl+C cannot be heard: {}", io_words(&e))));
        }
        tokio::spawn(async move {
            if pressed.await.is_ok() {
                let _ = tell.send(true);
            }
        });
        Ok(Self(heard))
    }

    /// Returns once it was pressed, also before this was called.
    pub(crate) async fn happened(&self) {
        let mut heard = self.0.clone();
        if heard.wait_for(|pressed| *pressed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
