//! Creates the OTLP exporters of a mode.

use std::time::Duration;
use std::{env, fs, io};

use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{Bytes, HttpClient, HttpError};
use opentelemetry_otlp::{
    LogExporter, MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::TelemetryError;
use crate::experiment::mode::{Compression, Export, Protocol, Tls};

/// Default time-out of an export, from the OTLP exporter specification.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest response that is read, in bytes, as the OTLP specification recommends.
const LARGEST_ANSWER: usize = 4 << 20;

/// The collector that telemetry is sent to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// URL of the collector; `None` uses the `OTEL_*` variables or else the SDK's default.
    pub endpoint: Option<String>,
    /// TLS settings; `None` uses `OTEL_EXPORTER_OTLP_CERTIFICATE`, `…_CLIENT_CERTIFICATE` and `…_CLIENT_KEY`, which
    /// OpenTelemetry's exporter does not read itself.
    pub tls: Option<ClientTls>,
}

impl Destination {
    /// The collector at `endpoint`; `None` uses the `OTEL_*` variables.
    pub fn at(endpoint: Option<&str>) -> Self {
        Self { endpoint: endpoint.map(str::to_owned), tls: None }
    }
}

/// Certificates and key of a client, in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientTls {
    /// CA certificate that the collector's certificate is checked against; `None` uses the system's CAs.
    pub authority: Option<String>,
    /// The client's certificate and key.
    pub identity: Option<(String, String)>,
}

impl ClientTls {
    /// Reads the variables of the specification, those of the signal first; `None` if none is set.
    fn from_environment(signal: OtlpSignal) -> Result<Option<Self>, TelemetryError> {
        let authority = signal.pem("CERTIFICATE")?;
        let identity = match (signal.pem("CLIENT_CERTIFICATE")?, signal.pem("CLIENT_KEY")?) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return Err(TelemetryError::HalfAnIdentity("CLIENT_CERTIFICATE", "CLIENT_KEY")),
            (None, Some(_)) => return Err(TelemetryError::HalfAnIdentity("CLIENT_KEY", "CLIENT_CERTIFICATE")),
        };
        Ok((authority.is_some() || identity.is_some()).then_some(Self { authority, identity }))
    }

    fn config(self) -> ClientTlsConfig {
        let mut config = ClientTlsConfig::new();
        if let Some(authority) = self.authority {
            config = config.ca_certificate(Certificate::from_pem(authority));
        }
        if let Some((certificate, key)) = self.identity {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        config
    }
}

/// An OTLP signal and its names.
#[derive(Clone, Copy, Debug)]
pub(super) enum OtlpSignal {
    Traces,
    Metrics,
    Logs,
}

impl OtlpSignal {
    fn name(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
            Self::Logs => "LOGS",
        }
    }

    /// Path of HTTP exports, below the endpoint.
    fn path(self) -> &'static str {
        match self {
            Self::Traces => "v1/traces",
            Self::Metrics => "v1/metrics",
            Self::Logs => "v1/logs",
        }
    }

    /// Name and value of `OTEL_EXPORTER_OTLP_<SIGNAL>_<what>` or else of `OTEL_EXPORTER_OTLP_<what>`.
    fn variable(self, what: &str) -> Option<(String, String)> {
        [format!("OTEL_EXPORTER_OTLP_{}_{what}", self.name()), format!("OTEL_EXPORTER_OTLP_{what}")]
            .into_iter()
            .find_map(|name| env::var(&name).ok().filter(|value| !value.is_empty()).map(|value| (name, value)))
    }

    /// Contents of the PEM file that a variable names.
    fn pem(self, what: &str) -> Result<Option<String>, TelemetryError> {
        let Some((variable, path)) = self.variable(what) else { return Ok(None) };
        match fs::read_to_string(&path) {
            Ok(pem) => Ok(Some(pem)),
            Err(source) => Err(TelemetryError::Certificate { variable, path: path.into(), source }),
        }
    }
}

/// Creates an exporter of spans. Its connection runs on the current runtime.
pub(super) fn span_exporter(export: Export, to: &Destination) -> Result<SpanExporter, TelemetryError> {
    Ok(match export.protocol {
        Protocol::Grpc => grpc(SpanExporter::builder().with_tonic(), OtlpSignal::Traces, export, to)?.build()?,
        Protocol::Http => http(SpanExporter::builder().with_http(), OtlpSignal::Traces, export, to)?.build()?,
    })
}

/// Creates an exporter of metrics. Its connection runs on the current runtime.
pub(super) fn metric_exporter(export: Export, to: &Destination) -> Result<MetricExporter, TelemetryError> {
    Ok(match export.protocol {
        Protocol::Grpc => grpc(MetricExporter::builder().with_tonic(), OtlpSignal::Metrics, export, to)?.build()?,
        Protocol::Http => http(MetricExporter::builder().with_http(), OtlpSignal::Metrics, export, to)?.build()?,
    })
}

/// Creates an exporter of logs. Its connection runs on the current runtime.
pub(super) fn log_exporter(export: Export, to: &Destination) -> Result<LogExporter, TelemetryError> {
    Ok(match export.protocol {
        Protocol::Grpc => grpc(LogExporter::builder().with_tonic(), OtlpSignal::Logs, export, to)?.build()?,
        Protocol::Http => http(LogExporter::builder().with_http(), OtlpSignal::Logs, export, to)?.build()?,
    })
}

fn grpc<B>(mut builder: B, signal: OtlpSignal, export: Export, to: &Destination) -> Result<B, TelemetryError>
where
    B: WithExportConfig + WithTonicConfig,
{
    if let Some(url) = &to.endpoint {
        builder = builder.with_endpoint(url);
    }
    if let Some(timeout) = own_timeout(signal, export) {
        builder = builder.with_timeout(timeout);
    }
    if export.compression == Compression::Gzip {
        builder = builder.with_compression(opentelemetry_otlp::Compression::Gzip);
    }
    let tls = match &to.tls {
        Some(tls) => Some(tls.clone()),
        None => ClientTls::from_environment(signal)?,
    };
    match (export.tls, tls) {
        (Tls::Mutual, tls) if tls.as_ref().is_none_or(|tls| tls.identity.is_none()) => {
            Err(TelemetryError::NoCertificate)
        }
        (_, Some(tls)) => Ok(builder.with_tls_config(tls.config())),
        (_, None) => Ok(builder),
    }
}

fn http<B>(mut builder: B, signal: OtlpSignal, export: Export, to: &Destination) -> Result<B, TelemetryError>
where
    B: WithExportConfig + WithHttpConfig,
{
    if export.tls == Tls::Mutual {
        return Err(TelemetryError::NoTlsOverHttp);
    }
    if let Some(url) = &to.endpoint {
        builder = builder.with_endpoint(format!("{}/{}", url.trim_end_matches('/'), signal.path()));
    }
    if export.compression == Compression::Gzip {
        builder = builder.with_compression(opentelemetry_otlp::Compression::Gzip);
    }
    // The exporter leaves the time-out to its HTTP client.
    let timeout = own_timeout(signal, export)
        .or_else(|| signal.variable("TIMEOUT")?.1.trim().parse().ok().map(Duration::from_millis))
        .unwrap_or(TIMEOUT);
    let client =
        HyperClient { client: Client::builder(TokioExecutor::new()).build_http(), runtime: Handle::current(), timeout };
    Ok(builder.with_http_client(client).with_timeout(timeout))
}

/// The mode's time-out, unless an environment variable sets one.
pub(super) fn own_timeout(signal: OtlpSignal, export: Export) -> Option<Duration> {
    export.timeout.filter(|_| signal.variable("TIMEOUT").is_none())
}

/// An HTTP client on the exporter's own runtime, because the SDK calls the exporter from a thread without one.
#[derive(Clone, Debug)]
struct HyperClient {
    client: Client<HttpConnector, Full<Bytes>>,
    runtime: Handle,
    timeout: Duration,
}

#[tonic::async_trait]
impl HttpClient for HyperClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (client, timeout) = (self.client.clone(), self.timeout);
        let exchange = async move {
            let (head, body) = client.request(request.map(Full::new)).await?.into_parts();
            let body = Limited::new(body, LARGEST_ANSWER).collect().await?.to_bytes();
            Ok::<_, HttpError>(Response::from_parts(head, body))
        };
        // The caller's thread has no Tokio timer: creating a time-out there would panic and end the batch processor.
        let bounded = async move { tokio::time::timeout(timeout, exchange).await };
        match self.runtime.spawn(bounded).await? {
            Ok(answer) => answer,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }
}
