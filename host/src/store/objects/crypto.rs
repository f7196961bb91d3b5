//! Signatures of requests, computed by the OpenSSL that the program already contains.

use bytes::Bytes;
use object_store::client::{
    CryptoProvider, DigestAlgorithm, DigestContext, HmacContext, Signer, SigningAlgorithm,
};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::md::Md;
use openssl::md_ctx::MdCtx;
use openssl::pkey::{PKey, Private};
use openssl::sha::Sha256;
use openssl::sign;

type Result<T> = object_store::Result<T>;

#[derive(Debug)]
pub(super) struct OpenSsl;

fn refused(error: ErrorStack) -> object_store::Error {
    object_store::Error::Generic {
        store: "openssl",
        source: Box::new(error),
    }
}

fn unknown() -> object_store::Error {
    object_store::Error::NotSupported {
        source: "an algorithm that this version does not know".into(),
    }
}

impl CryptoProvider for OpenSsl {
    fn digest(&self, algorithm: DigestAlgorithm) -> Result<Box<dyn DigestContext>> {
        match algorithm {
            DigestAlgorithm::Sha256 => Ok(Box::new(Digest {
                running: Sha256::new(),
                digest: [0; 32],
            })),
            _ => Err(unknown()),
        }
    }

    fn hmac(&self, algorithm: DigestAlgorithm, secret: &[u8]) -> Result<Box<dyn HmacContext>> {
        match algorithm {
            DigestAlgorithm::Sha256 => {
                let key = PKey::hmac(secret).map_err(refused)?;
                let mut running = MdCtx::new().map_err(refused)?;
                running
                    .digest_sign_init(Some(Md::sha256()), &key)
                    .map_err(refused)?;
                Ok(Box::new(Hmac {
                    running,
                    failed: None,
                    code: Vec::new(),
                }))
            }
            _ => Err(unknown()),
        }
    }

    fn sign(&self, algorithm: SigningAlgorithm, pem: &[u8]) -> Result<Box<dyn Signer>> {
        match algorithm {
            SigningAlgorithm::RS256 => {
                let key = PKey::private_key_from_pem(pem).map_err(refused)?;
                Ok(Box::new(Rs256(key)))
            }
            _ => Err(unknown()),
        }
    }
}

struct Digest {
    running: Sha256,
    digest: [u8; 32],
}

impl DigestContext for Digest {
    fn update(&mut self, data: &[u8]) {
        self.running.update(data);
    }

    fn finish(&mut self) -> Result<&[u8]> {
        let whole = std::mem::replace(&mut self.running, Sha256::new());
        self.digest = whole.finish();
        Ok(&self.digest)
    }
}

struct Hmac {
    running: MdCtx,
    failed: Option<ErrorStack>,
    code: Vec<u8>,
}

impl HmacContext for Hmac {
    fn update(&mut self, data: &[u8]) {
        if let Err(error) = self.running.digest_sign_update(data) {
            self.failed = Some(error);
        }
    }

    fn finish(&mut self) -> Result<&[u8]> {
        if let Some(error) = self.failed.take() {
            return Err(refused(error));
        }
        self.code.clear();
        self.running
            .digest_sign_final_to_vec(&mut self.code)
            .map_err(refused)?;
        Ok(&self.code)
    }
}

struct Rs256(PKey<Private>);

impl Signer for Rs256 {
    fn sign(&self, text: &[u8]) -> Result<Vec<u8>> {
        let signer = sign::Signer::new(MessageDigest::sha256(), &self.0);
        signer
            .and_then(|mut signer| signer.sign_oneshot_to_vec(text))
            .map_err(refused)
    }
}

/// Whether this is the MD5 of the pieces one after the other, in hex, with or without quotes.
pub(super) fn is_md5(name: &str, pieces: &[Bytes]) -> bool {
    let digest = || {
        let mut md5 = openssl::hash::Hasher::new(MessageDigest::md5())?;
        pieces.iter().try_for_each(|piece| md5.update(piece))?;
        md5.finish()
    };
    digest().is_ok_and(|digest| {
        name.trim_matches('"')
            .eq_ignore_ascii_case(&crate::hash::hex(&digest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_and_codes_are_those_of_the_standards() {
        let hex = crate::hash::hex;
        let mut digest = OpenSsl.digest(DigestAlgorithm::Sha256).unwrap();
        digest.update(b"a");
        digest.update(b"bc");
        assert_eq!(
            hex(digest.finish().unwrap()),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        // RFC 4231, case 2.
        let mut code = OpenSsl.hmac(DigestAlgorithm::Sha256, b"Jefe").unwrap();
        code.update(b"what do ya want ");
        code.update(b"for nothing?");
        assert_eq!(
            hex(code.finish().unwrap()),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        let pieces = |last: &'static str| ["a", last].map(Bytes::from);
        assert!(is_md5(
            "\"900150983CD24FB0D6963F7D28E17F72\"",
            &pieces("bc")
        ));
        assert!(!is_md5(
            "\"900150983cd24fb0d6963f7d28e17f72\"",
            &pieces("bd")
        ));
        assert!(OpenSsl.sign(SigningAlgorithm::RS256, b"no key").is_err());
    }
}
