//! Waits for the next arrival with a finer resolution than Tokio's millisecond timer.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::experiment::generator::Pacing;

/// Overdue arrivals that are started in a row before other tasks run, which write the requests and read the responses.
const IN_A_ROW: u32 = 16;
/// Number of sleeps that are timed to measure this machine's wake-up latency.
const TRIAL_SLEEPS: usize = 32;
/// Length of each: below the 100 µs between arrivals at the default rate of 10 000 per second.
const TRIAL_SLEEP: Duration = Duration::from_micros(50);
/// Longest busy-wait before an arrival. On a machine with a higher wake-up latency, spinning would cost more than it gains.
const LONGEST_MARGIN: Duration = Duration::from_micros(100);

/// A kernel timer that Tokio can poll.
pub(super) struct Timer(TimerFd);

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Waits until a given instant.
pub(super) struct Pacer {
    wait: Wait,
    /// Arrivals started since other tasks last ran.
    in_a_row: u32,
}

enum Wait {
    Timer {
        timer: AsyncFd<Timer>,
        /// How long before an arrival to wake up and start to busy-wait.
        margin: Duration,
    },
    Spin,
    Coarse,
}

impl Pacer {
    /// A pacer on the current runtime. If it may spin, the margin of the timer is calibrated to the current wake-up latency of
    /// this machine; otherwise it is zero, because spinning would take CPU time from the server under test.
    pub(super) async fn new(pacing: Pacing, may_spin: bool) -> io::Result<Self> {
        let wait = match pacing.resolved() {
            Pacing::Auto | Pacing::Timer => {
                let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
                let timer = watched(Timer(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?))?;
                let margin = if may_spin { margin(&mut wake_ups(&timer).await?) } else { Duration::ZERO };
                Wait::Timer { timer, margin }
            }
            Pacing::Spin => Wait::Spin,
            Pacing::Coarse => Wait::Coarse,
        };
        Ok(Self { wait, in_a_row: 0 })
    }

    /// Returns at `due`. If that is already past, it yields to other tasks only on every [`IN_A_ROW`]-th call: often enough that
    /// a late generator still reads its responses, and rarely enough that not every arrival pays for polling all sockets.
    pub(super) async fn wait_until(&mut self, due: Instant) {
        let remaining = due.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            self.in_a_row += 1;
            if self.in_a_row == IN_A_ROW {
                self.in_a_row = 0;
                tokio::task::yield_now().await;
            }
            return;
        }
        self.in_a_row = 0;
        match &self.wait {
            Wait::Timer { timer, margin } => {
                let asleep = remaining.saturating_sub(*margin);
                // If the timer fails, Tokio's is used; it is up to 1 ms late, which shows as lateness.
                if !asleep.is_zero() && sleep(timer, asleep).await.is_err() {
                    tokio::time::sleep_until(due.into()).await;
                }
                spin_until(due).await;
            }
            Wait::Spin => spin_until(due).await,
            Wait::Coarse => tokio::time::sleep_until(due.into()).await,
        }
    }
}

/// Busy-waits until `due`, polling the sockets between two looks at the clock.
async fn spin_until(due: Instant) {
    while Instant::now() < due {
        tokio::task::yield_now().await;
    }
}

/// Measures the wake-up latency of a few short sleeps.
async fn wake_ups(timer: &AsyncFd<Timer>) -> io::Result<Vec<Duration>> {
    let mut late = Vec::with_capacity(TRIAL_SLEEPS);
    for _ in 0..TRIAL_SLEEPS {
        let due = Instant::now() + TRIAL_SLEEP;
        sleep(timer, TRIAL_SLEEP).await?;
        late.push(due.elapsed());
    }
    Ok(late)
}

/// The 90th percentile of the wake-up latencies, capped at [`LONGEST_MARGIN`].
fn margin(late: &mut [Duration]) -> Duration {
    late.sort_unstable();
    late.get(late.len() * 9 / 10).map_or(Duration::ZERO, |late| (*late).min(LONGEST_MARGIN))
}

#[expect(unsafe_code, reason = "the only registration that is not deprecated; its contract is kept by ownership")]
fn watched(timer: Timer) -> io::Result<AsyncFd<Timer>> {
    // SAFETY: the descriptor belongs to `timer`, which moves into the `AsyncFd`, only lends it out, and closes it on drop,
    // not earlier.
    Ok(unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE)? })
}

async fn sleep(timer: &AsyncFd<Timer>, remaining: Duration) -> io::Result<()> {
    let expiration = Expiration::OneShot(TimeSpec::from_duration(remaining));
    timer.get_ref().0.set(expiration, TimerSetTimeFlags::empty())?;
    // Arming clears the previous expiry and the next one is a new edge, so the timer need not be read.
    timer.readable().await?.clear_ready();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_margin_is_the_90th_percentile_of_wake_up_latency_with_an_upper_bound() {
        let micros =
            |range: std::ops::RangeInclusive<u64>| -> Vec<Duration> { range.map(Duration::from_micros).collect() };
        assert_eq!(margin(&mut micros(1..=10)), Duration::from_micros(10));
        assert_eq!(margin(&mut micros(1..=30)), Duration::from_micros(28));
        assert_eq!(margin(&mut micros(900..=931)), LONGEST_MARGIN);
        assert_eq!(margin(&mut []), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_timer_with_a_margin_never_returns_early() {
        let mut pacer = Pacer::new(Pacing::Timer, true).await.unwrap();
        let Wait::Timer { margin, .. } = &mut pacer.wait else { panic!("another wait than asked for") };
        *margin = Duration::from_millis(5);
        for ms in [1, 4, 6, 9] {
            let due = Instant::now() + Duration::from_millis(ms);
            pacer.wait_until(due).await;
            assert!(Instant::now() >= due);
        }
    }

    #[tokio::test]
    async fn other_tasks_run_only_after_a_fixed_number_of_overdue_arrivals() {
        let mut pacer = Pacer::new(Pacing::Timer, false).await.unwrap();
        let turns = std::rc::Rc::new(std::cell::Cell::new(0));
        let overdue = Instant::now();
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let counted = std::rc::Rc::clone(&turns);
                tokio::task::spawn_local(async move {
                    loop {
                        counted.set(counted.get() + 1);
                        tokio::task::yield_now().await;
                    }
                });
                for _ in 1..IN_A_ROW {
                    pacer.wait_until(overdue).await;
                }
                assert_eq!(turns.get(), 0);
                pacer.wait_until(overdue).await;
                assert!(turns.get() > 0);
            })
            .await;
    }
}
