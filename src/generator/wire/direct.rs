//! No wire: the service is called on the generator's own thread.

use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, StatusCode};

use super::{Answer, Failure, io_class, parsed};

/// Answers requests.
#[derive(Clone)]
pub struct Handler(Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, io::Result<StatusCode>> + Send + Sync>);

impl Handler {
    /// A handler that does `answer`: the status once the body of the answer was taken to its end, or why that broke off.
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

/// Calls the handler, one call at a time.
pub(in crate::generator) struct Call(Handler);

impl Call {
    pub(super) fn of(handler: &Handler) -> Self {
        Self(handler.clone())
    }

    /// The request counts as written when the handler is called.
    pub(super) async fn exchange(&self, request: &[u8]) -> Result<Answer, Failure> {
        let request = parsed(request).ok_or("bad_request")?;
        let written = Instant::now();
        // Behind a socket a handler that panics takes its connection with it; here it must not take the generator.
        let answered = AssertUnwindSafe(async { (self.0.0)(request).await }).catch_unwind().await;
        let completed = Instant::now();
        let status = answered.map_err(|_| "panicked")?.map_err(|error| io_class(&error))?;
        Ok(Answer { status, written, completed })
    }
}
