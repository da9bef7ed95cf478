//! Gates as they are asked for: the metric, the arm and the limit. They are judged by [`crate::verdict::gate`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::experiment::metric::{Metric, UnknownMetric};
use crate::experiment::units::stored_as_text;

/// How much worse the arms of a candidate may be by a metric: `cpu_us_per_request:full=5%`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Gate {
    /// The metric that may not get worse.
    pub metric: Metric,
    /// Of which arm; `None` for every treatment.
    pub arm: Option<String>,
    /// By how much at most, as a fraction of the reference.
    pub limit: f64,
}

stored_as_text!(Gate);

/// Why a text is not a [`Gate`].
#[derive(Clone, Debug, Error, PartialEq)]
pub enum GateError {
    /// It does not have the form of a gate.
    #[error("`{0}` is not a gate; write it as METRIC[:ARM]=PCT%, such as cpu_us_per_request:full=5%")]
    Form(String),
    /// Its metric is unknown.
    #[error(transparent)]
    Metric(#[from] UnknownMetric),
    /// Its limit is no percentage.
    #[error("`{0}` is not a limit; write a percentage of 0 or more with its sign, such as 5% or 0.5%")]
    Limit(String),
    /// No change could fail it.
    #[error("{0} cannot fall by {1} or more, so this gate could not fail; write a limit below 100%, such as 5%")]
    CannotFail(&'static str, String),
}

impl FromStr for Gate {
    type Err = GateError;

    fn from_str(text: &str) -> Result<Self, GateError> {
        // Names of arms hold colons and may hold equals signs, those of metrics do not.
        let (what, limit) = text.rsplit_once('=').ok_or_else(|| GateError::Form(text.into()))?;
        let (metric, arm) = match what.split_once(':') {
            Some((metric, arm)) => (metric, Some(arm.trim())),
            None => (what, None),
        };
        if arm.is_some_and(str::is_empty) {
            return Err(GateError::Form(text.into()));
        }
        let metric: Metric = metric.trim().parse()?;
        let percent = limit.trim().strip_suffix('%').and_then(|number| number.trim_end().parse::<f64>().ok());
        let percent = percent.filter(|percent| percent.is_finite() && *percent >= 0.0);
        let percent = percent.ok_or_else(|| GateError::Limit(limit.trim().into()))?;
        if metric.more_is_better() && percent >= 100.0 {
            return Err(GateError::CannotFail(metric.key(), limit.trim().into()));
        }
        Ok(Self { metric, arm: arm.map(str::to_owned), limit: percent / 100.0 })
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric.key())?;
        if let Some(arm) = &self.arm {
            write!(f, ":{arm}")?;
        }
        write!(f, "={}", percent(self.limit))
    }
}

/// A fraction as the percentage that was written: `5%`.
fn percent(fraction: f64) -> String {
    // To a billionth, where the division by 100 and back no longer shows.
    format!("{}%", (fraction * 1e11).round() / 1e9)
}

/// A gate names an arm that does not exist.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("--max-regression {gate}: there is no arm `{arm}`; there are {}", .known.join(", "))]
pub struct UnknownArm {
    gate: String,
    arm: String,
    known: Vec<String>,
}

impl Gate {
    /// The arms it applies to: the one it names, which must be among `known`, or all the `treatments`.
    ///
    /// # Errors
    /// When it names another.
    pub fn arms<'a>(&'a self, known: &[&str], treatments: &[&'a str]) -> Result<Vec<&'a str>, UnknownArm> {
        match &self.arm {
            None => Ok(treatments.to_vec()),
            Some(arm) if known.contains(&arm.as_str()) => Ok(vec![arm]),
            Some(arm) => Err(UnknownArm {
                gate: self.to_string(),
                arm: arm.clone(),
                known: known.iter().map(|&arm| arm.to_owned()).collect(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(text: &str) -> Gate {
        text.parse().unwrap()
    }

    #[test]
    fn a_gate_is_read_as_it_is_shown() {
        for text in [
            "cpu_us_per_request=5%",
            "cpu_us_per_request:full=0%",
            "capacity_rps:full=7%",
            "response_us_p99:full+reject:exhausted,retry=200ms@5s=12.5%",
            "allocations_per_request:tuned=0.1%",
            "rss_bytes=250%",
        ] {
            assert_eq!(gate(text).to_string(), text);
            let stored = serde_json::to_string(&gate(text)).unwrap();
            assert_eq!(serde_json::from_str::<Gate>(&stored).unwrap(), gate(text));
        }
        let spaced = gate(" cpu_us_per_request : full = 5 % ");
        assert_eq!((spaced.arm.as_deref(), spaced.limit), (Some("full"), 0.05));
    }

    #[test]
    fn invalid_gates_are_rejected_with_the_right_form() {
        for (text, says) in [
            ("cpu_us_per_request", "METRIC[:ARM]=PCT%"),
            ("cpu_us_per_request:=5%", "METRIC[:ARM]=PCT%"),
            ("cpu=5%", "unknown metric `cpu`, did you mean `cpu_us_per_request`?; known are capacity_rps, "),
            ("cpu_us_per_request=5", "`5` is not a limit"),
            ("cpu_us_per_request=-5%", "`-5%` is not a limit"),
            ("cpu_us_per_request=nan%", "`nan%` is not a limit"),
            ("cpu_us_per_request=inf%", "`inf%` is not a limit"),
            ("capacity_rps=100%", "could not fail"),
        ] {
            let error = text.parse::<Gate>().unwrap_err().to_string();
            assert!(error.contains(says), "{text} gave {error}");
        }
    }
}
