//! Certificates for mutual TLS between the lanes and the embedded sink, made for one run and kept in memory alone.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, Error, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};

use crate::sink::Tls;
use crate::telemetry::ClientTls;

/// The name that the sink's certificate is for.
const HOST: &str = "localhost";

/// What both sides of one run need.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The sink's, which takes nobody without a certificate of the same authority.
    pub server: Tls,
    /// The lanes'.
    pub client: ClientTls,
}

impl Certificates {
    /// An authority of its own, and a certificate of it for each side.
    ///
    /// # Errors
    /// When the system has no random numbers to make keys of.
    pub fn make() -> Result<Self, Error> {
        let mut params = CertificateParams::default();
        // A name of its own: an authority of another run is then unknown, and not one whose signature is bad.
        params.distinguished_name.push(DnType::CommonName, format!("otelbench {:016x}", rand::random::<u64>()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let issued = |name: &str, usage: ExtendedKeyUsagePurpose| {
            let mut params = CertificateParams::new([HOST.to_owned()])?;
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![usage];
            let key = KeyPair::generate()?;
            Ok::<_, Error>((params.signed_by(&key, &authority)?.pem(), key.serialize_pem()))
        };
        let (certificate_pem, key_pem) = issued("sink", ExtendedKeyUsagePurpose::ServerAuth)?;
        let identity = issued("lane", ExtendedKeyUsagePurpose::ClientAuth)?;
        Ok(Self {
            server: Tls { certificate_pem, key_pem, client_ca_pem: Some(authority.pem()) },
            client: ClientTls { authority: Some(authority.pem()), identity: Some(identity) },
        })
    }
}
