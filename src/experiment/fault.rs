//! Collector faults and their timeline, as plain data: nothing here waits or sends.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::experiment::units::{in_one_word, parse_duration, stored_as_text};

/// A telemetry signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Data points.
    Metrics,
    /// Log records.
    Logs,
}

impl Signal {
    /// Every signal.
    pub const ALL: [Self; 3] = [Self::Traces, Self::Metrics, Self::Logs];

    /// Name in paths and in faults.
    pub fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }
}

impl FromStr for Signal {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|signal| signal.name() == text).ok_or(())
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A fault in its time, written `[SIGNAL/]KIND[:ARG][@FROM[..UNTIL]]`: `down@2s..5s`, `slow:500ms`, `metrics/limit:64KiB`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fault {
    /// Kind of fault.
    pub kind: FaultKind,
    /// The signal it is limited to; `None` for all.
    pub signal: Option<Signal>,
    /// Its start, from the start of the timeline.
    pub from: Duration,
    /// Its end; `None` for never.
    pub until: Option<Duration>,
}

stored_as_text!(Fault);

/// A kind of fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The port is closed: new connections are refused and open ones cut.
    Down,
    /// Responses are delayed by this time.
    Slow(Duration),
    /// Requests are read and never answered.
    Hang,
    /// Requests are read and refused.
    Reject(Rejection),
    /// This share of every request's items is rejected: its last ones. Fractions of an item are carried over to the next
    /// request of the signal.
    Partial(Percent),
    /// For this share of the requests the connection is cut once the first part of the payload was read.
    Reset(Percent),
    /// Messages of more bytes than this, decompressed, are refused.
    Limit(Size),
}

/// How requests are rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// gRPC `UNAVAILABLE`, HTTP 503.
    Unavailable,
    /// gRPC `RESOURCE_EXHAUSTED`, HTTP 429; with when to try again, if that is said.
    Exhausted {
        /// gRPC `RetryInfo`, or HTTP `Retry-After` in whole seconds, rounded up.
        retry: Option<Duration>,
    },
}

/// A share in parts of ten thousand: 0.01 % to 100 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(u32);

impl Percent {
    /// All.
    pub const ALL: Self = Self(Self::WHOLE);
    const WHOLE: u32 = 10_000;

    /// How many of the next `n` things are in the share, when `before` have been: exact over any number of calls.
    pub fn of(self, before: u64, n: u64) -> u64 {
        let up_to = |count: u64| u128::from(count) * u128::from(self.0) / u128::from(Self::WHOLE);
        // At most n.
        (up_to(before.saturating_add(n)) - up_to(before)) as u64
    }
}

/// A size in bytes, written `64KiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(u64);

impl Size {
    /// The largest that a [`FaultKind::Limit`] may be; above it the sink takes nothing anyway.
    pub const MOST: Self = Self(20 << 20);

    /// In bytes.
    pub fn bytes(self) -> usize {
        // At most 20 MiB.
        self.0 as usize
    }
}

/// Why a text is not a [`Fault`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FaultError {
    /// The kind is unknown.
    #[error(
        "`{0}` is no fault: write down, slow:TIME, hang, reject:unavailable, reject:exhausted[,retry=TIME], partial:N%, \
         reset[:N%] or limit:SIZE, such as slow:500ms@10s..20s"
    )]
    Kind(String),
    /// The signal before the slash is unknown.
    #[error("`{0}` is no signal: write traces/, metrics/ or logs/ before the fault, or nothing for all")]
    Signal(String),
    /// The argument after the colon is wrong.
    #[error("`{0}`: {1}")]
    Argument(String, String),
    /// The time window is wrong.
    #[error("`{0}`: {1}")]
    Window(String, String),
    /// `down` cannot be limited to one signal.
    #[error("`{0}`: a closed port is closed for every signal; write down without a signal")]
    OneSignalDown(String),
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let (what, when) = text.split_once('@').map_or((text, None), |(what, when)| (what, Some(when)));
        let (signal, kind) = match what.split_once('/') {
            None => (None, what),
            Some((signal, kind)) => (Some(signal.parse().map_err(|()| FaultError::Signal(signal.into()))?), kind),
        };
        let kind = kind_from(text, kind)?;
        if kind == FaultKind::Down && signal.is_some() {
            return Err(FaultError::OneSignalDown(text.into()));
        }
        let time = |time: &str| parse_duration(time).map_err(|why| FaultError::Window(text.into(), why));
        let (from, until) = match when.map(|when| when.split_once("..").map_or((when, None), |(a, b)| (a, Some(b)))) {
            None => (Duration::ZERO, None),
            Some((from, until)) => (time(from)?, until.map(time).transpose()?),
        };
        if until.is_some_and(|until| until <= from) {
            return Err(FaultError::Window(
                text.into(),
                "it ends before it begins; write @FROM..UNTIL, as @2s..5s".into(),
            ));
        }
        Ok(Self { kind, signal, from, until })
    }
}

fn kind_from(text: &str, kind: &str) -> Result<FaultKind, FaultError> {
    let bad = |why: String| FaultError::Argument(text.into(), why);
    let duration = |argument: &str| match parse_duration(argument) {
        Ok(Duration::ZERO) => Err(bad("a time of nothing changes nothing; write such as 500ms".into())),
        read => read.map_err(bad),
    };
    let percent =
        |argument: &str| percent_from(argument).ok_or_else(|| bad("write a share such as 10% or 0.5%".into()));
    Ok(match kind.split_once(':').map_or((kind, None), |(kind, argument)| (kind, Some(argument))) {
        ("down", None) => FaultKind::Down,
        ("hang", None) => FaultKind::Hang,
        ("slow", Some(delay)) => FaultKind::Slow(duration(delay)?),
        ("reject", Some("unavailable")) => FaultKind::Reject(Rejection::Unavailable),
        ("reject", Some(how)) => {
            let retry = match how.strip_prefix("exhausted").map(|rest| (rest, rest.strip_prefix(",retry="))) {
                Some(("", _)) => None,
                Some((_, Some(retry))) => Some(duration(retry)?),
                _ => return Err(bad("write unavailable, exhausted, or exhausted,retry=200ms".into())),
            };
            FaultKind::Reject(Rejection::Exhausted { retry })
        }
        ("partial", Some(share)) => FaultKind::Partial(percent(share)?),
        ("reset", share) => FaultKind::Reset(share.map_or(Ok(Percent::ALL), percent)?),
        ("limit", Some(size)) => {
            FaultKind::Limit(size_from(size).ok_or_else(|| {
                bad("write a size from 1B to 20MiB, such as 64KiB; above that nothing is taken".into())
            })?)
        }
        _ => return Err(FaultError::Kind(text.into())),
    })
}

fn percent_from(text: &str) -> Option<Percent> {
    let percent: f64 = text.strip_suffix('%')?.parse().ok()?;
    let parts = percent * 100.0;
    // In range by the check; what is finer than a part is refused rather than rounded.
    let whole = (1.0..=f64::from(Percent::WHOLE)).contains(&parts) && (parts - parts.round()).abs() < 1e-6;
    whole.then(|| Percent(parts.round() as u32))
}

const UNITS: [(&str, u64); 3] = [("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

fn size_from(text: &str) -> Option<Size> {
    let (number, unit) = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))?;
    let bytes = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (1..=Size::MOST.0).contains(&bytes).then_some(Size(bytes))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(signal) = self.signal {
            write!(f, "{signal}/")?;
        }
        write!(f, "{}", self.kind)?;
        match (self.from, self.until) {
            (Duration::ZERO, None) => Ok(()),
            (from, None) => write!(f, "@{}", in_one_word(from)),
            (from, Some(until)) => write!(f, "@{}..{}", in_one_word(from), in_one_word(until)),
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down => f.write_str("down"),
            Self::Slow(delay) => write!(f, "slow:{}", in_one_word(*delay)),
            Self::Hang => f.write_str("hang"),
            Self::Reject(Rejection::Unavailable) => f.write_str("reject:unavailable"),
            Self::Reject(Rejection::Exhausted { retry: None }) => f.write_str("reject:exhausted"),
            Self::Reject(Rejection::Exhausted { retry: Some(retry) }) => {
                write!(f, "reject:exhausted,retry={}", in_one_word(*retry))
            }
            Self::Partial(share) => write!(f, "partial:{share}"),
            Self::Reset(Percent::ALL) => f.write_str("reset"),
            Self::Reset(share) => write!(f, "reset:{share}"),
            Self::Limit(size) => write!(f, "limit:{size}"),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 100.0)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS.iter().find(|(_, unit)| self.0.is_multiple_of(*unit));
        let (name, unit) = exact.unwrap_or(&UNITS[2]);
        write!(f, "{}{name}", self.0 / unit)
    }
}

/// Two faults that contradict each other.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "`{0}` and `{1}` contradict each other while both hold; let one end, as {1}@FROM..UNTIL, before the other begins"
)]
pub struct Contradiction(String, String);

/// A timeline of faults that do not contradict each other.
#[derive(Clone, Debug, Default)]
pub struct Timeline(Vec<Fault>);

/// The faults that apply to one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Active {
    /// Delay of the response.
    pub(crate) slow: Duration,
    /// Largest message in bytes, if smaller than usual.
    pub(crate) limit: Option<usize>,
    pub(crate) outcome: FaultEffect,
}

/// The effect of faults on one request. A share comes with the index of its fault, which is counted separately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum FaultEffect {
    #[default]
    Accepted,
    Hang,
    Reject(Rejection),
    Partial(Percent, usize),
    Reset(Percent, usize),
}

impl Timeline {
    /// The timeline of these faults.
    ///
    /// # Errors
    /// When two of them hold at the same time and for the same signal, and contradict each other: both are of one kind, or
    /// both say what becomes of a request (all but `slow` and `limit` do), or one delays an answer that the other withholds.
    pub fn new(faults: Vec<Fault>) -> Result<Self, Contradiction> {
        for (i, a) in faults.iter().enumerate() {
            if let Some(b) = faults[..i].iter().find(|b| a.contradicts(b)) {
                return Err(Contradiction(b.to_string(), a.to_string()));
            }
        }
        Ok(Self(faults))
    }

    /// Whether the port is closed at this time.
    pub(crate) fn is_down(&self, elapsed: Duration) -> bool {
        self.0.iter().any(|fault| fault.kind == FaultKind::Down && fault.holds(elapsed))
    }

    /// The next time at which the port closes or opens.
    pub(crate) fn next_turn(&self, elapsed: Duration) -> Option<Duration> {
        let down = self.0.iter().filter(|fault| fault.kind == FaultKind::Down);
        down.flat_map(|fault| [Some(fault.from), fault.until]).flatten().filter(|turn| *turn > elapsed).min()
    }

    /// The faults that apply to a request of this signal.
    pub(crate) fn faults_at(&self, elapsed: Duration, signal: Signal) -> Active {
        let mut active = Active::default();
        for (place, fault) in self.0.iter().enumerate() {
            if !fault.holds(elapsed) || fault.signal.is_some_and(|only| only != signal) {
                continue;
            }
            match fault.kind {
                FaultKind::Down => {}
                FaultKind::Slow(delay) => active.slow = delay,
                FaultKind::Limit(size) => active.limit = Some(size.bytes()),
                FaultKind::Hang => active.outcome = FaultEffect::Hang,
                FaultKind::Reject(how) => active.outcome = FaultEffect::Reject(how),
                FaultKind::Partial(share) => active.outcome = FaultEffect::Partial(share, place),
                FaultKind::Reset(share) => active.outcome = FaultEffect::Reset(share, place),
            }
        }
        active
    }

    /// Number of faults.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Fault {
    fn holds(&self, elapsed: Duration) -> bool {
        self.from <= elapsed && self.until.is_none_or(|until| elapsed < until)
    }

    fn contradicts(&self, other: &Self) -> bool {
        let at_once =
            self.until.is_none_or(|until| other.from < until) && other.until.is_none_or(|until| self.from < until);
        let meet = self.signal.is_none() || other.signal.is_none() || self.signal == other.signal;
        let decides = |fault: &Self| !matches!(fault.kind, FaultKind::Slow(_) | FaultKind::Limit(_));
        let unanswered = |fault: &Self| matches!(fault.kind, FaultKind::Down | FaultKind::Hang);
        let slow = |fault: &Self| matches!(fault.kind, FaultKind::Slow(_));
        let alike = std::mem::discriminant(&self.kind) == std::mem::discriminant(&other.kind);
        let both_decide = decides(self) && decides(other);
        let late_and_never = unanswered(self) && slow(other) || slow(self) && unanswered(other);
        at_once && meet && (alike || both_decide || late_and_never)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn timeline(faults: &[&str]) -> Timeline {
        Timeline::new(faults.iter().map(|fault| fault.parse().unwrap()).collect()).unwrap()
    }

    #[test]
    fn faults_are_parsed_and_displayed_alike() {
        for text in [
            "down",
            "down@2s..5s",
            "slow:500ms",
            "hang@1m",
            "traces/hang@1s..1m",
            "reject:unavailable",
            "reject:exhausted",
            "reject:exhausted,retry=200ms@1s500ms..2s",
            "logs/partial:10%",
            "partial:0.25%",
            "reset",
            "reset:12.5%@0s..1s",
            "metrics/limit:64KiB",
            "limit:1MiB",
            "limit:1000B",
        ] {
            let fault: Fault = text.parse().unwrap();
            assert_eq!(fault.to_string(), text);
            assert_eq!(serde_json::to_string(&fault).unwrap(), format!("\"{text}\""));
        }
        assert_eq!("reset:100%@0s".parse(), "reset".parse::<Fault>());
    }

    #[test]
    fn invalid_faults_are_rejected_with_an_example() {
        for (text, hint) in [
            ("", "reject:unavailable"),
            ("dwon", "`dwon` is no fault"),
            ("slow", "slow:TIME"),
            ("slow:500", "such as 500ms"),
            ("slow:0s", "changes nothing"),
            ("down:1s", "is no fault"),
            ("hang@5s..2s", "ends before it begins"),
            ("hang@5s..5s", "ends before it begins"),
            ("hang@", "such as 500ms"),
            ("hang@1s..", "such as 500ms"),
            ("reject", "reject:exhausted"),
            ("reject:busy", "unavailable, exhausted"),
            ("reject:exhausted,retry=soon", "such as 500ms"),
            ("partial:10", "such as 10%"),
            ("partial:0%", "such as 10%"),
            ("reset:101%", "such as 10%"),
            ("reset:nan%", "such as 10%"),
            ("reset:0.001%", "such as 10%"),
            ("limit:64kb", "such as 64KiB"),
            ("limit:0B", "such as 64KiB"),
            ("limit:99999999999999999999MiB", "such as 64KiB"),
            ("limit:21MiB", "20MiB"),
            ("spans/hang", "traces/, metrics/ or logs/"),
            ("traces/down", "closed for every signal"),
        ] {
            let error = text.parse::<Fault>().unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn faults_apply_within_their_window_and_to_their_signal() {
        let timeline = timeline(&["slow:1s@2s..5s", "metrics/limit:64KiB", "traces/hang@5s", "reset:10%@1s..2s"]);
        let at = |second: u64, signal| timeline.faults_at(seconds(second), signal);
        assert_eq!(at(0, Signal::Traces), Active::default());
        assert_eq!(at(0, Signal::Metrics), Active { limit: Some(65_536), ..Active::default() });
        assert_eq!(at(1, Signal::Logs).outcome, FaultEffect::Reset(Percent(1_000), 3));
        assert_eq!(at(2, Signal::Logs), Active { slow: seconds(1), ..Active::default() });
        let last = timeline.faults_at(Duration::from_nanos(4_999_999_999), Signal::Logs);
        assert_eq!(last.slow, seconds(1));
        assert_eq!(at(5, Signal::Logs), Active::default());
        assert_eq!(at(5, Signal::Traces).outcome, FaultEffect::Hang);
        assert_eq!(at(5_000, Signal::Traces).outcome, FaultEffect::Hang);
    }

    #[test]
    fn the_port_closes_and_opens_with_each_down_window() {
        let timeline = timeline(&["down@0s..1s", "down@3s..4s", "slow:1s@1s..2s", "down@9s"]);
        let mut turns = vec![];
        let mut elapsed = Duration::ZERO;
        loop {
            turns.push((elapsed.as_secs(), timeline.is_down(elapsed)));
            match timeline.next_turn(elapsed) {
                Some(turn) => elapsed = turn,
                None => break,
            }
        }
        assert_eq!(turns, [(0, true), (1, false), (3, true), (4, false), (9, true)]);
    }

    #[test]
    fn contradicting_faults_are_rejected() {
        let refused = |a: &str, b: &str| Timeline::new(vec![a.parse().unwrap(), b.parse().unwrap()]).is_err();
        for (a, b) in [
            ("down@1s..3s", "slow:1s@2s..4s"),
            ("down", "traces/hang@1m"),
            ("hang", "reject:unavailable"),
            ("hang", "slow:1s"),
            ("slow:1s", "slow:2s"),
            ("partial:10%", "traces/reset:10%"),
            ("limit:1KiB", "metrics/limit:2KiB"),
        ] {
            assert!(refused(a, b) && refused(b, a), "{a} {b}");
        }
        for (a, b) in [
            ("down@1s..2s", "slow:1s@2s..4s"),
            ("traces/hang", "metrics/reject:unavailable"),
            ("slow:1s", "reject:unavailable"),
            ("limit:1KiB", "partial:10%"),
            ("metrics/limit:1KiB", "down@1s..2s"),
        ] {
            assert!(!refused(a, b) && !refused(b, a), "{a} {b}");
        }
        let error = Timeline::new(vec!["hang".parse().unwrap(), "down".parse().unwrap()]).unwrap_err().to_string();
        assert!(error.contains("`hang` and `down` contradict") && error.contains("@FROM..UNTIL"), "{error}");
    }

    #[test]
    fn a_share_is_exact_over_any_number_of_requests() {
        let share = Percent(1_250);
        let mut before = 0;
        let mut taken = 0;
        for n in [1, 2, 3, 5, 7, 100, 682] {
            taken += share.of(before, n);
            before += n;
        }
        assert_eq!((before, taken), (800, 100));
        assert_eq!((Percent::ALL.of(u64::MAX - 5, 5), Percent::ALL.of(0, 9)), (5, 9));
    }
}
