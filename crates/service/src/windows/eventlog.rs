//! The event log of this machine, and its sources in the registry
//! (<https://learn.microsoft.com/windows/win32/eventlog/event-sources>).

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::windows::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::ptr;

use windows_sys::Win32::Foundation::{ERROR_FILE_NOT_FOUND, ERROR_SUCCESS, GetLastError, HANDLE};
use windows_sys::Win32::System::EventLog::{
    DeregisterEventSource, EVENTLOG_ERROR_TYPE, EVENTLOG_INFORMATION_TYPE, EVENTLOG_WARNING_TYPE,
    RegisterEventSourceW, ReportEventW,
};
use windows_sys::Win32::System::Registry::{
    HKEY, HKEY_LOCAL_MACHINE, KEY_SET_VALUE, REG_DWORD, REG_EXPAND_SZ, REG_OPTION_NON_VOLATILE,
    REG_VALUE_TYPE, RRF_NOEXPAND, RRF_RT_REG_EXPAND_SZ, RRF_RT_REG_SZ, RegCloseKey, RegCreateKeyExW,
    RegDeleteKeyW, RegGetValueW, RegSetValueExW,
};

use super::wide;
use crate::error::Error;
use crate::eventlog::{Level, Record};

const SOURCES: &str = r"SYSTEM\CurrentControlSet\Services\EventLog\Application";
const FILE: &str = "EventMessageFile";
/// Errors, warnings and information.
const TYPES: u32 = (EVENTLOG_ERROR_TYPE | EVENTLOG_WARNING_TYPE | EVENTLOG_INFORMATION_TYPE) as u32;

/// A source that is open.
#[derive(Debug)]
pub(crate) struct Open {
    name: String,
    handle: HANDLE,
}

// SAFETY: the handle belongs to the process; any thread may use and close it.
unsafe impl Send for Open {}
// SAFETY: as above; each report is a call of its own.
unsafe impl Sync for Open {}

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: it is open, and nobody else owns it.
        unsafe { DeregisterEventSource(self.handle) };
    }
}

impl Open {
    pub(crate) fn new(name: &str) -> Result<Open, Error> {
        let text = wide(OsStr::new(name));
        // SAFETY: text that ends with a zero; a handle that is returned is new and ours.
        let handle = unsafe { RegisterEventSourceW(ptr::null(), text.as_ptr()) };
        if handle.is_null() {
            return Err(last(format!("open the source of events {name:?}")));
        }
        Ok(Open { name: name.to_owned(), handle })
    }

    pub(crate) fn report(&self, record: &Record) -> Result<(), Error> {
        let kind = match record.level {
            Level::Error => EVENTLOG_ERROR_TYPE,
            Level::Warning => EVENTLOG_WARNING_TYPE,
            Level::Information => EVENTLOG_INFORMATION_TYPE,
        };
        let texts: Vec<Vec<u16>> = record.texts.iter().map(|t| wide(OsStr::new(t))).collect();
        let pointers: Vec<*const u16> = texts.iter().map(|t| t.as_ptr()).collect();
        let (count, id) = (pointers.len() as u16, record.id.into());
        let (nobody, nothing) = (ptr::null_mut(), ptr::null());
        // SAFETY: an open source; as many pointers as are said, each to a text that ends with a zero and lives through the call.
        let done =
            unsafe { ReportEventW(self.handle, kind, 0, id, nobody, count, 0, pointers.as_ptr(), nothing) };
        if done == 0 { Err(last(format!("report an event of {:?}", self.name))) } else { Ok(()) }
    }
}

pub(crate) fn install(name: &str, messages: &Path) -> Result<(), Error> {
    let step = || format!("register the source of events {name:?}");
    let (mut key, path): (HKEY, _) = (ptr::null_mut(), path_of(name));
    // SAFETY: text that ends with a zero; the key that is made is ours, and closed below.
    let answer = unsafe {
        let (class, security) = (ptr::null(), ptr::null());
        let (made, whether) = (&raw mut key, ptr::null_mut());
        let (path, kept) = (path.as_ptr(), REG_OPTION_NON_VOLATILE);
        RegCreateKeyExW(HKEY_LOCAL_MACHINE, path, 0, class, kept, KEY_SET_VALUE, security, made, whether)
    };
    checked(answer, step)?;
    let file: Vec<u8> = wide(messages.as_os_str()).iter().flat_map(|c| c.to_le_bytes()).collect();
    let set = |value: &str, kind: REG_VALUE_TYPE, data: &[u8]| {
        let value = wide(OsStr::new(value));
        // SAFETY: an open key; a name that ends with a zero, and as many bytes as are said.
        checked(
            unsafe { RegSetValueExW(key, value.as_ptr(), 0, kind, data.as_ptr(), data.len() as u32) },
            step,
        )
    };
    let done =
        set(FILE, REG_EXPAND_SZ, &file).and_then(|()| set("TypesSupported", REG_DWORD, &TYPES.to_le_bytes()));
    // SAFETY: it is open, and nobody uses it any more.
    unsafe { RegCloseKey(key) };
    done
}

pub(crate) fn remove(name: &str) -> Result<bool, Error> {
    let path = path_of(name);
    // SAFETY: text that ends with a zero.
    match unsafe { RegDeleteKeyW(HKEY_LOCAL_MACHINE, path.as_ptr()) } {
        ERROR_FILE_NOT_FOUND => Ok(false),
        answer => checked(answer, || format!("remove the source of events {name:?}")).map(|()| true),
    }
}

pub(crate) fn read(name: &str) -> Result<Option<PathBuf>, Error> {
    let (path, value) = (path_of(name), wide(OsStr::new(FILE)));
    let mut text = vec![0_u16; 32 << 10];
    let mut size = (text.len() * 2) as u32;
    let kinds = RRF_RT_REG_SZ | RRF_RT_REG_EXPAND_SZ | RRF_NOEXPAND;
    // SAFETY: texts that end with zeroes; `text` has the size that is said.
    let answer = unsafe {
        let (path, value, kind) = (path.as_ptr(), value.as_ptr(), ptr::null_mut());
        let data = text.as_mut_ptr().cast();
        RegGetValueW(HKEY_LOCAL_MACHINE, path, value, kinds, kind, data, &raw mut size)
    };
    if answer == ERROR_FILE_NOT_FOUND {
        return Ok(None);
    }
    checked(answer, || format!("read the source of events {name:?}"))?;
    let text: Vec<u16> = text.into_iter().take_while(|c| *c != 0).collect();
    Ok(Some(OsString::from_wide(&text).into()))
}

fn path_of(name: &str) -> Vec<u16> {
    wide(OsStr::new(&format!(r"{SOURCES}\{name}")))
}

fn last(step: impl Into<Cow<'static, str>>) -> Error {
    // SAFETY: it asks for a number of this thread.
    Error::system(step, unsafe { GetLastError() })
}

fn checked(answer: u32, step: impl Fn() -> String) -> Result<(), Error> {
    if answer == ERROR_SUCCESS { Ok(()) } else { Err(Error::system(step(), answer)) }
}
