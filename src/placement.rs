//! Which cores the generator and the service run on.
//!
//! Left to the scheduler, a lightly loaded service and its generator share a core in one second and part in the next, and
//! the service's CPU per request doubles between the two; a busier arm stays parted. The difference would be charged
//! to telemetry. Kept apart, both arms meet the same conditions, and two equal arms agree.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Whether threads are kept on cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Pinning {
    /// `apart` on two cores or more.
    #[default]
    Auto,
    /// The scheduler decides.
    None,
    /// Generator and service on different cores.
    Apart,
}

/// The cores that threads are kept on; empty where they may run anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Placement {
    /// The generator's.
    pub generator: Vec<usize>,
    /// The service's workers'. Exporters run wherever there is room, as they do beside a real service.
    pub service: Vec<usize>,
}

impl Placement {
    /// Places a generator and so many service threads on the cores that this process may use.
    pub fn of(pinning: Pinning, cores: &[usize], service_threads: usize) -> Self {
        match (pinning, cores) {
            (Pinning::Auto | Pinning::Apart, [first, rest @ ..]) if !rest.is_empty() => {
                let service = &rest[rest.len().saturating_sub(service_threads)..];
                Self { generator: vec![*first], service: service.to_vec() }
            }
            _ => Self::default(),
        }
    }
}

/// The cores that this process may use; empty where the system does not say.
pub fn allowed_cores() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return Vec::new() };
    (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect()
}

/// Keeps the calling thread on `cores`; on none of them in particular when there are none.
///
/// # Errors
/// When the system refuses.
pub fn keep_on(cores: &[usize]) -> io::Result<()> {
    if cores.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generator_and_service_never_share_a_core_when_apart() {
        for cores in 2..=16 {
            let allowed: Vec<usize> = (0..cores).map(|core| core * 2).collect();
            for threads in 1..=20 {
                let placed = Placement::of(Pinning::Auto, &allowed, threads);
                assert_eq!(placed.generator.len(), 1);
                assert_eq!(placed.service.len(), threads.min(cores - 1));
                assert!(!placed.service.contains(&placed.generator[0]));
            }
        }
    }

    #[test]
    fn one_core_cannot_be_divided() {
        assert_eq!(Placement::of(Pinning::Apart, &[0], 1), Placement::default());
        assert_eq!(Placement::of(Pinning::None, &[0, 1], 1), Placement::default());
    }

    #[test]
    fn a_thread_stays_where_it_is_kept() {
        let core = *allowed_cores().last().unwrap();
        std::thread::spawn(move || {
            keep_on(&[core]).unwrap();
            assert_eq!(allowed_cores(), [core]);
        })
        .join()
        .unwrap();
    }
}
