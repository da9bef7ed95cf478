//! Cores: which of them this process may use, keeping threads on some, and keeping some awake.

use std::hint;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

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

    #[test]
    fn cores_are_kept_awake_by_threads_of_the_lowest_class_until_dropped() {
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
    fn a_pinned_thread_stays_on_its_core() {
        let core = *allowed_cores().last().unwrap();
        std::thread::spawn(move || {
            keep_on(&[core]).unwrap();
            assert_eq!(allowed_cores(), [core]);
        })
        .join()
        .unwrap();
    }
}
