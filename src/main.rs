//! The `otelbench` program: parse, dispatch, exit code.

use std::process::ExitCode;

use clap::Parser;
use otelbench::cli::{self, Cli, Command};
use otelbench::commands::{self, Failure};
use otelbench::experiment::scenario::Endpoint;
use otelbench::lab::meter::allocations::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => {
            let resumed = args.resume();
            let (file, flags) = args.into_parts();
            match resumed {
                None => commands::run::run(file.as_deref(), flags),
                Some(records) => commands::run::resume(&records, file.as_deref(), &flags),
            }
        }
        Command::Capacity(args) => {
            let (file, flags) = args.into_parts();
            commands::capacity::run(file.as_deref(), flags)
        }
        Command::Claims(args) => {
            let (file, flags, only, fail_on) = args.into_parts();
            commands::claims::run(file.as_deref(), flags, &only, fail_on)
        }
        Command::Load(args) => commands::load::run(&args.into_assignment()?),
        Command::Pipeline(args) => commands::pipeline::run(args.into_question()),
        Command::Compare(args) => commands::compare::run(&args.into_question()),
        Command::Trend(args) => commands::trend::run(&args.files, args.metric, args.same_machine, args.format),
        Command::Report(args) => commands::report::run(&args.result, args.format),
        Command::Serve(args) => {
            let endpoint = args.endpoint.as_ref().map(Endpoint::as_str);
            commands::serve::run(&args.mode, args.addr, endpoint, args.payment_delay)
        }
        Command::Sink(args) => commands::sink::run(args.addr, args.fault, args.format),
        Command::Modes(args) => commands::modes::run(args.mode.as_ref(), args.format),
        Command::Selftest(args) => commands::selftest::run(&args.into_asked()),
        Command::Probe(args) => commands::probe::run(&args.probes(), args.format, args.quiet),
        Command::Completions { shell } => {
            cli::completions(shell, &mut std::io::stdout());
            Ok(())
        }
        Command::Lane => commands::lane::run(),
        Command::ProbeAttempt { probe, which } => commands::probe::attempt(&probe, which),
        Command::ProbeEnvironment { variable, endpoint } => commands::probe::environment(&variable, &endpoint),
        Command::IsolatedLaunch { estimator, endpoint } => commands::isolated::launch(&estimator, &endpoint),
        Command::Emit => commands::emit::run(),
    }
}
