//! Kernel accounting of this process and its threads: CPU clocks, waits for a core, stolen time, memory.

use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use procfs::process::Process;
use procfs::{CurrentSI, KernelStats, ProcError};

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

/// Time that the calling thread has spent so far, except asleep.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnTime {
    /// On a core.
    pub cpu: Duration,
    /// Able to run, and without a core; zero where the kernel does not say.
    pub without_core: Duration,
}

impl OwnTime {
    /// Time added since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            without_core: self.without_core.saturating_sub(earlier.without_core),
        }
    }
}

/// Time that the calling thread has spent so far; zero where the kernel does not say.
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
///
/// # Errors
/// When there is no such thread.
pub fn thread_cpu_ns(tid: i32) -> io::Result<u64> {
    // The kernel's encoding of a thread's scheduler clock: the complement of its id above the bits
    // CPUCLOCK_PERTHREAD (4) and CPUCLOCK_SCHED (2). See include/linux/posix-timers_types.h.
    clock_ns(ClockId::from_raw((!tid << 3) | 6))
}

/// CPU time that this process has spent so far, in nanoseconds.
///
/// # Errors
/// When the kernel refuses the clock.
pub fn process_cpu_ns() -> io::Result<u64> {
    clock_ns(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock_ns(clock: ClockId) -> io::Result<u64> {
    let spec = clock_gettime(clock)?;
    Ok(u64::try_from(Duration::from(spec).as_nanos()).unwrap_or(u64::MAX))
}

pub(crate) fn into_io(error: ProcError) -> io::Error {
    io::Error::other(error)
}
