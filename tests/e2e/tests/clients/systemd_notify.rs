//! `systemd-notify`, as programs of the shell use it: it exits right after it has sent, waiting for a barrier or not.

use keepwell_e2e::{docs, sys, wait_until};

use crate::{OTHER, guardian, lines, script, told};

#[test]
fn a_script_is_ready_stays_alive_and_is_restarted_when_it_hangs() {
    let config = docs::block("readiness", "[services.feed]").replace("\"20s\"", "\"5s\"");
    let mut g = guardian(&(config + OTHER));
    g.write("feed.sh", &docs::block("readiness", "# feed.sh"));
    script(&g, "prepare", "while ! test -e prepared; do sleep 0.05; done");
    script(
        &g,
        "feed-one",
        "while test -e stuck; do sleep 0.05; done; ! test -e enough && echo fed >> fed && sleep 0.1",
    );
    g.start(&[]);
    g.wait_answering();
    g.wait_for("it to prepare", |all| all[0].status_text.as_deref() == Some("preparing"));
    assert_eq!(g.service("feed").state, "starting");
    g.write("prepared", "");
    let feed = g.wait_state("feed", &["ready"]);
    assert_eq!(feed.status_text.as_deref(), Some("feeding"));
    // As many rounds take longer than the watchdog waits.
    wait_until("sixty signs of life", || lines(&g, "fed") >= 60);
    assert_eq!(g.service("feed").restarts, 0);

    let first = g.pid("feed");
    g.write("stuck", "");
    g.wait_for("the watchdog", |_| told(&g, "feed", "gave no sign of life for 5 s"));
    std::fs::remove_file(g.path("stuck")).expect("it was written");
    g.wait_for("another run", |all| {
        all[0].state == "ready" && all[0].pid.is_some_and(|pid| pid != first) && all[0].restarts == 1
    });
    g.cli(&["incidents"]).good().says(&["feed", "no life sign for 5 s"]);

    g.write("enough", "");
    g.wait_state("feed", &["completed"]);
    assert!(told(&g, "feed", "stopping"), "{:?}", g.events());
    g.end();
}

#[test]
fn it_is_heard_with_and_without_a_barrier() {
    for extra in ["", "--no-block"] {
        let mut g = guardian(&format!(
            r#"
            [services.a]
            shell = true
            command = '''
                while ! test -e gate; do sleep 0.05; done
                systemd-notify {extra} --status="warming up"
                systemd-notify {extra} --ready --status="serving $$$$"
                echo notified; sleep 1000
            '''
            ready = {{ notify = true, timeout = "1m" }}
            "#
        ));
        g.start(&[]);
        g.wait_for("a started", |all| all[0].pid.is_some());
        assert_eq!(g.service("a").state, "starting");
        g.write("gate", "");
        let a = g.wait_state("a", &["ready"]);
        g.wait_log("a", "notified");
        g.wait_for("its words", |all| {
            all[0].status_text.as_deref().is_some_and(|t| t.starts_with("serving"))
        });
        assert_eq!(a.restarts, 0);
        g.end();
    }
}

/// The helper is known by the service's user, dead or alive.
#[test]
fn it_is_heard_from_a_service_of_another_user() {
    if !sys::is_root() {
        eprintln!("skipped: only root can play two users");
        return;
    }
    let g = guardian(
        r#"
        [services.a]
        shell = true
        user = "nobody"
        command = "systemd-notify --no-block --ready; sleep 1000"
        ready = "notify"
        "#,
    );
    g.cli(&["up", "--detach"]).good();
    assert_eq!(g.service("a").state, "ready");
    g.cli(&["down"]).good();
}
