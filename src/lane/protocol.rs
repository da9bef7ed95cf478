//! What parent and lane say to each other: one JSON value per line, each command answered once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::generator::{Client, Load, Pacing, Played, Target};
use crate::mode::Mode;
use crate::record::Spent;
use crate::scenario::{Payment, Transport};
use crate::telemetry::{Account, Destination};
use crate::workload::{Payload, Workload};

/// Version of this protocol; parent and lane of different versions refuse each other.
pub const PROTOCOL: u32 = 4;

/// The hidden subcommand that makes a process a lane.
pub const SUBCOMMAND: &str = "lane";

/// From the parent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command")]
pub enum Command {
    /// Put a mode in place and serve. Answered by [`Reply::Ready`].
    Start(Box<Start>),
    /// Play load with the lane's own generator and meter it. Answered by [`Reply::Played`].
    Play(Load),
    /// Meter from now on. Answered by [`Reply::Begun`].
    Begin,
    /// Export what was caused, and meter until then. Answered by [`Reply::Ended`].
    End,
    /// Drain, shut telemetry down, report and end. Answered by [`Reply::Finished`].
    Finish,
}

/// How to set a lane up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The parent's [`PROTOCOL`].
    pub protocol: u32,
    /// The telemetry configuration.
    pub mode: Mode,
    /// Where telemetry goes.
    pub destination: Destination,
    /// What carries the requests.
    pub transport: Transport,
    /// Where payments are made.
    pub payment: Payment,
    /// What the payment takes.
    #[serde(with = "humantime_serde")]
    pub payment_delay: Duration,
    /// Worker threads of the service's runtime, and of the payment service's.
    pub service_threads: usize,
    /// The cores that the workers of both are kept on; empty for any.
    pub service_cores: Vec<usize>,
    /// The generator to run inside; `None` when the parent drives the load.
    pub generator: Option<GeneratorSetup>,
}

/// A generator for one lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GeneratorSetup {
    /// Marks this lane's trace ids.
    pub nonce: u64,
    /// Seeds what is drawn for each request.
    pub seed: u64,
    /// What the requests are made of.
    pub payload: Payload,
    /// Share of the traces that the caller has recorded, from 0 to 1.
    pub recorded_share: f64,
    /// Keep-alive connections.
    pub connections: usize,
    /// Threads that share them.
    pub shards: usize,
    /// How to wait for the next arrival.
    pub pacing: Pacing,
    /// Whether it may look at the clock instead of sleeping.
    pub may_spin: bool,
    /// The cores that its threads are kept on; empty for any.
    pub cores: Vec<usize>,
    /// Time a request may take.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

impl GeneratorSetup {
    /// The target that this setup drives over `client`.
    pub fn target(self, client: Client) -> Target {
        Target {
            requests: Arc::new(Workload::new(self.nonce, self.seed, &self.payload).recording(self.recorded_share)),
            connections: self.connections,
            shards: self.shards,
            client,
            pacing: self.pacing,
            may_spin: self.may_spin,
            cores: self.cores,
            timeout: self.timeout,
        }
    }
}

/// From the lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reply")]
pub enum Reply {
    /// The service answers.
    Ready {
        /// The lane's [`PROTOCOL`].
        protocol: u32,
        /// Where it listens; null where it is called without sockets.
        addr: Option<SocketAddr>,
    },
    /// The load was played.
    Played {
        /// What came of it.
        played: Box<Played>,
        /// What it cost.
        spent: Box<Spent>,
    },
    /// Metering has begun.
    Begun,
    /// Metering has ended.
    Ended {
        /// What was spent meanwhile.
        spent: Box<Spent>,
    },
    /// The lane ends.
    Finished {
        /// Its side of the ledger.
        account: Box<Account>,
    },
    /// The command could not be carried out.
    Failed {
        /// Why.
        message: String,
    },
}
