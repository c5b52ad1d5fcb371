//! Checks over TLS: who is trusted, and who is shown.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto::ring};

use super::*;

/// An authority, with its certificate in a file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Authority {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut params = CertificateParams::new(vec![]).unwrap();
        // Two of one name would be one that signs wrongly.
        let name = format!("authority {}", COUNT.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, dir }
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    fn params(names: &[&str]) -> CertificateParams {
        CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn sign(&self, params: &CertificateParams) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A certificate and its key in files.
    fn client(&self) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.sign(&Self::params(&["keepwell"]));
        let (cert_file, key_file) = (self.dir.path().join("own.pem"), self.dir.path().join("own.key"));
        std::fs::write(&cert_file, certificate.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        (cert_file, key_file)
    }

    /// A server with a certificate of these properties; `clients`: who must show one of theirs.
    async fn serve(&self, params: &CertificateParams, clients: Option<&Authority>) -> SocketAddr {
        let (certificate, key) = self.sign(params);
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.issuer.der().clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        serve("127.0.0.1:0", move |stream| {
            let acceptor = acceptor.clone();
            async move {
                // One who trusts nobody goes away in the middle.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut head = vec![0; 4096];
                let _ = stream.read(&mut head).await;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
            }
        })
        .await
    }
}

fn https(
    host: &str,
    address: SocketAddr,
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
) -> Check {
    let (url, tls) = (format!("https://{host}:{}/", address.port()), TlsFiles { ca, identity });
    Check::http(HttpAsk { url, tls, body: Some("ok".to_owned()), ..HttpAsk::default() }).unwrap()
}

#[test]
fn a_server_is_trusted_by_its_authority_and_its_name() {
    run(async {
        let authority = Authority::new();
        let address = authority.serve(&Authority::params(&["127.0.0.1"]), None).await;
        let good = https("127.0.0.1", address, Some(authority.ca()), None);
        assert_eq!(attempt(&good, LONG).await, Outcome::Pass);
        // What is trusted was read once: it need not be there any more.
        std::fs::remove_file(authority.ca()).unwrap();
        assert_eq!(attempt(&good, LONG).await, Outcome::Pass);

        let other = Authority::new();
        let stranger = attempt(&https("127.0.0.1", address, Some(other.ca()), None), LONG).await;
        let words = format!("{address}: its certificate is from an authority that is not trusted");
        assert_eq!(failed(&stranger), words);
        let authority = Authority::new();
        let address = authority.serve(&Authority::params(&["web.internal"]), None).await;
        let renamed = attempt(&https("127.0.0.1", address, Some(authority.ca()), None), LONG).await;
        assert_eq!(failed(&renamed), format!("{address}: its certificate is for another name"));
        let (url, tls) =
            (format!("https://{address}/"), TlsFiles { ca: Some(authority.ca()), ..TlsFiles::default() });
        let headers = vec![("Host".to_owned(), Secret::new("web.internal:8443"))];
        let virtual_host = Check::http(HttpAsk { url, tls, headers, ..HttpAsk::default() }).unwrap();
        assert_eq!(attempt(&virtual_host, LONG).await, Outcome::Pass);
    });
}

#[test]
fn a_certificate_that_has_expired_fails_and_says_so() {
    run(async {
        let authority = Authority::new();
        let mut params = Authority::params(&["127.0.0.1"]);
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2002, 1, 1));
        let address = authority.serve(&params, None).await;
        let outcome = attempt(&https("127.0.0.1", address, Some(authority.ca()), None), LONG).await;
        assert_eq!(failed(&outcome), format!("{address}: its certificate has expired"));
    });
}

#[test]
fn a_server_that_asks_for_a_certificate_gets_one() {
    run(async {
        let authority = Authority::new();
        let address = authority.serve(&Authority::params(&["127.0.0.1"]), Some(&authority)).await;
        let with = https("127.0.0.1", address, Some(authority.ca()), Some(authority.client()));
        assert_eq!(attempt(&with, LONG).await, Outcome::Pass);
        let without = attempt(&https("127.0.0.1", address, Some(authority.ca()), None), LONG).await;
        let words = "; it asked for a certificate, and keepwell has none to show (`certificate`, `key`)";
        assert!(failed(&without).ends_with(words), "{without:?}");
        let other = Authority::new();
        let wrong = https("127.0.0.1", address, Some(authority.ca()), Some(other.client()));
        let wrong = attempt(&wrong, LONG).await;
        assert!(
            failed(&wrong).starts_with(&format!("{address}: it does not take keepwell's certificate")),
            "{wrong:?}"
        );
    });
}

#[test]
fn what_keepwell_itself_lacks_says_nothing_of_the_service() {
    run(async {
        let authority = Authority::new();
        let address = authority.serve(&Authority::params(&["127.0.0.1"]), None).await;
        let nowhere = authority.dir.path().join("nowhere.pem");
        let outcome = attempt(&https("127.0.0.1", address, Some(nowhere.clone()), None), LONG).await;
        let Outcome::Unknown(why) = outcome else { panic!("{outcome:?}") };
        assert!(why.starts_with(&format!("could not try: {}: ", nowhere.display())), "{why}");
        let (certificate, _) = authority.client();
        let swapped = Some((certificate.clone(), certificate));
        let outcome = attempt(&https("127.0.0.1", address, Some(authority.ca()), swapped), LONG).await;
        let Outcome::Unknown(why) = outcome else { panic!("{outcome:?}") };
        assert!(why.ends_with("own.pem: there is no private key in it"), "{why}");
    });
}

#[test]
fn who_does_not_speak_tls_or_never_answers_fails_in_time() {
    run(async {
        let authority = Authority::new();
        let plain = serve("127.0.0.1:0", |mut stream| async move {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
            let mut hello = [0; 1024];
            let _ = stream.read(&mut hello).await;
        })
        .await;
        let outcome = attempt(&https("127.0.0.1", plain, Some(authority.ca()), None), LONG).await;
        assert_eq!(failed(&outcome), format!("{plain}: what answered does not speak TLS"));
        let silent = serve("127.0.0.1:0", |stream| async move {
            let _held = stream;
            std::future::pending::<()>().await;
        })
        .await;
        let outcome = attempt(&https("127.0.0.1", silent, Some(authority.ca()), None), SHORT).await;
        assert_eq!(failed(&outcome), format!("{silent} did not finish the TLS handshake within 2 s"));
    });
}
