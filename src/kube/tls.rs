//! Trust: the cryptography that is linked, the CA file, and what went wrong in plain words.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::crypto::ring::{cipher_suite, kx_group};
use rustls::crypto::{
    CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::SigningKey;
use rustls::{AlertDescription, CertificateError, InvalidMessage, RootCertStore, SignatureScheme};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use webpki::ring as algorithms;

use super::config::Server;

/// The certificates of a CA file, each found good enough to be trusted.
///
/// One bad certificate makes the whole file bad, as it does for kube-controller-manager, which
/// hands this file to the pods (`ParseCertsPEM` in `client-go/util/cert`). ureq would skip it
/// without a word, and the reader would be left with an unknown issuer.
pub(super) fn roots(path: &Path, pem: &[u8]) -> Result<RootCerts, String> {
    let path = path.display();
    let mut roots = Vec::new();
    let mut store = RootCertStore::empty();
    for it in CertificateDer::pem_slice_iter(pem) {
        let n = roots.len() + 1;
        let bad = || format!("certificate {n} in CA file `{path}` is damaged; replace the file");
        let certificate = it.map_err(|_| bad())?;
        roots.push(Certificate::from_der(&certificate).to_owned());
        store.add(certificate).map_err(|_| bad())?;
    }
    match roots.is_empty() {
        true => Err(format!(
            "CA file `{path}` holds no certificate; \
             it takes PEM, one `-----BEGIN CERTIFICATE-----` block for each certificate"
        )),
        false => Ok(RootCerts::from(roots)),
    }
}

pub(super) fn config(roots: RootCerts) -> TlsConfig {
    TlsConfig::builder()
        .root_certs(roots)
        .unversioned_rustls_crypto_provider(Arc::new(provider()))
        .build()
}

/// What a client of an API server needs of ring, and no more, because whatever is named here is
/// linked: rustls's own `default_provider()` costs 107 KB more. ChaCha20 is left out (TLS 1.3
/// makes AES-GCM mandatory, and every Go server has it in 1.2 too), and so are keys for signing;
/// P-521 is not in ring.
///
/// TLS 1.2 stays: a load balancer in front of an API server may know nothing newer.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        ],
        kx_groups: vec![kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        signature_verification_algorithms: SIGNATURES,
        secure_random: &Random,
        key_provider: &NoKeys,
    }
}

/// The signatures that can be checked: all that rustls can with ring, since together they cost
/// little. In TLS 1.2 a scheme does not fix the curve, so two stand for each of ECDSA.
///
/// Source: `SUPPORTED_SIG_ALGS` in `rustls/src/crypto/ring/mod.rs`, which is private there.
static SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        algorithms::ECDSA_P256_SHA256,
        algorithms::ECDSA_P256_SHA384,
        algorithms::ECDSA_P384_SHA256,
        algorithms::ECDSA_P384_SHA384,
        algorithms::ED25519,
        algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        algorithms::RSA_PKCS1_2048_8192_SHA256,
        algorithms::RSA_PKCS1_2048_8192_SHA384,
        algorithms::RSA_PKCS1_2048_8192_SHA512,
        algorithms::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
        algorithms::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
        algorithms::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    ],
    mapping: &[
        (
            SignatureScheme::ECDSA_NISTP384_SHA384,
            &[algorithms::ECDSA_P384_SHA384, algorithms::ECDSA_P256_SHA384],
        ),
        (
            SignatureScheme::ECDSA_NISTP256_SHA256,
            &[algorithms::ECDSA_P256_SHA256, algorithms::ECDSA_P384_SHA256],
        ),
        (SignatureScheme::ED25519, &[algorithms::ED25519]),
        (SignatureScheme::RSA_PSS_SHA512, &[algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA384, &[algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA256, &[algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY]),
        (SignatureScheme::RSA_PKCS1_SHA512, &[algorithms::RSA_PKCS1_2048_8192_SHA512]),
        (SignatureScheme::RSA_PKCS1_SHA384, &[algorithms::RSA_PKCS1_2048_8192_SHA384]),
        (SignatureScheme::RSA_PKCS1_SHA256, &[algorithms::RSA_PKCS1_2048_8192_SHA256]),
    ],
};

/// ring's random numbers, which are the kernel's.
#[derive(Debug)]
struct Random;

impl SecureRandom for Random {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        SystemRandom::new().fill(buffer).map_err(|_| GetRandomFailed)
    }
}

/// A client that shows who it is by a token has no private key.
#[derive(Debug)]
struct NoKeys;

impl KeyProvider for NoKeys {
    fn load_private_key(
        &self,
        _: PrivateKeyDer<'static>,
    ) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General("there are no private keys here".into()))
    }
}

/// Whether another connection could fare better: what is wrong with a certificate or with a
/// server's taste in cryptography stays wrong.
pub(super) fn is_lasting(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(_)
            | rustls::Error::NoCertificatesPresented
            | rustls::Error::PeerIncompatible(_)
            | rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)
            | rustls::Error::AlertReceived(
                AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion
            )
    )
}

/// A TLS failure as a clause that names its cause and what to do.
pub(super) fn explain(error: &rustls::Error, server: &Server, ca: &Path) -> String {
    let Server { authority, host, .. } = server;
    match error {
        rustls::Error::InvalidCertificate(error) => {
            format!("the certificate of {authority} {}", certificate_fault(error, host, ca))
        }
        rustls::Error::PeerIncompatible(_)
        | rustls::Error::AlertReceived(
            AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion,
        ) => format!(
            "{authority} agrees to no TLS version, cipher and key exchange that prepull knows: \
             it takes TLS 1.2 or 1.3 with AES-GCM and X25519, P-256 or P-384"
        ),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => format!(
            "{authority} does not speak TLS; if it is a kubectl proxy, write --server http://…"
        ),
        other => format!("TLS with {authority} failed: {other}"),
    }
}

fn certificate_fault(error: &CertificateError, host: &str, ca: &Path) -> String {
    let ca = ca.display();
    match error {
        CertificateError::BadSignature | CertificateError::UnknownIssuer => format!(
            "is signed by none of the CAs in `{ca}`; \
             check that the file is of this cluster and that no proxy stands between"
        ),
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "has expired on {}; renew it, or set the clock of this machine",
            date(not_after.as_secs())
        ),
        CertificateError::InvalidPurposeContext { .. } => {
            "is not meant for servers; issue one with the key usage `serverAuth`".into()
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<_> = presented.iter().take(20).map(|it| san(it)).collect();
            match names.is_empty() {
                true => format!(
                    "has no subject alternative name, `{host}` was looked for; \
                     the common name does not count"
                ),
                false => format!(
                    "is not for `{host}`, only for {}; \
                     use one of these, or add it to the certificate",
                    names.join(", ")
                ),
            }
        }
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "is not valid before {}; set the clock of this machine",
            date(not_before.as_secs())
        ),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "is signed in a way that prepull cannot check; \
             it takes RSA from 2048 bits, P-256, P-384 and Ed25519"
                .into()
        }
        // These have no variant of their own in rustls, only webpki's name.
        CertificateError::Other(error) => match error.to_string().as_str() {
            "CaUsedAsEndEntity" => "is that of a CA; issue one for the server itself".into(),
            "UnsupportedCertVersion" => "is older than X.509 version 3; issue a new one".into(),
            other => format!("cannot be used: {other}"),
        },
        other => format!("cannot be used: {other}"),
    }
}

/// webpki shows a name as `DnsName("kubernetes")` or `IpAddress(10.96.0.1)`.
fn san(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    format!("`{}`", inner.trim_matches('"'))
}

fn date(seconds: u64) -> String {
    match SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)) {
        Some(time) => humantime::format_rfc3339_seconds(time).to_string(),
        None => "a day beyond all calendars".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_of_rustls_is_checked() {
        let theirs = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        assert_eq!(SIGNATURES.supported_schemes(), theirs.supported_schemes());
        assert_eq!(SIGNATURES.all.len(), theirs.all.len());
    }
}
