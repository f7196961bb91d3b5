//! Certificates for tests, and the authorities that sign them.

use std::fs;
use std::path::Path;

use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder, X509Ref};

/// A certificate and its key.
pub struct Paper {
    pub certificate: X509,
    pub key: PKey<Private>,
}

impl Paper {
    /// Signed by `ca`, or a CA itself. It stands for `localhost` and for no address.
    pub fn new(name: &str, ca: Option<&Paper>) -> Paper {
        Paper::of(name, ca, &["localhost"])
    }

    /// It stands for these names.
    pub fn of(name: &str, ca: Option<&Paper>, hosts: &[&str]) -> Paper {
        let rsa = openssl::rsa::Rsa::generate(2048).unwrap();
        let key = PKey::from_rsa(rsa).unwrap();
        let mut subject = X509NameBuilder::new().unwrap();
        subject.append_entry_by_text("CN", name).unwrap();
        let subject = subject.build();
        let issuer = ca.map_or(&*subject, |ca| X509Ref::subject_name(&ca.certificate));
        let mut made = X509::builder().unwrap();
        made.set_version(2).unwrap();
        made.set_subject_name(&subject).unwrap();
        made.set_issuer_name(issuer).unwrap();
        made.set_pubkey(&key).unwrap();
        let from = Asn1Time::days_from_now(0).unwrap();
        let to = Asn1Time::days_from_now(2).unwrap();
        made.set_not_before(&from).unwrap();
        made.set_not_after(&to).unwrap();
        if ca.is_none() {
            let basic = BasicConstraints::new().critical().ca().build().unwrap();
            made.append_extension(basic).unwrap();
        }
        let context = made.x509v3_context(None, None);
        let mut names = SubjectAlternativeName::new();
        for host in hosts {
            names.dns(host);
        }
        made.append_extension(names.build(&context).unwrap())
            .unwrap();
        let signer = ca.map_or(&key, |ca| &ca.key);
        made.sign(signer, MessageDigest::sha256()).unwrap();
        let certificate = made.build();
        Paper { certificate, key }
    }

    pub fn certificate(&self, dir: &Path, name: &str) -> String {
        let path = dir.join(name);
        fs::write(&path, self.certificate.to_pem().unwrap()).unwrap();
        path.display().to_string()
    }

    pub fn key(&self, dir: &Path, name: &str) -> String {
        let path = dir.join(name);
        fs::write(&path, self.key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        path.display().to_string()
    }

    /// Key and certificate in one file, as Kafka reads a PEM key store.
    pub fn both(&self, dir: &Path, name: &str) -> String {
        let path = dir.join(name);
        let mut text = self.key.private_key_to_pem_pkcs8().unwrap();
        text.extend(self.certificate.to_pem().unwrap());
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}
