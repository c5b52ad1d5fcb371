//! Checks over TLS: who is believed, also by the authorities that Windows itself trusts, and who is shown.
//!
//! The servers run on Linux; keepwell asks them from inside Wine.

use std::fs;

use keepwell_e2e::tls::{Authority, Server};
use keepwell_wine::{Guardian, needs_wine};

#[test]
fn a_server_is_believed_by_its_authority_or_by_the_store_of_windows() {
    needs_wine!();
    let (authority, other) = (Authority::new(), Authority::new());
    let plain = Server::new(&authority.identity("localhost"), None).port;
    let foreign = Server::new(&other.identity("localhost"), None).port;
    let asks = Server::new(&authority.identity("localhost"), Some(&authority)).port;
    let old = Server::new(&authority.expired("localhost"), None).port;
    let service = |name: &str, port: u16, keys: &str| {
        format!(
            "[services.{name}]\ncommand = 'CHILD hang'\n\
             ready = {{ http = 'https://localhost:{port}/', body = 'ok', period = '500ms', timeout = '1h'{keys} }}\n"
        )
    };
    let shown = ", ca = 'ca.pem', certificate = 'own.pem', key = 'own.key'";
    let mut g = Guardian::new(
        &[
            service("good", plain, ", ca = 'ca.pem'"),
            service("wrong", plain, ", ca = 'other.pem'"),
            service("system", plain, ""),
            service("stranger", foreign, ""),
            service("shown", asks, shown),
            service("nobody", asks, ", ca = 'ca.pem'"),
            service("expired", old, ", ca = 'ca.pem'"),
        ]
        .concat(),
    );
    let own = authority.identity("keepwell");
    for (name, text) in [
        ("ca.pem", authority.pem()),
        ("other.pem", other.pem()),
        ("own.pem", own.pem()),
        ("own.key", own.key()),
    ] {
        g.write(name, &text);
    }
    fs::write(g.path("ca.der"), authority.der()).expect("own folder");
    let trusted = g.prefix().child(&["trust", "ca.der"]).status().expect("wine can be started");
    assert!(trusted.success(), "{trusted}");
    g.start(&["--quiet"]);
    g.wait_answering();
    for name in ["good", "system", "shown"] {
        g.wait_state(name, &["ready"]);
    }
    for (name, words) in [
        ("wrong", "its certificate is from an authority that is not trusted"),
        ("stranger", "its certificate is from an authority that is not trusted"),
        ("nobody", "it asked for a certificate, and keepwell has none to show (`certificate`, `key`)"),
        ("expired", "its certificate has expired"),
    ] {
        g.wait_for(words, |_| g.cli(&["explain", name]).all().contains(words));
        assert_eq!(g.service(name).state, "starting");
    }
    g.end();
}
