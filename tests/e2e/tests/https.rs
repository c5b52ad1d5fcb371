//! Checks over TLS: who is believed, and who is shown.

use std::fs;

use keepwell_e2e::Guardian;
use keepwell_e2e::tls::{Authority, Server};

/// What keepwell says of a service.
fn says(g: &Guardian, service: &str, words: &str) {
    g.wait_for(words, |_| g.cli(&["explain", service]).all().contains(words));
}

fn write(g: &Guardian, name: &str, who: &keepwell_e2e::tls::Identity) {
    g.write(&format!("{name}.pem"), &who.pem());
    g.write(&format!("{name}.key"), &who.key());
}

/// Files of certificates are read again after a handshake that failed, so what was wrong is made good without a restart.
#[test]
fn a_server_is_believed_by_its_authority_and_no_other() {
    let (authority, other) = (Authority::new(), Authority::new());
    let port = Server::new(&authority.identity("localhost"), None).port;
    let ready = |keys: &str| {
        format!(
            "command = 'CHILD hang'\n\
             ready = {{ http = 'https://localhost:{port}/', body = 'ok', period = '200ms', timeout = '1h'{keys} }}\n"
        )
    };
    let mut g = Guardian::new(&format!(
        "[services.good]\n{}[services.wrong]\n{}[services.missing]\n{}[services.system]\n{}\
         [services.renamed]\ncommand = 'CHILD hang'\n\
         ready = {{ http = 'https://127.0.0.1:{port}/', ca = 'ca.pem', period = '200ms', timeout = '1h' }}\n",
        ready(", ca = 'ca.pem'"),
        ready(", ca = 'other.pem'"),
        ready(", ca = 'missing.pem'"),
        ready(""),
    ));
    g.write("ca.pem", &authority.pem());
    g.write("other.pem", &other.pem());
    // Those whom the system trusts, for this guardian.
    g.set_env("SSL_CERT_FILE", &g.path("ca.pem").display().to_string());
    g.start(&[]);
    g.wait_answering();
    g.wait_state("good", &["ready"]);
    g.wait_state("system", &["ready"]);
    says(&g, "wrong", &format!("localhost:{port}: its certificate is from an authority that is not trusted"));
    says(&g, "renamed", &format!("127.0.0.1:{port}: its certificate is for another name"));
    // That is keepwell's own trouble.
    says(&g, "missing", "missing.pem");
    says(&g, "missing", "could not try");
    for name in ["wrong", "renamed", "missing"] {
        assert_eq!(g.service(name).state, "starting", "{name}");
    }
    g.write("other.pem", &authority.pem());
    g.write("missing.pem", &authority.pem());
    g.wait_state("wrong", &["ready"]);
    g.wait_state("missing", &["ready"]);
    g.end();
}

#[test]
fn a_server_that_asks_for_a_certificate_is_shown_one() {
    let (authority, other) = (Authority::new(), Authority::new());
    let port = Server::new(&authority.identity("localhost"), Some(&authority)).port;
    let service = |name: &str, keys: &str| {
        format!(
            "[services.{name}]\ncommand = 'CHILD hang'\n\
             ready = {{ http = 'https://localhost:{port}/', ca = 'ca.pem', period = '200ms', timeout = '1h'{keys} }}\n"
        )
    };
    let mut g = Guardian::new(
        &(service("shown", ", certificate = 'own.pem', key = 'own.key'")
            + &service("none", "")
            + &service("foreign", ", certificate = 'foreign.pem', key = 'foreign.key'")),
    );
    g.write("ca.pem", &authority.pem());
    write(&g, "own", &authority.identity("keepwell"));
    write(&g, "foreign", &other.identity("keepwell"));
    g.start(&[]);
    g.wait_answering();
    g.wait_state("shown", &["ready"]);
    says(&g, "none", "it asked for a certificate, and keepwell has none to show (`certificate`, `key`)");
    says(&g, "foreign", &format!("localhost:{port}: it does not take keepwell's certificate"));
    assert_eq!((g.service("none").state, g.service("foreign").state), ("starting".into(), "starting".into()));
    // It is renewed in place.
    write(&g, "foreign", &authority.identity("keepwell"));
    g.wait_state("foreign", &["ready"]);
    g.end();
}

#[test]
fn a_certificate_that_expires_is_told_and_ends_what_shows_it() {
    let authority = Authority::new();
    let server = Server::new(&authority.identity("localhost"), None);
    let port = server.port;
    let mut g = Guardian::new(&format!(
        "[services.a]\ncommand = 'CHILD hang'\nrestart = {{ delay = '100ms', reset_after = '1s' }}\nstop = []\n\
         live = {{ http = 'https://localhost:{port}/', ca = 'ca.pem', period = '100ms', timeout = '20s', failure_threshold = 2 }}\n"
    ));
    g.write("ca.pem", &authority.pem());
    g.start(&[]);
    g.wait_answering();
    g.wait_state("a", &["running"]);
    says(&g, "a", "passes");
    let first = g.pid("a");
    server.becomes(&authority.expired("localhost"), None);
    let words = format!("failed 2 times in a row: localhost:{port}: its certificate has expired");
    g.wait_events("why", |all| all.iter().any(|e| e.kind == "probe_failed" && e.text.contains(&words)));
    server.becomes(&authority.identity("localhost"), None);
    g.wait_for("another run", |all| all[0].pid.is_some_and(|pid| pid != first));
    g.wait_for("the end of its incident", |_| g.cli(&["incidents"]).all().contains("recovered"));
    g.cli(&["incidents", "1"]).good().says(&["its certificate has expired", "evidence"]);
    let found = fs::read_dir(g.state("evidence")).expect("it was taken").count();
    assert!(found >= 1, "{found}");
    g.end();
}
