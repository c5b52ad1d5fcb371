//! The real host of Linux by every means that it has.
#![expect(unsafe_code, reason = "each case runs in a process of its own, as a host must")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use keepwell_os::host::{Host, HostEvent};
use keepwell_os::spawn::Faults;
use keepwell_os::tree::layout::Layout;
use keepwell_os::tree::{Limits, MARK, TreeRoot};
use keepwell_os::{ProcessStatus, SpawnRequest, SystemHost, stop};

use super::{Act, Stage, contract};

/// A program has set its traps by then.
pub(super) const START: Duration = Duration::from_millis(100);

fn real(faults: Faults, cgroups: bool, gated: bool) -> Stage<SystemHost> {
    let guardian = format!("contract{}", std::process::id());
    let layout = if cgroups { Layout::current() } else { Layout::default() };
    let mut root = TreeRoot::with_layout(&guardian, layout);
    let limits = Limits { tasks: gated.then_some(100), ..Limits::default() };
    let tree = root.make("web", &limits).unwrap();
    let host = SystemHost::new(&guardian, faults).unwrap();
    Stage {
        host,
        real: true,
        guardian,
        root,
        tree,
        gated,
        seen: Vec::new(),
        others: Vec::new(),
        output: Vec::new(),
    }
}

/// A root that makes no groups.
pub(super) fn no_trees(guardian: &str) -> TreeRoot {
    TreeRoot::with_layout(guardian, Layout::default())
}

/// What ends by a signal is always told so.
pub(super) fn ends_by_itself(_: ProcessStatus) -> bool {
    false
}

pub(super) fn request<H: Host>(stage: &Stage<H>, run: u64, act: Act) -> SpawnRequest {
    let script = match act {
        Act::Sleep => "exec sleep 1000".to_owned(),
        Act::Stubborn => "trap '' TERM INT HUP; while :; do sleep 1; done".to_owned(),
        Act::Exit(code) => format!("exit {code}"),
        // Out of the session, with the pipe held, out of the environment.
        Act::Leave => "trap '' TERM; setsid -f sleep 1000; sleep 1000 & env -i sleep 1000 & \
                       while [ $(cat /proc/[0-9]*/stat 2>/dev/null | grep -c '(sleep)') -lt 3 ]; do :; done; exit 0"
            .to_owned(),
        Act::Missing => String::new(),
    };
    let program = if matches!(act, Act::Missing) { "/no/such/program" } else { "/bin/sh" };
    SpawnRequest {
        program: program.into(),
        argv: vec![b"sh".into(), b"-c".into(), script.into_bytes()],
        env: vec![b"PATH=/usr/bin:/bin".into(), format!("{MARK}={}/{run}", stage.guardian).into_bytes()],
        cwd: b"/".into(),
        join: if stage.gated { stage.tree.join().to_vec() } else { Vec::new() },
        ..SpawnRequest::default()
    }
}

/// A mark tells whose hook left a process behind; a group tells only that it belongs to the service.
pub(super) fn holds_leftovers<H: Host>(stage: &Stage<H>) -> bool {
    stage.tree.handle().is_some()
}

pub(super) fn stops<H: Host>(stage: &mut Stage<H>) {
    for name in ["INT", "TERM", "HUP", "QUIT"] {
        let number = stop::signal_number(name).unwrap();
        stop::signal(std::process::id(), number).unwrap();
        stage.until(name, |e| *e == HostEvent::Stop { signal: number });
    }
    for name in ["TSTP", "TTIN", "TTOU", "PIPE", "USR1", "USR2"] {
        stop::signal(std::process::id(), stop::signal_number(name).unwrap()).unwrap();
    }
}

/// A host changes its whole process: signals, limits, who inherits orphans. In a process of its own, with one thread.
fn alone(case: impl FnOnce()) {
    // SAFETY: the child has one thread, this one; it runs the case and ends without returning.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = i32::from(catch_unwind(AssertUnwindSafe(case)).is_err());
        // SAFETY: ends the child without the parent's clean-up.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: `status` is filled by the call.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "status {status:#x}");
}

#[test]
fn the_real_host_by_the_best_means() {
    alone(|| contract(real(Faults::default(), true, false)));
}

#[test]
fn the_real_host_with_version_1_limits() {
    alone(|| contract(real(Faults::default(), true, true)));
}

#[test]
fn the_real_host_without_cgroups() {
    alone(|| contract(real(Faults::default(), false, false)));
}

#[test]
fn the_real_host_on_an_old_kernel() {
    for cgroups in [true, false] {
        alone(|| contract(real(Faults::all(libc::ENOSYS), cgroups, false)));
    }
}

#[test]
fn the_real_host_under_a_filter() {
    for cgroups in [true, false] {
        alone(|| contract(real(Faults::all(libc::EPERM), cgroups, false)));
    }
    let clone3 = Faults { clone3: Some(libc::EPERM), ..Faults::default() };
    alone(|| contract(real(clone3, true, false)));
}

#[test]
fn the_real_host_as_an_ordinary_user() {
    alone(|| {
        // SAFETY: no pointers; without the right to do so it fails, and then this is an ordinary user already.
        unsafe { (libc::setgid(65_534), libc::setuid(65_534)) };
        // The system makes a process that changed its user unreadable for that user; a program would be loaded anew.
        // SAFETY: no pointers.
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1 as libc::c_long, 0, 0, 0) };
        contract(real(Faults::default(), true, false));
    });
}
