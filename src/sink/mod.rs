//! The OTLP receiver: takes traces and metrics over gRPC, counts them, and checks that the trace trees are right.
//!
//! It runs on a thread and a runtime of its own, in the parent process, as a collector runs beside a service. It knows
//! nothing of modes, lanes or the service: the shape that a tree should have is given to it.

mod tally;
mod trees;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

pub use self::tally::{Received, ReceivedMetrics};
pub use self::trees::{Caller, TreeReport, TreeShape};

use self::tally::Tally;
use self::wire::CountedIncoming;

/// Name of the sink's threads.
pub const THREAD: &str = "sink";

/// A sink: one runtime that any number of receivers share.
#[derive(Debug)]
pub struct Sink {
    /// Always there but in `drop`, which must not wait: a sink may be dropped where blocking is not allowed.
    runtime: Option<Runtime>,
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// One address that telemetry is sent to, with an account of its own. Dropping it closes the address.
#[derive(Debug)]
pub struct Receiver {
    addr: SocketAddr,
    state: Arc<State>,
    _close: oneshot::Sender<()>,
}

#[derive(Debug)]
struct State {
    tally: Mutex<Tally>,
    wire_bytes: AtomicU64,
}

impl Sink {
    /// Starts the sink's threads.
    ///
    /// # Errors
    /// When the runtime cannot be made.
    pub fn start() -> io::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name(THREAD).enable_all().build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Receives at `addr`; trees are held against `shape`.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn listen(&self, addr: SocketAddr, shape: TreeShape) -> io::Result<Receiver> {
        let listener = std::net::TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let state = Arc::new(State { tally: Mutex::new(Tally::new(shape)), wire_bytes: AtomicU64::new(0) });
        let (close, closed) = oneshot::channel::<()>();
        let serving = serve(listener, Arc::clone(&state), closed);
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async move {
                if let Err(error) = serving.await {
                    eprintln!("warning: the sink at {addr} stopped receiving: {error}");
                }
            });
        }
        Ok(Receiver { addr, state, _close: close })
    }
}

impl Receiver {
    /// Where to send to: an OTLP/gRPC endpoint.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What was received so far.
    pub fn received(&self) -> Received {
        self.state.lock().received(self.state.wire_bytes.load(Relaxed))
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Tally> {
        // A panic in one request must not stop the count of the others.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(
    listener: std::net::TcpListener,
    state: Arc<State>,
    closed: oneshot::Receiver<()>,
) -> Result<(), ServeError> {
    let incoming = CountedIncoming::new(TcpListener::from_std(listener)?, Arc::clone(&state));
    Server::builder()
        .add_service(TraceServiceServer::new(Service(Arc::clone(&state))))
        .add_service(MetricsServiceServer::new(Service(state)))
        .serve_with_incoming_shutdown(incoming, async { drop(closed.await) })
        .await?;
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    Listen(#[from] io::Error),
    #[error(transparent)]
    Serve(#[from] tonic::transport::Error),
}

#[derive(Clone)]
struct Service(Arc<State>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().spans(&request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.0.lock().metrics(&request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}
