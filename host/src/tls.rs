//! A client of HTTPS that trusts the authorities, and shows the certificate, that a config names.

use reqwest::{Certificate, ClientBuilder, Identity};

use crate::config::{Text, Trust};
use crate::error::{Error, Kind, Result};
use crate::fs::Limit;

const CERTIFICATES: Limit = Limit {
    bytes: 16 << 20,
    of: "a file of certificates",
};

/// `op` stands in the error of a file that cannot be read, or is not what it should be.
pub fn trusting(
    mut builder: ClientBuilder,
    trust: &Trust,
    op: &'static str,
) -> Result<ClientBuilder> {
    if let Some((key, ca)) = &trust.ca {
        let (path, pem) = pem(op, key, ca)?;
        let all = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if all.is_empty() {
            let message = "there is no certificate in this file";
            return Err(bad_file(op, key, &path, message));
        }
        for one in all {
            builder = builder.add_root_certificate(one);
        }
    }
    if let (Some((named, certificate)), Some((key, of_it))) = (&trust.certificate, &trust.key) {
        let (path, certificate) = pem(op, named, certificate)?;
        let (_, of_it) = pem(op, key, of_it)?;
        let identity = Identity::from_pkcs8_pem(&certificate, &of_it).map_err(|e| {
            let message =
                "certificate and key do not make an identity: both must be PEM, the key PKCS #8";
            bad_file(op, named, &path, message).source(e)
        })?;
        builder = builder.identity(identity);
    }
    Ok(builder)
}

/// Whose certificate is the cause, where a connection fails for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// The other side refuses ours, or that there is none.
    Ours,
    Theirs,
}

/// `told`: the words of OpenSSL. What the other side says of us is an alert.
pub fn distrust(told: &str) -> Option<Distrust> {
    let of = |parts: &[&str]| parts.iter().any(|part| told.contains(part));
    match told.contains("alert") {
        true if of(&["handshake failure", "certificate", "unknown ca"]) => Some(Distrust::Ours),
        false if of(&["certificate"]) => Some(Distrust::Theirs),
        _ => None,
    }
}

fn pem(op: &'static str, key: &'static str, text: &Text) -> Result<(String, Vec<u8>)> {
    let path = text.resolve()?.trim().to_owned();
    let bytes = text.reach().read(path.as_ref(), CERTIFICATES);
    let bytes = bytes.map_err(|e| bad_file(op, key, &path, "the file cannot be read").source(e))?;
    Ok((path, bytes))
}

fn bad_file(op: &'static str, key: &'static str, path: &str, message: &str) -> Error {
    Error::new(Kind::ConfigInvalid, op, message)
        .with("key", key)
        .with("file", path)
        .hint("name a PEM file that this user may read")
}
