//! The real host of Windows. Its programs are this test's own.

use std::process::{Command, exit};
use std::time::Duration;
use std::{env, thread};

use keepwell_os::host::{Host, Place};
use keepwell_os::spawn::Faults;
use keepwell_os::tree::{Limits, MARK, TreeRoot};
use keepwell_os::{ProcessStatus, SpawnRequest, SystemHost, signals, stop};

use super::{Act, SLOT, Stage, contract};

/// A program runs by then, also under Wine on a busy machine.
pub(super) const START: Duration = Duration::from_millis(1500);

/// Says to this program what it is to do.
const ACT: &str = "KEEPWELL_TEST_ACT";

fn real() -> Stage<SystemHost> {
    let guardian = format!("contract{}", std::process::id());
    let mut root = TreeRoot::open(&guardian);
    let tree = root.make("web", &Limits::default()).unwrap();
    let host = SystemHost::new(&guardian, Faults::default()).unwrap();
    Stage {
        host,
        real: true,
        guardian,
        root,
        tree,
        gated: false,
        seen: Vec::new(),
        others: Vec::new(),
        output: Vec::new(),
    }
}

pub(super) fn no_trees(guardian: &str) -> TreeRoot {
    TreeRoot::open(guardian)
}

/// A process that does not handle Ctrl+C ends with a code of its own on Windows, and with 0 under Wine.
pub(super) fn ends_by_itself(status: ProcessStatus) -> bool {
    status.code == Some(0)
}

pub(super) fn request<H: Host>(stage: &Stage<H>, run: u64, act: Act) -> SpawnRequest {
    let bytes = |text: &str| text.as_bytes().to_vec();
    let own = env::current_exe().unwrap();
    let program = if matches!(act, Act::Missing) { r"C:\no\such\program.exe" } else { own.to_str().unwrap() };
    let word = match act {
        Act::Sleep => "sleep".to_owned(),
        Act::Stubborn => "stubborn".to_owned(),
        Act::Exit(code) => code.to_string(),
        Act::Leave => "leave".to_owned(),
        Act::Missing => String::new(),
    };
    SpawnRequest {
        program: bytes(program),
        argv: ["x", "--exact", "real::act"].map(bytes).to_vec(),
        env: vec![bytes(&format!("{ACT}={word}")), bytes(&format!("{MARK}={}/{run}", stage.guardian))],
        cwd: bytes(r"C:\"),
        ..SpawnRequest::default()
    }
}

/// A job holds all that was born in it.
pub(super) fn holds_leftovers<H: Host>(_: &Stage<H>) -> bool {
    true
}

/// Only a console can ask this process to stop, and a test has none of its own. What is only here: the host alone can look
/// into a tree, and a slot that is let go of takes with it what is left.
pub(super) fn stops<H: Host>(stage: &mut Stage<H>) {
    let main = stage.spawn(60, Act::Stubborn).unwrap();
    // Under Wine its console is a process in the job, too.
    let before = stage.host.members(SLOT).pids;
    assert!(before.contains(&main), "{before:?}");
    let leaver = stage.spawn(61, Act::Leave).unwrap();
    stage.exited(leaver);
    let with_leftovers = stage.host.members(SLOT).pids;
    assert!(with_leftovers.len() >= before.len() + 3, "{with_leftovers:?}");
    stage.host.forget(Place { slot: SLOT, tree: None });
    assert_eq!(stage.exited(main).signal, Some(stop::KILL));
    assert!(stage.host.members(SLOT).pids.is_empty());
    // The next one of this number begins anew.
    let next = stage.spawn(62, Act::Exit(4)).unwrap();
    assert_eq!(stage.exited(next).code, Some(4));
}

/// What this program does when the host starts it.
#[test]
fn act() {
    let Ok(word) = env::var(ACT) else { return };
    match word.as_str() {
        "sleep" => thread::sleep(Duration::from_secs(100)),
        "stubborn" => {
            signals::ignore_terminal();
            thread::sleep(Duration::from_secs(100));
        }
        "leave" => {
            for _ in 0..3 {
                let me = env::current_exe().unwrap();
                let left = Command::new(me).args(["--exact", "real::act"]).env(ACT, "stubborn").spawn();
                drop(left.unwrap());
            }
            thread::sleep(START);
            exit(0);
        }
        code => exit(code.parse().unwrap()),
    }
}

/// What this program does when the host has it send an event.
#[test]
fn keepwell_event() {
    if let Some(code) = stop::run_as_sender() {
        exit(code);
    }
}

#[test]
fn the_real_host() {
    contract(real());
}
