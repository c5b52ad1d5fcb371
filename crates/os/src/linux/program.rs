//! Finds a program's file and says why it cannot be run, before the kernel says it in one word. It starts nothing.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::ipc::Handle;

/// Why a program cannot be run.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProgramError {
    /// A name without a slash that no folder of PATH holds.
    #[error("program not found: {name} (looked in {})", if .path.is_empty() { "an empty PATH" } else { .path })]
    NotInPath {
        /// As it was given.
        name: String,
        /// The PATH that was searched.
        path: String,
    },
    /// A path where nothing is.
    #[error("program not found: {}", .0.display())]
    NotFound(PathBuf),
    /// It is there, but may not be run.
    #[error("permission denied on {}: it is not executable (chmod +x)", .0.display())]
    NotExecutable(PathBuf),
    /// A folder, a device.
    #[error("{} is not a file", .0.display())]
    NotAFile(PathBuf),
    /// The folders before it, or the file itself, may not be looked at.
    #[error("permission denied on {}", .0.display())]
    Denied(PathBuf),
    /// A script whose first line names a program that is not there.
    #[error("{}: its interpreter {interpreter} is not there (first line `#!{interpreter}`)", .path.display())]
    NoInterpreter {
        /// The script.
        path: PathBuf,
        /// From its first line.
        interpreter: String,
    },
    /// A binary whose loader is not there: made for another C library or another system.
    #[error("{}: its loader {loader} is not there: it was built for another C library", .path.display())]
    NoLoader {
        /// The binary.
        path: PathBuf,
        /// From its header.
        loader: String,
    },
    /// A binary for another processor.
    #[error("{}: built for {built_for}, and this host is {}", .path.display(), std::env::consts::ARCH)]
    WrongArchitecture {
        /// The binary.
        path: PathBuf,
        /// `aarch64`.
        built_for: String,
    },
    /// Neither a binary nor a script with `#!`.
    #[error("{}: neither a binary nor a script whose first line names its interpreter (`#!/bin/sh`)", .0.display())]
    NotAProgram(PathBuf),
    /// The system says something else.
    #[error("{}: {text}", .path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// In the system's words.
        text: String,
    },
}

/// The file that `name` means: a name with a slash relative to `cwd`, another one in the folders of `path`, as execvp(3)
/// looks. It can be run as far as can be told.
///
/// # Errors
/// Says what is wrong with it.
pub fn find(name: &str, path: &str, cwd: &Path) -> Result<PathBuf, ProgramError> {
    if name.contains('/') {
        let file = cwd.join(name);
        return check(&file).map(|()| file);
    }
    let mut refused = None;
    for file in candidates(name, path, cwd) {
        match check(&file) {
            Ok(()) => return Ok(file),
            Err(ProgramError::NotFound(_)) => {}
            Err(why) => refused = refused.or(Some(why)),
        }
    }
    Err(refused.unwrap_or_else(|| ProgramError::NotInPath { name: name.to_owned(), path: path.to_owned() }))
}

/// Where `name` is or would be, for watching: the file that `find` finds, or the first place where it would look.
#[must_use]
pub fn expected_path(name: &str, path: &str, cwd: &Path) -> PathBuf {
    if name.contains('/') {
        return cwd.join(name.strip_prefix("./").unwrap_or(name));
    }
    let mut all = candidates(name, path, cwd);
    let first = all.next().unwrap_or_else(|| cwd.join(name));
    if first.exists() { first } else { all.find(|p| p.exists()).unwrap_or(first) }
}

fn candidates(name: &str, path: &str, cwd: &Path) -> impl Iterator<Item = PathBuf> {
    let folders = path.split(':').filter(|_| !name.is_empty() && !path.is_empty());
    folders.map(move |folder| cwd.join(folder).join(name))
}

/// Whether this file can be loaded as a program, as far as can be told without loading it.
///
/// # Errors
/// Says what is wrong with it.
pub fn check(path: &Path) -> Result<(), ProgramError> {
    let meta = fs::metadata(path).map_err(|e| refused(path, &e))?;
    if !meta.is_file() {
        return Err(ProgramError::NotAFile(path.to_owned()));
    }
    if meta.permissions().mode() & 0o111 == 0 {
        return Err(ProgramError::NotExecutable(path.to_owned()));
    }
    // A program may be run without the right to read it; then there is nothing to say about it.
    let Ok(file) = File::open(path) else { return Ok(()) };
    // One read gives all that a file on a disk has; this is on the way of every start.
    let mut page = [0; HEAD];
    let Ok(len) = file.read_at(&mut page, 0) else { return Ok(()) };
    let head = &page[..len];
    if head.starts_with(b"#!") {
        return check_script(path, head);
    }
    if head.starts_with(b"\x7fELF") {
        return check_binary(path, head);
    }
    if foreign_formats() { Ok(()) } else { Err(ProgramError::NotAProgram(path.to_owned())) }
}

/// The program that this process runs, opened: it stays the same when its file is replaced.
///
/// # Errors
/// When `/proc` is not there.
pub fn open_own() -> io::Result<Handle> {
    Ok(File::open("/proc/self/exe")?.into())
}

/// The first page holds the line of a script (the kernel reads 256 bytes of it) and, of a binary, all headers that matter.
const HEAD: usize = 4096;

fn refused(path: &Path, e: &io::Error) -> ProgramError {
    let path = path.to_owned();
    match e.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => ProgramError::NotFound(path),
        Some(libc::EACCES) => ProgramError::Denied(path),
        _ => ProgramError::Other { path, text: e.to_string() },
    }
}

fn check_script(path: &Path, head: &[u8]) -> Result<(), ProgramError> {
    let line = head.get(2..).unwrap_or_default().split(|b| *b == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    // A carriage return of an editor on Windows is a part of the name for the kernel, and must be seen.
    let interpreter = line.trim_matches([' ', '\t']).split([' ', '\t']).next().unwrap_or_default();
    if fs::metadata(interpreter).is_ok_and(|m| m.is_file()) {
        return Ok(());
    }
    let interpreter = interpreter.escape_debug().to_string();
    Err(ProgramError::NoInterpreter { path: path.to_owned(), interpreter })
}

/// The file header of elf(5).
fn check_binary(path: &Path, head: &[u8]) -> Result<(), ProgramError> {
    let machine = |m: u16| match m {
        3 => "x86".to_owned(),
        8 => "mips".to_owned(),
        20 | 21 => "powerpc".to_owned(),
        22 => "s390x".to_owned(),
        40 => "arm".to_owned(),
        62 => "x86_64".to_owned(),
        183 => "aarch64".to_owned(),
        243 => "riscv64".to_owned(),
        other => format!("processor type {other}"),
    };
    let big_endian = head.get(5) == Some(&2);
    let built_for = machine(number(head, 18, 2, big_endian) as u16);
    let runs = match std::env::consts::ARCH {
        "x86_64" => matches!(built_for.as_str(), "x86_64" | "x86"),
        "aarch64" => matches!(built_for.as_str(), "aarch64" | "arm"),
        here => built_for == here,
    };
    if !runs {
        let foreign = foreign_formats();
        let error = ProgramError::WrongArchitecture { path: path.to_owned(), built_for };
        return if foreign { Ok(()) } else { Err(error) };
    }
    match loader(head) {
        Some(loader) if !Path::new(&loader).exists() => {
            Err(ProgramError::NoLoader { path: path.to_owned(), loader })
        }
        _ => Ok(()),
    }
}

/// `PT_INTERP` of a 64-bit little-endian binary; others are left to the kernel.
fn loader(head: &[u8]) -> Option<String> {
    if head.get(4..6) != Some(&[2, 1]) {
        return None;
    }
    let at = |offset, len| usize::try_from(number(head, offset, len, false)).ok();
    let (table, size, count) = (at(32, 8)?, at(54, 2)?, at(56, 2)?);
    let entry = (0..count).filter_map(|i| i.checked_mul(size)?.checked_add(table));
    let interpreter = entry.filter(|e| *e < head.len()).find(|e| number(head, *e, 4, false) == 3)?;
    let (start, len) = (at(interpreter + 8, 8)?, at(interpreter + 32, 8)?);
    let text = head.get(start..start.checked_add(len)?)?;
    let text = text.split(|b| *b == 0).next()?;
    str::from_utf8(text).ok().map(str::to_owned)
}

fn number(bytes: &[u8], at: usize, len: usize, big_endian: bool) -> u64 {
    let field = at.checked_add(len).and_then(|end| bytes.get(at..end)).unwrap_or_default();
    let add = |n: u64, b: &u8| n << 8 | u64::from(*b);
    if big_endian { field.iter().fold(0, add) } else { field.iter().rev().fold(0, add) }
}

/// The kernel was taught other formats (`binfmt_misc`), such as other processors' binaries through an emulator.
fn foreign_formats() -> bool {
    let entries = fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
    entries.map(|e| e.file_name()).any(|n| n != "register" && n != "status")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Place {
            Place(tempfile::tempdir().unwrap())
        }

        fn file(&self, name: &str, text: &[u8], mode: u32) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        }
    }

    #[test]
    fn a_name_is_looked_up_as_a_shell_would() {
        let place = Place::new();
        let tool = place.file("tool", b"#!/bin/sh\n", 0o755);
        let path = format!("/no/such:{}", place.0.path().display());
        assert_eq!(find("tool", &path, Path::new("/")).unwrap(), tool);
        assert_eq!(find("./tool", "", place.0.path()).unwrap(), place.0.path().join("./tool"));
        assert_eq!(find(tool.to_str().unwrap(), "", Path::new("/")).unwrap(), tool);
        let missing = find("tool", "/bin:/usr/bin", Path::new("/")).unwrap_err().to_string();
        assert_eq!(missing, "program not found: tool (looked in /bin:/usr/bin)");
        assert_eq!(
            find("tool", "", Path::new("/")).unwrap_err().to_string(),
            "program not found: tool (looked in an empty PATH)"
        );
        assert!(find("", &path, Path::new("/")).is_err());
        assert_eq!(expected_path("tool", &path, Path::new("/")), tool);
        assert_eq!(expected_path("other", &path, Path::new("/")), Path::new("/no/such/other"));
        assert_eq!(expected_path("bin/x", "", Path::new("/srv")), Path::new("/srv/bin/x"));
    }

    #[test]
    fn a_program_that_may_not_run_goes_before_one_that_is_not_there() {
        let place = Place::new();
        let tool = place.file("tool", b"#!/bin/sh\n", 0o644);
        let path = format!("{}:/no/such", place.0.path().display());
        assert_eq!(find("tool", &path, Path::new("/")), Err(ProgramError::NotExecutable(tool)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let place = Place::new();
        let wrong =
            |path: &Path| check(path).unwrap_err().to_string().replace(place.0.path().to_str().unwrap(), "@");
        let crlf = place.file("crlf", b"#!/bin/sh\r\nexit\r\n", 0o755);
        assert_eq!(
            wrong(&crlf),
            r"@/crlf: its interpreter /bin/sh\r is not there (first line `#!/bin/sh\r`)"
        );
        let gone = place.file("gone", b"#! /opt/python -u\n", 0o755);
        assert_eq!(
            wrong(&gone),
            "@/gone: its interpreter /opt/python is not there (first line `#!/opt/python`)"
        );
        let mut arm = vec![0; 64];
        arm[..6].copy_from_slice(b"\x7fELF\x02\x01");
        arm[18] = if cfg!(target_arch = "aarch64") { 62 } else { 183 };
        if !foreign_formats() {
            assert!(wrong(&place.file("arm", &arm, 0o755)).starts_with("@/arm: built for "));
            assert!(wrong(&place.file("text", b"hello", 0o755)).starts_with("@/text: neither a binary nor"));
            assert!(wrong(&place.file("empty", b"", 0o755)).starts_with("@/empty: neither"));
        }
        assert_eq!(wrong(place.0.path()), "@ is not a file");
        assert_eq!(wrong(&place.0.path().join("none")), "program not found: @/none");
        assert_eq!(wrong(&crlf.join("below")), "program not found: @/crlf/below");
    }

    #[test]
    fn a_loader_that_is_not_there_is_named() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        let Some(loader) = loader(&own[..4096]) else { return };
        assert!(Path::new(&loader).exists());
        let mut head = own[..4096].to_vec();
        let at = head.windows(loader.len()).position(|w| w == loader.as_bytes()).unwrap();
        head[at + 1..at + 4].copy_from_slice(b"xyz");
        let place = Place::new();
        let error = check(&place.file("prog", &head, 0o755)).unwrap_err();
        assert!(matches!(error, ProgramError::NoLoader { .. }), "{error}");
    }

    #[test]
    fn broken_headers_are_left_to_the_kernel() {
        let mut head = vec![0xff; 80];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        assert_eq!(loader(&head), None);
        for len in 0..80 {
            loader(&head[..len]);
        }
        check(&std::env::current_exe().unwrap()).unwrap();
    }
}
