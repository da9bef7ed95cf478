//! Which cores the generator and the service run on, and whether the cores may fall asleep.
//!
//! Left to the scheduler, a lightly loaded service and its generator share a core in one second and part in the next, and
//! the service's CPU per request doubles between the two; a busier arm stays parted. The difference would be charged
//! to telemetry. Kept apart, both arms meet the same conditions, and two equal arms agree.
//!
//! A core that sleeps must be woken for every request of a lightly loaded service, on a virtual machine by its hypervisor.
//! That takes longer than most requests, differs from one to the next, and is paid by whoever wakes and whoever is woken.
//!
//! `auto` was chosen by a study of the combinations: results/README.md, "Placement".

use serde::{Deserialize, Serialize};

/// Whether generator and service threads are pinned to cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Pinning {
    /// `apart` with two cores or more, else `none`.
    #[default]
    Auto,
    /// The scheduler decides.
    None,
    /// Generator and service on different cores.
    Apart,
}

/// Whether idle cores may sleep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdleCores {
    /// Those of generator and service are kept awake where the two are kept apart; all others sleep.
    #[default]
    Auto,
    /// Idle cores sleep, as kernel and hypervisor see fit.
    Sleep,
    /// A thread of the lowest class on each keeps it awake, and makes room at once for any other.
    Awake,
}

/// The cores that threads are pinned to; empty where they may run anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Placement {
    /// Cores of the generator.
    pub generator: Vec<usize>,
    /// Cores of the service's workers. Exporters run wherever there is room, as they do beside a real service.
    pub service: Vec<usize>,
    /// Cores that are kept awake.
    #[serde(default)]
    pub awake: Vec<usize>,
    /// Whether the generator has a core that nobody else needs, so that it may look at the clock instead of sleeping.
    #[serde(default)]
    pub spare: bool,
}

/// Cores that exporters and the sink need beside generator and service.
const FOR_OTHERS: usize = 1;

impl Placement {
    /// Places so many generator and service threads on the cores that this process may use.
    pub fn of(pinning: Pinning, idle: IdleCores, cores: &[usize], shards: usize, service_threads: usize) -> Self {
        let apart = pinning != Pinning::None && cores.len() > 1;
        // Where there are not enough, the service has what the generator leaves, and that is one core at least.
        let split = shards.min(cores.len().saturating_sub(service_threads)).max(1);
        let (generator, rest) = if apart { cores.split_at(split) } else { (&[][..], &[][..]) };
        let service = &rest[rest.len().saturating_sub(service_threads)..];
        Self {
            generator: generator.to_vec(),
            service: service.to_vec(),
            awake: match idle {
                IdleCores::Auto => [generator, service].concat(),
                IdleCores::Sleep => Vec::new(),
                IdleCores::Awake => cores.to_vec(),
            },
            spare: cores.len() > shards + service_threads + FOR_OTHERS,
        }
    }

    /// The same where one thread is both: where the service would be.
    #[must_use]
    pub fn on_one_thread(self) -> Self {
        Self { generator: self.service.clone(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(pinning: Pinning, cores: &[usize], shards: usize, service_threads: usize) -> Placement {
        Placement::of(pinning, IdleCores::Sleep, cores, shards, service_threads)
    }

    #[test]
    fn generator_and_service_never_share_a_core_when_apart() {
        for cores in 2..=16 {
            let allowed: Vec<usize> = (0..cores).map(|core| core * 2).collect();
            for (shards, threads) in (1..=4).flat_map(|shards| (1..=20).map(move |threads| (shards, threads))) {
                let placed = placed(Pinning::Auto, &allowed, shards, threads);
                assert!(
                    (1..=shards).contains(&placed.generator.len()) && (1..=threads).contains(&placed.service.len())
                );
                assert!(placed.generator.iter().all(|core| !placed.service.contains(core)), "{placed:?}");
                // Nobody goes without a core that is there.
                let wanted = (shards + threads).min(cores);
                assert_eq!(placed.generator.len() + placed.service.len(), wanted, "{cores} {shards} {threads}");
            }
        }
    }

    #[test]
    fn only_pinned_cores_are_kept_awake_by_default() {
        let awake = |idle, pinning| Placement::of(pinning, idle, &[0, 1, 2, 3, 4], 1, 2).awake;
        assert_eq!(awake(IdleCores::Auto, Pinning::Auto), [0, 3, 4]);
        assert!(awake(IdleCores::Auto, Pinning::None).is_empty());
        assert!(awake(IdleCores::Sleep, Pinning::Auto).is_empty());
        assert_eq!(awake(IdleCores::Awake, Pinning::None), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_single_core_is_not_divided() {
        assert_eq!(placed(Pinning::Apart, &[0], 1, 1), Placement::default());
        assert_eq!(placed(Pinning::None, &[0, 1], 1, 1), Placement::default());
    }

    #[test]
    fn the_generator_spins_only_when_exporters_keep_a_core_of_their_own() {
        assert!(!placed(Pinning::Auto, &[0, 1], 1, 1).spare);
        assert!(!placed(Pinning::Auto, &[0, 1, 2], 1, 1).spare);
        assert!(!placed(Pinning::Auto, &[0, 1, 2, 3], 1, 2).spare && placed(Pinning::Auto, &[0, 1, 2, 3], 1, 1).spare);
    }
}
