//! `anchor-toy anchor FOLDER [view] [impatient]` is an anchor with short times, but for the one after which a daemon counts
//! as hanging: the test is the daemon and may be slow, so only an impatient anchor soon takes it for hung. Its daemons,
//! `anchor-toy daemon FOLDER`, hand their end of the link to the test that listens at `FOLDER/control`, and then do nothing:
//! their death is whatever the test does to the process.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use keepwell_anchor::{Options, RunningWhen, Timing};
use keepwell_os::AsHandle;
use keepwell_os::ipc::Channel;

fn main() {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let word = |i: usize| arguments.get(i).and_then(|a| a.to_str()).unwrap_or_default();
    match word(1) {
        "anchor" => {
            let asked = |what: &str| (3..arguments.len()).any(|i| word(i) == what);
            let hang = Duration::from_secs(if asked("impatient") { 2 } else { 60 });
            std::process::exit(anchor(word(2), asked("view"), hang))
        }
        "daemon" => daemon(Path::new(word(2))),
        // A view that has nothing to show and does not care for signals, as one that is held with Ctrl+S.
        "view" => std::thread::sleep(Duration::from_secs(1000)),
        other => panic!("unknown word {other}"),
    }
}

fn anchor(folder: &str, view: bool, hang: Duration) -> i32 {
    let words = |role: &str| vec!["anchor-toy".into(), role.into(), folder.into()];
    let ms = Duration::from_millis;
    keepwell_anchor::run(Options {
        guardian: format!("toy{}", folder.rsplit(['/', '.']).next().unwrap_or_default()),
        program: None,
        daemon: words("daemon"),
        view: view.then(|| words("view")),
        options: b"opaque".to_vec(),
        release: "1.2.3".into(),
        keep: vec![(b"lock".to_vec(), std::fs::File::open(folder).expect("the test's folder").into())],
        running_when: RunningWhen::Up,
        timing: Timing {
            hang,
            backoff: ms(20),
            max_backoff: ms(200),
            drain_after: ms(200),
            stop: ms(500),
            farewell: ms(500),
            grave: ms(10_000),
            watchdog: None,
        },
    })
}

fn daemon(folder: &Path) {
    // A test asks for words, or for a daemon that cannot start, by leaving a file.
    if let Ok(text) = std::fs::read_to_string(folder.join("fail")) {
        eprint!("{text}");
        std::process::exit(9);
    }
    let link = Channel::from_inherited().expect("started by an anchor");
    let control = UnixStream::connect(folder.join("control")).expect("the test listens");
    let control = Channel::from_handle(control.into()).expect("a socket");
    let pid = std::process::id().to_le_bytes();
    let sent = control.send(&pid, &[link.as_handle()]).expect("room for four bytes");
    assert_eq!(sent, pid.len());
    std::io::stderr().flush().expect("stderr");
    drop((link, control));
    // A test that failed must not leave it behind.
    let anchor = std::os::unix::process::parent_id();
    while std::os::unix::process::parent_id() == anchor {
        std::thread::sleep(Duration::from_millis(200));
    }
}
