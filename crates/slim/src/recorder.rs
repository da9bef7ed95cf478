//! A recorder before another, which keeps what the other makes.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{PoisonError, RwLock};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// Handles kept of one kind. A service with more series than this has another problem; those beyond are made anew each
/// time, as they are without this recorder.
const KEPT: usize = 100_000;

/// Keeps the handles that `inner` makes, by name and labels.
pub struct CachingRecorder<R> {
    inner: R,
    counters: Handles<Counter>,
    gauges: Handles<Gauge>,
    histograms: Handles<Histogram>,
}

type Handles<H> = RwLock<HashMap<Key, H, BuildHasherDefault<KeyHash>>>;

/// A key knows its hash since it was made, and hands it over as one number.
#[derive(Default)]
struct KeyHash(u64);

impl Hasher for KeyHash {
    fn write(&mut self, bytes: &[u8]) {
        // No key does; any mixing keeps the map right.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl<R> CachingRecorder<R> {
    /// Stands before `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, counters: Handles::default(), gauges: Handles::default(), histograms: Handles::default() }
    }
}

impl<R: fmt::Debug> fmt::Debug for CachingRecorder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachingRecorder").field("inner", &self.inner).finish_non_exhaustive()
    }
}

fn kept<H: Clone>(handles: &Handles<H>, key: &Key, make: impl FnOnce() -> H) -> H {
    if let Some(handle) = handles.read().unwrap_or_else(PoisonError::into_inner).get(key) {
        return handle.clone();
    }
    let mut handles = handles.write().unwrap_or_else(PoisonError::into_inner);
    // Another thread may have been faster; two handles of one series would each keep a state of their own.
    if let Some(handle) = handles.get(key) {
        return handle.clone();
    }
    let handle = make();
    if handles.len() < KEPT {
        handles.insert(key.clone(), handle.clone());
    }
    handle
}

impl<R: Recorder> Recorder for CachingRecorder<R> {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.inner.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.inner.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.inner.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        kept(&self.counters, key, || self.inner.register_counter(key, metadata))
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        kept(&self.gauges, key, || self.inner.register_gauge(key, metadata))
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        kept(&self.histograms, key, || self.inner.register_histogram(key, metadata))
    }
}
