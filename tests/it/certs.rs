//! Certificates made on the spot: authorities, and servers that they sign.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, SupportedProtocolVersion};

/// A key of 2048 bits, because ring signs with RSA and makes no such keys. It guards nothing.
const RSA_KEY: &str = include_str!("rsa.pem");

pub struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pub pem: String,
    der: CertificateDer<'static>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        Self::with_key(name, p256())
    }

    pub fn with_key(name: &str, key: KeyPair) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self { params, key, pem, der }
    }

    /// A server on 127.0.0.1 with a P-256 key.
    pub fn server(&self) -> ServerConfig {
        self.issue(&["127.0.0.1"], &p256()).config(rustls::ALL_VERSIONS)
    }

    pub fn issue(&self, names: &[&str], key: &KeyPair) -> Leaf {
        self.issue_with(names, key, |_| {})
    }

    pub fn issue_with(
        &self,
        names: &[&str],
        key: &KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Leaf {
        let names: Vec<String> = names.iter().map(|it| (*it).to_string()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(key, &issuer).unwrap();
        Leaf { chain: vec![certificate.der().clone()], key: key.serialize_der() }
    }

    /// A server that shows the authority's own certificate.
    pub fn own(&self) -> Leaf {
        Leaf { chain: vec![self.der.clone()], key: self.key.serialize_der() }
    }
}

pub struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Leaf {
    pub fn config(&self, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
        ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.private_key())
            .unwrap()
    }

    /// A server that knows one way of everything.
    pub fn config_with(
        &self,
        suite: rustls::SupportedCipherSuite,
        group: &'static dyn rustls::crypto::SupportedKxGroup,
    ) -> ServerConfig {
        let mut provider = default_provider();
        provider.cipher_suites = vec![suite];
        provider.kx_groups = vec![group];
        ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[suite.version()])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.private_key())
            .unwrap()
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.clone()).unwrap()
    }
}

pub fn p256() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
}

pub fn p384() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap()
}

pub fn ed25519() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap()
}

pub fn rsa() -> KeyPair {
    KeyPair::from_pem(RSA_KEY).unwrap()
}

/// A certificate whose last day was long ago.
pub fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(2002, 3, 4);
}

/// A certificate whose first day is far off.
pub fn not_yet_valid(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2901, 2, 3);
    params.not_after = date_time_ymd(2902, 1, 1);
}

/// A folder for one test, removed with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let n = LAST.fetch_add(1, Ordering::SeqCst);
        let path = std::env::temp_dir().join(format!("prepull-it-{}-{n}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file and gives its path.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
