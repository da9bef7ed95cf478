//! The protocol of parent and lane: one JSON value per line, each command answered once.
//!
//! The two may be builds months apart: `run --against` interleaves lanes of both. So the protocol grows by these rules:
//!
//! - What is added to a command has a default, is not written when it has it, and is refused by a lane that does not know it.
//!   An older lane thus does what it is asked, or says that it cannot; it never does something else in silence.
//!   The settings of service and generator are part of a command, key for key: a field that is added to
//!   [`ServiceSettings`] or [`GeneratorSettings`] is added here. serde does not promise that `flatten` works together with
//!   `deny_unknown_fields`; with structs it does, and a test below holds it.
//! - What is added to a reply has a default; what a reader does not know of a reply it ignores.
//! - A change of any other kind is a new [`PROTOCOL`]. Each side states its own, and the newer of the two decides whether it
//!   still speaks the other's: down to [`OLDEST`].

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::experiment::generator::GeneratorSettings;
use crate::experiment::mode::Mode;
use crate::experiment::scenario::Transport;
use crate::experiment::service::ServiceSettings;
use crate::generator::{Client, Load, Target};
use crate::lab::workload::Workload;
use crate::record::account::Account;
use crate::record::load::LoadResult;
use crate::record::machine::Tool;
use crate::record::usage::ResourceUsage;
use crate::sut::telemetry::Destination;

/// Version of this protocol.
pub const PROTOCOL: u32 = 5;

/// The oldest version that this build still speaks.
pub const OLDEST: u32 = 5;

/// Whether this build can work with one that speaks `theirs`. Of a newer one it takes for granted that it can: the newer one
/// knows both, and refuses where it must.
pub fn speaks(theirs: u32) -> bool {
    theirs >= OLDEST
}

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
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The parent's [`PROTOCOL`].
    pub protocol: u32,
    /// The telemetry configuration.
    pub mode: Mode,
    /// Where telemetry goes.
    pub destination: Destination,
    /// How requests reach the service.
    pub transport: Transport,
    /// How the service is set up.
    #[serde(flatten)]
    pub service: ServiceSettings,
    /// The cores that the workers of the service and of the payment service are kept on; empty for any.
    pub service_cores: Vec<usize>,
    /// The generator to run inside; `None` when the parent drives the load.
    pub generator: Option<GeneratorSetup>,
    /// CPU time that each request burns beside its work, in nanoseconds; also 0 costs the call. `None` for none at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injected_ns: Option<u64>,
}

/// A generator for one lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneratorSetup {
    /// Marks this lane's trace ids.
    pub nonce: u64,
    /// Seeds what is drawn for each request.
    pub seed: u64,
    /// How it is set up.
    #[serde(flatten)]
    pub settings: GeneratorSettings,
    /// Share of the traces that the caller has recorded, from 0 to 1.
    pub recorded_share: f64,
    /// Whether it may look at the clock instead of sleeping.
    pub may_spin: bool,
    /// The cores that its threads are kept on; empty for any.
    pub cores: Vec<usize>,
}

impl GeneratorSetup {
    /// The target that this setup drives over `client`.
    pub fn target(self, client: Client) -> Target {
        let GeneratorSettings { payload, request_headers, pacing, connections, shards, timeout } = self.settings;
        let workload = Workload::with_headers(self.nonce, self.seed, &payload, &request_headers);
        Target {
            requests: Arc::new(workload.recording(self.recorded_share)),
            connections,
            shards,
            client,
            pacing,
            may_spin: self.may_spin,
            cores: self.cores,
            timeout,
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
        /// The build that it is.
        tool: Tool,
    },
    /// The load was played.
    Played {
        /// Its result.
        played: Box<LoadResult>,
        /// Resources that were used.
        spent: Box<ResourceUsage>,
    },
    /// Metering has begun.
    Begun,
    /// Metering has ended.
    Ended {
        /// Resources that were used meanwhile.
        spent: Box<ResourceUsage>,
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::Router;
    use axum::http::HeaderMap;
    use serde_json::Value;

    use super::*;
    use crate::generator::{Generator, Handler};

    /// A conversation of a parent and a lane of version 5.
    const VERSION_5: &str = include_str!("protocol/5.jsonl");

    #[test]
    fn what_a_build_of_another_day_says_is_still_understood() {
        let mut spoken = 0;
        for line in VERSION_5.lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            // What it says again is what was said: nothing was skipped, and nothing that was not said is added.
            let again = if value.get("command").is_some() {
                serde_json::to_value(serde_json::from_str::<Command>(line).unwrap()).unwrap()
            } else {
                let reply: Reply = serde_json::from_str(line).unwrap();
                assert_eq!(serde_json::from_value::<Reply>(serde_json::to_value(&reply).unwrap()).unwrap(), reply);
                continue;
            };
            assert_eq!(again, value, "{line}");
            spoken += 1;
        }
        assert!(spoken >= 3, "a conversation has more commands");
    }

    #[test]
    fn a_lane_refuses_what_it_does_not_know_and_a_parent_does_not_mind() {
        let said = |nth: usize| -> Value { serde_json::from_str(VERSION_5.lines().nth(nth).unwrap()).unwrap() };
        let (start, mut ready) = (said(0), said(1));
        let refused = |start: Value| serde_json::from_value::<Command>(start).unwrap_err().to_string();
        let mut with = start.clone();
        with["weather"] = "fair".into();
        assert!(refused(with).contains("unknown field `weather`"));
        let mut with = start;
        with["generator"]["weather"] = "fair".into();
        assert!(refused(with).contains("unknown field `weather`"));
        ready["weather"] = "fair".into();
        assert!(matches!(serde_json::from_value(ready).unwrap(), Reply::Ready { .. }));
    }

    #[test]
    fn request_headers_are_said_where_there_are_any_and_reach_the_service_over_sockets_and_without() {
        let mut said: Value = serde_json::from_str(VERSION_5.lines().next().unwrap()).unwrap();
        said["generator"]["request_headers"] = serde_json::json!(["x-tenant: blue"]);
        let Command::Start(start) = serde_json::from_value(said.clone()).unwrap() else { panic!("no start") };
        assert_eq!(serde_json::to_value(Command::Start(start.clone())).unwrap(), said);
        let setup = GeneratorSetup { cores: Vec::new(), ..start.generator.unwrap() };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let seen = Arc::new(Mutex::new(Vec::new()));
            let heard = Arc::clone(&seen);
            let routes = Router::new().fallback(async move |headers: HeaderMap| {
                heard.lock().unwrap().push(headers.get("x-tenant").cloned());
            });
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            tokio::spawn(axum::serve(listener, routes.clone()).into_future());
            let direct = Handler::new(move |request| crate::sut::service::call(routes.clone(), request));
            for client in [Client::Raw(addr), Client::Direct(direct)] {
                let generator = Generator::start(setup.clone().target(client)).await.unwrap();
                let Ok(Command::Play(load)) = serde_json::from_str(VERSION_5.lines().nth(2).unwrap()) else {
                    panic!("no load")
                };
                let completed = generator.play(load).await.unwrap().load.completed;
                let seen = std::mem::take(&mut *seen.lock().unwrap());
                assert!(completed > 0 && seen.len() as u64 == completed, "{completed} completed, {} seen", seen.len());
                assert!(seen.iter().all(|value| value.as_ref().is_some_and(|value| value == "blue")), "{seen:?}");
            }
        });
    }

    #[test]
    fn what_may_differ_between_versions_is_decided_by_the_newer() {
        assert!(speaks(PROTOCOL) && speaks(OLDEST) && speaks(PROTOCOL + 1));
        assert!(!speaks(OLDEST - 1));
    }
}
