//! The lane's own side: service, telemetry and, if asked, the generator, each on named threads; commands from stdin.

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;
use std::{mem, process};

use axum::Router;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::Dispatch;

use super::LOOPBACK;
use super::protocol::{self, Command, OLDEST, PROTOCOL, Reply, Start};
use crate::experiment::scenario::Transport;
use crate::experiment::service::Payment;
use crate::experiment::units::micros;
use crate::generator::{self, Client, Generator, Handler, Load};
use crate::lab::meter::allocations;
use crate::lab::meter::{Meter, MeterDelta, MeterReading, ThreadRole, ThreadRoles};
use crate::os::clock;
use crate::os::cores;
use crate::record::account::Account;
use crate::record::load::LoadResult;
use crate::record::machine::Tool;
use crate::record::usage::{Count, CpuUs};
use crate::record::usage::{Idle, Periodic, ResourceUsage};
use crate::sut::service;
use crate::sut::telemetry::{PERIODIC_EXPORT_THREADS, SPAN_EXPORT_THREADS, Telemetry, TelemetryError};

/// Longest wait for requests under way when the lane ends.
const DRAIN: Duration = Duration::from_secs(5);
/// Longest wait for telemetry to be taken out when the lane ends: the SDK's own limit for a flush.
const TELEMETRY_SHUTDOWN: Duration = Duration::from_secs(5);

/// Role of each thread of a lane, by the beginning of its name.
const ROLES: ThreadRoles = &roles(ThreadRole::Generator);
/// The same where the generator's thread answers the requests too. Its own work cannot be told from theirs, but it is the
/// same in every arm.
const DIRECT_ROLES: ThreadRoles = &roles(ThreadRole::Request);

const fn roles(generator: ThreadRole) -> [(&'static str, ThreadRole); 10] {
    [
        (service::THREAD, ThreadRole::Request),
        (service::PAYMENT_THREAD, ThreadRole::Request),
        (generator::THREAD, generator),
        (SPAN_EXPORT_THREADS[0], ThreadRole::SpanExport),
        (SPAN_EXPORT_THREADS[1], ThreadRole::SpanExport),
        (SPAN_EXPORT_THREADS[2], ThreadRole::SpanExport),
        (SPAN_EXPORT_THREADS[3], ThreadRole::SpanExport),
        (PERIODIC_EXPORT_THREADS[0], ThreadRole::PeriodicExport),
        (PERIODIC_EXPORT_THREADS[1], ThreadRole::PeriodicExport),
        (PERIODIC_EXPORT_THREADS[2], ThreadRole::PeriodicExport),
    ]
}

/// Why a lane could not go on.
#[derive(Debug, Error)]
pub enum InsideError {
    /// The parent speaks another version.
    #[error("the parent speaks lane protocol {0}, this executable {OLDEST} to {PROTOCOL}")]
    Protocol(u32),
    /// A command came out of turn.
    #[error("the parent said {0} out of turn")]
    OutOfTurn(&'static str),
    /// A command is not one.
    #[error("not a command: {0}")]
    NotACommand(#[from] serde_json::Error),
    /// Telemetry could not be put in place.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// Something failed in the system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Carries out the parent's commands until it is told to finish or its input ends.
///
/// # Errors
/// When a command cannot be carried out; the parent has then been told.
pub fn run(output: &mut impl Write) -> Result<(), InsideError> {
    let commands = listen();
    let outcome = obey(&commands, output);
    if let Err(error) = &outcome {
        say(output, &Reply::Failed { message: error.to_string() })?;
    }
    outcome
}

/// Reads commands on a thread of its own, so that the end of the input is noticed also in the middle of a slice.
fn listen() -> Receiver<Result<Command, serde_json::Error>> {
    let (sender, commands) = channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if sender.send(serde_json::from_str(&line)).is_err() {
                return;
            }
        }
        // The parent is gone: nobody is left to report to.
        process::exit(0);
    });
    commands
}

fn obey(commands: &Receiver<Result<Command, serde_json::Error>>, output: &mut impl Write) -> Result<(), InsideError> {
    let mut running: Option<Running> = None;
    while let Ok(command) = commands.recv() {
        let reply = match (command?, &mut running) {
            (Command::Start(start), None) => {
                let (lane, reply) = Running::start(*start)?;
                running = Some(lane);
                reply
            }
            (Command::Play(load), Some(lane)) => lane.play(load)?,
            (Command::Begin, Some(lane)) => lane.begin()?,
            (Command::End, Some(lane)) => Reply::Ended { spent: Box::new(lane.end()?) },
            (Command::Finish, Some(_)) => {
                let account = running.take().map(Running::finish).unwrap_or_default();
                say(output, &Reply::Finished { account: Box::new(account) })?;
                return Ok(());
            }
            (Command::Start(_), Some(_)) => return Err(InsideError::OutOfTurn("start twice")),
            (_, None) => return Err(InsideError::OutOfTurn("something before start")),
        };
        say(output, &reply)?;
    }
    Ok(())
}

fn say(output: &mut impl Write, reply: &Reply) -> Result<(), InsideError> {
    writeln!(output, "{}", serde_json::to_string(reply)?)?;
    Ok(output.flush()?)
}

/// A lane at work.
struct Running {
    telemetry: Telemetry,
    runtime: Runtime,
    /// The service behind its socket; `None` where the generator calls it.
    serving: Option<Serving>,
    /// The payment service, where it is one of its own, on its own threads.
    payments: Option<(Runtime, Serving)>,
    generator: Option<Generator>,
    meter: Meter,
    /// Where the slice under way began.
    began: Option<Mark>,
    /// Since when the lane has been idle.
    idle_since: MeterReading,
}

/// A service that listens.
struct Serving {
    addr: SocketAddr,
    served: JoinHandle<io::Result<()>>,
    stop: oneshot::Sender<()>,
}

/// The state of clocks and counters at the start of a slice.
struct Mark {
    reading: MeterReading,
    periodic_exports: u64,
    idle: Idle,
}

impl Running {
    fn start(start: Start) -> Result<(Self, Reply), InsideError> {
        if !protocol::speaks(start.protocol) {
            return Err(InsideError::Protocol(start.protocol));
        }
        let mut telemetry = Telemetry::install(&start.mode, &start.destination)?;
        let payments = match start.service.payment {
            Payment::Inside => None,
            Payment::Http => Some(payment_service(&start, &mut telemetry)?),
        };
        let payment_service = payments.as_ref().map(|(_, serving)| serving.addr);
        let config = service::Config { settings: start.service.clone(), payment_service };
        let routes = service::router(start.mode.handlers, &config, telemetry.scrape());
        let routes = match start.injected_ns {
            None => routes,
            Some(ns) => service::burning(routes, Duration::from_nanos(ns)),
        };
        let (runtime, serving, client, roles) = match start.transport {
            Transport::Tcp => {
                let runtime = service_runtime(service::THREAD, start.service.threads, start.service_cores, None)?;
                let serving = Serving::start(&runtime, routes)?;
                let client = Client::Raw(serving.addr);
                (runtime, Some(serving), client, ROLES)
            }
            Transport::Direct => {
                // It only waits for the generator.
                let runtime = tokio::runtime::Builder::new_current_thread().build()?;
                let handler = Handler::new(move |request| service::call(routes.clone(), request));
                (runtime, None, Client::Direct(handler), DIRECT_ROLES)
            }
        };
        let generator = match start.generator {
            None => None,
            Some(setup) => Some(runtime.block_on(Generator::start(setup.target(client)))?),
        };
        let addr = serving.as_ref().map(|serving| serving.addr);
        let meter = Meter::new(roles);
        let idle_since = meter.read()?;
        let lane = Self { telemetry, runtime, serving, payments, generator, meter, began: None, idle_since };
        Ok((lane, Reply::Ready { protocol: PROTOCOL, addr, tool: Tool::this() }))
    }

    fn play(&mut self, load: Load) -> Result<Reply, InsideError> {
        self.begin()?;
        let generator = self.generator.as_ref().ok_or(InsideError::OutOfTurn("play without a generator"))?;
        let played: LoadResult = self.runtime.block_on(generator.play(load))?;
        let spent = self.end()?;
        Ok(Reply::Played { played: Box::new(played), spent: Box::new(spent) })
    }

    fn begin(&mut self) -> Result<Reply, InsideError> {
        let reading = self.meter.read()?;
        let idle = reading.since(&self.idle_since);
        let idle = Idle { wall_us: micros(idle.wall), cpu_us: idle.process_ns as f64 / 1e3 };
        self.began = Some(Mark { reading, periodic_exports: self.periodic_exports(), idle });
        Ok(Reply::Begun)
    }

    fn end(&mut self) -> Result<ResourceUsage, InsideError> {
        let mark = self.began.take().ok_or(InsideError::OutOfTurn("end before begin"))?;
        self.telemetry.flush_spans();
        self.telemetry.flush_periodic();
        let reading = self.meter.read()?;
        let usage = reading.since(&mark.reading);
        self.idle_since = reading;
        let periodic = self.telemetry.periodic().map(|(exports, interval)| Periodic {
            exports: exports - mark.periodic_exports,
            interval_us: micros(interval),
            cpu_us: usage.cpu_ns(ThreadRole::PeriodicExport) as f64 / 1e3,
            allocations: usage.allocated(ThreadRole::PeriodicExport),
        });
        Ok(spent(&usage, periodic, mark.idle, clock::rss_bytes()?))
    }

    fn periodic_exports(&self) -> u64 {
        self.telemetry.periodic().map_or(0, |(exports, _)| exports)
    }

    fn finish(self) -> Account {
        drop(self.generator);
        let drained = self.serving.map_or(Ok(()), |serving| serving.drain(&self.runtime));
        let paid = self.payments.map_or(Ok(()), |(runtime, serving)| serving.drain(&runtime));
        let mut account = self.telemetry.shutdown(TELEMETRY_SHUTDOWN);
        // What the kernel does not tell is not known; it is nothing to lose the account for.
        account.rss_peak_bytes = clock::rss_peak_bytes().ok().flatten();
        for (service, ended) in [("service", drained), ("payment service", paid)] {
            if let Err(error) = ended {
                account.diagnostics.push(format!("the {service} did not end well: {error}"));
            }
        }
        account
    }
}

/// The payment service, which listens: as many threads as the order service has, on the same cores, and what its mode has for
/// spans once more.
fn payment_service(start: &Start, telemetry: &mut Telemetry) -> Result<(Runtime, Serving), InsideError> {
    let subscriber = telemetry.payment_service(&start.mode, &start.destination)?;
    let cores = start.service_cores.clone();
    let runtime = service_runtime(service::PAYMENT_THREAD, start.service.threads, cores, subscriber)?;
    let serving = Serving::start(&runtime, service::payment_router(start.mode.handlers, &start.service))?;
    Ok((runtime, serving))
}

/// Threads for a service, on which `subscriber` hears all; the process's where there is none.
fn service_runtime(name: &str, threads: usize, cores: Vec<usize>, subscriber: Option<Dispatch>) -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .on_thread_start(move || {
            if let Err(error) = cores::keep_on(&cores) {
                eprintln!("cannot keep the service on cores {cores:?}: {error}");
                process::exit(1);
            }
            if let Some(subscriber) = &subscriber {
                // For as long as the thread lives.
                mem::forget(tracing::dispatcher::set_default(subscriber));
            }
        })
        .enable_all()
        .build()
}

impl Serving {
    fn start(runtime: &Runtime, routes: Router) -> io::Result<Self> {
        let listener = runtime.block_on(TcpListener::bind(LOOPBACK))?;
        let addr = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let served = runtime.spawn(service::run(listener, routes, async { drop(stopped.await) }, DRAIN));
        Ok(Self { addr, served, stop })
    }

    fn drain(self, runtime: &Runtime) -> io::Result<()> {
        // The service may have ended by itself; its end is what is waited for.
        let _ = self.stop.send(());
        runtime.block_on(self.served)?
    }
}

/// Puts what was metered on the accounts that are stored.
fn spent(usage: &MeterDelta, periodic: Option<Periodic>, idle: Idle, rss_bytes: u64) -> ResourceUsage {
    let us = |role| usage.cpu_ns(role) as f64 / 1e3;
    let counted = [ThreadRole::Request, ThreadRole::SpanExport, ThreadRole::PeriodicExport]
        .into_iter()
        .fold(Count::default(), |sum, role| sum.plus(usage.allocated(role)));
    let counting = allocations::counting();
    ResourceUsage {
        wall_us: micros(usage.wall),
        cpu_us: CpuUs {
            request: us(ThreadRole::Request),
            exporter: us(ThreadRole::SpanExport) + us(ThreadRole::PeriodicExport),
            generator: us(ThreadRole::Generator),
            other: us(ThreadRole::Other),
            process: usage.process_ns as f64 / 1e3,
            unaccounted: usage.unaccounted_ns() as f64 / 1e3,
        },
        periodic,
        allocations: counting.then_some(counted),
        allocations_reason: (!counting).then(|| "this executable does not count allocations".into()),
        rss_bytes,
        idle,
        steal_us: micros(usage.steal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threads_of_both_services_work_for_the_requests() {
        for service in [service::THREAD, service::PAYMENT_THREAD] {
            let runtime = service_runtime(service, 1, Vec::new(), None).unwrap();
            let worker = runtime.spawn(async { thread::current().name().map(str::to_owned) });
            let name = runtime.block_on(worker).unwrap().unwrap();
            let role = ROLES.iter().find(|(beginning, _)| name.starts_with(beginning)).map(|(_, role)| *role);
            assert_eq!(role, Some(ThreadRole::Request), "{name}");
        }
    }
}
