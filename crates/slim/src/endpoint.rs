//! The collector's URL.

use crate::error::SettingsError;

/// Where OTLP/gRPC goes: of a URL its scheme and its authority, as gRPC has a path of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Whether the scheme is `https`.
    pub tls: bool,
    /// Name or address, without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
    /// Host and port as the URL has them.
    pub authority: String,
}

impl Endpoint {
    pub(crate) fn parse(url: &str) -> Result<Self, SettingsError> {
        let refused = |why| SettingsError::Endpoint { variable: None, value: url.to_owned(), why };
        let url = url.trim();
        let (scheme, rest) = url.split_once("://").ok_or_else(|| refused("it has no scheme"))?;
        let (tls, usual) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return Err(refused("its scheme is neither http nor https")),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if !matches!(path, "" | "/") {
            return Err(refused("it has a path, which is for OTLP/HTTP"));
        }
        if let Some((_, host)) = authority.rsplit_once('@') {
            // The rest may be a secret.
            let (value, why) = (format!("{scheme}://…@{host}"), "it names a user; send credentials as a header");
            return Err(SettingsError::Endpoint { variable: None, value, why });
        }
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':').or((port.is_empty()).then_some(""))),
            None => authority.split_once(':').map_or((authority, Some("")), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return Err(refused("it has no host"));
        }
        if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte)) {
            return Err(refused("its host has characters that none has"));
        }
        let port = match port {
            Some("") => usual,
            Some(port) => port.parse().map_err(|_| refused("its port is not one"))?,
            None => return Err(refused("its port is not one")),
        };
        Ok(Self { tls, host: host.to_owned(), port, authority: authority.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_scheme_host_and_port() {
        for (url, tls, host, port, authority) in [
            ("http://localhost:4317", false, "localhost", 4317, "localhost:4317"),
            ("https://otel.example.com/", true, "otel.example.com", 443, "otel.example.com"),
            ("HTTP://10.0.0.1", false, "10.0.0.1", 80, "10.0.0.1"),
            (" https://[::1]:4317 ", true, "::1", 4317, "[::1]:4317"),
            ("http://[::1]", false, "::1", 80, "[::1]"),
        ] {
            let (host, authority) = (host.to_owned(), authority.to_owned());
            assert_eq!(Endpoint::parse(url).unwrap(), Endpoint { tls, host, port, authority }, "{url}");
        }
        for (url, why) in [
            ("", "no scheme"),
            ("localhost:4317", "no scheme"),
            ("grpc://localhost:4317", "neither http nor https"),
            ("http://:4317", "no host"),
            (
                "http://user:secret@localhost:4317",
                "`http://…@localhost:4317` is not the URL of an OTLP/gRPC receiver: it names a user",
            ),
            ("http://local host:4317", "characters"),
            ("http://localhost:4318/v1/traces", "path"),
            ("http://localhost:many", "port"),
            ("http://localhost:70000", "port"),
            ("http://[::1]4317", "port"),
        ] {
            let error = Endpoint::parse(url).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("http://localhost:4317"), "{url}: {error}");
        }
    }
}
