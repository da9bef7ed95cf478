//! Which spans go into the next export, and when. It knows no clock and no collector: the time is told.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::queue::{FULL_BYTES, Piece, Queue};

/// Makes full batches of the pieces that wait in a [`Queue`].
///
/// An export has a fixed cost, so a collector that takes 50 ms for each is reached by `batch / 50 ms` spans a second, and
/// only if every batch is full. Threads leave pieces of any size, and spans go on closing during an export; sending the
/// pieces as they are found halves the rate.
#[derive(Debug)]
pub(crate) struct Batcher {
    batch: usize,
    delay: Duration,
    /// Taken out of the queue and not yet sent, oldest first.
    pieces: VecDeque<Piece>,
    /// Spans in the pieces.
    spans: usize,
    /// Bytes in the pieces.
    bytes: usize,
    /// Of these, the oldest spans that go out whether or not they fill a batch.
    owed: usize,
    /// When whatever waits is owed.
    due: Instant,
}

/// Spans of one export, each as field 2 of `ScopeSpans`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    /// The spans as they will be sent.
    pub bytes: Vec<u8>,
    /// How many they are.
    pub spans: usize,
}

/// The thread's next step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send this, and ask again.
    Send(Batch),
    /// Ask again at this time, or as soon as the queue holds a batch.
    Wait(Instant),
}

impl Batcher {
    /// Batches of a queue's size, of spans that wait for at most `delay` and the exports in front of them.
    pub(crate) fn new(queue: &Queue, delay: Duration, now: Instant) -> Self {
        let (batch, pieces) = (queue.batch(), VecDeque::new());
        Self { batch, delay, pieces, spans: 0, bytes: 0, owed: 0, due: now + delay }
    }

    /// The next batch, if there is a full one or what waits is owed.
    pub(crate) fn next(&mut self, queue: &Queue, now: Instant) -> Next {
        if now >= self.due {
            self.owe_all(queue, now);
        } else if self.owed > 0 || queue.waiting() >= self.batch {
            self.take(queue);
        }
        if self.owed > 0 || self.spans >= self.batch || self.bytes >= FULL_BYTES {
            self.due = now + self.delay;
            let batch = self.cut();
            queue.left(batch.spans);
            return Next::Send(batch);
        }
        Next::Wait(self.due)
    }

    /// Has every span that waits go out with the next batches.
    pub(crate) fn owe_all(&mut self, queue: &Queue, now: Instant) {
        self.take(queue);
        self.owed = self.spans;
        self.due = now + self.delay;
    }

    /// Whether spans are left that must go out.
    pub(crate) fn owes(&self) -> bool {
        self.owed > 0
    }

    fn take(&mut self, queue: &Queue) {
        for piece in queue.take() {
            self.spans += piece.spans;
            self.bytes += piece.bytes.len();
            self.pieces.push_back(piece);
        }
    }

    /// As many of the oldest spans as one export takes.
    fn cut(&mut self) -> Batch {
        let mut batch = Batch::default();
        while let Some(piece) = self.pieces.front_mut() {
            let room = self.batch - batch.spans;
            let fits = batch.spans == 0 || batch.bytes.len() + piece.bytes.len() <= FULL_BYTES;
            if room == 0 || !fits {
                break;
            }
            if piece.spans > room {
                let at = offset(&piece.bytes, room);
                batch.bytes.extend_from_slice(&piece.bytes[..at]);
                piece.bytes.drain(..at);
                piece.spans -= room;
                batch.spans += room;
                break;
            }
            batch.spans += piece.spans;
            if batch.bytes.is_empty() {
                batch.bytes = std::mem::take(&mut piece.bytes);
            } else {
                batch.bytes.extend_from_slice(&piece.bytes);
            }
            self.pieces.pop_front();
        }
        self.spans -= batch.spans;
        self.bytes -= batch.bytes.len();
        self.owed = self.owed.saturating_sub(batch.spans);
        batch
    }
}

/// Where the span number `spans` begins. Each is a key of one byte, its length as a varint, and so many bytes.
fn offset(bytes: &[u8], spans: usize) -> usize {
    let mut at = 0;
    for _ in 0..spans {
        let (mut length, mut shift) = (0, 0);
        for byte in bytes.get(at + 1..).unwrap_or_default() {
            at += 1;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if *byte < 0x80 {
                break;
            }
        }
        at += 1 + length;
    }
    // A span that panicked half-written could point beyond the end.
    at.min(bytes.len())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::encode;
    use crate::queue::Pushed;

    const DELAY: Duration = Duration::from_secs(5);

    /// A span of `length` bytes as the layer appends it.
    fn span(into: &mut Vec<u8>, length: usize) {
        encode::bytes(into, 2, &vec![b'x'; length]);
    }

    fn push(queue: &Queue, spans: usize) -> Pushed {
        (0..spans).map(|_| queue.push(|into| span(into, 100))).last().unwrap()
    }

    /// Pushes from a thread of its own, so into another part of the queue wherever there is another core.
    fn push_elsewhere(queue: &Queue, spans: usize) {
        thread::scope(|scope| scope.spawn(|| push(queue, spans)).join().unwrap());
    }

    /// The sizes of the batches that can be sent now, one after the other.
    fn sent(batcher: &mut Batcher, queue: &Queue, now: Instant) -> Vec<usize> {
        let mut sizes = Vec::new();
        while let Next::Send(batch) = batcher.next(queue, now) {
            assert_eq!(offset(&batch.bytes, batch.spans), batch.bytes.len());
            sizes.push(batch.spans);
        }
        sizes
    }

    #[test]
    fn pieces_of_several_threads_are_sent_as_full_batches_and_the_rest_when_it_is_due() {
        let now = Instant::now();
        let queue = Queue::new(10_000, 512);
        let mut batcher = Batcher::new(&queue, DELAY, now);
        for spans in [300, 400, 513, 77, 250] {
            push_elsewhere(&queue, spans);
        }
        assert_eq!(sent(&mut batcher, &queue, now), [512, 512, 512]);
        assert_eq!(batcher.next(&queue, now), Next::Wait(now + DELAY));
        assert_eq!(sent(&mut batcher, &queue, now + DELAY), [4]);
        assert_eq!(queue.waiting(), 0);
    }

    #[test]
    fn what_arrives_during_an_export_fills_the_next_batch() {
        let now = Instant::now();
        let queue = Queue::new(1_024, 512);
        let mut batcher = Batcher::new(&queue, DELAY, now);
        push(&queue, 512);
        assert!(matches!(batcher.next(&queue, now), Next::Send(_)));
        // While it is under way half a batch arrives, and after it the other half.
        push_elsewhere(&queue, 256);
        assert!(matches!(batcher.next(&queue, now), Next::Wait(_)));
        assert_eq!(push(&queue, 255), Pushed::Waits);
        assert!(matches!(batcher.next(&queue, now), Next::Wait(_)));
        assert_eq!(push(&queue, 1), Pushed::MakesABatch);
        assert_eq!(sent(&mut batcher, &queue, now), [512]);
    }

    #[test]
    fn what_is_owed_goes_out_and_what_came_later_waits() {
        let now = Instant::now();
        let queue = Queue::new(1_024, 100);
        let mut batcher = Batcher::new(&queue, DELAY, now);
        push(&queue, 150);
        batcher.owe_all(&queue, now);
        let Next::Send(first) = batcher.next(&queue, now) else { panic!("all is owed") };
        assert!(batcher.owes() && first.spans == 100);
        push(&queue, 20);
        // The later ones fill it up, as an export is due in any case.
        assert_eq!(sent(&mut batcher, &queue, now), [70]);
        assert!(!batcher.owes());
        push(&queue, 20);
        assert_eq!(batcher.next(&queue, now), Next::Wait(now + DELAY));
    }

    #[test]
    fn an_export_holds_no_more_bytes_than_collectors_take() {
        let now = Instant::now();
        let queue = Queue::new(1_024, 512);
        let mut batcher = Batcher::new(&queue, DELAY, now);
        for _ in 0..512 {
            queue.push(|into| span(into, 10_000));
        }
        let sizes = sent(&mut batcher, &queue, now + DELAY);
        assert_eq!(sizes.iter().sum::<usize>(), 512);
        assert!(sizes.iter().all(|spans| *spans <= FULL_BYTES / 10_000 + 1), "{sizes:?}");
    }

    #[test]
    fn a_batch_that_the_queue_cannot_hold_is_as_large_as_the_queue() {
        let now = Instant::now();
        let queue = Queue::new(25, 512);
        let mut batcher = Batcher::new(&queue, DELAY, now);
        assert_eq!(push(&queue, 25), Pushed::MakesABatch);
        assert_eq!(push(&queue, 1), Pushed::Dropped);
        assert_eq!(sent(&mut batcher, &queue, now), [25]);
    }

    /// Spans that close at a constant rate, now on one thread and now on another, and a collector that takes these times for
    /// its exports in turns, all in virtual time: the sizes of the exports, and the spans that were dropped.
    fn simulated(per_second: u32, exports_ms: &[u64], queue: &Queue, seconds: u32) -> (Vec<usize>, usize) {
        let start = Instant::now();
        let mut batcher = Batcher::new(queue, DELAY, start);
        let (mut sizes, mut dropped) = (Vec::new(), 0);
        let mut times = exports_ms.iter().map(|ms| Duration::from_millis(*ms)).cycle();
        // When the thread asks for a batch again, and whether it would be woken before.
        let (mut awake, mut idle) = (start, true);
        for nth in 0..per_second * seconds {
            let now = start + Duration::from_secs(1) * nth / per_second;
            if !idle && awake <= now {
                idle = true;
                if let Next::Send(batch) = batcher.next(queue, awake) {
                    sizes.push(batch.spans);
                    (awake, idle) = (awake + times.next().unwrap(), false);
                }
            }
            let pushed = queue.push_in(nth as usize / 100, |into| span(into, 100));
            dropped += usize::from(pushed == Pushed::Dropped);
            if idle && pushed == Pushed::MakesABatch {
                let Next::Send(batch) = batcher.next(queue, now) else { panic!("a batch was made") };
                sizes.push(batch.spans);
                (awake, idle) = (now + times.next().unwrap(), false);
            }
        }
        (sizes, dropped)
    }

    #[test]
    fn under_load_every_export_is_full_and_the_collectors_rate_is_reached() {
        // 512 spans in 50 ms are 10 240 a second; at 95 % of that nothing is lost for 20 s.
        let (sizes, dropped) = simulated(9_728, &[50], &Queue::new(1_024, 512), 20);
        assert!(sizes.iter().all(|spans| *spans == 512), "{sizes:?}");
        assert_eq!((dropped, sizes.len()), (0, 9_728 * 20 / 512));
        // Nor where the mean is the same and single exports take longer: what is under way takes no room in the queue.
        let (sizes, dropped) = simulated(9_728, &[40, 40, 40, 80], &Queue::new(1_024, 512), 20);
        assert!(dropped == 0 && sizes.iter().all(|spans| *spans == 512), "{dropped} {sizes:?}");
        // At 120 % the collector is kept at work all the time, and only the excess is lost.
        let (sizes, dropped) = simulated(12_288, &[50], &Queue::new(1_024, 512), 20);
        assert!(sizes.iter().all(|spans| *spans == 512), "{sizes:?}");
        assert!(sizes.len() >= 398 && dropped <= 2_048 * 20, "{} {dropped}", sizes.len());
    }

    #[test]
    fn every_batch_is_full_while_threads_push_at_once() {
        const THREADS: usize = 4;
        const EACH: usize = 64 * 100;
        let now = Instant::now();
        let queue = Queue::new(THREADS * EACH, 64);
        let mut batcher = Batcher::new(&queue, DELAY, now);
        let mut spans = 0;
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| push(&queue, EACH));
            }
            while spans < THREADS * EACH {
                let waits = queue.waiting() >= 64;
                match batcher.next(&queue, now) {
                    Next::Send(batch) => {
                        assert_eq!(batch.spans, 64);
                        spans += batch.spans;
                    }
                    Next::Wait(_) => assert!(!waits, "a batch was counted and not found"),
                }
            }
        });
    }
}
