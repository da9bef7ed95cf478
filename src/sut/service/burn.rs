//! Injects a known cost: burns CPU time on purpose, measured with the same clock as the experiment.

use std::cell::Cell;
use std::hint;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Debt at which a thread starts to burn. Reading the clock takes up to a microsecond, which is burnt on top; in portions of
/// this size, the mean cost is accurate to about 1 %.
const PORTION: Duration = Duration::from_micros(30);

thread_local! {
    /// CPU time in nanoseconds that this thread still has to burn; negative if it has burnt too much.
    static DEBT_NS: Cell<i64> = const { Cell::new(0) };
}

/// Adds `cost` to the debt of the calling thread, which burns it once [`PORTION`] is reached.
pub(super) fn owe(cost: Duration) {
    // In range: no request costs centuries.
    let debt = DEBT_NS.get() + cost.as_nanos() as i64;
    let paid = if debt >= PORTION.as_nanos() as i64 { burn(debt) } else { 0 };
    DEBT_NS.set(debt - paid);
}

/// Burns at least `ns` nanoseconds of CPU time; returns how many.
fn burn(ns: i64) -> i64 {
    // Linux always has the clock of the calling thread. If it fails, nothing is burnt and the debt remains.
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

/// CPU time of the calling thread, in nanoseconds.
fn thread_ns() -> Option<i64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).ok()?;
    Some(time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_time_burnt_matches_the_requested_cost() {
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
            // Reading the clock around a portion is not accounted for, and slow on some virtual machines.
            assert!(paid > owed * 9 / 10 && paid < owed * 3 / 2, "{paid} of {owed}");
        }
    }
}
