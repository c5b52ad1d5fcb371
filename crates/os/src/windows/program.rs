//! Finds a program's file as cmd.exe does, and says why it cannot be run. It starts nothing.
#![expect(unsafe_code, reason = "the path of an open file has no safe form in the standard library")]

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::windows::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_PATH_NOT_FOUND};
use windows_sys::Win32::Storage::FileSystem::{FILE_NAME_NORMALIZED, GetFinalPathNameByHandleW};

use super::ipc::{BorrowedHandle, Handle};
use super::sys;

/// Why a program cannot be run.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProgramError {
    /// A name without a folder that no folder of PATH holds.
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
    /// A folder, a device.
    #[error("{} is not a file", .0.display())]
    NotAFile(PathBuf),
    /// The folders before it, or the file itself, may not be looked at.
    #[error("permission denied on {}", .0.display())]
    Denied(PathBuf),
    /// A script that the system starts no program for.
    #[error("{}: a script is not a program: start it by its interpreter, e.g. `powershell -File {}`", .0.display(), .0.display())]
    Script(PathBuf),
    /// A program for another processor.
    #[error("{}: built for {built_for}, and this host is {}", .path.display(), env::consts::ARCH)]
    WrongArchitecture {
        /// The program.
        path: PathBuf,
        /// `aarch64`.
        built_for: String,
    },
    /// Neither a program nor a batch file.
    #[error("{}: neither a program nor a batch file", .0.display())]
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

/// What can be started, in the order in which it is looked for where PATHEXT is not set.
const EXTENSIONS: [&str; 5] = ["com", "exe", "bat", "cmd", "ps1"];
/// The last one is looked for only where PATHEXT has it, as by cmd.exe.
const USUAL: usize = 4;

/// Of what can be started, what PATHEXT lists, in its order.
fn extensions(pathext: Option<&str>) -> Vec<String> {
    let listed = pathext.unwrap_or_default().split(';');
    let listed = listed.map(|e| e.trim().trim_start_matches('.').to_ascii_lowercase());
    let known: Vec<String> = listed.filter(|e| EXTENSIONS.contains(&e.as_str())).collect();
    if known.is_empty() { EXTENSIONS.iter().take(USUAL).map(|e| (*e).to_owned()).collect() } else { known }
}

/// The file that `name` means: a name with a folder relative to `cwd`, another one in the folders of `path`. Without an
/// extension, one of a program is added; the file as it is named is the last choice. It can be run as far as can be told.
///
/// # Errors
/// Says what is wrong with it.
pub fn find(name: &str, path: &str, cwd: &Path) -> Result<PathBuf, ProgramError> {
    let mut refused = None;
    for file in candidates(name, path, cwd) {
        match check(&file) {
            Ok(()) => return Ok(file),
            Err(ProgramError::NotFound(_)) => {}
            Err(why) => refused = refused.or(Some(why)),
        }
    }
    Err(refused.unwrap_or_else(|| {
        if has_folder(name) {
            ProgramError::NotFound(cwd.join(name))
        } else {
            ProgramError::NotInPath { name: name.to_owned(), path: path.to_owned() }
        }
    }))
}

/// Where `name` is or would be, for watching: the file that `find` finds, or the first place where it would look.
#[must_use]
pub fn expected_path(name: &str, path: &str, cwd: &Path) -> PathBuf {
    let all: Vec<PathBuf> = candidates(name, path, cwd).collect();
    let found = all.iter().find(|p| p.exists()).or(all.first());
    found.cloned().unwrap_or_else(|| cwd.join(name))
}

fn has_folder(name: &str) -> bool {
    name.contains(['/', '\\', ':'])
}

fn candidates(name: &str, path: &str, cwd: &Path) -> impl Iterator<Item = PathBuf> {
    let folders: Vec<PathBuf> = match (name.is_empty(), has_folder(name)) {
        (true, _) => Vec::new(),
        (false, true) => vec![cwd.to_owned()],
        (false, false) => {
            env::split_paths(path).filter(|p| !p.as_os_str().is_empty()).map(|p| cwd.join(p)).collect()
        }
    };
    let own = Path::new(name)
        .extension()
        .is_some_and(|e| EXTENSIONS.iter().any(|known| e.eq_ignore_ascii_case(known)));
    let pathext = env::var("PATHEXT").ok();
    let added = extensions(pathext.as_deref()).into_iter().map(|e| format!("{name}.{e}"));
    let names: Vec<String> =
        if own { vec![name.to_owned()] } else { added.chain([name.to_owned()]).collect() };
    folders.into_iter().flat_map(move |folder| names.clone().into_iter().map(move |n| folder.join(n)))
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
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    if extension == "bat" || extension == "cmd" {
        return Ok(());
    }
    // A program may be run without the right to read it; then there is nothing to say about it.
    let Ok(mut file) = File::open(path) else { return Ok(()) };
    let mut head = Vec::new();
    if file.by_ref().take(HEAD).read_to_end(&mut head).is_err() {
        return Ok(());
    }
    if head.starts_with(b"MZ") {
        return check_binary(path, &head);
    }
    if extension == "ps1" && powershell().is_some() {
        return Ok(());
    }
    if extension == "ps1" || extension == "py" || extension == "js" || extension == "vbs" {
        return Err(ProgramError::Script(path.to_owned()));
    }
    Err(ProgramError::NotAProgram(path.to_owned()))
}

/// The first page holds the headers that matter.
const HEAD: u64 = 4096;

fn refused(path: &Path, e: &io::Error) -> ProgramError {
    let path = path.to_owned();
    if e.kind() == io::ErrorKind::NotFound || sys::is(e, ERROR_PATH_NOT_FOUND) {
        ProgramError::NotFound(path)
    } else if sys::is(e, ERROR_ACCESS_DENIED) {
        ProgramError::Denied(path)
    } else {
        ProgramError::Other { path, text: e.to_string() }
    }
}

/// The machine in the header that the old header points to.
fn check_binary(path: &Path, head: &[u8]) -> Result<(), ProgramError> {
    let number = |at: usize, len: usize| {
        let bytes = head.get(at..at + len).unwrap_or_default();
        bytes.iter().rev().fold(0_u32, |n, b| n << 8 | u32::from(*b))
    };
    let at = number(0x3c, 4) as usize;
    let machine = if head.get(at..at.saturating_add(4)) == Some(b"PE\0\0") { number(at + 4, 2) } else { 0 };
    // x86 runs everywhere, and x86_64 also on ARM.
    let built_for = match machine {
        0x1c4 => "arm",
        0xaa64 if env::consts::ARCH != "aarch64" => "aarch64",
        _ => return Ok(()),
    };
    Err(ProgramError::WrongArchitecture { path: path.to_owned(), built_for: built_for.to_owned() })
}

/// What runs batch files: never one that the environment or the working folder names.
pub(crate) fn command_processor() -> PathBuf {
    let root = env::var_os("SystemRoot").unwrap_or_else(|| r"C:\Windows".into());
    Path::new(&root).join("System32").join("cmd.exe")
}

/// What runs PowerShell's scripts, if it is there: the one that comes with Windows.
pub(crate) fn powershell() -> Option<PathBuf> {
    let root = env::var_os("SystemRoot").unwrap_or_else(|| r"C:\Windows".into());
    let file = Path::new(&root).join(r"System32\WindowsPowerShell\v1.0\powershell.exe");
    file.is_file().then_some(file)
}

/// The program that this process runs, opened: it is found again when its file is renamed.
///
/// # Errors
/// When it cannot be opened.
pub fn open_own() -> io::Result<Handle> {
    Ok(File::open(env::current_exe()?)?.into())
}

/// Where an open file is by now.
pub(crate) fn path_of(file: BorrowedHandle<'_>) -> io::Result<PathBuf> {
    let mut text = vec![0_u16; 1024];
    loop {
        let room = u32::try_from(text.len()).unwrap_or(u32::MAX);
        // SAFETY: `text` has room for that many characters.
        let len =
            unsafe { GetFinalPathNameByHandleW(file.raw(), text.as_mut_ptr(), room, FILE_NAME_NORMALIZED) };
        match len as usize {
            0 => return Err(io::Error::last_os_error()),
            len if len < text.len() => {
                let path = OsString::from_wide(text.get(..len).unwrap_or_default());
                // Programs are known to themselves and others by the plain form.
                let plain =
                    path.to_str().and_then(|p| p.strip_prefix(r"\\?\")).filter(|p| !p.starts_with("UNC"));
                return Ok(plain.map_or_else(|| PathBuf::from(&path), PathBuf::from));
            }
            len => text.resize(len + 1, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_as_the_shell_would() {
        let dir = tempfile::tempdir().unwrap();
        let own = env::current_exe().unwrap();
        let tool = dir.path().join("tool.exe");
        fs::copy(&own, &tool).unwrap();
        fs::write(dir.path().join("script.cmd"), "@exit 0\r\n").unwrap();
        let path = format!(r"C:\no\such;{}", dir.path().display());
        let root = Path::new(r"C:\");
        assert_eq!(find("tool", &path, root).unwrap(), tool);
        assert_eq!(find("tool.exe", &path, root).unwrap(), tool);
        assert_eq!(find("script", &path, root).unwrap(), dir.path().join("script.cmd"));
        assert_eq!(find(r".\tool", "", dir.path()).unwrap(), dir.path().join(r".\tool.exe"));
        assert_eq!(find(tool.to_str().unwrap(), "", root).unwrap(), tool);
        let missing = find("none", r"C:\a;C:\b", root).unwrap_err().to_string();
        assert_eq!(missing, r"program not found: none (looked in C:\a;C:\b)");
        assert_eq!(expected_path("tool", &path, root), tool);
        assert_eq!(expected_path("other", r"C:\no", root), Path::new(r"C:\no\other.com"));
    }

    #[test]
    fn pathext_says_what_is_looked_for_and_in_which_order() {
        assert_eq!(extensions(None), ["com", "exe", "bat", "cmd"]);
        assert_eq!(extensions(Some(".VBS")), ["com", "exe", "bat", "cmd"]);
        assert_eq!(extensions(Some(".CMD;.vbs; .EXE;.PS1")), ["cmd", "exe", "ps1"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            check(&path).unwrap_err()
        };
        assert!(matches!(file("a.py", b"exit()"), ProgramError::Script(_)));
        assert!(matches!(file("a.txt", b"text"), ProgramError::NotAProgram(_)));
        let mut arm = vec![0; 256];
        arm[..2].copy_from_slice(b"MZ");
        arm[0x3c] = 0x80;
        arm[0x80..0x86].copy_from_slice(b"PE\0\0\xc4\x01");
        assert!(matches!(file("arm.exe", &arm), ProgramError::WrongArchitecture { .. }));
        assert!(matches!(check(dir.path()).unwrap_err(), ProgramError::NotAFile(_)));
        assert!(matches!(check(&dir.path().join("x")).unwrap_err(), ProgramError::NotFound(_)));
    }

    #[test]
    fn this_program_is_found_by_its_handle() {
        use super::super::ipc::AsHandle;
        let own = open_own().unwrap();
        check(&path_of(own.as_handle()).unwrap()).unwrap();
        check(&command_processor()).unwrap();
    }
}
