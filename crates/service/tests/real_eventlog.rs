//! The event log of Windows: on Windows in an elevated prompt, here under Wine, which takes events and keeps none.

#![cfg(windows)]
#![expect(unsafe_code, reason = "a file of messages is read as a viewer reads it")]

use std::ffi::OsStr;
use std::os::windows::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::ptr;

use keepwell_service::eventlog::{Log, MessageTable, Source};
use windows_sys::Win32::Foundation::FreeLibrary;
use windows_sys::Win32::System::Diagnostics::Debug::{
    FORMAT_MESSAGE_ARGUMENT_ARRAY, FORMAT_MESSAGE_FROM_HMODULE, FormatMessageW,
};
use windows_sys::Win32::System::LibraryLoader::{LOAD_LIBRARY_AS_DATAFILE, LoadLibraryExW};

fn wide(text: impl AsRef<OsStr>) -> Vec<u16> {
    text.as_ref().encode_wide().chain([0]).collect()
}

/// What a viewer shows of an event.
fn shown(file: &Path, id: u16, texts: &[&str]) -> Option<String> {
    let texts: Vec<Vec<u16>> = texts.iter().map(wide).collect();
    let pointers: Vec<*const u16> = texts.iter().map(|t| t.as_ptr()).collect();
    let (file, mut out) = (wide(file), vec![0_u16; 4096]);
    let flags = FORMAT_MESSAGE_FROM_HMODULE | FORMAT_MESSAGE_ARGUMENT_ARRAY;
    // SAFETY: texts that end with zeroes, a buffer of the size that is said, and as many arguments as the messages name.
    let length = unsafe {
        let module = LoadLibraryExW(file.as_ptr(), ptr::null_mut(), LOAD_LIBRARY_AS_DATAFILE);
        assert!(!module.is_null(), "{}", std::io::Error::last_os_error());
        let arguments = pointers.as_ptr().cast();
        let length =
            FormatMessageW(flags, module.cast_const(), id.into(), 0, out.as_mut_ptr(), 4096, arguments);
        FreeLibrary(module);
        length
    };
    (length > 0).then(|| String::from_utf16_lossy(&out[..length as usize]).trim_end().to_owned())
}

#[test]
fn a_source_is_registered_written_to_and_taken_away() {
    let name = format!("keepwell test {}", std::process::id());
    let key = format!(r"HKLM\SYSTEM\CurrentControlSet\Services\EventLog\Application\{name}");
    let source = Source::new(&name, r"C:\Program Files\ü\messages.dll");
    assert_eq!(Source::read(&name).unwrap(), None);
    source.install().unwrap();
    source.install().unwrap();
    assert_eq!(Source::read(&name).unwrap(), Some(source));
    let told = Command::new("reg").args(["query", &key]).output().unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    for words in ["EventMessageFile    REG_EXPAND_SZ", "TypesSupported    REG_DWORD    0x7"] {
        assert!(told.contains(words), "{told}");
    }
    let log = Log::open(&name).unwrap();
    log.error(1, &["one", "two"]).unwrap();
    log.warning(2, &[]).unwrap();
    log.information(3, &["ü 世界"]).unwrap();
    assert!(Source::remove(&name).unwrap());
    assert!(!Source::remove(&name).unwrap());
    // Who has it open, or opens it all the same, can go on.
    log.error(1, &["one", "two"]).unwrap();
    Log::open(&name).unwrap().error(1, &["one", "two"]).unwrap();
}

#[test]
fn a_file_of_messages_shows_them_and_nobody_has_to_run_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("messages.dll");
    let table = MessageTable::new()
        .message(1, "%1: %2")
        .message(2, "100 %% of %1")
        .message(700, "zwei ü 世界\r\n\r\nGuardian: %1");
    std::fs::write(&file, table.to_dll()).unwrap();
    assert_eq!(shown(&file, 1, &["web", "it ended"]).unwrap(), "web: it ended");
    assert_eq!(shown(&file, 2, &["them"]).unwrap(), "100 % of them");
    assert_eq!(shown(&file, 700, &["x"]).unwrap(), "zwei ü 世界\r\n\r\nGuardian: x");
    assert_eq!(shown(&file, 3, &[]), None);
}
