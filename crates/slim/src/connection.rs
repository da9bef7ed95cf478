//! The way to the collector: TCP, with TLS where the endpoint asks for it, and a deadline on everything.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::endpoint::Endpoint;
use crate::error::SettingsError;
use crate::settings::Tls;

/// How HTTP/2 is called when TLS agrees on a protocol.
const HTTP2: &[u8] = b"h2";

/// Where to connect to, and how.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    pub endpoint: Endpoint,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Connector {
    /// For `endpoint`, whose collector is trusted by `tls` where it is one of TLS.
    pub(crate) fn new(endpoint: Endpoint, tls: &Tls) -> Result<Self, SettingsError> {
        let tls = if endpoint.tls {
            let name = ServerName::try_from(endpoint.host.clone()).map_err(|_| SettingsError::Endpoint {
                variable: None,
                value: endpoint.authority.clone(),
                why: "its host is no name that a certificate has",
            })?;
            Some((Arc::new(config(tls)?), name))
        } else {
            None
        };
        Ok(Self { endpoint, tls })
    }

    /// Connects to the first of the host's addresses that answers.
    pub(crate) fn connect(&self, deadline: Instant) -> io::Result<Stream> {
        let mut last = io::Error::new(ErrorKind::NotFound, "its host has no address");
        for address in (self.endpoint.host.as_str(), self.endpoint.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left(deadline)?) {
                Ok(tcp) => return self.secured(tcp, deadline),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn secured(&self, tcp: TcpStream, deadline: Instant) -> io::Result<Stream> {
        // A request is written as a whole; waiting for more to send with it would only delay it.
        tcp.set_nodelay(true)?;
        let Some((config, name)) = &self.tls else { return Ok(Stream::Plain(tcp)) };
        let client = ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
        let mut tls = StreamOwned::new(client, tcp);
        while tls.conn.is_handshaking() {
            limit(&tls.sock, deadline)?;
            tls.conn.complete_io(&mut tls.sock)?;
        }
        if tls.conn.alpn_protocol() != Some(HTTP2) {
            return Err(io::Error::other("the server does not offer HTTP/2 over TLS, which gRPC takes"));
        }
        Ok(Stream::Tls(Box::new(tls)))
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &tls.sock,
        }
    }

    /// Reads what there is, or waits for it until the deadline. 0 says that the peer has ended the connection.
    pub(crate) fn read(&mut self, into: &mut [u8], deadline: Instant) -> io::Result<usize> {
        limit(self.tcp(), deadline)?;
        self.read_some(into)
    }

    /// Reads what there is; `None` where there is nothing now.
    pub(crate) fn read_now(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        self.tcp().set_nonblocking(true)?;
        let read = self.read_some(into);
        self.tcp().set_nonblocking(false)?;
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read_some(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Self::Plain(tcp) => tcp.read(into),
                Self::Tls(tls) => tls.read(into),
            };
            match read {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// Writes all of it, until the deadline at most.
    pub(crate) fn write(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        limit(self.tcp(), deadline)?;
        match self {
            Self::Plain(tcp) => tcp.write_all(bytes),
            Self::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        }
    }
}

/// Has whatever waits for the peer give up at the deadline.
fn limit(tcp: &TcpStream, deadline: Instant) -> io::Result<()> {
    let left = Some(left(deadline)?);
    tcp.set_read_timeout(left)?;
    tcp.set_write_timeout(left)
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Whom to trust and who to be.
fn config(tls: &Tls) -> Result<ClientConfig, SettingsError> {
    let refused = |what| move |why: String| SettingsError::Tls { what, why };
    let authorities = "trusted certificate (OTEL_EXPORTER_OTLP_CERTIFICATE)";
    let mut roots = RootCertStore::empty();
    if let Some(pem) = &tls.authority {
        for certificate in certificates(pem).map_err(refused(authorities))? {
            roots.add(certificate).map_err(|error| refused(authorities)(error.to_string()))?;
        }
    } else {
        // Some of a system's certificates may be old or odd; without any, every handshake will say so.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refused("TLS library")(error.to_string()))?
        .with_root_certificates(roots);
    let mut config = match &tls.identity {
        Some((certificate, key)) => {
            let chain = certificates(certificate)
                .map_err(refused("client's certificate (OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE)"))?;
            let keys = refused("client's key (OTEL_EXPORTER_OTLP_CLIENT_KEY)");
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| keys(error.to_string()))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| keys(error.to_string()))?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(config)
}

/// The certificates in a PEM text, of which there must be one.
fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err("there is no certificate in its PEM".into()),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(error.to_string()),
    }
}
