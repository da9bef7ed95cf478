//! State shared by the layer and the sending thread.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Instant;

use crate::queue::{Pushed, Queue};

/// Closed spans on their way from the layer to the thread, and what became of them.
#[derive(Debug)]
pub(crate) struct Shared {
    pub queue: Queue,
    ended: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    rejected: AtomicU64,
    requests: Mutex<Requests>,
    requested: Condvar,
}

/// Requests to the sending thread.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// The queue holds a batch.
    pub batch_ready: bool,
    /// Told, each once, when every span that waits now has been tried.
    pub flushes: Vec<mpsc::Sender<()>>,
    /// To end after that.
    pub end: bool,
}

impl Requests {
    fn any(&self) -> bool {
        self.batch_ready || self.end || !self.flushes.is_empty()
    }
}

/// Where the spans went so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Spans that closed and whose trace is recorded.
    pub ended: u64,
    /// Dropped because the queue was full.
    pub dropped: u64,
    /// In exports that failed.
    pub failed: u64,
    /// Refused by the collector, by its own count.
    pub rejected: u64,
}

impl Shared {
    pub(crate) fn new(queue: Queue) -> Self {
        Self {
            queue,
            ended: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            requests: Mutex::default(),
            requested: Condvar::new(),
        }
    }

    /// Notes that a span has ended, which `write` appends to the message that will be sent.
    pub(crate) fn ended(&self, write: impl FnOnce(&mut Vec<u8>)) {
        self.ended.fetch_add(1, Relaxed);
        match self.queue.push(write) {
            Pushed::Waits => {}
            Pushed::MakesABatch => self.request(|requests| requests.batch_ready = true),
            Pushed::Dropped => {
                self.dropped.fetch_add(1, Relaxed);
            }
        }
    }

    /// Notes that an export of so many spans is over: how many of them the collector refused, or that it failed.
    pub(crate) fn sent(&self, spans: usize, rejected: Option<u64>) {
        match rejected {
            Some(rejected) => self.rejected.fetch_add(rejected, Relaxed),
            None => self.failed.fetch_add(spans as u64, Relaxed),
        };
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            ended: self.ended.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            failed: self.failed.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
        }
    }

    /// Asks the thread for something.
    pub(crate) fn request(&self, ask: impl FnOnce(&mut Requests)) {
        ask(&mut self.locked());
        self.requested.notify_one();
    }

    /// Takes the requests made so far, without waiting.
    pub(crate) fn requests(&self) -> Requests {
        std::mem::take(&mut self.locked())
    }

    /// Waits until the thread is asked for something, or until `due`.
    pub(crate) fn wait(&self, due: Instant) -> Requests {
        let left = due.saturating_duration_since(Instant::now());
        let waited = self.requested.wait_timeout_while(self.locked(), left, |requests| !requests.any());
        let (mut requests, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut requests)
    }

    fn locked(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
