//! Those who follow what happens, when it ends: they are to hear the last word, and nobody waits for them for long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::message::EngineHandle;

/// Shared by the engine and the API.
#[derive(Clone)]
pub struct Audience(Arc<Inner>);

struct Inner {
    came: AtomicBool,
    over: watch::Sender<bool>,
    engine: EngineHandle,
}

impl Audience {
    pub(super) fn new(engine: EngineHandle) -> Self {
        Self(Arc::new(Inner { came: AtomicBool::new(false), over: watch::Sender::new(false), engine }))
    }

    /// Whether somebody has ever followed events, and has heard what had happened before.
    #[must_use]
    pub fn has_come(&self) -> bool {
        self.0.came.load(Ordering::Acquire)
    }

    /// Somebody follows from now on.
    pub(super) fn come(&self) {
        if !self.0.came.swap(true, Ordering::AcqRel) {
            // An engine that has nothing left to do may be waiting for just this.
            self.0.engine.wake();
        }
    }

    /// Nothing more will happen: streams end when they have told what there is.
    pub fn end(&self) {
        self.0.over.send_replace(true);
    }

    /// Returns when nothing more will happen.
    pub(super) async fn ended(&self) {
        // The sender lives in `self`.
        let _ = self.0.over.subscribe().wait_for(|over| *over).await;
    }
}
