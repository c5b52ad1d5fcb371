//! Python's `sdnotify`, and gRPC's own health server in Python.

use std::fs;

use keepwell_e2e::tls::Authority;
use keepwell_e2e::{Guardian, docs, free_port, wait_until};

use crate::{OTHER, guardian, lines, script, told};

#[test]
fn a_program_with_sdnotify_is_ready_stays_alive_and_says_that_it_stops() {
    let config = docs::block("readiness", "[services.mill]").replace("\"20s\"", "\"5s\"");
    let mut g = guardian(&(config + OTHER));
    g.write("mill.py", &docs::block("readiness", "# mill.py"));
    script(&g, "mill-some", "while test -e jam; do sleep 0.05; done; echo milled >> milled; sleep 0.1");
    script(&g, "clean", "while ! test -e clean-now; do sleep 0.05; done");
    g.start(&[]);
    g.wait_answering();
    g.wait_for("its status", |all| all[0].status_text.as_deref() == Some("waiting for grain"));
    assert_eq!(g.service("mill").state, "starting");
    g.write("grain", "");
    let mill = g.wait_state("mill", &["ready"]);
    assert_eq!(mill.status_text.as_deref(), Some("milling"));
    // As many rounds take longer than the watchdog waits.
    wait_until("sixty signs of life", || lines(&g, "milled") >= 60);
    assert_eq!(g.service("mill").restarts, 0);

    let first = g.pid("mill");
    g.write("jam", "");
    g.wait_for("the watchdog", |_| told(&g, "mill", "gave no sign of life for 5 s"));
    fs::remove_file(g.path("jam")).expect("it was written");
    g.wait_for("another run", |all| {
        all[0].state == "ready" && all[0].pid.is_some_and(|pid| pid != first) && all[0].restarts == 1
    });

    fs::remove_file(g.path("grain")).expect("it was written");
    let mill = g.wait_state("mill", &["stopping"]);
    assert_eq!(mill.status_text.as_deref(), Some("cleaning the stones"));
    g.write("clean-now", "");
    g.wait_state("mill", &["completed"]);
    assert_eq!(g.service("mill").restarts, 1);
    g.end();
}

/// The example, on a free port.
fn orders(config: &str, program: &str) -> (Guardian, u16) {
    let port = free_port();
    let here = |text: &str| text.replace("50051", &port.to_string());
    let g = guardian(&here(config));
    g.write("orders.py", &here(program));
    (g, port)
}

fn says(g: &Guardian, service: &str, words: &str) {
    g.wait_for(words, |_| g.cli(&["explain", service]).all().contains(words));
}

#[test]
fn a_server_of_grpc_is_ready_by_name_and_alive_as_a_whole() {
    let mut config = docs::block("health", "startup = { grpc");
    config += "restart = { delay = '100ms' }\n[services.stranger]\ncommand = 'CHILD hang'\n\
               ready = { grpc = '127.0.0.1:50051', service = 'shop.Nobody', period = '200ms', timeout = '1h' }\n";
    let (mut g, port) = orders(&config, &docs::block("health", "# orders.py"));
    g.start(&[]);
    g.wait_answering();
    let not_ready = format!("127.0.0.1:{port} says that `shop.Orders` is NOT_SERVING");
    says(&g, "orders", &not_ready);
    says(&g, "stranger", &format!("127.0.0.1:{port} does not know `shop.Nobody`"));
    assert_eq!(g.service("orders").state, "starting");

    g.write("database", "");
    g.wait_state("orders", &["ready"]);
    fs::remove_file(g.path("database")).expect("it was written");
    g.wait_state("orders", &["degraded"]);
    assert!(told(&g, "orders", &not_ready), "{:?}", g.events());
    g.write("database", "");
    g.wait_state("orders", &["ready"]);
    assert_eq!((g.service("orders").restarts, g.service("stranger").state.as_str()), (0, "starting"));

    let first = g.pid("orders");
    g.write("deadlock", "");
    g.wait_for("why it is ended", |_| {
        told(&g, "orders", &format!("127.0.0.1:{port} says that the server is NOT_SERVING"))
    });
    fs::remove_file(g.path("deadlock")).expect("it was written");
    g.wait_for("another run", |all| {
        all.iter().any(|s| s.name == "orders" && s.state == "ready" && s.pid.is_some_and(|pid| pid != first))
    });
    // The incident began with the readiness that was lost; an end for its health is looked into.
    g.cli(&["incidents", "1"]).good().says(&[&not_ready, "its live check failed", "evidence"]);
    g.end();
}

#[test]
fn a_server_of_grpc_over_tls_is_believed_by_its_authority_and_asks_for_a_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    let plain = "server.add_insecure_port(\"127.0.0.1:50051\")\n";
    let program = docs::block("health", "# orders.py");
    assert!(program.contains(plain), "{program}");
    let secure = docs::block("health", "# in the place of add_insecure_port");
    let program = program.replace(plain, &secure.replace("\"localhost:50051\"", "\"127.0.0.1:50051\""));
    let port = ":50051";
    let watch = |name: &str, keys: &str| {
        format!(
            "[services.{name}]\ncommand = 'CHILD hang'\n\
             ready = {{ grpc = 'https://localhost{port}', period = '300ms', timeout = '1h', {keys} }}\n"
        )
    };
    let config = docs::block("health", "grpc = \"https://localhost")
        + &watch("misled", "ca = 'tls/other.pem'")
        + &watch("nameless", "ca = 'tls/ca.pem'")
        + &watch("system", "certificate = 'tls/keepwell.pem', key = 'tls/keepwell.key'");
    let (mut g, _) = orders(&config, &program);
    fs::create_dir(g.path("tls")).expect("own folder");
    g.write("tls/ca.pem", &authority.pem());
    g.write("tls/other.pem", &other.pem());
    for (name, who) in
        [("orders", authority.identity("localhost")), ("keepwell", authority.identity("keepwell"))]
    {
        g.write(&format!("tls/{name}.pem"), &who.pem());
        g.write(&format!("tls/{name}.key"), &who.key());
    }
    g.write("database", "");
    // What the system trusts, for this guardian.
    g.set_env("SSL_CERT_FILE", &g.path("tls/ca.pem").display().to_string());
    g.start(&[]);
    g.wait_answering();
    g.wait_state("orders", &["ready"]);
    g.wait_state("system", &["ready"]);
    says(&g, "misled", "its certificate is from an authority that is not trusted");
    says(&g, "nameless", "it asked for a certificate, and keepwell has none to show");
    assert_eq!(g.service("nameless").state, "starting");
    fs::remove_file(g.path("database")).expect("it was written");
    g.wait_state("orders", &["degraded"]);
    assert!(told(&g, "orders", "says that `shop.Orders` is NOT_SERVING"), "{:?}", g.events());
    assert_eq!(g.service("orders").restarts, 0);
    g.end();
}
