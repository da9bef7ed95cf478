//! What a process spent, and on whose account: CPU time by the role of the thread that spent it, allocations, memory.
//!
//! CPU time comes from the per-thread CPU clocks in nanoseconds; the 10 ms ticks of `/proc/PID/stat` would be too coarse
//! for a slice. A thread's role is read off its name, so whoever starts a thread names it. The meter knows nothing of
//! what the threads do: the table of names is given to it.

pub mod allocations;

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use procfs::process::Process;
use procfs::{CurrentSI, KernelStats, ProcError};
use serde::{Deserialize, Serialize};

use self::allocations::Count;

/// Longest time from the first clock of a reading to the last, some ten times what it takes: what each core does in it is
/// on the clock of the process and may be on no thread's.
const LONGEST_PASS: Duration = Duration::from_micros(200);
/// Passes over the clocks until one is short enough, or the shortest counts.
const MOST_PASSES: usize = 8;

/// On whose account a thread works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Answers requests.
    Request,
    /// Takes spans to the collector, as they come.
    SpanExport,
    /// Works once per export interval, however many requests there were: metric exports, scrapes.
    PeriodicExport,
    /// Makes the load.
    Generator,
    /// The harness itself, and any thread whose name is in no table.
    Other,
}

/// Beginnings of thread names and the role each stands for; the first match counts.
pub type Roles = &'static [(&'static str, Role)];

/// Reads this process's clocks and counters.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    roles: Roles,
}

/// The state of every clock and counter at one moment.
#[derive(Clone, Debug)]
pub struct Reading {
    at: Instant,
    process_ns: u64,
    threads: BTreeMap<i32, Thread>,
    steal: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Thread {
    role: Role,
    cpu_ns: u64,
    allocated: Count,
}

/// What was spent between two readings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// Time that passed.
    pub wall: Duration,
    /// The process's own CPU clock, in nanoseconds.
    pub process_ns: u64,
    /// CPU nanoseconds by role, of the threads alive at the second reading.
    pub cpu_ns: BTreeMap<Role, u64>,
    /// Allocations by role, likewise.
    pub allocated: BTreeMap<Role, Count>,
    /// CPU time the hypervisor gave to others, over all cores; in steps of 10 ms.
    pub steal: Duration,
}

impl Meter {
    /// A meter that tells roles by `roles`.
    pub fn new(roles: Roles) -> Self {
        Self { roles }
    }

    /// Reads all clocks and counters now.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn read(&self) -> io::Result<Reading> {
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
        Ok(Reading { at: clocks.at, process_ns: clocks.process_ns, threads, steal })
    }

    fn role(&self, thread_name: &str) -> Role {
        self.roles.iter().find(|(prefix, _)| thread_name.starts_with(prefix)).map_or(Role::Other, |(_, role)| *role)
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
    fn read(threads: &[(i32, Role)]) -> io::Result<Self> {
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

    fn pass(threads: &[(i32, Role)]) -> io::Result<Self> {
        let began = Instant::now();
        let threads_ns = threads.iter().map(|&(tid, _)| thread_cpu_ns(tid).ok()).collect();
        // Last, since it has of a running thread only what its own clock, or a tick, last accounted for.
        let process_ns = clock_ns(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
        let at = Instant::now();
        Ok(Self { at, process_ns, threads_ns, took: at.saturating_duration_since(began) })
    }
}

impl Reading {
    /// What was spent since `earlier`.
    pub fn since(&self, earlier: &Self) -> Usage {
        let mut usage = Usage {
            wall: self.at.saturating_duration_since(earlier.at),
            process_ns: self.process_ns.saturating_sub(earlier.process_ns),
            steal: self.steal.saturating_sub(earlier.steal),
            ..Usage::default()
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

impl Usage {
    /// CPU nanoseconds that threads of `role` spent.
    pub fn cpu_ns(&self, role: Role) -> u64 {
        self.cpu_ns.get(&role).copied().unwrap_or(0)
    }

    /// What threads of `role` allocated.
    pub fn allocated(&self, role: Role) -> Count {
        self.allocated.get(&role).copied().unwrap_or_default()
    }

    /// CPU nanoseconds on the process's clock that no living thread's clock shows; negative when more was missed at the first
    /// reading than at the second.
    pub fn unaccounted_ns(&self) -> i64 {
        let seen: u64 = self.cpu_ns.values().sum();
        self.process_ns.cast_signed() - seen.cast_signed()
    }
}

/// Resident memory of this process.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn rss_bytes() -> io::Result<u64> {
    let pages = Process::myself().and_then(|me| me.statm()).map_err(into_io)?.resident;
    Ok(pages * procfs::page_size())
}

/// The most memory that this process has held so far, in bytes; `None` where the kernel does not keep it.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn rss_peak_bytes() -> io::Result<Option<u64>> {
    let kilobytes = Process::myself().and_then(|me| me.status()).map_err(into_io)?.vmhwm;
    Ok(kilobytes.map(|kilobytes| kilobytes * 1024))
}

/// CPU time that the calling thread has spent so far, in nanoseconds.
///
/// # Errors
/// When the kernel refuses the clock.
pub fn own_cpu_ns() -> io::Result<u64> {
    clock_ns(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// How the calling thread has spent its life so far, as far as it was not asleep.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnTime {
    /// On a core.
    pub cpu: Duration,
    /// Able to run, and without a core; zero where the kernel does not say.
    pub without_core: Duration,
}

impl OwnTime {
    /// What was added since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            without_core: self.without_core.saturating_sub(earlier.without_core),
        }
    }
}

/// How the calling thread has spent its life; zero where the kernel does not say.
pub fn own_time() -> OwnTime {
    let task = Process::myself().and_then(|me| me.task_from_tid(nix::unistd::gettid().as_raw()));
    // The first number of schedstat is CPU time too, but of a running thread only as of its last tick.
    let waited = task.and_then(|task| task.schedstat()).map_or(0, |stat| stat.run_delay);
    OwnTime { cpu: Duration::from_nanos(own_cpu_ns().unwrap_or(0)), without_core: Duration::from_nanos(waited) }
}

/// CPU time that the hypervisor has given to others since the start, over all cores; in steps of 10 ms.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn steal() -> io::Result<Duration> {
    let total = KernelStats::current().map_err(into_io)?.total;
    Ok(total.steal_duration().unwrap_or_default())
}

/// The CPU clock of a thread of this process, in nanoseconds.
fn thread_cpu_ns(tid: i32) -> io::Result<u64> {
    // The kernel's encoding of a thread's scheduler clock: the complement of its id above the bits
    // CPUCLOCK_PERTHREAD (4) and CPUCLOCK_SCHED (2). See include/linux/posix-timers_types.h.
    clock_ns(ClockId::from_raw((!tid << 3) | 6))
}

fn clock_ns(clock: ClockId) -> io::Result<u64> {
    let spec = clock_gettime(clock)?;
    Ok(u64::try_from(Duration::from(spec).as_nanos()).unwrap_or(u64::MAX))
}

fn into_io(error: ProcError) -> io::Error {
    io::Error::other(error)
}

/// CPU time in microseconds by role, as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CpuUs {
    /// Threads that answer requests.
    pub request: f64,
    /// Threads that take telemetry out, periodic work included as it fell; see `periodic`.
    pub exporter: f64,
    /// Threads that make the load, wherever they run.
    pub generator: f64,
    /// The harness.
    pub other: f64,
    /// The clock of the process, and of the generator where that runs elsewhere.
    pub process: f64,
    /// `process` less the sum of the roles.
    pub unaccounted: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::sync::mpsc;
    use std::thread;

    const ROLES: Roles = &[("worker", Role::Request), ("exp", Role::SpanExport)];

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
        let (request, export) = (usage.cpu_ns(Role::Request), usage.cpu_ns(Role::SpanExport));
        assert!((60_000_000..65_000_000).contains(&request), "request {request}");
        assert!((20_000_000..25_000_000).contains(&export), "export {export}");
        assert_eq!(usage.cpu_ns(Role::Generator), 0);
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
