//! Attempts against small real servers, each with one bad habit.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant as StdInstant;

use keepwell_config::{JsonValue, Method, Secret};
use keepwell_core::spec::System;
use keepwell_os::SYSTEM;
use keepwell_os::wait::Waiter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;

mod answers;
mod grpc;
mod stop;
mod tls;

const LONG: Duration = Duration::from_secs(10);
/// Within this an answer begins, also on a busy machine.
const SHORT: Duration = Duration::from_secs(2);

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// A runtime on a thread of its own, as the daemon has it; it ends with this value.
pub(crate) struct Background {
    pub(crate) handle: Handle,
    _stop: tokio::sync::oneshot::Sender<()>,
}

pub(crate) fn background() -> Background {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (handle, (stop, stopped)) = (runtime.handle().clone(), tokio::sync::oneshot::channel());
    std::thread::spawn(move || runtime.block_on(stopped));
    Background { handle, _stop: stop }
}

/// A server on a free port that does `behave` with every connection.
async fn serve<F>(on: &str, behave: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(on).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(behave(stream));
        }
    });
    address
}

/// Reads a request's head and answers with `answer`, word for word.
async fn answering(answer: &'static str) -> SocketAddr {
    serve("127.0.0.1:0", move |mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await
}

async fn read_head(stream: &mut TcpStream) -> String {
    let (mut head, mut chunk) = (Vec::new(), [0; 4096]);
    while !head.ends_with(b"\r\n\r\n") {
        let n = stream.read(&mut chunk).await.unwrap();
        assert_ne!(n, 0, "the request ended early");
        head.extend_from_slice(&chunk[..n]);
    }
    String::from_utf8(head).unwrap()
}

/// A port on which nobody listens, and nobody else will, as long as the returned socket is held.
fn closed_port() -> (std::net::TcpListener, u16) {
    // A bound socket that does not listen cannot be had from the standard library; a listener on another address of the
    // loopback network keeps the port number from being handed out to this host's other users by chance.
    let other = std::net::TcpListener::bind("127.0.0.77:0").unwrap();
    let port = other.local_addr().unwrap().port();
    (other, port)
}

fn http(url: &str) -> Check {
    Check::http(HttpAsk { url: url.into(), ..HttpAsk::default() }).unwrap()
}

async fn get(url: &str, timeout: Duration) -> Outcome {
    attempt(&http(url), timeout).await
}

#[track_caller]
fn failed(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Fail(text) => text,
        Outcome::Pass | Outcome::Unknown(_) => panic!("expected a failure, got {outcome:?}"),
    }
}

#[test]
fn a_good_answer_passes_and_the_status_decides() {
    run(async {
        for (answer, outcome) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Ok(())),
            ("HTTP/1.1 204 No Content\r\n\r\n", Ok(())),
            ("HTTP/1.0 200 Fine\r\n\r\nuntil the end", Ok(())),
            ("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", Ok(())),
            ("HTTP/1.1 399 Odd\r\ncontent-length: 0\r\n\r\n", Ok(())),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\ncut off", Ok(())),
            ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", Err("answered 404 Not Found")),
            ("HTTP/1.1 503 Nope\r\ncontent-length: 0\r\n\r\n", Err("answered 503 Service Unavailable")),
            ("HTTP/1.1 799 Odd\r\ncontent-length: 0\r\n\r\n", Err("answered 799")),
        ] {
            let address = answering(answer).await;
            let expected = outcome.map_or_else(|e| Outcome::Fail(e.to_owned()), |()| Outcome::Pass);
            assert_eq!(get(&format!("http://{address}/"), LONG).await, expected, "{answer}");
        }
    });
}

#[test]
fn expected_statuses_replace_the_usual_ones() {
    run(async {
        let address = answering("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await;
        let url = format!("http://{address}/");
        let check = Check::http(HttpAsk {
            url: url.clone(),
            statuses: vec![200..=299, 401..=401],
            ..HttpAsk::default()
        })
        .unwrap();
        assert_eq!(attempt(&check, LONG).await, Outcome::Pass);
        let check = Check::http(HttpAsk { url, statuses: vec![200..=200], ..HttpAsk::default() }).unwrap();
        assert_eq!(failed(&attempt(&check, LONG).await), "answered 401 Unauthorized");
    });
}

#[test]
fn a_text_may_be_asked_for() {
    run(async {
        let good = serve("127.0.0.1:0", |mut stream| async move {
            read_head(&mut stream).await;
            // The text comes in two pieces, and the answer never ends.
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"state\": \"hea").await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            stream.write_all(b"lthy\"}").await.unwrap();
            std::future::pending::<()>().await;
        })
        .await;
        let ask = |address: SocketAddr, text: &str| {
            let (url, body) = (format!("http://{address}/"), Some(text.to_owned()));
            Check::http(HttpAsk { url, body, ..HttpAsk::default() }).unwrap()
        };
        assert_eq!(attempt(&ask(good, "healthy"), LONG).await, Outcome::Pass);
        let outcome = attempt(&ask(good, "unwell"), SHORT).await;
        assert_eq!(failed(&outcome), format!("the answer of {good} did not end within 2 s"));

        let bad = answering("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nsick").await;
        assert_eq!(failed(&attempt(&ask(bad, "healthy"), LONG).await), "answered 200 OK, without `healthy`");

        let late = serve("127.0.0.1:0", |mut stream| async move {
            read_head(&mut stream).await;
            let _ = stream
                .write_all(format!("HTTP/1.1 200 OK\r\n\r\n{}healthy", "x".repeat(1 << 20)).as_bytes())
                .await;
        })
        .await;
        assert_eq!(failed(&attempt(&ask(late, "healthy"), LONG).await), "answered 200 OK, without `healthy`");
    });
}

#[test]
fn the_request_is_what_a_server_expects() {
    run(async {
        let (heads, mut seen) = mpsc::channel(8);
        let address = serve("127.0.0.1:0", move |mut stream| {
            let heads = heads.clone();
            async move {
                heads.send(read_head(&mut stream).await).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            }
        })
        .await;
        assert_eq!(get(&format!("http://{address}/ready?deep=1"), LONG).await, Outcome::Pass);
        let head = seen.recv().await.unwrap();
        assert!(head.starts_with("GET /ready?deep=1 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("host: {address}\r\n")), "{head}");
        assert!(head.contains("user-agent: keepwell/"), "{head}");

        let headers =
            vec![("Host".to_owned(), Secret::new("inner.example")), ("X-Probe".to_owned(), Secret::new("1"))];
        let url = format!("http://localhost:{}", address.port());
        let check = Check::http(HttpAsk { url, headers, ..HttpAsk::default() }).unwrap();
        assert_eq!(attempt(&check, LONG).await, Outcome::Pass);
        let head = seen.recv().await.unwrap();
        assert!(head.starts_with("GET / HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("host: inner.example\r\n") && !head.contains("localhost"), "{head}");
        assert!(head.contains("x-probe: 1\r\n"), "{head}");
    });
}

#[test]
fn ipv6_works_in_brackets() {
    run(async {
        let ok = |mut stream: TcpStream| async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        };
        let Ok(listener) = TcpListener::bind("[::1]:0").await else {
            eprintln!("skipped: this host has no IPv6 loopback address");
            return;
        };
        drop(listener);
        let address = serve("[::1]:0", ok).await;
        assert_eq!(get(&format!("http://[::1]:{}/", address.port()), LONG).await, Outcome::Pass);
        let tcp = Check::tcp(&format!("[::1]:{}", address.port())).unwrap();
        assert_eq!(attempt(&tcp, LONG).await, Outcome::Pass);
    });
}

#[test]
fn a_refused_connection_names_the_address() {
    run(async {
        let (_held, port) = closed_port();
        let expected = format!("connection refused by 127.0.0.1:{port}");
        assert_eq!(failed(&get(&format!("http://127.0.0.1:{port}/"), LONG).await), expected);
        let tcp = Check::tcp(&format!("127.0.0.1:{port}")).unwrap();
        assert_eq!(failed(&attempt(&tcp, LONG).await), expected);
    });
}

/// A silent server, a half-open connection, and one that trickles: none holds an attempt longer than its time.
#[test]
fn no_server_can_hold_an_attempt() {
    run(async {
        let silent = serve("127.0.0.1:0", |stream| async move {
            let _held = stream;
            std::future::pending::<()>().await;
        })
        .await;
        let trickling = serve("127.0.0.1:0", |mut stream| async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await;
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        for address in [silent, trickling] {
            let start = StdInstant::now();
            let outcome = get(&format!("http://{address}/"), SHORT).await;
            assert_eq!(failed(&outcome), format!("no answer from {address} within 2 s"));
            assert!(start.elapsed() >= SHORT && start.elapsed() < SHORT * 4, "{:?}", start.elapsed());
        }
    });
}

#[test]
fn a_body_without_end_costs_neither_time_nor_memory() {
    run(async {
        let (wrote, mut written) = mpsc::channel(1);
        let flooding = serve("127.0.0.1:0", move |mut stream| {
            let wrote = wrote.clone();
            async move {
                read_head(&mut stream).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let (chunk, mut sum) = (vec![b'x'; 1 << 20], 0);
                while stream.write_all(&chunk).await.is_ok() {
                    sum += chunk.len();
                }
                wrote.send(sum).await.unwrap();
            }
        })
        .await;
        assert_eq!(get(&format!("http://{flooding}/"), LONG).await, Outcome::Pass);
        // What the socket's buffers hold was written besides what was read.
        assert!(written.recv().await.unwrap() < 64 << 20);

        let hanging = serve("127.0.0.1:0", |mut stream| async move {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx").await.unwrap();
            let _held = stream;
            std::future::pending::<()>().await;
        })
        .await;
        let start = StdInstant::now();
        assert_eq!(get(&format!("http://{hanging}/"), LONG).await, Outcome::Pass);
        assert!(start.elapsed() < LONG / 4, "{:?}", start.elapsed());
    });
}

#[test]
fn bad_servers_are_described() {
    run(async {
        let closing = serve("127.0.0.1:0", |mut stream| async move {
            read_head(&mut stream).await;
        })
        .await;
        let outcome = get(&format!("http://{closing}/"), LONG).await;
        assert_eq!(failed(&outcome), format!("{closing} closed the connection without an answer"));

        let resetting = serve("127.0.0.1:0", |mut stream| async move {
            read_head(&mut stream).await;
            stream.set_zero_linger().unwrap();
        })
        .await;
        let outcome = get(&format!("http://{resetting}/"), LONG).await;
        let reset = format!("connection reset by {resetting}");
        // Wine closes gently whatever the linger.
        let gentle = (SYSTEM == System::Windows)
            .then(|| format!("{resetting} closed the connection without an answer"));
        assert!(failed(&outcome) == reset || Some(failed(&outcome)) == gentle.as_deref(), "{outcome:?}");

        for garbage in
            ["SSH-2.0-OpenSSH_9.9\r\n\r\n", "\u{1}\u{2}\u{3}\u{4} garbage\r\n\r\n", "HTTP/1.1 abc\r\n\r\n"]
        {
            let address = answering(garbage).await;
            let outcome = get(&format!("http://{address}/"), LONG).await;
            let words = format!("what answered on {address} does not speak HTTP/1: ");
            assert!(failed(&outcome).starts_with(&words), "{outcome:?}");
        }

        let endless = serve("127.0.0.1:0", |mut stream| async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await;
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
        })
        .await;
        let outcome = get(&format!("http://{endless}/"), LONG).await;
        assert!(failed(&outcome).ends_with("message head is too large"), "{outcome:?}");
    });
}

#[test]
fn names_are_looked_up_and_all_their_addresses_tried() {
    run(async {
        // `localhost` may be ::1 first, where nobody listens.
        let address = serve("127.0.0.1:0", |_| async {}).await;
        let check = Check::tcp(&format!("localhost:{}", address.port())).unwrap();
        assert_eq!(attempt(&check, LONG).await, Outcome::Pass);
        let check = Check::tcp("no-such-host.invalid:80").unwrap();
        let outcome = attempt(&check, LONG).await;
        assert_eq!(failed(&outcome), "the name no-such-host.invalid is not known");
    });
}

/// All that there is counts.
fn ever() -> Since {
    Since::wall(Wall(0))
}

#[test]
fn a_file_from_before_counts_when_it_is_written_again() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ready");
        std::fs::write(&path, "old").unwrap();
        let began = Wall(keepwell_os::clock::wall().0 + 50);
        let check = Check::file(path.clone(), Since::wall(began));
        let old = format!("{} is from before this start and was not written again", path.display());
        assert_eq!(failed(&attempt(&check, LONG).await), old);
        while keepwell_os::clock::wall() < began {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(failed(&attempt(&check, LONG).await), old, "time alone does not make it new");
        std::fs::write(&path, "new").unwrap();
        assert_eq!(attempt(&check, LONG).await, Outcome::Pass);
    });
}

#[test]
fn a_file_system_with_coarse_times_loses_no_sign() {
    let since = Since::wall(Wall(10_700));
    let changed = |ms| UNIX_EPOCH + Duration::from_millis(ms);
    assert!(since.covers(changed(10_690)) && !since.covers(changed(10_680)), "a tick of the kernel's clock");
    assert!(since.covers(changed(10_000)) && since.covers(changed(9_000)), "whole seconds");
    assert!(!since.covers(changed(8_000)));
}

#[test]
fn unix_sockets_and_files() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        let (unix, file) = (Check::unix(path.clone()), Check::file(path.clone(), ever()));
        let gone = format!("{} does not exist", path.display());
        assert_eq!(failed(&attempt(&unix, LONG).await), gone);
        assert_eq!(failed(&attempt(&file, LONG).await), gone);
        std::fs::write(&path, "").unwrap();
        assert_eq!(attempt(&file, LONG).await, Outcome::Pass);
        // On Windows files have nothing to do with who listens.
        let nobody = match SYSTEM {
            System::Unix => format!("nobody listens on {}", path.display()),
            System::Windows => gone,
        };
        assert_eq!(failed(&attempt(&unix, LONG).await), nobody);
    });
}

#[test]
fn what_cannot_be_tried_is_told_before_it_is() {
    for (url, words) in [
        ("ftp://127.0.0.1/", "is no http URL"),
        ("https://[x/", "is no URL"),
        ("127.0.0.1:8080", "is no http URL"),
        ("/ready", "is no http URL"),
        ("http://", "is no URL"),
        ("http://u:p@127.0.0.1/", "carries a user"),
        ("http://127.0.0.1:99999/", "port"),
        ("http://127.0.0.1:0/", "port"),
        ("http://a b/", "is no URL"),
    ] {
        let error = Check::http(HttpAsk { url: url.into(), ..HttpAsk::default() }).unwrap_err();
        assert!(error.contains(words), "{url}: {error}");
    }
    for header in [("a b", "c"), ("a", "c\nd")] {
        let headers = vec![(header.0.into(), Secret::new(header.1))];
        assert!(Check::http(HttpAsk { url: "http://x/".into(), headers, ..HttpAsk::default() }).is_err());
    }
    for address in
        ["", "8080", "host", "host:", "host:0", "host:70000", "::1:80", "[::1]", "[x]:80", ":80", "a b:80"]
    {
        assert!(Check::tcp(address).is_err(), "{address}");
    }
    for address in ["127.0.0.1:80", "[::1]:80", "db.internal:5432", "localhost:1"] {
        assert!(Check::tcp(address).is_ok(), "{address}");
    }
}

#[test]
fn a_socket_that_met_itself_is_no_service() {
    run(async {
        // Bound first and then connected to its own address: what the kernel does by chance, done on purpose.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        let stream = socket.connect(own).await.unwrap();
        assert_eq!(address::not_itself(&stream).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    });
}

fn engine(room: usize) -> (EngineHandle, Receiver<Message>, Waiter) {
    let (sender, receiver) = sync_channel(room);
    let waiter = Waiter::new().unwrap();
    (EngineHandle::new(sender, waiter.waker()), receiver, waiter)
}

#[track_caller]
fn answer_of(message: Message) -> (ProbeId, Outcome) {
    let Message::Input(Input::Probe { probe, outcome }) = message else { panic!("not an answer") };
    (probe, outcome)
}

#[test]
fn the_prober_answers_once_for_each_and_not_for_what_was_cancelled() {
    let runtime = background();
    // Room for one: the others must wait for it and not be lost.
    let (engine, inbox, _waiter) = engine(1);
    let prober = Prober::new(runtime.handle.clone(), engine);
    let silent = runtime.handle.block_on(serve("127.0.0.1:0", |stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    }));
    let hangs = Arc::new(http(&format!("http://{silent}/")));
    let exists = Arc::new(Check::file(std::env::temp_dir(), ever()));
    prober.start(ProbeId(100), Arc::clone(&hangs), LONG);
    for n in 0..20 {
        prober.start(ProbeId(n), Arc::clone(&exists), LONG);
    }
    prober.cancel(ProbeId(100));
    prober.start(ProbeId(50), hangs, SHORT);
    let mut seen = BTreeMap::new();
    while seen.len() < 21 {
        let (probe, outcome) = answer_of(inbox.recv_timeout(LONG).unwrap());
        assert!(seen.insert(probe, outcome).is_none(), "{probe:?} was answered twice");
    }
    assert!(matches!(seen.remove(&ProbeId(50)), Some(Outcome::Fail(_))));
    assert!(seen.values().all(|o| *o == Outcome::Pass) && !seen.contains_key(&ProbeId(100)));
    assert!(inbox.try_recv().is_err());
    // The last one removes itself just after its answer.
    let deadline = StdInstant::now() + LONG;
    while !prober.under_way.lock().unwrap().is_empty() {
        assert!(StdInstant::now() < deadline);
        std::thread::yield_now();
    }
}
