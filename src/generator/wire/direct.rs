//! The direct transport: calls the service on the generator's own thread, without sockets.

use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, StatusCode};

use super::{FailureClass, TimedResponse, io_class, parsed};

/// A function that answers requests in the same process.
#[derive(Clone)]
pub struct Handler(Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, io::Result<StatusCode>> + Send + Sync>);

impl Handler {
    /// A handler that calls `answer`, which returns the status after the whole response body was read, or the error that
    /// ended it.
    pub fn new<F>(answer: impl Fn(Request<Bytes>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<StatusCode>> + Send + 'static,
    {
        Self(Arc::new(move |request| answer(request).boxed()))
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").finish_non_exhaustive()
    }
}

/// A slot that makes one call at a time.
pub(in crate::generator) struct Call(Handler);

impl Call {
    pub(super) fn of(handler: &Handler) -> Self {
        Self(handler.clone())
    }

    /// Calls the handler. The request counts as written when the call begins.
    pub(super) async fn exchange(&self, request: &[u8]) -> Result<TimedResponse, FailureClass> {
        let request = parsed(request).ok_or("bad_request")?;
        let written = Instant::now();
        // Behind a socket, a panic in the handler closes its connection; here it must not end the generator.
        let answered = AssertUnwindSafe(async { (self.0.0)(request).await }).catch_unwind().await;
        let completed = Instant::now();
        let status = answered.map_err(|_| "panicked")?.map_err(|error| io_class(&error))?;
        Ok(TimedResponse { status, written, completed })
    }
}
