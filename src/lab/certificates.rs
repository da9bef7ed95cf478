//! Certificates for mutual TLS between the lanes and the embedded sink, made for one run and kept in memory alone.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, Error, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};

use crate::sink::Tls;
use crate::sut::telemetry::ClientTls;

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

/// Clients that the sink must not take, each with what it shows in words.
pub type Strangers = [(&'static str, ClientTls); 3];

impl Certificates {
    /// An authority of its own, and a certificate of it for each side.
    ///
    /// # Errors
    /// When the system has no random numbers to make keys of.
    pub fn make() -> Result<Self, Error> {
        Self::of(&Authority::make()?)
    }

    /// The same, and clients whom the sink must not take, each with what it shows in words: no certificate, one of an
    /// authority that the sink does not know, and one that has expired.
    ///
    /// # Errors
    /// As [`Certificates::make`].
    pub fn with_strangers() -> Result<(Self, Strangers), Error> {
        let authority = Authority::make()?;
        let certificates = Self::of(&authority)?;
        let showing = |identity| ClientTls { identity, ..certificates.client.clone() };
        let lane =
            |authority: &Authority, validity| authority.issued("lane", ExtendedKeyUsagePurpose::ClientAuth, validity);
        let strangers = [
            ("no certificate", showing(None)),
            ("a certificate of another authority", showing(Some(lane(&Authority::make()?, Validity::Usual)?))),
            ("a certificate that has expired", showing(Some(lane(&authority, Validity::Expired)?))),
        ];
        Ok((certificates, strangers))
    }

    fn of(authority: &Authority) -> Result<Self, Error> {
        let (certificate_pem, key_pem) =
            authority.issued("sink", ExtendedKeyUsagePurpose::ServerAuth, Validity::Usual)?;
        let identity = authority.issued("lane", ExtendedKeyUsagePurpose::ClientAuth, Validity::Usual)?;
        let pem = authority.0.pem();
        Ok(Self {
            server: Tls { certificate_pem, key_pem, client_ca_pem: Some(pem.clone()) },
            client: ClientTls { authority: Some(pem), identity: Some(identity) },
        })
    }
}

/// Who vouches for certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// How long a certificate is good for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Validity {
    Usual,
    Expired,
}

impl Authority {
    fn make() -> Result<Self, Error> {
        let mut params = CertificateParams::default();
        // A name of its own: another authority is then unknown, and not one whose signature is bad.
        params.distinguished_name.push(DnType::CommonName, format!("otelbench {:016x}", rand::random::<u64>()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// A certificate for `name` and its key, both in PEM.
    fn issued(
        &self,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
        validity: Validity,
    ) -> Result<(String, String), Error> {
        let mut params = CertificateParams::new([HOST.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        if validity == Validity::Expired {
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.0)?.pem(), key.serialize_pem()))
    }
}
