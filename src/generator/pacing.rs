//! Waiting for the next arrival, finer than Tokio's millisecond timer.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::experiment::generator::Pacing;

/// Arrivals that are due at once and turned to in a row, before the tasks of the first write and answers are read.
const IN_A_ROW: u32 = 16;
/// Sleeps that are timed to see how late this machine wakes up.
const TRIAL_SLEEPS: usize = 32;
/// Length of each: that of the gap at the rate of one shard.
const TRIAL_SLEEP: Duration = Duration::from_micros(50);
/// Longest spin before an arrival; a machine that wakes up later than this is better waited for.
const LONGEST_MARGIN: Duration = Duration::from_micros(100);

/// A kernel timer that a runtime can watch.
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
    /// Arrivals turned to since other tasks had their turn.
    in_a_row: u32,
}

enum Wait {
    Timer {
        timer: AsyncFd<Timer>,
        /// How long before an arrival to wake up, and look at the clock from then on.
        margin: Duration,
    },
    Spin,
    Coarse,
}

impl Pacer {
    /// A pacer on the current runtime. Where it may spin, the margin of a timer is calibrated to how late this machine wakes
    /// up now; elsewhere it is zero, since spinning would take the core from the server that is about to be measured.
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

    /// Returns once `due` has come. Of arrivals that are due at once, every few give other tasks a turn: enough that a
    /// generator that is behind still reads its answers, and not so many that each pays for a look at all sockets.
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
                // A timer that cannot be armed or read leaves Tokio's, a millisecond late and visible as lateness.
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

/// Looks at the clock until `due`, and at the sockets between two looks.
async fn spin_until(due: Instant) {
    while Instant::now() < due {
        tokio::task::yield_now().await;
    }
}

/// How late each of a few short sleeps ends.
async fn wake_ups(timer: &AsyncFd<Timer>) -> io::Result<Vec<Duration>> {
    let mut late = Vec::with_capacity(TRIAL_SLEEPS);
    for _ in 0..TRIAL_SLEEPS {
        let due = Instant::now() + TRIAL_SLEEP;
        sleep(timer, TRIAL_SLEEP).await?;
        late.push(due.elapsed());
    }
    Ok(late)
}

/// The margin that nine in ten wake-ups keep.
fn margin(late: &mut [Duration]) -> Duration {
    late.sort_unstable();
    late.get(late.len() * 9 / 10).map_or(Duration::ZERO, |late| (*late).min(LONGEST_MARGIN))
}

#[expect(unsafe_code, reason = "the only registration that is not deprecated; its contract is kept by ownership")]
fn watched(timer: Timer) -> io::Result<AsyncFd<Timer>> {
    // SAFETY: the descriptor belongs to `timer`, which moves into the `AsyncFd`, hands out borrows only, and closes it
    // when dropped and not before.
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
    fn the_margin_is_what_nine_in_ten_wake_ups_keep_and_bounded() {
        let micros =
            |range: std::ops::RangeInclusive<u64>| -> Vec<Duration> { range.map(Duration::from_micros).collect() };
        assert_eq!(margin(&mut micros(1..=10)), Duration::from_micros(10));
        assert_eq!(margin(&mut micros(1..=30)), Duration::from_micros(28));
        assert_eq!(margin(&mut micros(900..=931)), LONGEST_MARGIN);
        assert_eq!(margin(&mut []), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_timer_with_a_margin_is_never_early() {
        let mut pacer = Pacer::new(Pacing::Timer, true).await.unwrap();
        let Wait::Timer { margin, .. } = &mut pacer.wait else { panic!("another wait than asked for") };
        *margin = Duration::from_millis(5);
        for ms in [1, 4, 6, 9] {
            let due = Instant::now() + Duration::from_millis(ms);
            pacer.wait_until(due).await;
            assert!(Instant::now() >= due);
        }
    }

    /// The first task spawned beside a row of overdue arrivals gets its turn after so many of them, and not before.
    #[tokio::test]
    async fn overdue_arrivals_are_turned_to_in_a_row() {
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
