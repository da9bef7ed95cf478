//! Resources that a slice used, as stored: CPU time by role, allocations, memory.

use serde::{Deserialize, Serialize};

/// Resources that a lane used from the start of a slice until the telemetry of the slice was exported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ResourceUsage {
    /// Time from the first reading to the last.
    pub wall_us: f64,
    /// CPU time by the role of the thread that spent it.
    pub cpu_us: CpuUs,
    /// The part of it that falls due once per interval; null in modes without such work.
    pub periodic: Option<Periodic>,
    /// Allocations on the `request` and `exporter` threads; null where the process does not count them.
    pub allocations: Option<Count>,
    /// Why `allocations` is null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocations_reason: Option<String>,
    /// Resident memory of the lane at the end.
    pub rss_bytes: u64,
    /// Usage while the lane was idle before this slice.
    pub idle: Idle,
    /// CPU time the hypervisor gave to others meanwhile, over all cores; in steps of 10 ms.
    pub steal_us: f64,
}

/// Work that is due once per interval, however many requests there were. A slice is shorter than the interval and has the
/// work done at its end, so analysis charges it `cpu_us / exports` for each interval's worth of load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Periodic {
    /// Times it was done.
    pub exports: u64,
    /// The interval at which it is due.
    pub interval_us: f64,
    /// CPU time it took; part of `cpu_us.exporter`.
    pub cpu_us: f64,
    /// Its part of the allocations.
    pub allocations: Count,
}

/// A lane between two slices.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Idle {
    /// How long it was idle.
    pub wall_us: f64,
    /// CPU time its process spent meanwhile.
    pub cpu_us: f64,
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

/// Allocations made, and the bytes they asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Count {
    /// Calls to `alloc`, `alloc_zeroed` and `realloc`.
    pub count: u64,
    /// Bytes asked for; a `realloc` counts its new size.
    pub bytes: u64,
}

impl Count {
    /// Allocations since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { count: self.count - earlier.count, bytes: self.bytes - earlier.bytes }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { count: self.count + other.count, bytes: self.bytes + other.bytes }
    }
}
