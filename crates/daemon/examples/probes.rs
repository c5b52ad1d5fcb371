//! What checks by HTTP cost, and how soon a failure is seen: 10,000 services, each asked once in 10 s. Linux only: it asks `/proc`.
//!
//! ```sh
//! cargo run --release -p keepwell-daemon --example probes
//! ```
//!
//! What decides (the core's supervisor) and what asks (the daemon's prober) are the real ones; no process is started for a
//! service. The server that all of them ask is another process, so that what is measured is keepwell alone.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use keepwell_core::spec::{Healing, Limit, Probe, Purpose};
use keepwell_core::supervisor::Persisted;
use keepwell_core::{Effect, EventKind, HostLoad, Input, ServiceSpec, Specs, Supervisor};
use keepwell_daemon::message::{EngineHandle, INBOX, Message};
use keepwell_daemon::probe::{Check, HttpAsk, Prober};
use keepwell_os::wait::Waiter;

const SERVICES: usize = 10_000;
const PERIOD: Duration = Duration::from_secs(10);
/// All have been asked, and are asked again.
const WARM: Duration = Duration::from_secs(12);
const MEASURED: Duration = Duration::from_secs(20);

fn main() -> io::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("serve") => serve(),
        _ => measure(),
    }
}

fn specs() -> Specs {
    let probe = Probe {
        purpose: Purpose::Live,
        name: "http".into(),
        period: PERIOD,
        timeout: Duration::from_secs(5),
        initial_delay: Duration::ZERO,
        success_threshold: 1,
        failure_threshold: 1,
    };
    let spec = ServiceSpec { probes: vec![probe], ..ServiceSpec::default() };
    let services = (0..SERVICES).map(|n| (Arc::from(format!("s{n:05}").as_str()), spec.clone())).collect();
    // What fails is told and left as it is, but for one.
    let limit = Some(Limit { max: 1, window: Duration::from_secs(3600) });
    Specs { services, healing: Healing { limit, ..Healing::default() }, ..Specs::default() }
}

fn measure() -> io::Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (mut server, said) = (child.stdin.take(), child.stdout.take());
    let mut url = String::new();
    BufReader::new(said.ok_or(io::ErrorKind::BrokenPipe)?).read_line(&mut url)?;
    let ask = || HttpAsk { url: url.trim().to_owned(), ..HttpAsk::default() };
    let checks: BTreeMap<Arc<str>, Arc<Check>> = specs()
        .services
        .into_keys()
        .map(|name| Check::http(ask()).map(|check| (name, Arc::new(check))))
        .collect::<Result<_, _>>()
        .map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (sender, inbox) = sync_channel(INBOX);
    let waiter = Waiter::new()?;
    let prober = Prober::new(runtime.handle().clone(), EngineHandle::new(sender, waiter.waker()));
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));

    let now = keepwell_os::clock::now;
    let mut sup = Supervisor::new(specs(), Persisted::default(), 1, now());
    let begin = Instant::now();
    let (mut asked, mut passed, mut before, mut sick) = (0_u64, 0_u64, None, None::<Instant>);
    let mut found: Vec<Duration> = Vec::new();
    loop {
        sup.handle_timeout(now());
        while let Some(effect) = sup.poll_effect() {
            match effect {
                Effect::Spawn { run, .. } => sup.handle(now(), Input::Spawned { run, pid: 1 }),
                Effect::LookAtHost => sup.handle(now(), Input::HostLoad(HostLoad::default())),
                Effect::TakeEvidence { run, .. } => {
                    sup.handle(now(), Input::EvidenceTaken { run, outcome: Ok(String::new()) });
                }
                Effect::Probe { probe, service, timeout, .. } => {
                    asked += 1;
                    if let Some(check) = checks.get(&service.name) {
                        prober.start(probe, Arc::clone(check), timeout);
                    }
                }
                _ => {}
            }
        }
        while sup.poll_snapshot().is_some() {}
        while let Some(event) = sup.poll_event() {
            if let (EventKind::ProbeFailed { .. }, Some(sick)) = (event.kind, sick) {
                found.push(sick.elapsed());
            }
        }
        let due = sup.next_deadline().map_or(PERIOD, |(at, _)| at.since(now().mono));
        match inbox.recv_timeout(due) {
            Ok(Message::Input(input)) => {
                passed += u64::from(
                    matches!(&input, Input::Probe { outcome, .. } if *outcome == keepwell_core::Outcome::Pass),
                );
                sup.handle(now(), input);
            }
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        match (before, sick) {
            (None, _) if begin.elapsed() >= WARM => before = Some((cpu()?, asked, passed, Instant::now())),
            (Some((cpu_then, asked_then, passed_then, since)), None) if since.elapsed() >= MEASURED => {
                let (used, wall) = ((cpu()? - cpu_then).as_secs_f64(), since.elapsed().as_secs_f64());
                let (asked, passed) = (asked - asked_then, passed - passed_then);
                println!(
                    "cost       {asked} attempts in {wall:.1} s, {passed} passed: {:.1} % of one core, {:.0} µs each; {} threads",
                    100.0 * used / wall,
                    1e6 * used / asked as f64,
                    threads()?
                );
                sick = Some(Instant::now());
                drop(server.take());
            }
            (Some(_), Some(sick)) if found.len() >= SERVICES || sick.elapsed() >= 3 * PERIOD => break,
            (None | Some(_), _) => {}
        }
    }
    found.sort();
    let at = |part: usize| found.get((found.len() * part / 100).min(found.len().saturating_sub(1)));
    println!(
        "detection  {} of {SERVICES} failures seen; half within {:.2?}, 99 % within {:.2?}, the last after {:.2?}; in theory up to {PERIOD:?}",
        found.len(),
        at(50).copied().unwrap_or_default(),
        at(99).copied().unwrap_or_default(),
        found.last().copied().unwrap_or_default()
    );
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Answers 200 to everybody until its input ends, then 503.
fn serve() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("http://{}/", listener.local_addr()?);
    io::stdout().flush()?;
    let sick = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&sick);
    thread::spawn(move || {
        let _ = io::stdin().read(&mut [0]);
        seen.store(true, Ordering::Relaxed);
    });
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let mut head = [0; 1024];
        let _ = stream.read(&mut head);
        let status = if sick.load(Ordering::Relaxed) { "503 Service Unavailable" } else { "200 OK" };
        let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
    Ok(())
}

/// User and system time of this process (proc_pid_stat(5)), in ticks of 10 ms.
fn cpu() -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<u64>().ok()).unwrap_or_default();
    Ok(Duration::from_millis(10 * (ticks(11) + ticks(12))))
}

fn threads() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count())
}
