//! Commands that share [`Settings`](crate::experiment::scenario::Settings) with `run`, and do not take all of them: the help
//! leaves the others out, and whoever gives one is told why it is refused.

use std::ffi::OsStr;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command, Error};

/// Takes the arguments of these ids, in one list without headings, and refuses all others.
pub(super) fn only(taken: &'static [&'static str], why: &'static str) -> impl FnMut(Arg) -> Arg {
    move |arg| if taken.contains(&arg.get_id().as_str()) { arg.help_heading(None) } else { refuse(arg, why) }
}

/// Refuses an argument.
pub(super) fn refused(why: &'static str) -> impl FnOnce(Arg) -> Arg {
    move |arg| refuse(arg, why)
}

fn refuse(arg: Arg, why: &'static str) -> Arg {
    arg.hide(true).value_parser(Refusal { why })
}

/// Reads no value: whatever is given is refused.
#[derive(Clone)]
struct Refusal {
    why: &'static str,
}

impl TypedValueParser for Refusal {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, _: &OsStr) -> Result<String, Error> {
        let option = arg.and_then(Arg::get_long).unwrap_or_default();
        let message = format!("--{option} is no option of `{}`: {}\n", command.get_name(), self.why);
        Err(Error::raw(ErrorKind::UnknownArgument, message).with_cmd(command))
    }
}
