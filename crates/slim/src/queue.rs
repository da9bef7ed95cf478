//! Where closing spans wait, already written as they will be sent.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes at which a piece is full however few its spans, and so is an export: a quarter of what collectors take in one message.
pub(crate) const FULL_BYTES: usize = 1 << 20;

/// Spans of one thread or of several, each as field 2 of `ScopeSpans`.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    /// The spans as they will be sent.
    pub bytes: Vec<u8>,
    /// How many they are.
    pub spans: usize,
}

/// Spans that wait, in one part per thread up to the number of cores, so that threads seldom wait for each other.
#[derive(Debug)]
pub(crate) struct Queue {
    parts: Box<[Mutex<Part>]>,
    waiting: AtomicUsize,
    limit: usize,
    batch: usize,
}

/// The spans of some of the threads.
#[derive(Debug, Default)]
struct Part {
    pieces: Vec<Piece>,
    /// Bytes of the largest piece so far: the next is likely as large.
    usual: usize,
}

/// Where a pushed span went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
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
        Cell::new(NEXT.fetch_add(1, Ordering::Relaxed))
    };
}

impl Queue {
    /// A queue for `limit` spans, sent in batches of `batch`, or of `limit` where a batch would never fill.
    pub(crate) fn new(limit: usize, batch: usize) -> Self {
        let parts = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Self {
            parts: (0..parts).map(|_| Mutex::default()).collect(),
            waiting: AtomicUsize::new(0),
            limit,
            batch: batch.min(limit).max(1),
        }
    }

    /// Spans in one export at most.
    pub(crate) fn batch(&self) -> usize {
        self.batch
    }

    /// Has `write` append a span, if there is room for one.
    pub(crate) fn push(&self, write: impl FnOnce(&mut Vec<u8>)) -> Pushed {
        self.push_in(PART.get(), write)
    }

    /// As [`push`](Self::push), for the thread of this number.
    pub(crate) fn push_in(&self, thread: usize, write: impl FnOnce(&mut Vec<u8>)) -> Pushed {
        // Cheap, where spans are dropped by the thousand; the count below is the one that decides.
        if self.waiting.load(Ordering::Relaxed) >= self.limit {
            return Pushed::Dropped;
        }
        // A span is counted under the lock of its part, so whoever sees the count and then takes that part finds the span.
        let mut part = self.part(thread);
        let waiting = self.waiting.fetch_add(1, Ordering::Release) + 1;
        if waiting > self.limit {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Pushed::Dropped;
        }
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

    /// Spans that wait, those that were taken and have not [`left`](Self::left) yet included.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Takes the spans out. They count as waiting until they have [`left`](Self::left) with an export.
    pub(crate) fn take(&self) -> impl Iterator<Item = Piece> {
        self.parts.iter().flat_map(|part| std::mem::take(&mut locked(part).pieces))
    }

    /// Makes room for as many spans as leave with an export.
    pub(crate) fn left(&self, spans: usize) {
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
    }

    fn part(&self, thread: usize) -> MutexGuard<'_, Part> {
        locked(&self.parts[thread % self.parts.len()])
    }
}

fn locked(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    // A panic while a span was written leaves that piece unreadable to the collector, which will say so.
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn a_span_is_counted_no_sooner_than_it_can_be_found() {
        let queue = Queue::new(10, 2);
        let (writing, is_writing) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel();
        thread::scope(|scope| {
            let queue = &queue;
            scope.spawn(move || {
                queue.push_in(0, |_| {
                    writing.send(()).unwrap();
                    may_go_on.recv().unwrap();
                })
            });
            is_writing.recv().unwrap();
            // This one waits until the other is written.
            scope.spawn(|| queue.push_in(0, |_| ()));
            let mut counted = 0;
            for _ in 0..1_000 {
                thread::yield_now();
                counted = queue.waiting().max(counted);
            }
            go_on.send(()).unwrap();
            assert_eq!(counted, 1);
        });
        assert_eq!(queue.waiting(), 2);
        assert_eq!(queue.take().map(|piece| piece.spans).sum::<usize>(), 2);
    }
}
