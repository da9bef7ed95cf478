//! TLS for a receiver, with rustls and its `ring` provider.

use std::io;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// Certificates and key of a receiver, in PEM.
#[derive(Clone)]
pub struct ServerTls {
    /// The server certificate, followed by any intermediate ones. It must name `localhost` for [`Receiver::endpoint`].
    ///
    /// [`Receiver::endpoint`]: super::Receiver::endpoint
    pub certificate_pem: String,
    /// Private key of the certificate.
    pub key_pem: String,
    /// CA of the client certificates. If it is set, a client without such a certificate is refused (mutual TLS).
    pub client_ca_pem: Option<String>,
}

impl std::fmt::Debug for ServerTls {
    /// Does not show the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("client_ca", &self.client_ca_pem.is_some()).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// An acceptor with these settings.
    pub(super) fn acceptor(&self) -> io::Result<TlsAcceptor> {
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| refused("TLS", &error))?;
        let config = match &self.client_ca_pem {
            None => config.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates("client_ca_pem", ca)? {
                    roots.add(certificate).map_err(|error| refused("client_ca_pem", &error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                config.with_client_cert_verifier(verifier.map_err(|error| refused("client_ca_pem", &error))?)
            }
        };
        let chain = certificates("certificate_pem", &self.certificate_pem)?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(|error| refused("key_pem", &error))?;
        let mut config = config.with_single_cert(chain, key).map_err(|error| refused("certificate_pem", &error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn certificates(what: &str, pem: &str) -> io::Result<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let read = read.map_err(|error| refused(what, &error))?;
    if read.is_empty() { Err(refused(what, &"it contains no certificate")) } else { Ok(read) }
}

fn refused(what: &str, why: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{what} is not usable: {why}"))
}
