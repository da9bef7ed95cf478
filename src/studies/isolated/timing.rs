//! The timed loop, and the arithmetic on its times.

use std::hint::black_box;
use std::io;
use std::sync::Barrier;
use std::thread;

use crate::os::clock;
use crate::os::cores;

/// Target duration of a batch, in ns: a thousand times the cost of the clock, and less than a scheduler's time slice.
const BATCH_NS: u64 = 2_000_000;
/// Batches that count.
const BATCHES: usize = 15;
/// Batches before them, so that lazy initialisation is over and the branches are learnt.
const WARM_UP: usize = 4;

/// A loop that was timed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Timed {
    /// Nanoseconds per turn.
    pub(super) ns: f64,
    /// Turns in each batch, and on each thread.
    pub(super) turns: u64,
    /// Batches that counted.
    pub(super) batches: usize,
    /// Turns made in all, on all threads, those before the batches that counted included.
    pub(super) made: u64,
}

/// Nanoseconds that one batch took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    /// With the call.
    with: u64,
    /// The same loop, and all but the call.
    without: u64,
}

/// The median over the batches of the time per turn with the call, less that without.
fn per_turn(batches: &[Batch], turns: u64) -> f64 {
    let mut each: Vec<f64> =
        batches.iter().map(|batch| (batch.with as f64 - batch.without as f64) / turns as f64).collect();
    each.sort_by(f64::total_cmp);
    // An odd number, so that it has a middle.
    each[each.len() / 2]
}

/// A loop with the call, and the same loop without it.
pub(super) struct Loop<B, W, T> {
    /// Everything but the call; its time is subtracted.
    pub(super) beside: B,
    /// The same with the call.
    pub(super) work: W,
    /// Empties queues between batches, while the clock does not count.
    pub(super) tend: T,
    /// Most turns in a batch, so that nothing overflows before it is emptied.
    pub(super) most: u64,
}

/// Times a loop on the calling thread, by its own CPU clock.
pub(super) fn timed(what: Loop<impl FnMut(u64), impl FnMut(u64), impl FnMut()>) -> io::Result<Timed> {
    timed_by(clock::own_cpu_ns, what)
}

fn timed_by(
    clock: impl Fn() -> io::Result<u64>,
    mut what: Loop<impl FnMut(u64), impl FnMut(u64), impl FnMut()>,
) -> io::Result<Timed> {
    let (turns, mut made) = fitted(&clock, &mut what)?;
    let mut batches = Vec::new();
    for _ in 0..WARM_UP + BATCHES {
        let with = clocked(&clock, turns, &mut what.work)?;
        made += turns;
        (what.tend)();
        batches.push(Batch { with, without: clocked(&clock, turns, &mut what.beside)? });
    }
    Ok(Timed { ns: per_turn(&batches[WARM_UP..], turns), turns, batches: BATCHES, made })
}

/// The number of turns in a batch, and the number made to find it.
fn fitted(
    clock: &impl Fn() -> io::Result<u64>,
    what: &mut Loop<impl FnMut(u64), impl FnMut(u64), impl FnMut()>,
) -> io::Result<(u64, u64)> {
    let (mut turns, mut made) = (1, 0);
    loop {
        let mut took = u64::MAX;
        // Twice, so that lazy initialisation does not pass for the cost of every turn.
        for _ in 0..2 {
            took = took.min(clocked(clock, turns, &mut what.work)?);
            made += turns;
            (what.tend)();
        }
        if took >= BATCH_NS / 2 || turns >= what.most {
            let fitting = turns as f64 * BATCH_NS as f64 / took.max(1) as f64;
            return Ok(((fitting as u64).clamp(1, what.most), made));
        }
        turns = (turns * 2).min(what.most);
    }
}

/// Time of so many turns by this clock, in ns.
fn clocked(clock: &impl Fn() -> io::Result<u64>, turns: u64, turn: &mut impl FnMut(u64)) -> io::Result<u64> {
    let began = clock()?;
    for number in 0..turns {
        turn(black_box(number));
    }
    Ok(clock()?.saturating_sub(began))
}

/// Times a loop on as many threads at once as there are `works`, each kept on one of the `cores` while there are enough; every
/// batch begins on all at the same moment. The time is the mean over the threads, each by its own CPU clock.
pub(super) fn timed_on(cores: &[usize], works: &[impl Fn(u64) + Sync], most: u64) -> io::Result<Timed> {
    let Some(first) = works.first() else { return Err(io::Error::other("there is no work for any thread")) };
    let alone = &mut Loop { beside: |_| (), work: first, tend: || (), most };
    let (turns, mut made) = fitted(&clock::own_cpu_ns, alone)?;
    let (barrier, count) = (Barrier::new(works.len()), WARM_UP + BATCHES);
    let by_thread = thread::scope(|scope| {
        let thread = |(number, mut work)| {
            let (barrier, core) = (&barrier, cores.get(number..=number).unwrap_or_default());
            scope.spawn(move || -> io::Result<Vec<Batch>> {
                // A thread that returned early would leave the others waiting, so errors are returned at the end.
                let kept = cores::keep_on(core);
                let batches: io::Result<Vec<Batch>> = (0..count)
                    .map(|_| {
                        barrier.wait();
                        let with = clocked(&clock::own_cpu_ns, turns, &mut work);
                        barrier.wait();
                        let without = clocked(&clock::own_cpu_ns, turns, &mut |_| ());
                        Ok(Batch { with: with?, without: without? })
                    })
                    .collect::<Vec<_>>()
                    .into_iter()
                    .collect();
                kept.and(batches)
            })
        };
        let threads: Vec<_> = works.iter().enumerate().map(thread).collect();
        let joined = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread that was timed has panicked")))
        });
        joined.collect::<io::Result<Vec<Vec<Batch>>>>()
    })?;
    made += turns * (count * works.len()) as u64;
    let ns = per_turn(&means(&by_thread)[WARM_UP..], turns);
    Ok(Timed { ns, turns, batches: BATCHES, made })
}

/// The mean over the threads, batch by batch.
fn means(by_thread: &[Vec<Batch>]) -> Vec<Batch> {
    let mean = |number: usize, of: fn(&Batch) -> u64| {
        by_thread.iter().map(|batches| of(&batches[number])).sum::<u64>() / by_thread.len() as u64
    };
    let count = by_thread.first().map_or(0, Vec::len);
    (0..count)
        .map(|number| Batch { with: mean(number, |batch| batch.with), without: mean(number, |batch| batch.without) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// Times a loop by a clock that only the loop itself moves.
    fn virtually(beside: impl Fn(&Cell<u64>), work: impl Fn(&Cell<u64>), most: u64) -> Timed {
        let now = Cell::new(0);
        let what =
            Loop { beside: |_| beside(&now), work: |_| work(&now), tend: || now.set(now.get() + 1_000_000), most };
        timed_by(|| Ok(now.replace(now.get() + 30)), what).unwrap()
    }

    fn pass(clock: &Cell<u64>, ns: u64) {
        clock.set(clock.get() + ns);
    }

    #[test]
    fn the_time_of_the_empty_loop_is_subtracted() {
        // 3 ns are the loop's, 7 the call's, and reading the clock takes 30; what is done between batches takes longest.
        let timed = virtually(|clock| pass(clock, 3), |clock| pass(clock, 10), 1_000_000);
        assert_eq!(timed.ns, 7.0);
        assert_eq!(timed.batches, BATCHES);
        assert!((150_000..=200_100).contains(&timed.turns), "{timed:?}");
        // Nothing costs less than nothing for long, but a value that is cut off at 0 would be too high on the mean.
        assert_eq!(virtually(|clock| pass(clock, 3), |clock| pass(clock, 2), 1_000).ns, -1.0);
    }

    #[test]
    fn lazy_initialisation_does_not_shrink_the_batches() {
        let made = Cell::new(false);
        let work = |clock: &Cell<u64>| pass(clock, if made.replace(true) { 10 } else { 50_000_000 });
        let timed = virtually(|_| (), work, 1_000_000);
        assert!(timed.turns > 100_000 && timed.ns == 10.0, "{timed:?}");
    }

    #[test]
    fn every_turn_is_counted_and_no_batch_exceeds_its_limit() {
        let (made, largest, batch) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let what = Loop {
            beside: |_| (),
            work: |_| {
                made.set(made.get() + 1);
                batch.set(batch.get() + 1);
                largest.set(largest.get().max(batch.get()));
            },
            tend: || batch.set(0),
            most: 100,
        };
        let timed = timed_by(|| Ok(0), what).unwrap();
        assert_eq!((timed.made, timed.turns, largest.get()), (made.get(), 100, 100));
    }

    #[test]
    fn an_outlier_among_the_batches_moves_nothing() {
        let batch = |with| Batch { with, without: 10 };
        assert_eq!(per_turn(&[batch(30), batch(9_000), batch(20)], 10), 2.0);
    }

    fn spin(ns: u64) {
        let began = clock::own_cpu_ns().unwrap();
        while clock::own_cpu_ns().unwrap() - began < ns {}
    }

    #[test]
    fn a_known_cost_is_measured() {
        const COST: u64 = 20_000;
        let what = Loop { beside: |_| (), work: |_| spin(COST), tend: || (), most: 1_000 };
        let found = timed(what).unwrap().ns;
        assert!((0.5 * COST as f64..2.0 * COST as f64).contains(&found), "{found}");
        let cores = cores::allowed_cores();
        let cores = &cores[..cores.len().min(2)];
        let (turns, work) = (AtomicU64::new(0), |_| spin(COST));
        let counted = |turn| {
            turns.fetch_add(1, Relaxed);
            work(turn);
        };
        let timed = timed_on(cores, &vec![counted; cores.len()], 1_000).unwrap();
        assert!((0.5 * COST as f64..2.0 * COST as f64).contains(&timed.ns), "{timed:?}");
        assert_eq!(timed.made, turns.load(Relaxed));
    }

    #[test]
    fn threads_have_equal_weight() {
        let batches = |with| vec![Batch { with, without: 0 }];
        assert_eq!(means(&[batches(10), batches(30)]), [Batch { with: 20, without: 0 }]);
    }
}
