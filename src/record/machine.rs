//! The program that measured and the machine it ran on, by which results are known to be comparable.

use std::fs;
use std::thread;

use procfs::{CpuInfo, Current, Meminfo};
use serde::{Deserialize, Serialize};

/// The program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Tool {
    /// Its version.
    pub version: String,
    /// The commit it was built from; null when it was not built from a checkout.
    pub git: Option<String>,
    /// The compiler.
    pub rustc: String,
    /// The build profile.
    pub profile: String,
}

/// The machine. Values that the system does not report are null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Machine {
    /// As the processor calls itself.
    pub cpu_model: Option<String>,
    /// Cores this process may use.
    pub cores: usize,
    /// Memory.
    pub memory_bytes: Option<u64>,
    /// Operating system and kernel release.
    pub kernel: Option<String>,
    /// Frequency governor of the first core; virtual machines have none.
    pub governor: Option<String>,
    /// Whether the processor says that it is virtual.
    pub hypervisor: Option<bool>,
}

impl Tool {
    /// This program.
    pub fn this() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            git: option_env!("OTELBENCH_GIT").filter(|git| !git.is_empty()).map(str::to_owned),
            rustc: env!("OTELBENCH_RUSTC").into(),
            profile: env!("OTELBENCH_PROFILE").into(),
        }
    }
}

impl Machine {
    /// This machine.
    pub fn this() -> Self {
        let cpu = CpuInfo::current().ok();
        let first = |field: &str| Some(cpu.as_ref()?.get_info(0)?.get(field)?.to_string());
        let line = |path: &str| Some(fs::read_to_string(path).ok()?.trim().to_owned());
        Self {
            cpu_model: first("model name"),
            cores: thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_bytes: Meminfo::current().ok().map(|memory| memory.mem_total),
            kernel: line("/proc/sys/kernel/osrelease").map(|release| format!("Linux {release}")),
            governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            hypervisor: first("flags").map(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor")),
        }
    }
}
