//! A known cost: CPU time that is burnt on purpose, and counted by the clock that the measurement uses.

use std::cell::Cell;
use std::hint;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Debt at which a thread pays. To read the clock takes a good part of a microsecond, of which half before the first reading
/// and half after the last are burnt on top; paid in portions of this size a cost is right on the mean to a percent or so.
const PORTION: Duration = Duration::from_micros(30);

thread_local! {
    /// Nanoseconds of CPU time that this thread has yet to burn; below zero where it burnt too many.
    static DEBT_NS: Cell<i64> = const { Cell::new(0) };
}

/// Has the calling thread burn `cost`, now or, with what it owes already, later.
pub(super) fn owe(cost: Duration) {
    // In range: a cost of centuries is no cost of a request.
    let debt = DEBT_NS.get() + cost.as_nanos() as i64;
    let paid = if debt >= PORTION.as_nanos() as i64 { burn(debt) } else { 0 };
    DEBT_NS.set(debt - paid);
}

/// Burns at least so many nanoseconds of this thread's CPU time, and says how many.
fn burn(ns: i64) -> i64 {
    // The clock of the own thread is there wherever Linux is; if it fails, nothing is paid and the debt shows it.
    let Some(start) = thread_ns() else { return 0 };
    loop {
        hint::spin_loop();
        match thread_ns() {
            Some(now) if now - start < ns => {}
            Some(now) => return now - start,
            None => return 0,
        }
    }
}

/// CPU time of the calling thread.
fn thread_ns() -> Option<i64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).ok()?;
    Some(time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_burnt_by_the_threads_own_clock_and_not_much_more() {
        let burnt = |cost: Duration, times: u32| {
            std::thread::spawn(move || {
                let start = thread_ns().unwrap();
                (0..times).for_each(|_| owe(cost));
                thread_ns().unwrap() - start
            })
            .join()
            .unwrap()
        };
        let nothing = burnt(Duration::ZERO, 10_000);
        for cost in [Duration::from_nanos(300), Duration::from_micros(3), Duration::from_micros(30)] {
            let owed = cost.as_nanos() as i64 * 10_000;
            let paid = burnt(cost, 10_000) - nothing;
            // The readings around a portion are on nobody's account, and dear on some virtual machines.
            assert!(paid > owed * 9 / 10 && paid < owed * 3 / 2, "{paid} of {owed}");
        }
    }
}
