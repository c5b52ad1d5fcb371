//! What can be seen of a process before it is ended: read from `/proc` (proc(5)), without stopping it. Its environment and its
//! arguments are never read, since secrets stand there.
#![expect(unsafe_code, reason = "limits and signals for a tool have no safe form in the standard library")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use keepwell_core::guard::bytes;

/// Of one file of the kernel's; the largest that are read, `status` and tables of sockets, have some kilobytes.
const FILE: u64 = 256 << 10;
/// Threads and open files of one process that are shown; the rest is counted.
const ROWS: usize = 256;
/// Of what a debugger says.
const SAID: u64 = 1 << 20;
/// What `status` says and matters here.
const STATUS: [&str; 14] = [
    "Name",
    "State",
    "Pid",
    "PPid",
    "TracerPid",
    "FDSize",
    "VmPeak",
    "VmRSS",
    "VmSwap",
    "Threads",
    "SigPnd",
    "SigBlk",
    "voluntary_ctxt_switches",
    "nonvoluntary_ctxt_switches",
];
/// Figures of a control group, of both versions.
const FIGURES: [&str; 11] = [
    "memory.current",
    "memory.peak",
    "memory.max",
    "memory.events",
    "memory.usage_in_bytes",
    "memory.limit_in_bytes",
    "memory.failcnt",
    "pids.current",
    "pids.max",
    "cpu.stat",
    "memory.pressure",
];

/// The figures of the group that a process is in; empty where it is in none of its own.
#[must_use]
pub fn of_tree(main: u32) -> String {
    let mut out = String::new();
    let (groups, ours) = (read(format!("/proc/{main}/cgroup")), read("/proc/self/cgroup"));
    // A group that keepwell is in, too, says nothing of this tree.
    for line in groups.lines().filter(|line| !ours.lines().any(|own| own == *line)) {
        let mut fields = line.splitn(3, ':');
        let (_, Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if path == "/" {
            continue;
        }
        let of = |base: &str| PathBuf::from(format!("/sys/fs/cgroup{base}{path}"));
        let dirs = match controllers {
            "" => vec![of(""), of("/unified")],
            list => list.split(',').map(|c| of(&format!("/{c}"))).collect(),
        };
        for dir in dirs {
            figures(&dir, &mut out);
        }
    }
    out
}

fn figures(dir: &Path, out: &mut String) {
    for name in FIGURES {
        for line in read(dir.join(name)).lines() {
            let _ = writeln!(out, "{name}: {line}");
        }
    }
}

/// One process: its state, its threads and where each waits, its open files and sockets. Ends early at `until`.
#[must_use]
pub fn of_process(pid: u32, until: Instant) -> String {
    let mut out = String::new();
    for line in read(format!("/proc/{pid}/status")).lines() {
        if line.split(':').next().is_some_and(|key| STATUS.contains(&key)) {
            let _ = writeln!(out, "{}", line.replace('\t', " "));
        }
    }
    if out.is_empty() {
        return "it is gone\n".to_owned();
    }
    let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).ok();
    for (name, path) in [("exe", link("exe")), ("cwd", link("cwd"))] {
        if let Some(path) = path {
            let _ = writeln!(out, "{name}: {}", path.display());
        }
    }
    for line in read(format!("/proc/{pid}/io")).lines() {
        let _ = writeln!(out, "io {line}");
    }
    threads(pid, until, &mut out);
    files(pid, until, &mut out);
    out
}

fn threads(pid: u32, until: Instant, out: &mut String) {
    let all = numbers(&format!("/proc/{pid}/task"));
    let _ = writeln!(out, "\nthreads: {}", all.len());
    for tid in all.iter().take(ROWS) {
        if Instant::now() >= until {
            return out.push_str("… the time for evidence was over\n");
        }
        let of = |name: &str| read(format!("/proc/{pid}/task/{tid}/{name}"));
        let stat = of("stat");
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').next()).unwrap_or("?");
        let (name, place) = (of("comm"), of("wchan"));
        let place = if place.is_empty() || place == "0" { "–" } else { &place };
        let call = of("syscall");
        let call = call.split_ascii_whitespace().next().unwrap_or("–");
        let _ = writeln!(out, "  {tid} {} {state} in {place}, system call {call}", name.trim_end());
        for line in of("stack").lines() {
            let _ = writeln!(out, "      {line}");
        }
    }
    more(all.len(), out);
}

fn files(pid: u32, until: Instant, out: &mut String) {
    let all = numbers(&format!("/proc/{pid}/fd"));
    let _ = writeln!(out, "\nopen files: {}", all.len());
    let mut sockets = None;
    for fd in all.iter().take(ROWS) {
        if Instant::now() >= until {
            return out.push_str("… the time for evidence was over\n");
        }
        let Ok(target) = fs::read_link(format!("/proc/{pid}/fd/{fd}")) else { continue };
        let target = target.display().to_string();
        let inode = target.strip_prefix("socket:[").and_then(|t| t.strip_suffix(']'));
        let known = inode.and_then(|inode| sockets.get_or_insert_with(|| self::sockets(pid)).get(inode));
        match known {
            Some(what) => _ = writeln!(out, "  {fd} {what}"),
            None => _ = writeln!(out, "  {fd} {target}"),
        }
    }
    more(all.len(), out);
}

fn more(all: usize, out: &mut String) {
    if all > ROWS {
        let _ = writeln!(out, "  … and {} more", all - ROWS);
    }
}

/// Sockets by inode, in words, as the process's own network sees them (proc_pid_net(5)).
fn sockets(pid: u32) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for kind in ["tcp", "tcp6", "udp", "udp6"] {
        for line in read(format!("/proc/{pid}/net/{kind}")).lines().skip(1) {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let (Some(local), Some(peer), Some(state), Some(inode)) =
                (fields.get(1), fields.get(2), fields.get(3), fields.get(9))
            else {
                continue;
            };
            let address =
                |text: &str| super::ports::address(text).map_or_else(|| text.to_owned(), |a| a.to_string());
            let words = match *state {
                "0A" => format!("{kind} listens on {}", address(local)),
                state => {
                    let (local, peer, queue) = (address(local), address(peer), fields.get(4).unwrap_or(&""));
                    format!("{kind} {local} to {peer}, {}, queued (sent:received) {queue}", tcp_state(state))
                }
            };
            found.insert((*inode).to_owned(), words);
        }
    }
    for line in read(format!("/proc/{pid}/net/unix")).lines().skip(1) {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        if let Some(inode) = fields.get(6) {
            let path = fields.get(7).map_or("without a name", |path| path);
            found.insert((*inode).to_owned(), format!("unix socket {path}"));
        }
    }
    found
}

/// By the numbers of the kernel's `tcp_states.h`.
fn tcp_state(state: &str) -> &str {
    match state {
        "01" => "established",
        "02" => "connecting",
        "03" => "being accepted",
        "04" | "05" => "closing, from here",
        "06" => "over, kept for late packets",
        "07" => "closed",
        "08" => "closed by the peer, not by the program",
        "09" | "0B" => "closing",
        other => other,
    }
}

/// The stacks of all threads, by gdb, which stops the process meanwhile.
///
/// # Errors
/// In words: there is no gdb, it may not look, or took too long.
pub fn stacks(pid: u32, within: Duration) -> Result<String, String> {
    let pid = pid.to_string();
    let ask = ["-p", &pid, "-batch", "-nx", "-ex", "thread apply all bt"];
    let said = said(Command::new("gdb").args(ask), within)?;
    // It ends well, too, when it may not look.
    if said.contains("#0 ") { Ok(said) } else { Err("gdb cannot or may not look at it".to_owned()) }
}

/// A core dump at `path`, by gcore (of gdb), which stops the process meanwhile. It has `max` bytes at most.
///
/// # Errors
/// In words: there is no gcore, it may not look, took too long or would write more; nothing is left then.
pub fn dump(pid: u32, path: &Path, max: u64, within: Duration) -> Result<(), String> {
    // What it holds is written, and more; so a process that is too large is not even stopped.
    let holds = held(pid);
    if holds > max {
        return Err(format!(
            "the process holds {} of memory, and a dump may have {}",
            bytes(holds),
            bytes(max)
        ));
    }
    // gcore adds the pid to the name.
    let written = PathBuf::from(format!("{}.{pid}", path.display()));
    let mut gcore = Command::new("gcore");
    gcore.arg("-o").arg(path).arg(pid.to_string());
    // SAFETY: between fork and exec nothing is called but setrlimit(2), which may be called there; `limit` is copied before.
    unsafe {
        let limit = libc::rlimit { rlim_cur: max, rlim_max: max };
        gcore.pre_exec(move || match libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    let made = said(&mut gcore, within).and_then(|said| {
        if !said.lines().any(|line| line.starts_with("Saved corefile")) {
            return Err(said.lines().last().unwrap_or("gcore wrote none").to_owned());
        }
        // gdb takes a bound for a full disk, and goes on.
        if fs::metadata(&written).map_err(|e| crate::in_words(&e))?.len() >= max {
            return Err(format!("it has more than the {} that a dump may have", bytes(max)));
        }
        super::files::make_private(&written).map_err(|e| crate::in_words(&e))?;
        fs::rename(&written, path).map_err(|e| crate::in_words(&e))
    });
    if made.is_err() {
        // Nothing may be there.
        let _ = fs::remove_file(&written);
    }
    made
}

/// What a process has in memory, and what of it was put on disk.
fn held(pid: u32) -> u64 {
    let status = read(format!("/proc/{pid}/status"));
    let of = |line: &str| -> Option<u64> {
        let kib = line.strip_prefix("VmRSS:").or_else(|| line.strip_prefix("VmSwap:"))?;
        kib.trim().strip_suffix(" kB")?.parse().ok()
    };
    status.lines().filter_map(of).sum::<u64>() * 1024
}

/// Runs a tool and takes what it says; ends it, with whatever it has started, when its time is over.
fn said(command: &mut Command, within: Duration) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        // What it says is looked at; and what it might fetch from elsewhere is not worth the time.
        .env("LC_ALL", "C")
        .env_remove("DEBUGINFOD_URLS")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("{name} cannot be run: {}", crate::in_words(&e)))?;
    let Some(out) = child.stdout.take() else { return Err(format!("{name} has no output")) };
    let (give, take) = sync_channel(1);
    // It ends with the tool, which is killed at its time.
    let reader =
        std::thread::Builder::new().name("evidence-tool".into()).stack_size(128 << 10).spawn(move || {
            let mut text = Vec::new();
            let _ = out.take(SAID).read_to_end(&mut text);
            let _ = give.send(text);
        });
    let heard = reader.map_err(|e| crate::in_words(&e)).and_then(|_| {
        take.recv_timeout(within).map_err(|_| format!("{name} took longer than {} s", within.as_secs_f32()))
    });
    if let Ok(group) = libc::pid_t::try_from(child.id()) {
        // SAFETY: plain numbers. The leader is not waited for yet, so the group is still its own. It may have ended by itself.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
    let _ = child.wait();
    heard.map(|text| String::from_utf8_lossy(&text).into_owned())
}

/// Numbers that name entries of a folder, in order.
fn numbers(dir: &str) -> Vec<u32> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut all: Vec<u32> = entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    all.sort_unstable();
    all
}

/// What may be read of a file; empty where nothing may.
fn read(path: impl AsRef<Path>) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        // What was read before an error is read.
        let _ = file.take(FILE).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_process_is_seen_with_its_threads_files_and_sockets_and_without_its_secrets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let seen = of_process(std::process::id(), soon());
        let at = listener.local_addr().unwrap();
        for text in [
            "State: ",
            "threads: ",
            "open files: ",
            &format!("tcp listens on {at}"),
            file.path().to_str().unwrap(),
        ] {
            assert!(seen.contains(text), "`{text}` is not in:\n{seen}");
        }
        let secret = std::env::vars().find(|(k, v)| k == "CARGO_PKG_NAME" && !v.is_empty()).map(|(k, _)| k);
        assert!(secret.is_none_or(|key| !seen.contains(&format!("{key}="))), "{seen}");
        assert_eq!(of_process(u32::MAX / 2, soon()), "it is gone\n");
    }

    #[test]
    fn it_ends_when_its_time_is_over() {
        let seen = of_process(std::process::id(), Instant::now());
        assert!(seen.contains("the time for evidence was over"), "{seen}");
    }

    #[test]
    fn what_a_tool_has_started_ends_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > '{}'; wait", file.display());
        let within = Duration::from_secs(2);
        said(Command::new("sh").args(["-c", &script]), within).unwrap_err();
        let pid: u32 = fs::read_to_string(file).unwrap().trim().parse().unwrap();
        let runs =
            || read(format!("/proc/{pid}/stat")).rsplit_once(") ").is_some_and(|(_, s)| !s.starts_with('Z'));
        let end = soon();
        while runs() {
            assert!(Instant::now() < end, "{pid} goes on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn who_cannot_be_looked_at_is_told_and_not_left_out() {
        // Either there is no gdb, or no process.
        let why = stacks(u32::MAX / 2, Duration::from_secs(60)).unwrap_err();
        assert!(why.starts_with("gdb "), "{why}");
    }

    #[test]
    fn a_process_that_holds_more_than_is_kept_is_not_dumped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.dmp");
        let why = dump(std::process::id(), &path, 1 << 10, Duration::from_secs(60)).unwrap_err();
        assert!(why.starts_with("the process holds ") && why.ends_with(" a dump may have 1 KB"), "{why}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_tool_that_hangs_or_is_missing_is_told_in_words() {
        let hangs = said(Command::new("sleep").arg("1000"), Duration::from_millis(50));
        assert_eq!(hangs.unwrap_err(), "sleep took longer than 0.05 s");
        let missing = said(&mut Command::new("no-such-tool-of-ours"), Duration::from_secs(1)).unwrap_err();
        assert!(missing.starts_with("no-such-tool-of-ours cannot be run: "), "{missing}");
        assert_eq!(said(Command::new("echo").arg("hi"), Duration::from_secs(60)).unwrap(), "hi\n");
    }
}
