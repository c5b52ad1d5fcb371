//! Authorities, certificates and a server over TLS, made for one test.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// Who says who is who.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What somebody shows, and its key.
pub struct Identity {
    certificate: Certificate,
    key: KeyPair,
}

impl Authority {
    /// One that nobody knows.
    pub fn new() -> Authority {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut params = CertificateParams::new(vec![]).expect("no name is wrong");
        // Two of one name would be one that signs wrongly.
        let name = format!("authority {}", COUNT.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("keys can be made");
        Authority(CertifiedIssuer::self_signed(params, key).expect("it can be signed"))
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// The same, in DER.
    pub fn der(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    /// Somebody of this name or address.
    pub fn identity(&self, name: &str) -> Identity {
        self.sign(&params(name))
    }

    /// The same, of long ago.
    pub fn expired(&self, name: &str) -> Identity {
        let mut params = params(name);
        (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("keys can be made");
        Identity { certificate: params.signed_by(&key, &self.0).expect("it can be signed"), key }
    }
}

impl Default for Authority {
    fn default() -> Authority {
        Authority::new()
    }
}

fn params(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).expect("it is a name")
}

impl Identity {
    /// The certificate.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// The key.
    pub fn key(&self) -> String {
        self.key.serialize_pem()
    }
}

/// A server that answers each request over TLS with `ok`, until the test's process ends.
pub struct Server {
    /// Its port of 127.0.0.1.
    pub port: u16,
    config: Arc<Mutex<Arc<ServerConfig>>>,
}

impl Server {
    /// It is `who`; `clients`: whoever asks must show a certificate of theirs.
    pub fn new(who: &Identity, clients: Option<&Authority>) -> Server {
        let config = Arc::new(Mutex::new(config(who, clients)));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::clone(&config);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let config = Arc::clone(&shared.lock().expect("nobody panics"));
                thread::spawn(move || answer(stream, config));
            }
        });
        Server { port, config }
    }

    /// From now on it is somebody else.
    pub fn becomes(&self, who: &Identity, clients: Option<&Authority>) {
        *self.config.lock().expect("nobody panics") = config(who, clients);
    }
}

fn config(who: &Identity, clients: Option<&Authority>) -> Arc<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("it has them");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.0.der().clone()).expect("it is one");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("there is an authority"))
        }
    };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(who.key.serialize_der()));
    let chain = vec![who.certificate.der().clone()];
    Arc::new(builder.with_single_cert(chain, key).expect("the key is that of the certificate"))
}

fn answer(stream: TcpStream, config: Arc<ServerConfig>) {
    let Ok(connection) = ServerConnection::new(config) else { return };
    let mut stream = StreamOwned::new(connection, stream);
    // Who trusts nobody, or is not trusted, ends it here; what the other end is told is sent by the read.
    if stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    }
    stream.conn.send_close_notify();
    let _ = stream.flush();
    // A close with something unread would be a reset, and might overtake what was sent.
    let mut socket = stream.sock;
    let _ = socket.shutdown(Shutdown::Write);
    let _ = socket.read_to_end(&mut Vec::new());
}
