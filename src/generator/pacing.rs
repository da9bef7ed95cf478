//! Waiting for the next arrival, finer than Tokio's millisecond timer.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How the generator waits for the next arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Pacing {
    /// What suits this machine: `timer`.
    #[default]
    Auto,
    /// Sleep on a kernel timer of nanosecond resolution.
    Timer,
    /// Never sleep: exact, and costs a core.
    Spin,
    /// Sleep on Tokio's timer, in steps of a millisecond: requests clump, and the service looks cheaper than it is.
    Coarse,
}

impl Pacing {
    /// What this is on this machine.
    #[must_use]
    pub fn resolved(self) -> Self {
        match self {
            Self::Auto => Self::Timer,
            chosen => chosen,
        }
    }
}

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
pub(super) enum Pacer {
    Timer(AsyncFd<Timer>),
    Spin,
    Coarse,
}

impl Pacer {
    /// A pacer on the current runtime.
    pub(super) fn new(pacing: Pacing) -> io::Result<Self> {
        Ok(match pacing.resolved() {
            Pacing::Auto | Pacing::Timer => {
                let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
                let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
                Self::Timer(watched(Timer(timer))?)
            }
            Pacing::Spin => Self::Spin,
            Pacing::Coarse => Self::Coarse,
        })
    }

    /// Returns once `due` has come. When it already has, other tasks get one turn, so that a generator that is behind
    /// still reads its answers.
    pub(super) async fn wait_until(&mut self, due: Instant) {
        let remaining = due.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return tokio::task::yield_now().await;
        }
        match self {
            Self::Timer(timer) => {
                // A timer that cannot be armed or read leaves Tokio's, a millisecond late and visible as lateness.
                if sleep(timer, remaining).await.is_err() {
                    tokio::time::sleep_until(due.into()).await;
                }
            }
            Self::Spin => {
                while Instant::now() < due {
                    tokio::task::yield_now().await;
                }
            }
            Self::Coarse => tokio::time::sleep_until(due.into()).await,
        }
    }
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
