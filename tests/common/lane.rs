//! Orders played on a real lane, and a relay that keeps what the lane sends.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use otelbench::experiment::arrivals::Arrivals;
use otelbench::experiment::generator::GeneratorSettings;
use otelbench::experiment::mode::Mode;
use otelbench::experiment::payload::Payload;
use otelbench::experiment::scenario::Transport;
use otelbench::experiment::service::{Payment, ServiceSettings};
use otelbench::experiment::units::Rate;
use otelbench::generator::Load;
use otelbench::lab::lane::host::{Lane, Whereabouts};
use otelbench::lab::lane::protocol::{GeneratorSetup, PROTOCOL, Start};
use otelbench::lab::workload::Workload;
use otelbench::record::account::Account;
use otelbench::record::load::LoadResult;
use otelbench::sut::telemetry::Destination;
use prost::Message;
use tokio::net::TcpListener;
use tonic::transport::Channel;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::PROGRAM;

pub const NONCE: u64 = 0x0ddb_a115;
pub const SEED: u64 = 77;

/// The load played on a lane.
pub struct Orders {
    pub mode: Mode,
    pub payload: Payload,
    pub payment: Payment,
    /// Requests per second.
    pub rate: f64,
    pub lasts: Duration,
}

impl Orders {
    /// A hundred orders.
    pub fn of(mode: Mode) -> Self {
        let lasts = Duration::from_millis(500);
        Self { mode, payload: Payload::default(), payment: Payment::Inside, rate: 200.0, lasts }
    }

    /// Their caller.
    pub fn caller(&self) -> Workload {
        Workload::new(NONCE, SEED, &self.payload)
    }

    /// How to set their lane up.
    pub fn start(&self, endpoint: &str) -> Start {
        Start {
            protocol: PROTOCOL,
            mode: self.mode.clone(),
            destination: Destination::at(Some(endpoint)),
            transport: Transport::Tcp,
            service: ServiceSettings { payment: self.payment, payment_delay: Duration::ZERO, threads: 2 },
            service_cores: Vec::new(),
            generator: None,
            injected_ns: None,
        }
    }

    /// How to set their generator up.
    pub fn setup(&self) -> GeneratorSetup {
        GeneratorSetup {
            nonce: NONCE,
            seed: SEED,
            settings: GeneratorSettings {
                payload: self.payload.clone(),
                connections: 4,
                timeout: Duration::from_secs(30),
                ..GeneratorSettings::default()
            },
            recorded_share: self.mode.recorded_share(),
            may_spin: false,
            cores: Vec::new(),
        }
    }

    /// Plays them on a lane whose telemetry goes to `endpoint`.
    pub async fn play(self, endpoint: &str) -> (LoadResult, Account) {
        let (start, setup) = (self.start(endpoint), self.setup());
        let mut lane = Lane::launch(Path::new(PROGRAM), &BTreeMap::new(), "test", start, setup, Whereabouts::Inside)
            .await
            .unwrap();
        let load = Load {
            arrivals: Arrivals::Constant,
            rate: Rate::per_second(self.rate).unwrap(),
            duration: self.lasts,
            seed: 1,
            first_seq: 0,
        };
        let (played, _) = lane.play(load, self.lasts + Duration::from_mins(1)).await.unwrap();
        (played, lane.finish().await.unwrap())
    }
}

/// Passes traces and metrics on, swallows logs, and keeps all of them.
#[derive(Clone)]
pub struct Relay {
    traces: TraceServiceClient<Channel>,
    metrics: MetricsServiceClient<Channel>,
    kept: Arc<Mutex<Kept>>,
}

/// Everything that passed through a relay: every byte of every message, and the sender of each span.
#[derive(Clone, Default)]
pub struct Kept {
    pub traces: Vec<u8>,
    pub metrics: Vec<u8>,
    pub logs: Vec<u8>,
    /// Service and span.
    pub spans: Vec<(String, String)>,
    /// Log records.
    pub records: usize,
}

impl Kept {
    /// Whether `text` stands anywhere in what was sent.
    pub fn holds(&self, text: &str) -> bool {
        [&self.traces, &self.metrics, &self.logs].iter().any(|bytes| stands_in(text, bytes))
    }
}

/// Whether `text` stands anywhere in `bytes`.
pub fn stands_in(text: &str, bytes: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

impl Relay {
    /// A relay to the collector at `endpoint`, and its own endpoint.
    pub async fn to(endpoint: String) -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let relay = Self {
            traces: TraceServiceClient::connect(endpoint.clone()).await.unwrap(),
            metrics: MetricsServiceClient::connect(endpoint).await.unwrap(),
            kept: Arc::default(),
        };
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(relay.clone()))
            .add_service(MetricsServiceServer::new(relay.clone()))
            .add_service(LogsServiceServer::new(relay.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        (relay, format!("http://{addr}"))
    }

    /// Everything so far.
    pub fn kept(&self) -> Kept {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, note: impl FnOnce(&mut Kept)) {
        note(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn service_name(resource: Option<&Resource>) -> String {
    let attributes = resource.iter().flat_map(|resource| &resource.attributes);
    let named = attributes.filter(|attribute| attribute.key == "service.name").find_map(|attribute| {
        match attribute.value.as_ref()?.value.as_ref()? {
            any_value::Value::StringValue(name) => Some(name.clone()),
            _ => None,
        }
    });
    named.unwrap_or_default()
}

#[tonic::async_trait]
impl TraceService for Relay {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let export = request.into_inner();
        self.keep(|kept| {
            kept.traces.extend(export.encode_to_vec());
            for sent in &export.resource_spans {
                let service = service_name(sent.resource.as_ref());
                let spans = sent.scope_spans.iter().flat_map(|scope| &scope.spans);
                kept.spans.extend(spans.map(|span| (service.clone(), span.name.clone())));
            }
        });
        self.traces.clone().export(export).await
    }
}

#[tonic::async_trait]
impl MetricsService for Relay {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let export = request.into_inner();
        self.keep(|kept| kept.metrics.extend(export.encode_to_vec()));
        self.metrics.clone().export(export).await
    }
}

#[tonic::async_trait]
impl LogsService for Relay {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let export = request.into_inner();
        let scopes = export.resource_logs.iter().flat_map(|sent| &sent.scope_logs);
        let records: usize = scopes.map(|scope| scope.log_records.len()).sum();
        self.keep(|kept| {
            kept.logs.extend(export.encode_to_vec());
            kept.records += records;
        });
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}
