//! How spans are sent, and what the variables of the OpenTelemetry specification say of it.
//!
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::error::SettingsError;

/// Where OTLP/gRPC goes unless something else is said.
const DEFAULT_ENDPOINT: &str = "http://localhost:4317";
/// Headers that the protocol sets itself.
const RESERVED: [&str; 7] =
    ["connection", "content-length", "content-type", "host", "te", "transfer-encoding", "user-agent"];

/// How spans are sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The collector: `http://HOST:PORT`, or `https://HOST:PORT` for TLS.
    pub endpoint: String,
    /// Headers of every export, such as an API key: lower-case names and printable values.
    pub headers: Vec<(String, String)>,
    /// Who is trusted, and who this client is, where the endpoint is `https`.
    pub tls: Tls,
    /// Who sends: attributes of the resource.
    pub resource: Vec<(String, String)>,
    /// Spans that wait at most, beside those of the export under way; further ones are dropped, and counted.
    pub queue: usize,
    /// Spans in one export at most.
    pub batch: usize,
    /// Longest time that a span waits for its batch to fill.
    pub delay: Duration,
    /// Time that an export may take, retries included.
    pub timeout: Duration,
}

/// Certificates, each as the text of a PEM file.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Who vouches for the collector; `None` for the system's authorities.
    pub authority: Option<String>,
    /// This client's certificate and its key, for mutual TLS.
    pub identity: Option<(String, String)>,
}

impl Settings {
    /// The SDK's defaults: 2048 spans wait at most, batches of 512, 5 s of delay, 10 s for an export; no variable is read.
    pub fn new(endpoint: impl Into<String>, resource: Vec<(String, String)>) -> Self {
        Self {
            endpoint: endpoint.into(),
            headers: Vec::new(),
            tls: Tls::default(),
            resource,
            queue: 2_048,
            batch: 512,
            delay: Duration::from_secs(5),
            timeout: Duration::from_secs(10),
        }
    }

    /// As [`new`](Self::new), with what `OTEL_EXPORTER_OTLP_ENDPOINT`, `…_HEADERS`, `…_TIMEOUT`, `…_CERTIFICATE`,
    /// `…_CLIENT_CERTIFICATE` and `…_CLIENT_KEY` say. Of each, the form for this signal wins, such as
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`. Without an endpoint, spans go to `http://localhost:4317`.
    ///
    /// # Errors
    /// When a variable says what it cannot mean, or a file that it names cannot be read.
    pub fn from_env(resource: Vec<(String, String)>) -> Result<Self, SettingsError> {
        Self::read(None, resource, |name| env::var_os(name))
    }

    /// As [`from_env`](Self::from_env), for a collector at `endpoint`, whatever the variables say of that.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_env_to(endpoint: impl Into<String>, resource: Vec<(String, String)>) -> Result<Self, SettingsError> {
        Self::read(Some(endpoint.into()), resource, |name| env::var_os(name))
    }

    fn read(
        endpoint: Option<String>,
        resource: Vec<(String, String)>,
        get: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, SettingsError> {
        let variables = Variables(get);
        let mut settings = Self::new(DEFAULT_ENDPOINT, resource);
        if let Some(endpoint) = endpoint {
            settings.endpoint = endpoint;
        } else if let Some(Variable { name, value }) = variables.find("ENDPOINT")? {
            settings.endpoint = value;
            Endpoint::parse(&settings.endpoint).map_err(|error| error.said_by(&name))?;
        }
        if let Some(Variable { name, value }) = variables.find("HEADERS")? {
            settings.headers = headers(&value).map_err(|error| error.said_by(&name))?;
        }
        if let Some(Variable { name, value }) = variables.find("TIMEOUT")? {
            let ms = value.trim().parse().ok().filter(|ms| *ms > 0);
            settings.timeout = Duration::from_millis(ms.ok_or(SettingsError::Timeout { variable: name, value })?);
        }
        let half = |set, missing| SettingsError::HalfAnIdentity { set, missing };
        // Without TLS nobody is asked for certificates, so their files may be missing.
        if settings.endpoint.starts_with("https:") {
            settings.tls.authority = variables.pem("CERTIFICATE")?;
            settings.tls.identity = match (variables.pem("CLIENT_CERTIFICATE")?, variables.pem("CLIENT_KEY")?) {
                (Some(certificate), Some(key)) => Some((certificate, key)),
                (None, None) => None,
                (Some(_), None) => return Err(half("CLIENT_CERTIFICATE", "CLIENT_KEY")),
                (None, Some(_)) => return Err(half("CLIENT_KEY", "CLIENT_CERTIFICATE")),
            };
        }
        Ok(settings)
    }
}

/// Shows no key and no value of a header, which may be secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, headers, tls, resource, queue, batch, delay, timeout } = self;
        let headers: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Settings")
            .field("endpoint", endpoint)
            .field("headers", &headers)
            .field("tls", tls)
            .field("resource", resource)
            .field("queue", queue)
            .field("batch", batch)
            .field("delay", delay)
            .field("timeout", timeout)
            .finish()
    }
}

/// Shows whether there is a key, and not which.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("authority", &self.authority.is_some())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

/// The environment.
struct Variables<F>(F);

/// A variable that is set.
struct Variable {
    name: String,
    value: String,
}

impl<F: Fn(&str) -> Option<OsString>> Variables<F> {
    /// `OTEL_EXPORTER_OTLP_TRACES_<what>`, or else `OTEL_EXPORTER_OTLP_<what>`. An empty one is as good as unset, by the
    /// specification.
    fn find(&self, what: &str) -> Result<Option<Variable>, SettingsError> {
        for name in [format!("OTEL_EXPORTER_OTLP_TRACES_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")] {
            let Some(value) = (self.0)(&name).filter(|value| !value.is_empty()) else { continue };
            return match value.into_string() {
                Ok(value) => Ok(Some(Variable { name, value })),
                Err(_) => Err(SettingsError::NotUnicode { variable: name }),
            };
        }
        Ok(None)
    }

    /// The text of the PEM file that a variable names.
    fn pem(&self, what: &str) -> Result<Option<String>, SettingsError> {
        let Some(Variable { name, value }) = self.find(what)? else { return Ok(None) };
        let read = fs::read_to_string(&value);
        read.map(Some).map_err(|source| SettingsError::File { variable: name, path: value.into(), source })
    }
}

/// `name=value` pairs, separated by commas, with percent-encoding in the values.
fn headers(text: &str) -> Result<Vec<(String, String)>, SettingsError> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).enumerate();
    pairs
        .map(|(nth, pair)| {
            let refused = |why| SettingsError::Header { variable: None, header: format!("number {}", nth + 1), why };
            let (name, value) = pair.split_once('=').ok_or_else(|| refused("is not NAME=VALUE"))?;
            let value = percent_decoded(value.trim()).ok_or_else(|| refused("has percent-encoding that is no text"))?;
            let header = (name.trim().to_ascii_lowercase(), value);
            checked(&header)?;
            Ok(header)
        })
        .collect()
}

/// Whether this can be sent as a header.
pub(crate) fn checked((name, value): &(String, String)) -> Result<(), SettingsError> {
    let refused = |why| Err(SettingsError::Header { variable: None, header: format!("`{name}`"), why });
    let token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return refused("does not have the name of a header, which is of lower-case letters, digits and hyphens");
    }
    if name.starts_with("grpc-") || RESERVED.contains(&name.as_str()) {
        return refused("is one that the protocol sets itself");
    }
    if !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return refused("has a value that is not printable ASCII");
    }
    Ok(())
}

/// The text with its `%XX` resolved; `None` where these are malformed or not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            (digit()? << 4 | digit()?) as u8
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// The settings where these variables are set.
    fn with(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let variables: HashMap<String, OsString> =
            variables.iter().map(|(name, value)| (format!("OTEL_EXPORTER_OTLP_{name}"), value.into())).collect();
        Settings::read(None, Vec::new(), |name| variables.get(name).cloned())
    }

    fn refused(variables: &[(&str, &str)]) -> String {
        with(variables).unwrap_err().to_string()
    }

    #[test]
    fn without_variables_the_defaults_of_the_specification_hold() {
        let defaults = Settings::new("http://localhost:4317", Vec::new());
        assert_eq!(with(&[]).unwrap(), defaults);
        // What is empty is unset.
        assert_eq!(with(&[("ENDPOINT", ""), ("HEADERS", ""), ("TIMEOUT", ""), ("CERTIFICATE", "")]).unwrap(), defaults);
        assert_eq!(defaults.timeout, Duration::from_secs(10));
    }

    #[test]
    fn the_form_for_traces_wins_over_the_general_one() {
        let general = [("ENDPOINT", "http://all:1"), ("HEADERS", "a=1"), ("TIMEOUT", "1000")];
        let settings = with(&general).unwrap();
        assert_eq!((settings.endpoint.as_str(), settings.timeout), ("http://all:1", Duration::from_secs(1)));
        assert_eq!(settings.headers, [("a".to_owned(), "1".to_owned())]);
        let own = [("TRACES_ENDPOINT", "http://own:2"), ("TRACES_HEADERS", "b=2"), ("TRACES_TIMEOUT", "250")];
        let settings = with(&[general, own].concat()).unwrap();
        assert_eq!((settings.endpoint.as_str(), settings.timeout), ("http://own:2", Duration::from_millis(250)));
        assert_eq!(settings.headers, [("b".to_owned(), "2".to_owned())]);
        // An empty one does not hide the general one.
        assert_eq!(with(&[("ENDPOINT", "http://all:1"), ("TRACES_ENDPOINT", "")]).unwrap().endpoint, "http://all:1");
    }

    #[test]
    fn an_endpoint_of_ones_own_wins_over_the_variables() {
        let get = |name: &str| (name == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").then(|| "nonsense".into());
        let settings = Settings::read(Some("http://here:1".into()), Vec::new(), get).unwrap();
        assert_eq!(settings.endpoint, "http://here:1");
    }

    #[test]
    fn headers_are_separated_by_commas_and_percent_decoded() {
        let settings = with(&[("HEADERS", " Api-Key = abc%3D%2c%20d ,, tenant=a=b,")]).unwrap();
        let expected = [("api-key", "abc=, d"), ("tenant", "a=b")];
        assert_eq!(settings.headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        for (value, says) in [
            ("token", "number 1 is not NAME=VALUE"),
            ("a=1,=2", "`` does not have the name"),
            ("a b=1", "`a b` does not have the name"),
            ("a=%zz", "number 1 has percent-encoding"),
            ("a=%f", "number 1 has percent-encoding"),
            ("a=%ff", "number 1 has percent-encoding"),
            ("a=x%0Ab", "`a` has a value that is not printable"),
            ("grpc-timeout=1S", "`grpc-timeout` is one that the protocol sets"),
            ("Content-Type=text/plain", "`content-type` is one that the protocol sets"),
        ] {
            let error = refused(&[("TRACES_HEADERS", value)]);
            assert!(error.starts_with("OTEL_EXPORTER_OTLP_TRACES_HEADERS: the header"), "{error}");
            assert!(error.contains(says), "{value}: {error}");
        }
    }

    #[test]
    fn values_that_mean_nothing_are_refused_with_the_name_of_their_variable() {
        for (variable, value, says) in [
            ("ENDPOINT", "localhost:4317", "write it as http://localhost:4317"),
            ("TRACES_ENDPOINT", "http://", "no host"),
            ("TIMEOUT", "10s", "`10s` is not a time limit; write whole milliseconds"),
            ("TRACES_TIMEOUT", "0", "`0` is not a time limit"),
            ("TIMEOUT", "-1", "`-1` is not a time limit"),
        ] {
            let error = refused(&[(variable, value)]);
            assert!(error.starts_with(&format!("OTEL_EXPORTER_OTLP_{variable}: ")) && error.contains(says), "{error}");
        }
    }

    #[test]
    fn certificates_are_read_where_the_endpoint_is_one_of_tls() {
        let https = ("ENDPOINT", "https://collector:4317");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let files = [("CERTIFICATE", path), ("CLIENT_CERTIFICATE", path), ("CLIENT_KEY", path)];
        let tls = with(&[&[https][..], &files].concat()).unwrap().tls;
        let text = fs::read_to_string(path).unwrap();
        assert_eq!(tls, Tls { authority: Some(text.clone()), identity: Some((text.clone(), text)) });
        assert_eq!(with(&[&[("ENDPOINT", "http://collector:4317")][..], &files].concat()).unwrap().tls, Tls::default());
        for (variables, says) in [
            (
                &[https, ("TRACES_CERTIFICATE", "/no/file")][..],
                "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE: cannot read /no/file",
            ),
            (
                &[https, ("CLIENT_CERTIFICATE", path)],
                "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE takes OTEL_EXPORTER_OTLP_CLIENT_KEY",
            ),
            (&[https, ("TRACES_CLIENT_KEY", path)], "takes OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE beside it"),
        ] {
            let error = refused(variables);
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut settings = Settings::new("https://c:1", Vec::new());
        settings.headers = vec![("api-key".into(), "hunter2".into())];
        settings.tls.identity = Some(("certificate".into(), "hunter2".into()));
        let shown = format!("{settings:?}");
        assert!(shown.contains("api-key") && !shown.contains("hunter2"), "{shown}");
    }
}
