//! Checks against servers that behave badly, lines of output, and a host that is starved.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use keepwell_e2e::{Guardian, wait_until};

/// A server beside the guardian: each connection has a thread, which ends with the test's process.
fn serve(answer: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (port, answer) = (listener.local_addr().expect("it is bound").port(), Arc::new(answer));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            thread::spawn(move || answer(stream));
        }
    });
    port
}

fn head(stream: &mut TcpStream) {
    let mut asked = Vec::new();
    let mut byte = [0];
    while !asked.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        asked.push(byte[0]);
    }
}

/// A program whose health is asked of this port. It is ended when that fails.
fn guarded(port: u16, more: &str) -> Guardian {
    Guardian::up(&format!(
        "[services.a]\ncommand = 'CHILD hang'\nrestart = {{ delay = '100ms' }}\nstop = []\n\
         live = {{ http = 'http://127.0.0.1:{port}/', period = '100ms', timeout = '300ms', failure_threshold = 2{more} }}\n"
    ))
}

/// What the check says of the server, once it has ended the program.
fn ends_with(g: Guardian, words: &str) {
    let told = g.wait_events("the end", |all| all.iter().any(|e| e.kind == "probe_failed"));
    let failed = told.iter().find(|e| e.kind == "probe_failed").expect("it was told");
    assert!(failed.text.contains(words), "{}", failed.text);
    g.wait_for("a restart", |all| all[0].restarts >= 1);
    g.end();
}

fn passes(g: Guardian, asked: &AtomicUsize) {
    let before = asked.load(Ordering::Relaxed);
    wait_until("ten more attempts", || asked.load(Ordering::Relaxed) >= before + 10);
    g.cli(&["explain", "a"]).good().says(&["passes"]);
    assert_eq!(g.service("a").restarts, 0);
    g.end();
}

#[test]
fn one_that_takes_connections_and_never_answers() {
    let port = serve(|mut stream| {
        // Until the other end goes away.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    ends_with(guarded(port, ""), &format!("no answer from 127.0.0.1:{port} within 300 ms"));
}

#[test]
fn one_that_is_slower_than_it_may_be() {
    let port = serve(|mut stream| {
        head(&mut stream);
        for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" {
            thread::sleep(Duration::from_millis(50));
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
        }
    });
    ends_with(guarded(port, ""), &format!("no answer from 127.0.0.1:{port} within 300 ms"));
}

#[test]
fn one_that_resets_its_connections() {
    let port = serve(|mut stream| {
        // What is not read when it is closed makes a reset of it.
        let _ = stream.read(&mut [0; 4]);
    });
    ends_with(guarded(port, ""), &format!("connection reset by 127.0.0.1:{port}"));
}

#[test]
fn one_that_redirects_is_asked_no_further_and_passes_unless_its_status_is_asked_for() {
    let elsewhere = Arc::new(AtomicUsize::new(0));
    let (asked, followed) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&elsewhere));
    let other = serve(move |_| {
        followed.fetch_add(1, Ordering::Relaxed);
    });
    let count = Arc::clone(&asked);
    let port = serve(move |mut stream| {
        head(&mut stream);
        count.fetch_add(1, Ordering::Relaxed);
        let to = format!("http://127.0.0.1:{other}/");
        let _ = write!(stream, "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
    });
    passes(guarded(port, ""), &asked);
    ends_with(guarded(port, ", status = '200-299'"), "answered 302 Found");
    assert_eq!(elsewhere.load(Ordering::Relaxed), 0);
}

#[test]
fn one_whose_answer_has_no_end_costs_no_memory() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let port = serve(move |mut stream| {
        head(&mut stream);
        count.fetch_add(1, Ordering::Relaxed);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        let chunk = vec![b'x'; 1 << 20];
        while stream.write_all(&chunk).is_ok() {}
    });
    let g = guarded(port, ", body = 'needle'");
    let words = "without `needle`";
    let told = g.wait_events("the end", |all| all.iter().any(|e| e.kind == "probe_failed"));
    assert!(told.iter().any(|e| e.text.contains(words)), "{told:?}");
    let daemon = g.daemon();
    let resident = fs::read_to_string(format!("/proc/{daemon}/statm")).unwrap();
    let pages: u64 = resident.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(pages * 4096 < 256 << 20, "{pages} pages");
    g.end();
}

#[test]
fn lines_of_output_start_a_service_and_end_it() {
    let mut g = Guardian::new(
        "[services.a]\ncommand = ['sh', 'run.sh']\nrestart = { delay = '100ms' }\nstop = []\n\
         startup = { log = '^listening on [0-9]+$', period = '100ms' }\n\
         live = { no_log = 'out of memory', within = '1h', period = '100ms', failure_threshold = 1 }\n",
    );
    g.write(
        "run.sh",
        "echo listening soon; while ! [ -e gate ]; do sleep 0.05; done; echo listening on 80\n\
         while ! [ -e full ]; do sleep 0.05; done; rm full; echo out of memory; exec sleep 1000\n",
    );
    g.start(&[]);
    g.wait_for("a look that found nothing", |all| all[0].state == "starting" && all[0].pid.is_some());
    g.write("gate", "");
    g.wait_state("a", &["ready"]);
    let first = g.pid("a");
    g.write("full", "");
    g.wait_events("why", |all| {
        all.iter().any(|e| e.kind == "probe_failed" && e.text.contains("a line matched `out of memory`"))
    });
    g.wait_for("another run", |all| all[0].pid.is_some_and(|pid| pid != first));
    g.end();
}

#[test]
fn while_the_host_is_starved_nothing_is_ended_for_its_health() {
    let mut g = Guardian::new(
        "[services.a]\ncommand = 'CHILD hang'\nrestart = { delay = '100ms' }\nstop = []\n\
         live = { exec = ['test', '-e', 'well'], period = '100ms', failure_threshold = 2 }\n",
    );
    let root = g.path("host");
    fs::create_dir_all(root.join("proc/pressure")).unwrap();
    let memory = |text: &str| {
        // Whoever reads meanwhile sees one or the other.
        fs::write(root.join("next"), text).unwrap();
        fs::rename(root.join("next"), root.join("proc/pressure/memory")).unwrap();
    };
    memory(
        "some avg10=70.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=43.21 avg60=0.00 avg300=0.00 total=0\n",
    );
    g.set_env("KEEPWELL_STRAIN_ROOT", &root.display().to_string());
    g.start(&[]);
    g.wait_state("a", &["running"]);
    let first = g.pid("a");
    g.wait_events("the shortage", |all| {
        all.iter().any(|e| e.text.contains("the host is short of memory: everything stood still for 43 %"))
    });
    wait_until("the check to say so", || {
        g.cli(&["explain", "a"]).all().contains("while the host is short of memory")
    });
    assert_eq!((g.pid("a"), g.service("a").restarts), (first, 0));
    assert!(!g.events().iter().any(|e| e.kind == "probe_failed"));
    memory(
        "some avg10=1.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    );
    g.wait_for("the restart, now that it can be seen", |all| all[0].restarts >= 1);
    g.end();
}
