//! Starting processes for real: every way of doing it must give the same child.
#![cfg(target_os = "linux")]
#![expect(unsafe_code, reason = "tests look at children by bare system calls")]
#![expect(clippy::unwrap_used, reason = "a failure is a failed test")]

use std::io::{PipeReader, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use keepwell_os::limits;
use keepwell_os::spawn::{Faults, SpawnFailure, Spawner, Started, Stdio, Step};
use keepwell_os::{Identity, Processors, Resource, Rlimit, SpawnRequest};

/// Everything by the newest way, then with one thing after the other refused, down to fork.
fn ways() -> Vec<Faults> {
    let mut ways = vec![Faults::default()];
    for errno in [libc::ENOSYS, libc::EPERM] {
        let no = Some(errno);
        ways.push(Faults { close_range: no, ..Faults::default() });
        ways.push(Faults { clone3: no, ..Faults::default() });
        ways.push(Faults { clone3: no, close_range: no, ..Faults::default() });
        ways.push(Faults::all(errno));
    }
    ways
}

fn shell(script: &str) -> SpawnRequest {
    SpawnRequest {
        program: b"/bin/sh".into(),
        argv: vec![b"sh".into(), b"-c".into(), script.into()],
        env: vec![b"PATH=/usr/bin:/bin".into()],
        cwd: b"/".into(),
        ..SpawnRequest::default()
    }
}

/// Starts it and says its exit code and all that it wrote.
fn run(faults: Faults, request: &SpawnRequest) -> Result<(i32, String), SpawnFailure> {
    let mut spawner = Spawner::new(faults, None, None).unwrap();
    run_with(&mut spawner, request)
}

fn run_with(spawner: &mut Spawner, request: &SpawnRequest) -> Result<(i32, String), SpawnFailure> {
    let (mut out, write) = std::io::pipe().unwrap();
    let stdio = Stdio { stdout: write.as_fd(), stderr: write.as_fd() };
    let started = spawner.spawn(request, stdio, None)?;
    drop(write);
    let pid = started.pid();
    if let Started::Gated(_, gate) = started {
        let limit = Instant::now() + Duration::from_secs(10);
        let outcome = loop {
            match gate.outcome() {
                Some(outcome) => break outcome,
                None => assert!(Instant::now() < limit, "the gate never opened"),
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        if let Err(failure) = outcome {
            assert_eq!(wait(pid), 127);
            return Err(failure);
        }
    }
    let text = read(&mut out);
    Ok((wait(pid), text))
}

fn read(out: &mut PipeReader) -> String {
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    text
}

fn wait(pid: u32) -> i32 {
    let mut status = 0;
    // SAFETY: `status` is filled by the call.
    assert_eq!(unsafe { libc::waitpid(pid.cast_signed(), &raw mut status, 0) }, pid.cast_signed());
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) }
}

fn root() -> bool {
    // SAFETY: no pointers.
    unsafe { libc::geteuid() == 0 }
}

#[test]
fn a_child_gets_its_arguments_its_environment_and_nothing_else() {
    let inherited = std::fs::File::open("/dev/null").unwrap();
    // SAFETY: no pointers; makes it inheritable, as a careless parent of ours would.
    unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&inherited), libc::F_SETFD, 0) };
    limits::seal_inherited();
    for way in ways() {
        let mut request =
            shell(r#"echo "$0 $1"; ls /proc/self/fd | tr '\n' ' '; readlink /proc/self/fd/0; exit 7"#);
        request.argv.extend([b"zero".to_vec(), b"a b".to_vec()]);
        let (code, text) = run(way, &request).unwrap();
        assert_eq!(code, 7, "{way:?}");
        // Number 3 is the folder that ls itself reads.
        assert_eq!(text, "zero a b\n0 1 2 3 /dev/null\n", "{way:?}");

        let mut request = shell("");
        request.program = b"/usr/bin/env".into();
        request.argv = vec![b"env".into()];
        request.env = vec![b"A=1".into(), b"B=x y=z".into()];
        assert_eq!(run(way, &request).unwrap().1, "A=1\nB=x y=z\n", "{way:?}");
    }
}

#[test]
fn a_child_leads_its_own_session_with_default_signals() {
    keepwell_os::signals::ignore_terminal();
    for way in ways() {
        let script = "set -- $(cat /proc/self/stat); grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status; cut -d' ' -f5,6 /proc/$$/stat; echo $$";
        let (_, text) = run(way, &shell(script)).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "SigBlk:\t0000000000000000", "{way:?}");
        assert_eq!(lines[1], "SigIgn:\t0000000000000000", "{way:?}");
        assert_eq!(lines[3], format!("{0} {0}", lines[4]), "{way:?}");
    }
}

#[test]
fn every_failed_step_is_named() {
    type Change = Box<dyn Fn(&mut SpawnRequest)>;
    let cases: Vec<(Step, i32, Change)> = vec![
        (Step::Exec, libc::ENOENT, Box::new(|r| r.program = b"/no/such/program".into())),
        (Step::Exec, libc::EACCES, Box::new(|r| r.program = b"/etc/passwd".into())),
        (Step::Exec, libc::EACCES, Box::new(|r| r.program = b"/etc".into())),
        (Step::Exec, libc::E2BIG, Box::new(|r| r.argv.push(vec![b'x'; 200 << 10]))),
        (Step::Chdir, libc::ENOENT, Box::new(|r| r.cwd = b"/no/such/folder".into())),
        (Step::Chdir, libc::ENOTDIR, Box::new(|r| r.cwd = b"/etc/passwd".into())),
        (Step::Join, libc::ENOENT, Box::new(|r| r.join.push(b"/no/such/cgroup.procs".into()))),
        (Step::Request, libc::EINVAL, Box::new(|r| r.argv.push(b"a\0b".into()))),
        (Step::Request, libc::EINVAL, Box::new(|r| r.argv.clear())),
        (
            Step::Limits,
            libc::EINVAL,
            Box::new(|r| r.rlimits.push(Rlimit { resource: Resource::Core, soft: Some(2), hard: Some(1) })),
        ),
    ];
    for way in ways() {
        for (step, errno, change) in &cases {
            let mut request = shell("true");
            change(&mut request);
            let failure = run(way, &request).unwrap_err();
            assert_eq!((failure.step, failure.errno), (*step, *errno), "{way:?}");
        }
    }
}

#[test]
fn another_user_is_taken_whole() {
    if !root() {
        return;
    }
    let identity = Identity { uid: 65_534, gid: 65_533, groups: vec![10, 20], account: None };
    for way in ways() {
        let mut request = shell("id -u; id -g; id -G; grep CapEff /proc/self/status");
        request.identity = Some(Box::new(identity.clone()));
        let (_, text) = run(way, &request).unwrap();
        assert_eq!(text, "65534\n65533\n65533 10 20\nCapEff:\t0000000000000000\n", "{way:?}");
        // It is the new user who must be able to enter.
        request.cwd = b"/root".into();
        if std::fs::metadata("/root").is_ok_and(|m| std::os::unix::fs::MetadataExt::mode(&m) & 0o005 == 0) {
            assert_eq!(run(way, &request).unwrap_err().step, Step::Chdir, "{way:?}");
        }
    }
}

#[test]
fn capabilities_are_those_that_were_named_and_no_others() {
    if !root() {
        return;
    }
    for way in ways() {
        for identity in [None, Some(Identity { uid: 65_534, gid: 65_534, groups: vec![], account: None })] {
            let mut request = shell("grep -E 'Cap(Prm|Eff|Bnd)|NoNewPrivs' /proc/self/status | tr -d '\t'");
            request.identity = identity.map(Box::new);
            request.capabilities = Some([10].into());
            request.no_new_privileges = true;
            let (_, text) = run(way, &request).unwrap();
            let set = "0000000000000400";
            assert_eq!(text, format!("CapPrm:{set}\nCapEff:{set}\nCapBnd:{set}\nNoNewPrivs:1\n"), "{way:?}");
        }
    }
}

#[test]
fn settings_of_the_process_are_made() {
    let hard = limits::get(Resource::Nofile).unwrap().hard;
    let original = Rlimit { resource: Resource::Nofile, soft: Some(123), hard };
    for way in ways() {
        let mut spawner = Spawner::new(way, Some(original.clone()), Some(0)).unwrap();
        let mut request = shell(
            "umask; ulimit -Sn; ulimit -c; nice; cat /proc/self/oom_score_adj; pwd; taskset -cp $$ | cut -d: -f2",
        );
        request.umask = Some(0o027);
        request.nice = Some(5);
        request.affinity = Some(Box::new(Processors::of(&[0, 1023])));
        request.oom_score_adj = Some(300);
        request.cwd = b"/usr".into();
        request.rlimits = vec![Rlimit { resource: Resource::Core, soft: Some(0), hard: Some(0) }];
        let (_, text) = run_with(&mut spawner, &request).unwrap();
        assert_eq!(text, "0027\n123\n0\n5\n300\n/usr\n 0\n", "{way:?}");
        // What the request says goes before what children get by default.
        request.rlimits = vec![Rlimit { resource: Resource::Nofile, soft: Some(99), hard: Some(99) }];
        request.oom_score_adj = None;
        let (_, text) = run_with(&mut spawner, &request).unwrap();
        assert_eq!(
            text,
            "0027\n99\nunlimited\n5\n0\n/usr\n 0\n".replace("unlimited", core_limit()),
            "{way:?}"
        );
    }
}

fn core_limit() -> &'static str {
    match limits::get(Resource::Core).unwrap().soft {
        None => "unlimited",
        Some(0) => "0",
        Some(n) => String::leak((n / 512).to_string()),
    }
}

#[test]
fn a_child_dies_with_its_parent() {
    for way in ways() {
        let (mut out, write) = std::io::pipe().unwrap();
        let pid = std::thread::spawn(move || {
            let mut spawner = Spawner::new(way, None, None).unwrap();
            let stdio = Stdio { stdout: write.as_fd(), stderr: write.as_fd() };
            let started =
                spawner.spawn(&shell("trap '' TERM INT HUP; echo up; exec sleep 1000"), stdio, None);
            let started = started.unwrap();
            drop(write);
            let mut up = [0; 3];
            out.read_exact(&mut up).unwrap();
            (started.pid(), out)
        });
        // The parent, for the system, is the thread: its end is enough.
        let (pid, mut out) = pid.join().unwrap();
        assert_eq!(read(&mut out), "", "{way:?}");
        assert_eq!(wait(pid), 128 + libc::SIGKILL, "{way:?}");
    }
}

#[test]
fn starts_leave_nothing_open_and_no_child_behind() {
    for way in ways() {
        let mut spawner = Spawner::new(way, None, None).unwrap();
        let mut bad = shell("true");
        bad.program = b"/no/such/program".into();
        let before = std::fs::read_dir("/proc/self/fd").unwrap().count();
        for _ in 0..20 {
            run_with(&mut spawner, &shell("true")).unwrap();
            run_with(&mut spawner, &bad).unwrap_err();
        }
        assert_eq!(std::fs::read_dir("/proc/self/fd").unwrap().count(), before, "{way:?}");
        // SAFETY: no status is asked for.
        assert_eq!(unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) }, -1, "{way:?}");
    }
}

#[test]
fn the_ways_are_named() {
    let words = |faults| Spawner::new(faults, None, None).unwrap().mechanisms().join("; ");
    assert_eq!(words(Faults::all(libc::ENOSYS)), "spawn: fork; descriptors: copied");
    let no_clone3 = Faults { clone3: Some(libc::EPERM), ..Faults::default() };
    assert!(words(no_clone3).starts_with("spawn: clone; "));
}
