//! What was measured for the claims beside the records of the run itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::record::records::Records;
use crate::studies::isolated::Isolated;
use crate::studies::probe::Finding;

/// Everything that the judge looks at beside the records of the run; stored, so that it can look again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Evidence {
    /// Telemetry calls in isolation; null where none was measured.
    pub isolated: Option<Isolated>,
    /// Short runs of other scenarios, by name.
    pub trials: BTreeMap<String, Records>,
    /// Who came to a receiver that asks for certificates.
    pub encounters: Vec<Encounter>,
    /// What probes found.
    pub findings: Vec<Finding>,
    /// Why other probes could not be carried out, by their names.
    pub unprobed: BTreeMap<String, String>,
    /// What else could not be measured, and why.
    pub missing: Vec<String>,
}

/// A client at a receiver that takes nobody without a certificate of its authority.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Encounter {
    /// What the client shows, in words.
    pub shows: String,
    /// Whether the receiver should not take it.
    pub stranger: bool,
    /// Spans that it ended.
    pub ended: u64,
    /// Spans that the receiver took.
    pub received: u64,
    /// Connections that the receiver refused.
    pub refused_connections: u64,
    /// Why the last of them was; null where none was.
    pub refused_connection: Option<String>,
}
