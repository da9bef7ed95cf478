//! A global allocator that counts, thread by thread.
//!
//! Install it in the binary: `#[global_allocator] static A: CountingAllocator = CountingAllocator;`. Each thread counts in
//! a slot of its own with plain loads and stores, so counting costs about a nanosecond and no cache line is shared.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::record::usage::Count;

/// Threads that get a slot of their own. Later ones share the last slot, and their allocations are attributed to none.
const SLOTS: usize = 1024;

static NEXT: AtomicUsize = AtomicUsize::new(0);
static TABLE: [Slot; SLOTS] = [const { Slot::new() }; SLOTS];

thread_local! {
    /// Index of this thread's slot; no destructor, so it can be used at any point in a thread's life.
    static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Two cache lines, so that neighbours do not share one even with adjacent-line prefetch.
#[repr(align(128))]
struct Slot {
    tid: AtomicI32,
    count: AtomicU64,
    bytes: AtomicU64,
}

impl Slot {
    const fn new() -> Self {
        Self { tid: AtomicI32::new(0), count: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }
}

/// Allocations so far, by id of the thread. Empty where the allocator is not installed.
pub fn by_thread() -> HashMap<i32, Count> {
    TABLE[..NEXT.load(Relaxed).min(SLOTS - 1)]
        .iter()
        .map(|slot| {
            (slot.tid.load(Relaxed), Count { count: slot.count.load(Relaxed), bytes: slot.bytes.load(Relaxed) })
        })
        .collect()
}

/// Whether this process counts its allocations.
pub fn counting() -> bool {
    NEXT.load(Relaxed) > 0
}

/// The system allocator, counted.
#[derive(Clone, Copy, Debug)]
pub struct CountingAllocator;

fn count(size: usize) {
    MINE.with(|mine| {
        if mine.get() == usize::MAX {
            let index = NEXT.fetch_add(1, Relaxed).min(SLOTS - 1);
            TABLE[index].tid.store(nix::unistd::gettid().as_raw(), Relaxed);
            mine.set(index);
        }
        let slot = &TABLE[mine.get()];
        if mine.get() == SLOTS - 1 {
            slot.count.fetch_add(1, Relaxed);
            slot.bytes.fetch_add(size as u64, Relaxed);
        } else {
            // This thread alone writes here: a load and a store do what a locked addition would.
            slot.count.store(slot.count.load(Relaxed) + 1, Relaxed);
            slot.bytes.store(slot.bytes.load(Relaxed) + size as u64, Relaxed);
        }
    });
}

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait; each call is passed on unchanged")]
// SAFETY: every method hands its arguments unchanged to the system allocator, whose contract is the same; counting
// touches only atomics and a thread-local cell without destructor, and never allocates.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's obligations are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_charged_exactly_what_it_allocated() {
        let mine = || by_thread().get(&nix::unistd::gettid().as_raw()).copied().unwrap_or_default();
        count(0);
        let before = mine();
        count(100);
        count(28);
        assert_eq!(mine().since(before), Count { count: 2, bytes: 128 });
        std::thread::spawn(|| count(1_000)).join().unwrap();
        assert_eq!(mine().since(before), Count { count: 2, bytes: 128 });
    }
}
