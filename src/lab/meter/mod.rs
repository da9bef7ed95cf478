//! Resource usage of a process: CPU time and allocations by the role of the thread, and memory.
//!
//! CPU time comes from the per-thread CPU clocks in nanoseconds; the 10 ms ticks of `/proc/PID/stat` would be too coarse
//! for a slice. A thread's role is read off its name, so whoever starts a thread names it. The meter knows nothing of
//! what the threads do: the table of names is given to it.

pub mod allocations;

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use procfs::process::Process;

use crate::os::clock::{into_io, process_cpu_ns, steal, thread_cpu_ns};
use crate::record::usage::Count;

/// Longest time from the first clock of a reading to the last, some ten times what it takes: what each core does in it is
/// on the clock of the process and may be on no thread's.
const LONGEST_PASS: Duration = Duration::from_micros(200);
/// Passes over the clocks until one is short enough, or the shortest counts.
const MOST_PASSES: usize = 8;

/// The role of a thread, by which its usage is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ThreadRole {
    /// Answers requests.
    Request,
    /// Exports spans and logs, as they come.
    SpanExport,
    /// Works once per export interval, however many requests there were: metric exports, scrapes.
    PeriodicExport,
    /// Generates the load.
    Generator,
    /// The harness itself, and any thread whose name is in no table.
    Other,
}

/// Prefixes of thread names and their roles; the first match wins.
pub type ThreadRoles = &'static [(&'static str, ThreadRole)];

/// Reads this process's clocks and counters.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    roles: ThreadRoles,
}

/// The state of every clock and counter at one moment.
#[derive(Clone, Debug)]
pub struct MeterReading {
    at: Instant,
    process_ns: u64,
    threads: BTreeMap<i32, Thread>,
    steal: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Thread {
    role: ThreadRole,
    cpu_ns: u64,
    allocated: Count,
}

/// Usage between two readings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeterDelta {
    /// Time that passed.
    pub wall: Duration,
    /// The process's own CPU clock, in nanoseconds.
    pub process_ns: u64,
    /// CPU nanoseconds by role, of the threads alive at the second reading.
    pub cpu_ns: BTreeMap<ThreadRole, u64>,
    /// Allocations by role, likewise.
    pub allocated: BTreeMap<ThreadRole, Count>,
    /// CPU time the hypervisor gave to others, over all cores; in steps of 10 ms.
    pub steal: Duration,
}

impl Meter {
    /// A meter that assigns roles by `roles`.
    pub fn new(roles: ThreadRoles) -> Self {
        Self { roles }
    }

    /// Reads all clocks and counters now.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn read(&self) -> io::Result<MeterReading> {
        // Whatever is slow comes first, so that little is spent between the first clock and the last.
        let steal = steal()?;
        let allocated = allocations::by_thread();
        let mut roles = Vec::new();
        for task in Process::myself().and_then(|me| me.tasks()).map_err(into_io)? {
            // A thread may end before its clock is read; its time is then shown as unaccounted.
            let Ok(task) = task else { continue };
            let Ok(stat) = task.stat() else { continue };
            roles.push((task.tid, self.role(&stat.comm)));
        }
        let clocks = Clocks::read(&roles)?;
        let threads = roles
            .iter()
            .zip(clocks.threads_ns)
            .filter_map(|(&(tid, role), cpu_ns)| {
                let allocated = allocated.get(&tid).copied().unwrap_or_default();
                Some((tid, Thread { role, cpu_ns: cpu_ns?, allocated }))
            })
            .collect();
        Ok(MeterReading { at: clocks.at, process_ns: clocks.process_ns, threads, steal })
    }

    fn role(&self, thread_name: &str) -> ThreadRole {
        self.roles
            .iter()
            .find(|(prefix, _)| thread_name.starts_with(prefix))
            .map_or(ThreadRole::Other, |(_, role)| *role)
    }
}

/// CPU clocks, read one after the other.
struct Clocks {
    /// When the last was read.
    at: Instant,
    process_ns: u64,
    /// By thread; none of a thread that has ended.
    threads_ns: Vec<Option<u64>>,
    /// From the first to the last.
    took: Duration,
}

impl Clocks {
    /// Reads all clocks, and again when the reader lost its core on the way, while others may have run.
    fn read(threads: &[(i32, ThreadRole)]) -> io::Result<Self> {
        let mut best = Self::pass(threads)?;
        for _ in 1..MOST_PASSES {
            if best.took <= LONGEST_PASS {
                break;
            }
            let pass = Self::pass(threads)?;
            if pass.took < best.took {
                best = pass;
            }
        }
        Ok(best)
    }

    fn pass(threads: &[(i32, ThreadRole)]) -> io::Result<Self> {
        let began = Instant::now();
        let threads_ns = threads.iter().map(|&(tid, _)| thread_cpu_ns(tid).ok()).collect();
        // Last, since it has of a running thread only what its own clock, or a tick, last accounted for.
        let process_ns = process_cpu_ns()?;
        let at = Instant::now();
        Ok(Self { at, process_ns, threads_ns, took: at.saturating_duration_since(began) })
    }
}

impl MeterReading {
    /// Usage since `earlier`.
    pub fn since(&self, earlier: &Self) -> MeterDelta {
        let mut usage = MeterDelta {
            wall: self.at.saturating_duration_since(earlier.at),
            process_ns: self.process_ns.saturating_sub(earlier.process_ns),
            steal: self.steal.saturating_sub(earlier.steal),
            ..MeterDelta::default()
        };
        for (tid, now) in &self.threads {
            let then = earlier.threads.get(tid);
            *usage.cpu_ns.entry(now.role).or_default() += now.cpu_ns - then.map_or(0, |t| t.cpu_ns.min(now.cpu_ns));
            let allocated = usage.allocated.entry(now.role).or_default();
            *allocated = allocated.plus(now.allocated.since(then.map_or(Count::default(), |t| t.allocated)));
        }
        usage
    }
}

impl MeterDelta {
    /// CPU nanoseconds that threads of `role` spent.
    pub fn cpu_ns(&self, role: ThreadRole) -> u64 {
        self.cpu_ns.get(&role).copied().unwrap_or(0)
    }

    /// Allocations by threads of `role`.
    pub fn allocated(&self, role: ThreadRole) -> Count {
        self.allocated.get(&role).copied().unwrap_or_default()
    }

    /// CPU nanoseconds on the process's clock that no living thread's clock shows; negative when more was missed at the first
    /// reading than at the second.
    pub fn unaccounted_ns(&self) -> i64 {
        let seen: u64 = self.cpu_ns.values().sum();
        self.process_ns.cast_signed() - seen.cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::clock::own_cpu_ns;
    use std::hint::black_box;
    use std::sync::mpsc;
    use std::thread;

    const ROLES: ThreadRoles = &[("worker", ThreadRole::Request), ("exporter", ThreadRole::SpanExport)];

    fn burn(cpu: Duration) {
        let start = own_cpu_ns().unwrap();
        while Duration::from_nanos(own_cpu_ns().unwrap() - start) < cpu {
            black_box((0..1_000_u64).sum::<u64>());
        }
    }

    /// Runs `work` on a thread of this name that then stays alive until the returned sender is dropped.
    fn on_thread(name: &str, work: impl FnOnce() + Send + 'static) -> mpsc::Sender<()> {
        let (stay, leave) = mpsc::channel::<()>();
        let (done, finished) = mpsc::channel();
        thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                work();
                done.send(()).unwrap();
                let _ = leave.recv();
            })
            .unwrap();
        finished.recv().unwrap();
        stay
    }

    #[test]
    fn cpu_time_is_charged_to_the_role_of_the_thread_that_spent_it() {
        let meter = Meter::new(ROLES);
        let before = meter.read().unwrap();
        let _worker = on_thread("worker-0", || burn(Duration::from_millis(60)));
        let _exporter = on_thread("exporter", || burn(Duration::from_millis(20)));
        let usage = meter.read().unwrap().since(&before);
        // CPU clocks do not run while a thread waits, so a busy machine cannot move these by more than the reading costs.
        let (request, export) = (usage.cpu_ns(ThreadRole::Request), usage.cpu_ns(ThreadRole::SpanExport));
        assert!((60_000_000..65_000_000).contains(&request), "request {request}");
        assert!((20_000_000..25_000_000).contains(&export), "export {export}");
        assert_eq!(usage.cpu_ns(ThreadRole::Generator), 0);
    }

    #[test]
    fn time_of_a_thread_that_ended_is_shown_as_unaccounted() {
        let meter = Meter::new(ROLES);
        let before = meter.read().unwrap();
        thread::Builder::new()
            // Not one that a test beside this one counts.
            .name("passing".into())
            .spawn(|| burn(Duration::from_millis(50)))
            .unwrap()
            .join()
            .unwrap();
        let usage = meter.read().unwrap().since(&before);
        assert!(usage.unaccounted_ns() > 45_000_000, "{usage:?}");
    }
}
