//! The `otelbench` program: parse, dispatch, exit code.

use std::process::ExitCode;

use clap::Parser;
use otelbench::cli::{self, Cli, Command};
use otelbench::commands::{self, Failure};
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
        Command::Run(options) => {
            let resumed = options.resume();
            let (file, flags) = options.into_parts();
            match resumed {
                None => commands::run::run(file.as_deref(), flags),
                Some(records) => commands::run::resume(&records, file.as_deref(), &flags),
            }
        }
        Command::Capacity(options) => {
            let (file, flags) = options.into_parts();
            commands::capacity::run(file.as_deref(), flags)
        }
        Command::Claims(options) => {
            commands::claims::run(options.scenario.as_deref(), options.settings, &options.only, options.fail_on)
        }
        Command::Load(options) => commands::load::run(&options),
        Command::Pipeline(options) => commands::pipeline::run(*options),
        Command::Compare(options) => commands::compare::run(&options),
        Command::Trend(options) => {
            commands::trend::run(&options.files, options.metric, options.same_machine, options.format)
        }
        Command::Report(options) => commands::report::run(&options.result, options.format),
        Command::Serve(options) => commands::serve::run(&options),
        Command::Sink(options) => commands::sink::run(options.addr, options.fault, options.format),
        Command::Modes(options) => commands::modes::run(options.mode.as_ref(), options.format),
        Command::Selftest(options) => commands::selftest::run(&options),
        Command::Probe(options) => commands::probe::run(&options.probes(), options.format, options.quiet),
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
