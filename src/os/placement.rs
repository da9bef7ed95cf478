//! Which cores the generator and the service run on, and whether the cores may fall asleep.
//!
//! Left to the scheduler, a lightly loaded service and its generator share a core in one second and part in the next, and
//! the service's CPU per request doubles between the two; a busier arm stays parted. The difference would be charged
//! to telemetry. Kept apart, both arms meet the same conditions, and two equal arms agree.
//!
//! A core that sleeps must be woken for every request of a lightly loaded service, on a virtual machine by its hypervisor.
//! That takes longer than most requests, differs from one to the next, and is paid by whoever wakes and whoever is woken.
//!
//! What `auto` is was chosen by a study of the combinations: results/README.md, "Placement".

use std::hint;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

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

/// What cores do that have no work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdleCores {
    /// Those of generator and service are kept awake where the two are kept apart; all others sleep.
    #[default]
    Auto,
    /// They sleep, as the kernel and the hypervisor have it.
    Sleep,
    /// A thread of the lowest class on each keeps it awake, and makes room at once for any other.
    Awake,
}

/// The cores that threads are kept on; empty where they may run anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Placement {
    /// The generator's.
    pub generator: Vec<usize>,
    /// The service's workers'. Exporters run wherever there is room, as they do beside a real service.
    pub service: Vec<usize>,
    /// Those kept awake.
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

/// Cores that are kept awake until this is dropped.
#[derive(Debug)]
pub struct KeptAwake {
    enough: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl KeptAwake {
    /// Keeps `cores` awake.
    ///
    /// # Errors
    /// When the system refuses a thread, its core or its class.
    pub fn on(cores: &[usize]) -> io::Result<Self> {
        let mut kept = Self { enough: Arc::default(), threads: Vec::new() };
        for &core in cores {
            let enough = Arc::clone(&kept.enough);
            let (tell, told) = std::sync::mpsc::channel();
            let spin = move || {
                let placed = keep_on(&[core]).and_then(|()| take_the_lowest_class());
                let ready = placed.is_ok();
                // Whoever waits for this is there until it comes.
                let _ = tell.send(placed);
                while ready && !enough.load(Relaxed) {
                    hint::spin_loop();
                }
            };
            kept.threads.push(thread::Builder::new().name(format!("awake-{core}")).spawn(spin)?);
            told.recv().map_err(|_| io::Error::other("the thread that keeps a core awake is gone"))??;
        }
        Ok(kept)
    }
}

impl Drop for KeptAwake {
    fn drop(&mut self) {
        self.enough.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // It cannot panic, and if it did there would be nothing to do about it here.
            let _ = thread.join();
        }
    }
}

/// Puts the calling thread in the class that runs only where no other thread wants to.
#[expect(unsafe_code, reason = "neither the standard library nor nix has this call")]
fn take_the_lowest_class() -> io::Result<()> {
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads `param`, which lives until after the call, and 0 stands for the calling thread.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const param) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
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
    fn what_is_kept_awake_is_what_generator_and_service_are_kept_on() {
        let awake = |idle, pinning| Placement::of(pinning, idle, &[0, 1, 2, 3, 4], 1, 2).awake;
        assert_eq!(awake(IdleCores::Auto, Pinning::Auto), [0, 3, 4]);
        assert!(awake(IdleCores::Auto, Pinning::None).is_empty());
        assert!(awake(IdleCores::Sleep, Pinning::Auto).is_empty());
        assert_eq!(awake(IdleCores::Awake, Pinning::None), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn one_core_cannot_be_divided() {
        assert_eq!(placed(Pinning::Apart, &[0], 1, 1), Placement::default());
        assert_eq!(placed(Pinning::None, &[0, 1], 1, 1), Placement::default());
    }

    #[test]
    fn the_generator_spins_only_where_a_core_is_left_for_it_and_for_exporters() {
        assert!(!placed(Pinning::Auto, &[0, 1], 1, 1).spare);
        assert!(!placed(Pinning::Auto, &[0, 1, 2], 1, 1).spare);
        assert!(!placed(Pinning::Auto, &[0, 1, 2, 3], 1, 2).spare && placed(Pinning::Auto, &[0, 1, 2, 3], 1, 1).spare);
    }

    #[test]
    fn cores_are_kept_awake_by_threads_that_any_other_displaces_and_that_end() {
        let core = *allowed_cores().last().unwrap();
        let kept = KeptAwake::on(&[core]).unwrap();
        let tasks = || procfs::process::Process::myself().unwrap().tasks().unwrap().flatten();
        let awake = tasks().find(|task| task.stat().is_ok_and(|stat| stat.comm == format!("awake-{core}"))).unwrap();
        // Source: sched(7); the kernel's number for SCHED_IDLE.
        assert_eq!(awake.stat().unwrap().policy, Some(5));
        drop(kept);
        assert!(tasks().all(|task| task.tid != awake.tid));
        assert!(KeptAwake::on(&[usize::MAX]).is_err());
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
