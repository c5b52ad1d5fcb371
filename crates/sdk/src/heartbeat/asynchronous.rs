//! The same client for programs on a tokio runtime. The exchanges happen on the runtime's threads for what blocks, as its own
//! files do, so that it works over every kind of endpoint on every system.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::client::{Client, Delivery, Refused};
use super::report::Report;

/// A [`Client`] whose calls are awaited; clones share it, and what they say goes one after the other. A call that is dropped
/// before it ends is still carried out.
#[derive(Clone, Debug)]
pub struct AsyncClient(Arc<Mutex<Client>>);

impl From<Client> for AsyncClient {
    fn from(client: Client) -> AsyncClient {
        AsyncClient(Arc::new(Mutex::new(client)))
    }
}

impl AsyncClient {
    /// See [`Client::from_env`].
    #[must_use]
    pub fn from_env() -> Option<AsyncClient> {
        Client::from_env().map(AsyncClient::from)
    }

    /// See [`Client::beat`].
    ///
    /// # Errors
    /// keepwell does not take it.
    pub async fn beat(&self) -> Result<Delivery, Refused> {
        self.with(Client::beat).await
    }

    /// See [`Client::ready`].
    ///
    /// # Errors
    /// keepwell does not take it, or something that waited before it.
    pub async fn ready(&self) -> Result<Delivery, Refused> {
        self.with(Client::ready).await
    }

    /// See [`Client::stopping`].
    ///
    /// # Errors
    /// keepwell does not take it, or something that waited before it.
    pub async fn stopping(&self) -> Result<Delivery, Refused> {
        self.with(Client::stopping).await
    }

    /// See [`Client::extend_timeout`].
    ///
    /// # Errors
    /// keepwell does not take it, or something that waited before it.
    pub async fn extend_timeout(&self, by: Duration) -> Result<Delivery, Refused> {
        self.with(move |client| client.extend_timeout(by)).await
    }

    /// See [`Client::status`].
    ///
    /// # Errors
    /// keepwell does not take it, or something that waited before it.
    pub async fn status(&self, text: &str) -> Result<Delivery, Refused> {
        let text = text.to_owned();
        self.with(move |client| client.status(&text)).await
    }

    /// See [`Client::report`].
    ///
    /// # Errors
    /// It is no report, or keepwell does not take it, or something that waited before it.
    pub async fn report(&self, report: Report) -> Result<Delivery, Refused> {
        self.with(move |client| client.report(report)).await
    }

    async fn with<F>(&self, call: F) -> Result<Delivery, Refused>
    where
        F: FnOnce(&mut Client) -> Result<Delivery, Refused> + Send + 'static,
    {
        let client = Arc::clone(&self.0);
        let call = move || call(&mut client.lock().unwrap_or_else(PoisonError::into_inner));
        // Only a runtime that ends takes none.
        tokio::task::spawn_blocking(call).await.unwrap_or(Ok(Delivery::Queued))
    }
}
