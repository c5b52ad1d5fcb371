//! Becoming the anchor: what `up`, `run` and the background anchor have in common.

use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use keepwell_anchor::{Options as AnchorOptions, RunningWhen, Timing};
use keepwell_daemon::options::Options;
use keepwell_os::lock::{Lock, LockError};

use crate::command::{Context, wait_for};
use crate::failure::{Failure, Result, io_words};
use crate::guardian::{Guardian, socket_in};
use crate::locate::Place;
use crate::output::talk;

/// What is to be held.
pub(crate) struct Hold {
    /// For the daemons.
    pub(crate) options: Options,
    /// What a person sees; nothing in the background.
    pub(crate) view: Option<ViewStyle>,
    /// When a service manager, if there is one, is told that it runs.
    pub(crate) running_when: RunningWhen,
}

/// How the view shows things.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ViewStyle {
    /// A line a change of state, and the services' output behind their names.
    Lines {
        /// Without the output.
        quiet: bool,
    },
    /// One object a line.
    Json {
        /// Without the output.
        quiet: bool,
    },
    /// The program's output as it is.
    Through,
}

impl ViewStyle {
    /// Whether the services' output is left out.
    pub(crate) fn is_quiet(self) -> bool {
        match self {
            ViewStyle::Lines { quiet } | ViewStyle::Json { quiet } => quiet,
            ViewStyle::Through => false,
        }
    }
}

/// A daemon whose anchor is gone ends what is left before it lets go of the lock.
const PREDECESSOR: Duration = Duration::from_secs(10);
/// Whoever reads the output of `keepwell run` may be slow and still wants all of it; but a terminal that is held with
/// Ctrl+S must not keep the exit code for ever.
const PASSING_ON: Duration = Duration::from_secs(30);
/// How long one that runs is asked how it is, when all that remains is to refuse.
const ANSWER: Duration = Duration::from_secs(1);
/// The file of the guardian's name in the state folder.
pub(crate) const NAME: &str = "guardian";
/// What an anchor without a terminal says; in the state folder.
pub(crate) const LAST_WORDS: &str = "anchor.log";

/// Holds until there is nothing left to hold; answers the exit code.
///
/// # Errors
/// When another guardian has this state folder, or nothing can be held at all.
pub(crate) fn hold(cx: &Context, hold: Hold) -> Result<i32> {
    Ok(keepwell_anchor::run(prepare(cx, hold)?))
}

/// All that an anchor needs, and the state folder locked for it.
///
/// # Errors
/// As `hold`.
pub(crate) fn prepare(cx: &Context, hold: Hold) -> Result<AnchorOptions> {
    supported()?;
    let Hold { mut options, view, running_when } = hold;
    // In the background it is who started it that watches it come up.
    options.view = true;
    let state = options.state_dir.clone();
    state_folder(&state)?;
    let lock = lock(&state)?;
    let socket = socket_in(&state);
    let through = view == Some(ViewStyle::Through);
    let color = cx.color.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
    let words = |words: Vec<String>| -> Vec<OsString> {
        std::iter::once("keepwell".to_owned()).chain(words).map(OsString::from).collect()
    };
    Ok(AnchorOptions {
        guardian: guardian_name(&state)?,
        program: None,
        daemon: words(vec!["internal".into(), "daemon".into()]),
        view: view.map(|v| words(v.arguments(&socket.display().to_string(), std::process::id(), &color))),
        options: options.encode(),
        release: env!("CARGO_PKG_VERSION").to_owned(),
        keep: vec![(b"lock".to_vec(), lock.into_handle())],
        running_when,
        timing: Timing {
            farewell: if through { PASSING_ON } else { Timing::default().farewell },
            ..Timing::default()
        },
    })
}

/// Whether this system has what keepwell stands on.
///
/// # Errors
/// Says what it lacks.
pub(crate) fn supported() -> Result<()> {
    keepwell_os::release::unsupported().map_or(Ok(()), |why| Err(Failure::failed(why)))
}

/// Whether systemd wants to hear how this process is (`sd_notify(3)`).
pub(crate) fn under_manager() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|address| !address.is_empty())
}

/// Makes the state folder if it is not there.
///
/// # Errors
/// When it cannot be made, or its name is no text.
pub(crate) fn state_folder(path: &Path) -> Result<()> {
    if path.to_str().is_none() {
        return Err(Failure::usage(format!("the name of the state folder {} is no text", path.display()))
            .hint("--state DIR names another"));
    }
    keepwell_os::files::make_passage(path).map_err(|e| {
        Failure::failed(format!("the state folder {} cannot be made: {}", path.display(), io_words(&e)))
            .hint("--state DIR names another")
    })
}

/// One guardian a state folder.
fn lock(state: &Path) -> Result<Lock> {
    let held = match Lock::acquire(state, Duration::ZERO) {
        Ok(lock) => return Ok(lock),
        Err(LockError::Held { .. }) if answers(state) => Lock::acquire(state, Duration::ZERO),
        Err(LockError::Held { .. }) => {
            talk("an earlier keepwell is still ending what it had started; waiting up to 10 s");
            Lock::acquire(state, PREDECESSOR)
        }
        Err(e @ LockError::Io { .. }) => Err(e),
    };
    held.map_err(|e| match e {
        LockError::Held { pid } => {
            let pid = pid.map(|p| format!(" (pid {p})")).unwrap_or_default();
            let (does, hint) = match is_stopping(state) {
                true => ("is still stopping in", "keepwell down waits until it has ended"),
                false => (
                    "runs already with",
                    "keepwell status shows how it is, keepwell reload takes a new configuration on, keepwell down ends it",
                ),
            };
            Failure::failed(format!("keepwell{pid} {does} the state folder {}", state.display())).hint(hint)
        }
        LockError::Io { path, source } => {
            Failure::failed(format!("{} cannot be locked: {}", path.display(), io_words(&source)))
                .hint("--state DIR names another state folder")
        }
    })
}

fn answers(state: &Path) -> bool {
    let place = Place::named(socket_in(state));
    wait_for(async { Ok(Guardian::at(&place).await.is_ok()) }).unwrap_or(false)
}

/// Whether it says so. One whose daemon is being replaced says nothing for a while.
fn is_stopping(state: &Path) -> bool {
    let place = Place::named(socket_in(state));
    wait_for(async {
        let info = async { Guardian::at(&place).await.ok()?.info().await.ok() };
        Ok(tokio::time::timeout(ANSWER, info).await.ok().flatten().is_some_and(|i| i.stopping))
    })
    .unwrap_or(false)
}

/// What marks the processes of this state folder's guardian, so that the next one finds what an earlier one left. Made of a
/// number written at the first start and of the folder's path: a copy of the folder must not take the original's
/// processes for leftovers of its own.
fn guardian_name(state: &Path) -> Result<String> {
    let path = state.join(NAME);
    let unusable = |e: std::io::Error| {
        Failure::failed(format!("{} cannot be written: {}", path.display(), io_words(&e)))
    };
    let number = match fs::read_to_string(&path) {
        Ok(number) if !number.trim().is_empty() => number,
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(unusable(e)),
        // There, but empty: the disk was full when it was to be written.
        Ok(_) | Err(_) => {
            let number = format!("{:016x}\n", RandomState::new().build_hasher().finish());
            let written = File::create(&path).and_then(|mut file| file.write_all(number.as_bytes()));
            written.map_err(unusable)?;
            number
        }
    };
    Ok(name_of(&number, state))
}

/// The same for a folder that may have had no guardian yet.
pub(crate) fn guardian_of(state: &Path) -> Option<String> {
    let number = fs::read_to_string(state.join(NAME)).ok().filter(|n| !n.trim().is_empty())?;
    Some(name_of(&number, state))
}

fn name_of(number: &str, state: &Path) -> String {
    let folder = fs::canonicalize(state).unwrap_or_else(|_| state.to_owned());
    format!("{:016x}", fnv(number.trim().bytes().chain(folder.display().to_string().bytes())))
}

/// FNV-1a (<http://www.isthe.com/chongo/tech/comp/fnv/>), since it must be the same in every release.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use keepwell_os::local::{Access, Endpoint, Listener};

    use super::*;

    #[test]
    fn a_guardian_keeps_its_name_and_a_copy_has_another() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let name = guardian_name(one.path()).unwrap();
        assert_eq!(name.len(), 16);
        assert_eq!(guardian_name(one.path()).unwrap(), name);
        assert_eq!((guardian_of(one.path()), guardian_of(two.path())), (Some(name.clone()), None));
        fs::copy(one.path().join(NAME), two.path().join(NAME)).unwrap();
        assert_ne!(guardian_name(two.path()).unwrap(), name);
        fs::write(one.path().join(NAME), "").unwrap();
        assert_ne!(guardian_name(one.path()).unwrap(), name);
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv(b"foobar".iter().copied()), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_second_guardian_is_refused_by_name() {
        let state = tempfile::tempdir().unwrap();
        let _held = Lock::acquire(state.path(), Duration::ZERO).unwrap();
        // Something answers there, so that nobody waits for a predecessor.
        let (over, ends) = tokio::sync::oneshot::channel::<()>();
        let endpoint = Endpoint::bind(&socket_in(state.path()), Access::Owner).unwrap();
        let listening = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = Listener::new(endpoint).unwrap();
                let hangs_up = async {
                    while let Ok((stream, _)) = listener.accept().await {
                        drop(stream);
                    }
                };
                tokio::select! { () = hangs_up => {} _ = ends => {} }
            });
        });
        let failure = lock(state.path()).unwrap_err();
        drop(over);
        listening.join().unwrap();
        assert_eq!(failure.code, keepwell_sdk::exit::FAILED);
        let pid = std::process::id();
        assert!(failure.text.starts_with(&format!("keepwell (pid {pid}) runs already with")), "{failure}");
    }

    #[test]
    fn a_state_folder_that_cannot_be_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let state = file.path().join("state");
        let why = io_words(&keepwell_os::files::make_passage(&state).unwrap_err());
        let failure = state_folder(&state).unwrap_err();
        assert!(failure.text.ends_with(&format!("cannot be made: {why}")), "{failure}");
    }
}
