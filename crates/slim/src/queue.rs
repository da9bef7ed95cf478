//! Where closing spans wait, already written, in the pieces that they will be sent in.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes at which a piece is full however few its spans: a quarter of what collectors take in one message.
const FULL_BYTES: usize = 1 << 20;

/// Spans of one message, each as field 2 of `ScopeSpans`.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// The spans as they will be sent.
    pub bytes: Vec<u8>,
    /// How many they are.
    pub spans: usize,
}

/// Spans that wait, in one part per thread up to the number of cores, so that threads seldom wait for each other.
#[derive(Debug)]
pub(super) struct Queue {
    parts: Box<[Mutex<Part>]>,
    waiting: AtomicUsize,
    limit: usize,
    batch: usize,
}

/// The spans of some of the threads.
#[derive(Debug, Default)]
struct Part {
    pieces: Vec<Piece>,
    /// Bytes of a piece so far at most: the next is likely as large.
    usual: usize,
}

/// What came of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits.
    Waits,
    /// It waits, and with it there is a batch.
    MakesABatch,
    /// It was dropped: the queue is full.
    Dropped,
}

thread_local! {
    /// Which part this thread's spans wait in, whatever the queue.
    static PART: Cell<usize> = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Cell::new(NEXT.fetch_add(1, Relaxed))
    };
}

impl Queue {
    /// A queue for `limit` spans, sent in batches of `batch`.
    pub(super) fn new(limit: usize, batch: usize) -> Self {
        let parts = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Self {
            parts: (0..parts).map(|_| Mutex::default()).collect(),
            waiting: AtomicUsize::new(0),
            limit,
            batch: batch.max(1),
        }
    }

    /// Has `write` append a span, if there is room for one.
    pub(super) fn push(&self, write: impl FnOnce(&mut Vec<u8>)) -> Pushed {
        let waiting = self.waiting.fetch_add(1, Relaxed) + 1;
        if waiting > self.limit {
            self.waiting.fetch_sub(1, Relaxed);
            return Pushed::Dropped;
        }
        let mut part = self.part(PART.get());
        let Part { pieces, usual } = &mut *part;
        if pieces.last().is_none_or(|piece| piece.spans >= self.batch || piece.bytes.len() >= FULL_BYTES) {
            pieces.push(Piece { bytes: Vec::with_capacity(*usual), spans: 0 });
        }
        if let Some(piece) = pieces.last_mut() {
            write(&mut piece.bytes);
            piece.spans += 1;
            *usual = piece.bytes.len().max(*usual);
        }
        if waiting.is_multiple_of(self.batch) { Pushed::MakesABatch } else { Pushed::Waits }
    }

    /// Takes what waits. It counts as waiting until [`sent`](Self::sent), so that the limit bounds what is under way too.
    pub(super) fn take(&self) -> Vec<Piece> {
        (0..self.parts.len()).flat_map(|part| std::mem::take(&mut self.part(part).pieces)).collect()
    }

    /// Makes room for as many spans as left the queue for good.
    pub(super) fn sent(&self, spans: usize) {
        self.waiting.fetch_sub(spans, Relaxed);
    }

    fn part(&self, thread: usize) -> MutexGuard<'_, Part> {
        // A panic while a span was written leaves that piece unreadable to the collector, which will say so.
        self.parts[thread % self.parts.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
