//! Where telemetry is sent.

use serde::{Deserialize, Serialize};

/// Where telemetry is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Collector {
    /// The sink embedded in the parent process, which checks what arrives.
    Embedded,
    /// The collector at this URL; what it received is not known here.
    Endpoint(String),
    /// The collector that the `OTEL_EXPORTER_OTLP_*ENDPOINT` variables name.
    Environment,
}

/// The URL of an OTLP/gRPC receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Endpoint(pub(super) String);

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(url: String) -> Result<Self, String> {
        let valid = url.parse::<http::Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|h| !h.is_empty())
        });
        valid.then(|| Self(url.clone())).ok_or_else(|| {
            format!("`{url}` is not the URL of an OTLP/gRPC receiver; write it as http://localhost:4317")
        })
    }
}

impl std::str::FromStr for Endpoint {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        Self::try_from(url.to_owned())
    }
}

impl Endpoint {
    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

pub(crate) fn environment_names_a_collector() -> bool {
    ["", "TRACES_", "METRICS_"]
        .iter()
        .any(|signal| std::env::var_os(format!("OTEL_EXPORTER_OTLP_{signal}ENDPOINT")).is_some_and(|v| !v.is_empty()))
}
