//! The parent's side of a lane: launches it, commands it, and keeps what it says on stderr.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;

use super::protocol::{self, Command, GeneratorSetup, OLDEST, PROTOCOL, Reply, SUBCOMMAND, Start};
use crate::generator::{Client, Generator, Load};
use crate::record::account::Account;
use crate::record::load::LoadResult;
use crate::record::machine::Tool;
use crate::record::usage::ResourceUsage;

/// Longest wait for a lane to carry out a command, beyond the time the command itself takes. Generous: on a machine so
/// busy that a launch takes longer, nothing can be measured.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a lane that failed may take to say why on stderr.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Lines of stderr that are kept for the message when a lane fails.
const STDERR_KEPT: usize = 20;

/// A failure of a lane.
#[derive(Debug, Error)]
#[error("the lane of arm `{arm}` {what}{}", quoted(.stderr))]
pub struct LaneError {
    /// The arm it ran.
    pub arm: String,
    /// The rest of a sentence that begins with the lane.
    pub what: String,
    /// The last lines it wrote to stderr.
    pub stderr: Vec<String>,
}

fn quoted(stderr: &[String]) -> String {
    if stderr.is_empty() {
        return "; it wrote nothing to stderr".into();
    }
    let lines: Vec<String> = stderr.iter().map(|line| format!("\n  | {line}")).collect();
    format!("; its last lines on stderr:{}", lines.concat())
}

/// A lane process. Dropping it kills the process.
#[derive(Debug)]
pub struct Lane {
    arm: String,
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Arc<Mutex<VecDeque<String>>>,
    stderr_reader: JoinHandle<()>,
    /// Where the generator runs in the parent.
    generator: Option<Generator>,
    addr: Option<SocketAddr>,
    /// The build that it is, once it has said so.
    tool: Option<Tool>,
}

/// Where the generator of a lane runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// In the lane.
    Inside,
    /// In this process.
    Here,
}

impl Lane {
    /// Launches `executable` as a lane for `arm`, with these variables beside those of this process, and waits until its
    /// service answers.
    ///
    /// # Errors
    /// When it does not start; with the last lines it wrote to stderr.
    pub async fn launch(
        executable: &Path,
        environment: &BTreeMap<String, String>,
        arm: &str,
        mut start: Start,
        setup: GeneratorSetup,
        generator_runs: Whereabouts,
    ) -> Result<Self, LaneError> {
        start.generator = (generator_runs == Whereabouts::Inside).then(|| setup.clone());
        let mut lane = Self::spawn(executable, environment, arm).map_err(|error| LaneError {
            arm: arm.into(),
            what: format!("cannot be launched from {}: {error}", executable.display()),
            stderr: Vec::new(),
        })?;
        match lane.ask(&Command::Start(Box::new(start)), PATIENCE).await? {
            Reply::Ready { protocol, addr, tool } if protocol::speaks(protocol) => {
                (lane.addr, lane.tool) = (addr, Some(tool));
            }
            Reply::Ready { protocol, .. } => {
                return Err(lane
                    .failed(format!("speaks lane protocol {protocol}, and not {OLDEST} to {PROTOCOL}"))
                    .await);
            }
            other => return Err(lane.out_of_turn(&other).await),
        }
        if generator_runs == Whereabouts::Here {
            let Some(addr) = lane.addr else {
                return Err(lane.failed("has no socket, and its generator is elsewhere".into()).await);
            };
            match Generator::start(setup.target(Client::Raw(addr))).await {
                Ok(generator) => lane.generator = Some(generator),
                Err(error) => return Err(lane.failed(format!("cannot be connected to: {error}")).await),
            }
        }
        Ok(lane)
    }

    fn spawn(executable: &Path, environment: &BTreeMap<String, String>, arm: &str) -> io::Result<Self> {
        let mut child = tokio::process::Command::new(executable)
            .arg(SUBCOMMAND)
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C goes to the whole group of the terminal: a lane must not die of it while its records are saved.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pipe = || io::Error::other("a pipe to the lane is missing");
        let stdin = child.stdin.take().ok_or_else(pipe)?;
        let stdout = child.stdout.take().ok_or_else(pipe)?;
        let mut lines = BufReader::new(child.stderr.take().ok_or_else(pipe)?).lines();
        let stderr = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&stderr);
        let stderr_reader = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == STDERR_KEPT {
                    kept.pop_front();
                }
                kept.push_back(line);
            }
        });
        Ok(Self {
            arm: arm.into(),
            child,
            stdin,
            stdout: BufReader::new(stdout).lines(),
            stderr,
            stderr_reader,
            generator: None,
            addr: None,
            tool: None,
        })
    }

    /// The lane's process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// The build that it is.
    pub fn tool(&self) -> Option<&Tool> {
        self.tool.as_ref()
    }

    /// Where its service answers; `None` where it is called without sockets.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// Plays `load` on the lane; `wait` is the longest the load may take.
    ///
    /// # Errors
    /// When the lane dies, or does not answer in time.
    pub async fn play(&mut self, load: Load, wait: Duration) -> Result<(LoadResult, ResourceUsage), LaneError> {
        if let Some(generator) = self.generator.take() {
            let played = self.play_from_here(&generator, load).await;
            self.generator = Some(generator);
            return played;
        }
        match self.ask(&Command::Play(load), wait + PATIENCE).await? {
            Reply::Played { played, spent } => Ok((*played, *spent)),
            other => Err(self.out_of_turn(&other).await),
        }
    }

    async fn play_from_here(
        &mut self,
        generator: &Generator,
        load: Load,
    ) -> Result<(LoadResult, ResourceUsage), LaneError> {
        match self.ask(&Command::Begin, PATIENCE).await? {
            Reply::Begun => {}
            other => return Err(self.out_of_turn(&other).await),
        }
        let played = match generator.play(load).await {
            Ok(played) => played,
            Err(error) => return Err(self.failed(format!("lost its generator: {error}")).await),
        };
        match self.ask(&Command::End, PATIENCE).await? {
            Reply::Ended { mut spent } => {
                // The generator's time belongs to the slice wherever it runs.
                spent.cpu_us.generator += played.generator_cpu_us;
                spent.cpu_us.process += played.generator_cpu_us;
                Ok((played, *spent))
            }
            other => Err(self.out_of_turn(&other).await),
        }
    }

    /// Ends the lane and takes its side of the ledger.
    ///
    /// # Errors
    /// When the lane dies before it has reported.
    pub async fn finish(mut self) -> Result<Account, LaneError> {
        match self.ask(&Command::Finish, PATIENCE).await? {
            Reply::Finished { account } => {
                // It has said everything; if it does not end by itself, dropping it ends it.
                drop(tokio::time::timeout(PATIENCE, self.child.wait()).await);
                Ok(*account)
            }
            other => Err(self.out_of_turn(&other).await),
        }
    }

    async fn ask(&mut self, command: &Command, wait: Duration) -> Result<Reply, LaneError> {
        let asked = match serde_json::to_string(command) {
            Ok(line) => self.stdin.write_all(format!("{line}\n").as_bytes()).await,
            Err(error) => Err(io::Error::other(error)),
        };
        if asked.is_err() {
            return Err(self.died().await);
        }
        match tokio::time::timeout(wait, self.stdout.next_line()).await {
            Err(_) => Err(self.failed(format!("did not answer within {} s", wait.as_secs())).await),
            Ok(Err(_) | Ok(None)) => Err(self.died().await),
            Ok(Ok(Some(line))) => match serde_json::from_str(&line) {
                Ok(Reply::Failed { message }) => Err(self.failed(format!("failed: {message}")).await),
                Ok(reply) => Ok(reply),
                Err(error) => Err(self.failed(format!("said `{line}`, which is no answer: {error}")).await),
            },
        }
    }

    async fn died(&mut self) -> LaneError {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let how = match status {
            Ok(Ok(status)) => format!("died ({status})"),
            Ok(Err(_)) | Err(_) => "closed its pipes".into(),
        };
        self.failed(how).await
    }

    async fn out_of_turn(&mut self, reply: &Reply) -> LaneError {
        self.failed(format!("answered out of turn: {reply:?}")).await
    }

    /// The error for what happened; the lane is ended so that its stderr is complete.
    async fn failed(&mut self, what: String) -> LaneError {
        // A lane that failed ends by itself once it has said why; one that hangs is killed.
        let _ = tokio::time::timeout(LAST_WORDS, self.child.wait()).await;
        let _ = self.child.start_kill();
        let _ = tokio::time::timeout(LAST_WORDS, &mut self.stderr_reader).await;
        let stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        LaneError { arm: self.arm.clone(), what, stderr }
    }
}
