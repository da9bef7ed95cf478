//! Certificates for mutual TLS between the lanes and the embedded sink, made for one run and kept in memory alone.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, Error, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};

use crate::sink::ServerTls;
use crate::sut::telemetry::ClientTls;

/// Host name in the sink's certificate.
const HOST: &str = "localhost";

/// Certificates of both sides of one run.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// For the sink, which requires a client certificate of the same authority.
    pub server: ServerTls,
    /// For the lanes.
    pub client: ClientTls,
}

/// Clients that the sink must refuse, each with a description of its certificate.
pub type UnauthorisedClients = [(&'static str, ClientTls); 3];

impl Certificates {
    /// Makes an authority, and a certificate of it for each side.
    ///
    /// # Errors
    /// When the system has no random numbers for the keys.
    pub fn make() -> Result<Self, Error> {
        Self::of(&Authority::make()?)
    }

    /// The same, and clients that the sink must refuse: without a certificate, with one of an unknown authority, and with
    /// an expired one. Each comes with a description.
    ///
    /// # Errors
    /// As [`Certificates::make`].
    pub fn with_unauthorised_clients() -> Result<(Self, UnauthorisedClients), Error> {
        let authority = Authority::make()?;
        let certificates = Self::of(&authority)?;
        let showing = |identity| ClientTls { identity, ..certificates.client.clone() };
        let lane =
            |authority: &Authority, validity| authority.issued("lane", ExtendedKeyUsagePurpose::ClientAuth, validity);
        let unauthorised = [
            ("no certificate", showing(None)),
            ("a certificate of another authority", showing(Some(lane(&Authority::make()?, ValidityPeriod::Usual)?))),
            ("a certificate that has expired", showing(Some(lane(&authority, ValidityPeriod::Expired)?))),
        ];
        Ok((certificates, unauthorised))
    }

    fn of(authority: &Authority) -> Result<Self, Error> {
        let (certificate_pem, key_pem) =
            authority.issued("sink", ExtendedKeyUsagePurpose::ServerAuth, ValidityPeriod::Usual)?;
        let identity = authority.issued("lane", ExtendedKeyUsagePurpose::ClientAuth, ValidityPeriod::Usual)?;
        let pem = authority.0.pem();
        Ok(Self {
            server: ServerTls { certificate_pem, key_pem, client_ca_pem: Some(pem.clone()) },
            client: ClientTls { authority: Some(pem), identity: Some(identity) },
        })
    }
}

/// A certificate authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// Validity period of a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ValidityPeriod {
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
        validity: ValidityPeriod,
    ) -> Result<(String, String), Error> {
        let mut params = CertificateParams::new([HOST.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        if validity == ValidityPeriod::Expired {
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.0)?.pem(), key.serialize_pem()))
    }
}
