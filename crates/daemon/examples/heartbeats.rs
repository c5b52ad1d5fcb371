//! What the receiver of heartbeats costs: frames a second of one core, and memory of many connections. Linux only: it asks
//! `/proc`. `python3 bench/heartbeats.py` runs it.
//!
//! The clients are another process, so that what is measured is the receiver alone. A frame is written, read, told and answered by
//! itself; nothing is batched.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use keepwell_core::{Input, RunId, ServiceId};
use keepwell_daemon::heartbeat::{Door, HeartbeatHub};
use keepwell_daemon::message::{EngineHandle, INBOX, Message};
use keepwell_os::local::{self, Access, Endpoint};
use keepwell_os::wait::Waiter;
use keepwell_sdk::heartbeat::{Command as Said, HEADER, encode};

const SERVICES: usize = 100;
const CONNECTIONS: usize = 10_000;
const ROUNDS: usize = 100;
/// A connection may send a hundred frames a second; each sends one a round, and no round is shorter than this.
const ROUND: Duration = Duration::from_millis(10);

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("clients"), Some(folder)) => clients(Path::new(&folder)),
        _ => receiver(),
    }
}

fn path(folder: &Path, service: usize) -> PathBuf {
    folder.join(format!("{service}.sock"))
}

fn receiver() -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (sender, inbox) = sync_channel(INBOX);
    let waiter = Waiter::new()?;
    let mut hub = HeartbeatHub::new(runtime.handle().clone(), EngineHandle::new(sender, waiter.waker()));
    for service in 0..SERVICES {
        let endpoint = Endpoint::bind(&path(folder.path(), service), Access::Owner)?;
        let (slot, run) = (u32::try_from(service).unwrap_or(0), RunId(service as u64));
        hub.add(
            slot,
            ServiceId::new(&*format!("s{service}"), 1),
            Door::Own(endpoint, Box::new(|_| true)),
            Some(run),
        )?;
    }
    let (tell, told) = sync_channel(1);
    thread::spawn(move || {
        let _ = tell.send(fs::read_link("/proc/thread-self"));
        runtime.block_on(std::future::pending::<()>());
    });
    let thread = Path::new("/proc").join(told.recv().map_err(io::Error::other)??);
    let beats = thread::spawn(move || {
        inbox.iter().filter(|m| matches!(m, Message::Input(Input::Beat { .. }))).count()
    });
    let before = memory()?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg("clients")
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (mut go, mut said) = (child.stdin.take().ok_or_else(pipe)?, child.stdout.take().ok_or_else(pipe)?);
    let mut byte = [0];
    said.read_exact(&mut byte)?;
    println!(
        "memory     {CONNECTIONS} connections: {:.1} MB, of which {:.1} MB without them",
        mb(memory()?),
        mb(before)
    );
    let (cpu, begin) = (cpu(&thread)?, Instant::now());
    go.write_all(&byte)?;
    said.read_exact(&mut byte)?;
    let (frames, wall) = (CONNECTIONS * ROUNDS, begin.elapsed().as_secs_f64());
    let cpu = (self::cpu(&thread)? - cpu).as_secs_f64();
    println!(
        "frames     {frames} in {wall:.2} s, {cpu:.2} s of one core: {:.0} a second of it",
        frames as f64 / cpu
    );
    println!("memory     after that: {:.1} MB", mb(memory()?));
    drop(go);
    child.wait()?;
    drop(hub);
    drop(waiter);
    drop(beats);
    Ok(())
}

fn clients(folder: &Path) -> io::Result<()> {
    let paths: Vec<PathBuf> = (0..CONNECTIONS).map(|number| path(folder, number % SERVICES)).collect();
    let mut streams =
        paths.iter().map(|path| local::connect_blocking(path)).collect::<io::Result<Vec<_>>>()?;
    let mut frame = Vec::new();
    encode(Said::Heartbeat as u8, &[], &mut frame);
    let round = |streams: &mut [_]| round(streams, &frame);
    // All are accepted when all were answered.
    round(&mut streams)?;
    let (mut byte, mut out) = ([0], io::stdout());
    out.write_all(&byte)?;
    out.flush()?;
    io::stdin().read_exact(&mut byte)?;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        round(&mut streams)?;
        thread::sleep(ROUND.saturating_sub(begin.elapsed()));
    }
    out.write_all(&byte)?;
    out.flush()?;
    // The streams stay open until the receiver has looked.
    let _ = io::stdin().read(&mut byte);
    Ok(())
}

fn round<S: Read + Write>(streams: &mut [S], frame: &[u8]) -> io::Result<()> {
    for stream in streams.iter_mut() {
        stream.write_all(frame)?;
    }
    let mut answer = [0; HEADER];
    for stream in streams {
        stream.read_exact(&mut answer)?;
    }
    Ok(())
}

fn pipe() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Resident memory of this process.
fn memory() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024)
}

/// Time that a thread has been on a processor (proc(5), `schedstat`).
fn cpu(thread: &Path) -> io::Result<Duration> {
    let text = fs::read_to_string(thread.join("schedstat"))?;
    Ok(Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)))
}
