//! TLS of checks: whom to trust, and who keepwell says that it is.
//!
//! What is trusted is read when a check is first tried, off the runtime's thread, and kept: the system's authorities once for
//! all checks, files of its own once for each. Whoever checks nothing over TLS pays nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use keepwell_os::{in_words, trust};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::{ResolvesClientCert, Resumption};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, RootCertStore, SignatureScheme,
};

use super::gate::Gate;
use super::{Failure, Limit};

/// Files are not larger than this: all authorities of the web fit a few times.
const MAX_FILE: u64 = 4 << 20;

/// The system's authorities: read once, shared by all checks.
static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();

/// What one check trusts and shows.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// The authorities that are trusted, instead of the system's.
    pub ca: Option<PathBuf>,
    /// A certificate of keepwell's own, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

#[derive(Debug)]
pub(super) struct Tls {
    name: ServerName<'static>,
    files: TlsFiles,
    /// What is offered by ALPN (RFC 7301); empty: nothing.
    speaks: &'static [u8],
    made: Mutex<Option<Arc<ClientConfig>>>,
    nobody: Arc<Nobody>,
    gate: Gate,
}

/// Who has no certificate to show, and remembers that somebody asked for one.
#[derive(Debug, Default)]
struct Nobody(AtomicBool);

impl ResolvesClientCert for Nobody {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

impl Tls {
    /// `host`: whom the server's certificate must be for.
    pub(super) fn new(host: &str, files: TlsFiles, speaks: &'static [u8]) -> Result<Tls, String> {
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("`{host}` is no name that a certificate could be for"))?;
        Ok(Tls { name, files, speaks, made: Mutex::default(), nobody: Arc::default(), gate: Gate::new() })
    }

    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        limit: Limit,
        target: &str,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let config = self.config(limit).await?;
        self.nobody.0.store(false, Ordering::Relaxed);
        let hands = TlsConnector::from(config).connect(self.name.clone(), stream);
        match limit.run(|| format!("{target} did not finish the TLS handshake"), hands).await? {
            Ok(stream) => Ok(stream),
            Err(e) => Err(self.lost(Failure::of(&e, target))),
        }
    }

    /// A connection that was ended, by either end, without an answer. Many servers do so without a word when they miss a
    /// certificate, and by TLS 1.3 only after the handshake.
    pub(super) fn lost(&self, failure: Failure) -> Failure {
        // Whoever changes certificates changes both ends, seldom in the same moment.
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = None;
        match failure {
            Failure::Service(why) if self.nobody.0.load(Ordering::Relaxed) => Failure::Service(format!(
                "{why}; it asked for a certificate, and keepwell has none to show (`certificate`, `key`)"
            )),
            Failure::Service(_) | Failure::Ours(_) => failure,
        }
    }

    async fn config(&self, limit: Limit) -> Result<Arc<ClientConfig>, Failure> {
        if let Some(config) = &*self.made.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Arc::clone(config));
        }
        let (files, speaks, nobody) = (self.files.clone(), self.speaks, Arc::clone(&self.nobody));
        let reading = self.gate.run(move || make(&files, speaks, nobody));
        // What keepwell trusts, or shows, says nothing of the service.
        let ours = |why: String| Failure::Ours(format!("could not try: {why}"));
        let made = limit.run(|| "certificates could not be read".to_owned(), reading).await;
        let config = match made {
            Ok(Ok(config)) => Arc::new(config),
            Ok(Err(e)) => return Err(ours(in_words(&e).to_string())),
            Err(Failure::Service(why) | Failure::Ours(why)) => return Err(ours(why)),
        };
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&config));
        Ok(config)
    }
}

fn make(files: &TlsFiles, speaks: &'static [u8], nobody: Arc<Nobody>) -> io::Result<ClientConfig> {
    let roots = match &files.ca {
        Some(path) => Arc::new(authorities(path)?),
        None => system()?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots);
    let mut config = match &files.identity {
        None => builder.with_client_cert_resolver(nobody),
        Some((certificate, key)) => {
            let of = |path: &Path, e: String| io::Error::other(format!("{}: {e}", path.display()));
            let chain = certificates(certificate)?;
            let secret = PrivateKeyDer::from_pem_slice(&read(key)?)
                .map_err(|_| of(key, "there is no private key in it".into()))?;
            builder.with_client_auth_cert(chain, secret).map_err(|e| of(key, e.to_string()))?
        }
    };
    // A session that is resumed would hide that a certificate has expired, and each store of sessions is memory.
    config.resumption = Resumption::disabled();
    if !speaks.is_empty() {
        config.alpn_protocols = vec![speaks.to_vec()];
    }
    Ok(config)
}

fn system() -> io::Result<Arc<RootCertStore>> {
    if let Some(known) = SYSTEM.get() {
        return Ok(Arc::clone(known));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trust::authorities()?.into_iter().map(CertificateDer::from));
    if roots.is_empty() {
        return Err(io::Error::other(
            "none of the authorities of this host can be read; name them with `ca`",
        ));
    }
    Ok(Arc::clone(SYSTEM.get_or_init(|| Arc::new(roots))))
}

fn authorities(path: &Path) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let wrong = |e: Error| io::Error::other(format!("{}: {e}", path.display()));
        roots.add(certificate).map_err(wrong)?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) | Err(_) => Err(io::Error::other(format!("{}: there is no certificate in it", path.display()))),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let of = |e: io::Error| io::Error::other(format!("{}: {}", path.display(), in_words(&e)));
    let meta = fs::metadata(path).map_err(of)?;
    if !meta.is_file() || meta.len() > MAX_FILE {
        return Err(io::Error::other(format!("{}: this is no file of certificates", path.display())));
    }
    fs::read(path).map_err(of)
}

/// What TLS says, in words; `None`: the error is none of its own.
pub(super) fn words(error: &io::Error, target: &str) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's lists are open")]
    let what = match error {
        Error::InvalidCertificate(why) => match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet".to_owned()
            }
            CertificateError::UnknownIssuer => {
                "its certificate is from an authority that is not trusted".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name".to_owned()
            }
            other => format!("its certificate is not valid: {other}"),
        },
        Error::AlertReceived(said) => match said {
            AlertDescription::CertificateRequired => "it refused the connection".to_owned(),
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => "it does not take keepwell's certificate".to_owned(),
            other => format!("it refused the connection by the TLS alert {other:?}"),
        },
        Error::InvalidMessage(_) => "what answered does not speak TLS".to_owned(),
        other => other.to_string(),
    };
    Some(format!("{target}: {what}"))
}
