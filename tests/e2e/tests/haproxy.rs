//! A real HAProxy from Debian's packages, with what docs/http.md says that it is to be given. `cargo xtask test prometheus`
//! fetches it and names it in KEEPWELL_HAPROXY; other runs are without the feature that this test needs.

use std::process::{Child, Command, Stdio};

use keepwell_e2e::{Guardian, docs, free_port, http, wait_some, wait_until};

/// It ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn haproxy_takes_a_server_out_while_its_service_is_not_ready_though_its_port_answers() {
    let (own, web, front) = (free_port(), free_port(), free_port());
    let ports = |text: String| {
        let text = text.replace(":9750", &format!(":{own}")).replace("port 9750", &format!("port {own}"));
        text.replace(":8080", &format!(":{web}"))
    };
    let config = ports(docs::block("http", "[services.web]"));
    let config = config.replace("\"./server\"", &format!("'CHILD http {web} --gate gate'"));
    let mut g = Guardian::new(&config.replace("\"5s\"", "\"200ms\""));
    g.write("gate", "");
    g.start(&[]);
    g.wait_state("web", &["ready"]);
    let backend = ports(docs::block("http", "backend web"));
    g.write(
        "haproxy.cfg",
        &format!(
            "defaults\n    mode http\n    timeout connect 5s\n    timeout client 5s\n    timeout server 5s\n\
             frontend in\n    bind 127.0.0.1:{front}\n    default_backend web\n{backend}"
        ),
    );
    let mut haproxy = Command::new(std::env::var_os("KEEPWELL_HAPROXY").expect("cargo xtask sets it"));
    haproxy.env("LD_LIBRARY_PATH", std::env::var_os("KEEPWELL_HAPROXY_LIBRARIES").unwrap_or_default());
    haproxy.args(["-db", "-f"]).arg(g.path("haproxy.cfg")).stdin(Stdio::null());
    let server = Server(haproxy.spawn().expect("it starts"));
    let through =
        |code: u16| wait_until(&format!("{code}"), || http::get(front, "/").is_some_and(|a| a.0 == code));
    through(200);
    std::fs::remove_file(g.path("gate")).unwrap();
    through(503);
    assert_eq!(wait_some("the program itself", || http::get(web, "/")).0, 200, "it answers all the same");
    g.write("gate", "");
    through(200);
    drop(server);
    g.end();
}
