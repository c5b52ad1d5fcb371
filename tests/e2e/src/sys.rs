//! What the tests and their hostile helper ask of the system directly. End-to-end tests are about real processes on a real
//! system, so this file is theirs to be unsafe in, and the only one.
#![expect(unsafe_code, reason = "signals, sessions and forks have no safe form in the standard library")]

use std::fs;
use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicI32, Ordering};

pub use libc::{
    SIGABRT, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGSEGV, SIGSTOP, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2,
};

/// A socket that takes datagrams, as a service manager has it.
pub type Datagrams = UnixDatagram;

/// Sends a signal; false if there is no such process.
pub fn kill(pid: u32, signal: i32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    assert!(pid > 1, "signal {signal} to process {pid} would hit more than a process of the tests");
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid, signal) == 0 }
}

/// Whether a process is there, be it a zombie.
pub fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Whether these tests run as root.
pub fn is_root() -> bool {
    // SAFETY: asks for a number.
    unsafe { libc::geteuid() == 0 }
}

/// The user that nobody is.
pub const NOBODY: u32 = 65534;

/// Makes a command run as another user, without its groups.
pub fn run_as(command: &mut Command, uid: u32) {
    command.uid(uid).gid(uid);
}

/// Gives a file away.
pub fn give(path: &Path, uid: u32) -> io::Result<()> {
    chown(path, Some(uid), Some(uid))
}

/// Permission bits.
pub fn mode(path: &Path) -> io::Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o7777)
}

/// Sets permission bits.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// The owner of a file.
pub fn owner(path: &Path) -> io::Result<u32> {
    Ok(fs::metadata(path)?.uid())
}

/// The code that a shell would give: the program's own, or 128 + signal.
pub fn shell_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(-1)
}

/// Starts the command in a process group of its own, so that a signal to the tests' group does not reach it.
pub fn own_group(command: &mut Command) {
    command.process_group(0);
}

/// Sends bytes over a Unix stream socket and reads to the end.
pub fn ask_unix(socket: &Path, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// Takes connections at `path`, and closes them, until these tests end.
pub fn listen_unix(path: &Path) {
    let listener = UnixListener::bind(path).expect("own folder");
    std::thread::spawn(move || listener.incoming().for_each(drop));
}

/// Takes connections at `path` for as long as it is held, and answers none.
///
/// # Errors
/// When it cannot be bound.
pub fn hold_socket(path: &Path) -> io::Result<UnixListener> {
    UnixListener::bind(path)
}

/// Sends one datagram, as sd_notify(3) does; `@` begins an abstract address.
pub fn send_datagram(address: &str, text: &[u8]) -> io::Result<()> {
    let address = match address.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    UnixDatagram::unbound()?.send_to_addr(text, &address).map(drop)
}

/// Signals that `signal` from now on does nothing.
pub fn ignore(signal: i32) {
    // SAFETY: SIG_IGN runs no code.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

static CAUGHT: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: i32) {
    CAUGHT.store(signal, Ordering::Relaxed);
}

/// Makes a signal only be noted, see [`caught`]. A call that it interrupts is not begun again.
pub fn catch(signal: i32) {
    // SAFETY: a sigaction of zeroes is valid; the handler only stores a number.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = note as extern "C" fn(i32) as libc::sighandler_t;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut());
    }
}

/// The last signal of those caught.
pub fn caught() -> Option<i32> {
    Some(CAUGHT.load(Ordering::Relaxed)).filter(|s| *s != 0)
}

/// Waits for a signal that is not ignored.
pub fn wait_for_signal() {
    // SAFETY: no arguments.
    unsafe { libc::pause() };
}

/// A session and process group of its own.
pub fn new_session() {
    // SAFETY: no arguments. It fails only for a group's leader.
    unsafe { libc::setsid() };
}

/// Splits the process in two. Only for a process with one thread.
pub fn fork() -> io::Result<Option<u32>> {
    // SAFETY: the helper has one thread, so its copy is whole.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(pid.cast_unsigned())),
    }
}

/// Closes a descriptor by its number.
pub fn close(number: i32) {
    // SAFETY: the helper uses the number no more.
    unsafe { libc::close(number) };
}

/// Ends this process by a signal, as a crash would.
pub fn die_by(signal: i32) -> ! {
    // SAFETY: plain numbers; a core file would only cost time.
    unsafe {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
    std::process::exit(99)
}
