//! Files that are nobody else's business.
#![expect(
    unsafe_code,
    reason = "descriptors and identities of files have no safe form in the standard library"
)]

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::windows::ffi::OsStringExt;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::AsRawHandle;
use std::path::{Path, PathBuf};
use std::ptr;
use std::time::SystemTime;

use windows_sys::Win32::Foundation::{ERROR_SUCCESS, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertSecurityDescriptorToStringSecurityDescriptorW, GetNamedSecurityInfoW, SDDL_REVISION_1,
    SE_FILE_OBJECT,
};
use windows_sys::Win32::Security::{DACL_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_GENERIC_READ, FILE_GENERIC_WRITE, FILE_ID_INFO, FILE_SHARE_DELETE,
    FILE_SHARE_READ, FILE_SHARE_WRITE, FileIdInfo, GetFileInformationByHandle, GetFileInformationByHandleEx,
    GetVolumePathNameW, WRITE_DAC,
};
use windows_sys::Win32::System::Registry::{HKEY_LOCAL_MACHINE, RRF_RT_REG_SZ, RegGetValueW};

use super::security::{Descriptor, PRIVATE};
use super::sys::{check, error, wide, wide_path};

/// More readers than that of files that are gone have none of them open.
const OLD_NAMES: u32 = 16;

/// Opens a file for reading and writing, makes it if it is not there, and sees to it that only its owner, Administrators and
/// SYSTEM may read or write it. Its content stays.
///
/// # Errors
/// When it cannot be opened or made, or its rights cannot be narrowed.
pub fn open_private(path: &Path) -> io::Result<File> {
    let share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .access_mode(FILE_GENERIC_READ | FILE_GENERIC_WRITE | WRITE_DAC)
        .share_mode(share)
        .open(path)?;
    Descriptor::new(PRIVATE)?.give_to(file.as_raw_handle())?;
    Ok(file)
}

/// Sees to it that only its owner, Administrators and SYSTEM may read or write a file that is there.
///
/// # Errors
/// When it is not there, or its rights cannot be narrowed.
pub fn make_private(path: &Path) -> io::Result<()> {
    let share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    let file = OpenOptions::new().access_mode(WRITE_DAC).share_mode(share).open(path)?;
    Descriptor::new(PRIVATE)?.give_to(file.as_raw_handle())
}

/// Gives a file another name, which one that has it loses, whoever has that open.
///
/// # Errors
/// When it is not there, or somebody has one of the two open and lets nobody rename it.
pub fn replace(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        // File systems without POSIX' way to rename replace no file that is open.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            remove(to)?;
            fs::rename(from, to)
        }
        renamed => renamed,
    }
}

/// Removes a file whose name is free then, whoever has it open.
///
/// # Errors
/// When it is not there, or somebody has it open and lets nobody rename it.
pub fn remove(path: &Path) -> io::Result<()> {
    // Such a file keeps a name until it is let go of: one that nobody needs, and that is tried again next time.
    let mut last = io::Error::from(io::ErrorKind::PermissionDenied);
    for n in 0..OLD_NAMES {
        let mut old = path.as_os_str().to_owned();
        old.push(format!(".gone{n}"));
        match fs::rename(path, &old) {
            Ok(()) => {
                let _ = fs::remove_file(&old);
                return Ok(());
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(e),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Makes a folder, and those above it. What may be done in it comes from the folder above, as everywhere on Windows.
///
/// # Errors
/// When it cannot be made, or something else is there.
pub fn make_passage(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Whether `path` still leads to this open file, and not to another that has taken its place.
#[must_use]
pub fn is_still(file: &File, path: &Path) -> bool {
    let share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    // Asks for no right but to look at it.
    let there = OpenOptions::new().access_mode(0).share_mode(share).open(path);
    let (Some(held), Some(found)) = (number(file), there.ok().as_ref().and_then(number)) else {
        return false;
    };
    held == found
}

/// When what is at `path` was last written or replaced. Of a link both count, the link and what it leads to.
///
/// # Errors
/// When there is nothing, or it may not be looked at.
pub fn changed_at(path: &Path) -> io::Result<SystemTime> {
    let (target, own) = (fs::metadata(path)?, fs::symlink_metadata(path)?);
    // A file that was moved here keeps the time of its last write, and one that was copied here has a new time of creation.
    let time = |m: &fs::Metadata| Ok::<_, io::Error>(m.modified()?.max(m.created()?));
    Ok(time(&target)?.max(time(&own)?))
}

/// Whether a volume is mounted on this folder, or it is the root of a drive that is there (`GetVolumePathNameW`,
/// <https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-getvolumepathnamew>).
///
/// # Errors
/// When the folder is not there, or may not be looked at.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    fs::metadata(path)?;
    let mut volume = vec![0_u16; 32_768];
    let room = u32::try_from(volume.len()).unwrap_or(u32::MAX);
    // SAFETY: both are valid for the call; the first ends with a NUL, and the second has room for as much as is said.
    check(unsafe { GetVolumePathNameW(wide_path(path).as_ptr(), volume.as_mut_ptr(), room) })?;
    let end = volume.iter().position(|unit| *unit == 0).unwrap_or(volume.len());
    let volume = PathBuf::from(OsString::from_wide(&volume[..end]));
    // The parts are compared, so that a backslash at the end makes no difference; names differ by more than case.
    let lower = |path: &Path| path.as_os_str().to_ascii_lowercase();
    Ok(lower(volume.components().as_path()) == lower(path.components().as_path()))
}

/// Whether only the owner, Administrators and SYSTEM may read or write it.
///
/// # Errors
/// When it is not there.
pub fn is_private(path: &Path) -> io::Result<bool> {
    let text = rights(path)?;
    let foreign = |entry: &str| {
        let who = entry.trim_end_matches(')').rsplit(';').next().unwrap_or_default();
        !matches!(who, "SY" | "BA" | "OW" | "CO") && entry.starts_with('A')
    };
    let everybody = ["WD", "AU", "BU", "IU", "BG", "AN", "S-1-1-0", "S-1-5-11", "S-1-5-32-545"];
    let entries = text.split('(').skip(1).filter(|entry| foreign(entry));
    let named = |entry: &str| everybody.iter().any(|who| entry.trim_end_matches(')').ends_with(who));
    Ok(!entries.into_iter().any(named))
}

/// A path's access rights in the system's text for them.
fn rights(path: &Path) -> io::Result<String> {
    let (path, nothing) = (wide_path(path), ptr::null_mut());
    let mut descriptor: PSECURITY_DESCRIPTOR = ptr::null_mut();
    let mut text: *mut u16 = ptr::null_mut();
    // SAFETY: the path ends with a zero; descriptor and text are ours to free, and the text ends with a zero.
    unsafe {
        let (kind, what) = (SE_FILE_OBJECT, DACL_SECURITY_INFORMATION);
        let (none, made) = (ptr::null_mut(), &raw mut descriptor);
        let number = GetNamedSecurityInfoW(
            path.as_ptr(),
            kind,
            what,
            none,
            none,
            ptr::null_mut(),
            ptr::null_mut(),
            made,
        );
        if number != 0 {
            return Err(error(number));
        }
        let told = check(ConvertSecurityDescriptorToStringSecurityDescriptorW(
            descriptor,
            SDDL_REVISION_1,
            what,
            &raw mut text,
            nothing,
        ));
        LocalFree(descriptor);
        told?;
        let len = (0..).take_while(|i| *text.add(*i) != 0).count();
        let owned = String::from_utf16_lossy(std::slice::from_raw_parts(text, len));
        LocalFree(text.cast());
        Ok(owned)
    }
}

/// Tells an open file from every other: its volume, and its number there. Older file systems know the shorter one only.
pub(crate) fn number(file: &File) -> Option<(u64, [u8; 16])> {
    let (handle, mut id) = (file.as_raw_handle(), FILE_ID_INFO::default());
    let size = size_of_val(&id) as u32;
    // SAFETY: an open file; `id` has the size that is said.
    if unsafe { GetFileInformationByHandleEx(handle, FileIdInfo, (&raw mut id).cast(), size) } != 0 {
        return Some((id.VolumeSerialNumber, id.FileId.Identifier));
    }
    let mut info = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: an open file; `info` is filled by the call.
    check(unsafe { GetFileInformationByHandle(handle, &raw mut info) }).ok()?;
    let index = u128::from(info.nFileIndexHigh) << 32 | u128::from(info.nFileIndexLow);
    Some((info.dwVolumeSerialNumber.into(), index.to_le_bytes()))
}

/// What a file takes of its disk.
pub(crate) struct Extent {
    pub(crate) bytes: u64,
    /// Its file system: links to others are not followed anyway.
    pub(crate) device: u64,
    /// Which file it is, if it has more names than one: not known without opening it.
    pub(crate) shared: Option<u64>,
}

pub(crate) fn extent(file: &fs::Metadata) -> Extent {
    Extent { bytes: file.len(), device: 0, shared: None }
}

/// Where the system's guardians have their state.
#[must_use]
pub fn system_state() -> PathBuf {
    program_data().unwrap_or_else(|| PathBuf::from(r"C:\ProgramData")).join("keepwell")
}

/// The folder of all users' data, from where the system has it: the environment is whatever its maker wanted it to be, and that
/// of Wine's services names another folder.
fn program_data() -> Option<PathBuf> {
    const ROOM: usize = 1024;
    let key = wide(r"SOFTWARE\Microsoft\Windows NT\CurrentVersion\ProfileList");
    let (value, mut text, mut size) = (wide("ProgramData"), [0_u16; ROOM], (2 * ROOM) as u32);
    // SAFETY: names end with a zero; `text` has room for `size` bytes, and both are filled by the call.
    let answer = unsafe {
        let (root, none) = (HKEY_LOCAL_MACHINE, ptr::null_mut());
        let into = text.as_mut_ptr().cast();
        RegGetValueW(root, key.as_ptr(), value.as_ptr(), RRF_RT_REG_SZ, none, into, &raw mut size)
    };
    let end = text.iter().position(|c| *c == 0)?;
    let path = PathBuf::from(OsString::from_wide(text.get(..end)?));
    (answer == ERROR_SUCCESS && path.is_absolute()).then_some(path)
}

/// Where the system's configuration is: there is one folder for both.
#[must_use]
pub fn system_config() -> PathBuf {
    system_state()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_moved_away_is_told_from_the_one_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = open_private(&path).unwrap();
        assert!(is_still(&file, &path));
        fs::rename(&path, dir.path().join("g")).unwrap();
        assert!(!is_still(&file, &path));
        drop(open_private(&path).unwrap());
        assert!(!is_still(&file, &path));
    }

    #[test]
    fn a_private_file_keeps_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "x").unwrap();
        drop(open_private(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "x");
        assert!(is_private(&path).unwrap());
        assert!(is_private(&dir.path().join("none")).is_err());
        fs::write(dir.path().join("open"), "").unwrap();
        make_private(&dir.path().join("open")).unwrap();
        assert!(is_private(&dir.path().join("open")).unwrap());
        assert!(make_private(&dir.path().join("none")).is_err());
    }

    #[test]
    fn a_passage_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        make_passage(&path).unwrap();
        make_passage(&path).unwrap();
        fs::write(path.join("file"), "").unwrap();
        assert!(make_passage(&path.join("file")).is_err());
    }

    #[test]
    fn names_are_given_and_free_whoever_has_the_files_open() {
        let dir = tempfile::tempdir().unwrap();
        let (new, old) = (dir.path().join("new"), dir.path().join("old"));
        let mut readers = Vec::new();
        for n in 0..5 {
            fs::write(&new, format!("{n}")).unwrap();
            replace(&new, &old).unwrap();
            assert_eq!(fs::read_to_string(&old).unwrap(), format!("{n}"));
            readers.push(File::open(&old).unwrap());
        }
        remove(&old).unwrap();
        assert!(!old.exists() && !new.exists());
        fs::write(&old, "free").unwrap();
        for (n, mut reader) in readers.into_iter().enumerate() {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
            assert_eq!(text, n.to_string());
        }
        remove(&old).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "no file is left");
        assert_eq!(remove(&old).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(replace(&new, &old).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
