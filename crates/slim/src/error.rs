//! Errors of settings, and of the sending side as a whole.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why spans cannot be sent.
#[derive(Debug)]
pub enum SlimError {
    /// The settings cannot be meant.
    Settings(SettingsError),
    /// The thread cannot be started.
    Thread(io::Error),
    /// Some spans were still unsent after this time.
    Overdue(Duration),
}

impl fmt::Display for SlimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "cannot start the thread that sends spans: {error}"),
            Self::Overdue(bound) => write!(f, "not every span was sent within {bound:?}"),
        }
    }
}

impl Error for SlimError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // Its own message is shown above.
            Self::Settings(error) => error.source(),
            Self::Thread(error) => Some(error),
            Self::Overdue(_) => None,
        }
    }
}

impl From<SettingsError> for SlimError {
    fn from(error: SettingsError) -> Self {
        Self::Settings(error)
    }
}

impl From<io::Error> for SlimError {
    fn from(error: io::Error) -> Self {
        Self::Thread(error)
    }
}

/// Why settings cannot be meant.
#[derive(Debug)]
pub enum SettingsError {
    /// The endpoint is not one.
    Endpoint {
        /// The variable that says so, where it was one.
        variable: Option<String>,
        /// Its value.
        value: String,
        /// The reason.
        why: &'static str,
    },
    /// A header cannot be sent.
    Header {
        /// The variable that says so, where it was one.
        variable: Option<String>,
        /// Which of them. Its value may be a secret.
        header: String,
        /// The reason.
        why: &'static str,
    },
    /// The time limit is not one.
    Timeout {
        /// The variable.
        variable: String,
        /// Its value.
        value: String,
    },
    /// A file that a variable names cannot be read.
    File {
        /// The variable.
        variable: String,
        /// Its value.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A certificate without its key, or the reverse.
    HalfAnIdentity {
        /// The variable that is set.
        set: &'static str,
        /// The one that it takes beside it.
        missing: &'static str,
    },
    /// Certificates or a key that TLS cannot use.
    Tls {
        /// Which of them.
        what: &'static str,
        /// The reason.
        why: String,
    },
    /// A variable's value is not text.
    NotUnicode {
        /// The variable.
        variable: String,
    },
}

impl SettingsError {
    /// The same, with the name of the variable that it comes from.
    pub(crate) fn said_by(mut self, name: &str) -> Self {
        if let Self::Endpoint { variable, .. } | Self::Header { variable, .. } = &mut self {
            *variable = Some(name.to_owned());
        }
        self
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = |variable: &Option<String>| variable.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
        match self {
            Self::Endpoint { variable, value, why } => write!(
                f,
                "{}`{value}` is not the URL of an OTLP/gRPC receiver: {why}; write it as http://localhost:4317, or with https \
                 for TLS",
                by(variable)
            ),
            Self::Header { variable, header, why } => write!(
                f,
                "{}the header {header} {why}; write headers as NAME=VALUE, separated by commas, with percent-encoded values",
                by(variable)
            ),
            Self::Timeout { variable, value } => {
                write!(f, "{variable}: `{value}` is not a time limit; write whole milliseconds, such as 10000")
            }
            Self::File { variable, path, source } => write!(f, "{variable}: cannot read {}: {source}", path.display()),
            Self::HalfAnIdentity { set, missing } => {
                write!(f, "OTEL_EXPORTER_OTLP_{set} takes OTEL_EXPORTER_OTLP_{missing} beside it")
            }
            Self::Tls { what, why } => write!(f, "the {what} cannot be used: {why}"),
            Self::NotUnicode { variable } => write!(f, "{variable}: its value is not UTF-8"),
        }
    }
}

impl Error for SettingsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            _ => None,
        }
    }
}
