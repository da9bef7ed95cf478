//! Shared by the tests of the program: running it, taking turns, and reading its results.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

pub mod lane;
pub mod server;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use otelbench::record::result::Document;
use procfs::process::all_processes;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_otelbench");

/// Requests per second that the service makes on one core of a slow machine also when built for debugging.
pub const RPS: u32 = if cfg!(debug_assertions) { 300 } else { 2_000 };

/// The exit code of a measurement that is invalid.
const INVALID: i32 = 4;

/// Longest wait for anything that should happen soon.
const PATIENCE: Duration = Duration::from_mins(3);

/// The program with these arguments, separated by spaces, and an environment without telemetry settings.
pub fn otelbench(arguments: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments.split_whitespace());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command
}

/// A test's turn to put load on the machine; it ends when this is dropped.
pub struct Turn {
    _lock: File,
}

/// The turn of a test that measures: no other test plays load meanwhile. Two on two cores would measure each other.
pub fn alone() -> Turn {
    let lock = lock_file();
    lock.lock().unwrap();
    Turn { _lock: lock }
}

/// The turn of a test that plays load and only counts what becomes of it: beside others of its kind, never beside one that
/// measures.
pub fn beside_others() -> Turn {
    let lock = lock_file();
    lock.lock_shared().unwrap();
    Turn { _lock: lock }
}

/// A lock on a file holds between threads as between processes, so it holds whatever runs the tests. The system gives it
/// back when a process dies.
fn lock_file() -> File {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(folder).unwrap();
    File::create(folder.join("load.lock")).unwrap()
}

/// Measures, and measures again where the program distrusts what it measured, three times in all: on a machine that others use
/// it may be right. One that always does so fails the test.
pub fn valid(mut command: impl FnMut() -> Command) -> Output {
    let mut output = command().output().unwrap();
    for _ in 1..3 {
        if output.status.code() != Some(INVALID) {
            break;
        }
        output = command().output().unwrap();
    }
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    output
}

/// Runs it to its end.
pub fn ran(arguments: &str) -> Output {
    otelbench(arguments).output().unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A run that goes on, and where its result goes.
pub struct Running {
    _turn: Turn,
    pub child: Child,
    pub folder: tempfile::TempDir,
}

impl Running {
    /// Starts a run of so many short rounds: a warm-up and a slice of three arms each.
    pub fn start(rounds: u32) -> Self {
        let turn = beside_others();
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run.json");
        let options = "--slices 1 --slice 200ms --warmup 100ms";
        let child = otelbench(&format!("run --rps {RPS} --mode full --rounds {rounds} {options}"))
            .arg("--out")
            .arg(out)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { _turn: turn, child, folder }
    }

    pub fn result(&self) -> PathBuf {
        self.folder.path().join("run.json")
    }

    pub fn records(&self) -> PathBuf {
        self.folder.path().join("run.jsonl")
    }

    /// Waits until so many lines are recorded.
    pub fn wait_for_lines(&self, lines: usize) {
        until(|| std::fs::read_to_string(self.records()).is_ok_and(|text| text.lines().count() >= lines));
    }

    /// Process ids of the lanes that run now.
    pub fn lanes(&self) -> Vec<i32> {
        children_of(self.child.id().cast_signed())
    }
}

/// Waits until `holds`.
pub fn until(mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "it did not happen within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Process ids of the children that a process has now.
pub fn children_of(parent: i32) -> Vec<i32> {
    let stats = all_processes().unwrap().filter_map(|process| process.ok()?.stat().ok());
    stats.filter(|stat| stat.ppid == parent).map(|stat| stat.pid).collect()
}

/// Whether the process is there and is not a zombie.
pub fn is_alive(pid: i32) -> bool {
    procfs::process::Process::new(pid).and_then(|process| process.stat()).is_ok_and(|stat| stat.state != 'Z')
}

/// The document at `path`, which must keep to the schema in the repository.
pub fn document(path: &Path) -> Document {
    let schema = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/schema/result-1.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    let value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let errors: Vec<String> = validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert_eq!(errors, Vec::<String>::new());
    Document::read(path).unwrap()
}
