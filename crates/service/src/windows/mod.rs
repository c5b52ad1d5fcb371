//! The real service control manager, and the console that takes its place in a terminal.
#![expect(unsafe_code, reason = "the manager calls back through pointers")]

mod console;
pub(crate) mod eventlog;
mod limits;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString, c_void};
use std::os::windows::ffi::{OsStrExt, OsStringExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::slice;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use windows_sys::Win32::Foundation::GetLastError;
use windows_sys::Win32::System::Services::{
    RegisterServiceCtrlHandlerExW, SERVICE_CONTROL_DEVICEEVENT, SERVICE_CONTROL_INTERROGATE,
    SERVICE_CONTROL_POWEREVENT, SERVICE_CONTROL_SESSIONCHANGE, SERVICE_CONTROL_TIMECHANGE, SERVICE_STATUS,
    SERVICE_STATUS_HANDLE, SERVICE_TABLE_ENTRYW, SERVICE_WIN32_OWN_PROCESS, SetServiceStatus,
    StartServiceCtrlDispatcherW,
};

pub(crate) use self::console::{listen, outside};
use crate::control::Control;
use crate::error::{Error, code};
use crate::scm::{Handler, Link, Main, Manager as Scm, RawStatus};
use crate::state::StartReason;
use crate::token::Cause;

/// The service control manager of this machine.
pub(crate) struct Manager;

/// What `service_main` needs, which is called without a context. There is one, since the manager starts a process once.
static ENTRY: Mutex<Option<Entry>> = Mutex::new(None);

struct Entry {
    name: Vec<u16>,
    handler: Handler,
    main: Main,
}

impl Scm for Manager {
    fn dispatch(&self, name: &str, handler: Handler, main: Main) -> Result<(), Error> {
        let mut wide_name = wide(OsStr::new(name));
        let entry = Entry { name: wide_name.clone(), handler, main };
        *ENTRY.lock().unwrap_or_else(PoisonError::into_inner) = Some(entry);
        let table = [
            SERVICE_TABLE_ENTRYW { lpServiceName: wide_name.as_mut_ptr(), lpServiceProc: Some(service_main) },
            SERVICE_TABLE_ENTRYW { lpServiceName: ptr::null_mut(), lpServiceProc: None },
        ];
        // SAFETY: the table ends with an empty entry, and it and its name live until the call returns.
        let answer = unsafe { StartServiceCtrlDispatcherW(table.as_ptr()) };
        if answer != 0 {
            return Ok(());
        }
        // SAFETY: it asks for a number of this thread.
        let number = unsafe { GetLastError() };
        // Nobody will call it any more.
        ENTRY.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(match number {
            code::NOT_A_SERVICE => Error::NotAService,
            code::ALREADY_RUNNING => Error::AlreadyRan,
            other => Error::system("connect to the service control manager", other),
        })
    }
}

/// Called by the manager on a thread of its own.
unsafe extern "system" fn service_main(count: u32, arguments: *mut *mut u16) {
    let Some(entry) = ENTRY.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        return;
    };
    // The manager may call the handler until the process is gone, so it is never freed.
    let handler: *mut Handler = Box::into_raw(Box::new(entry.handler));
    // SAFETY: the name ends with a zero; handler and context live as long as the process.
    let handle = unsafe {
        RegisterServiceCtrlHandlerExW(entry.name.as_ptr(), Some(control_handler), handler.cast_const().cast())
    };
    if handle.is_null() {
        // SAFETY: it asks for a number of this thread.
        let number = unsafe { GetLastError() };
        // Without a handler no state can be told, the end neither; so the process says it.
        eprintln!("{}", Error::system("register the service's control handler", number));
        std::process::exit(1);
    }
    let arguments: Vec<OsString> = if count == 0 || arguments.is_null() {
        Vec::new()
    } else {
        // SAFETY: the manager gives `count` pointers to texts that end with a zero.
        unsafe {
            slice::from_raw_parts(arguments, count as usize).iter().map(|text| from_wide(*text)).collect()
        }
    };
    let name = arguments.first().map_or_else(|| entry.name.clone(), |name| wide(name));
    (entry.main)(arguments, Arc::new(Connection { handle: handle as usize, name }));
}

/// Called by the manager on the thread that waits in the dispatcher.
unsafe extern "system" fn control_handler(
    number: u32,
    event: u32,
    data: *mut c_void,
    context: *mut c_void,
) -> u32 {
    if number == SERVICE_CONTROL_INTERROGATE {
        return code::NONE;
    }
    // SAFETY: `service_main` gave the handler as the context, and never frees it.
    let handler = unsafe { &*context.cast_const().cast::<Handler>() };
    // SAFETY: the data are what the manager gives with this control.
    let data = unsafe { event_data(number, event, data.cast_const().cast()) };
    let Some(control) = Control::decode(number, event, data) else {
        return code::NOT_IMPLEMENTED;
    };
    // A panic must not cross into the manager's frames.
    catch_unwind(AssertUnwindSafe(|| handler(control))).map_or(code::PANICKED, |answer| answer.number())
}

/// The bytes of an event, which tell their length themselves.
///
/// # Safety
/// `data` is what the manager gives with this control, or null.
unsafe fn event_data<'a>(number: u32, event: u32, data: *const u8) -> &'a [u8] {
    const POWER_SETTING_CHANGE: u32 = 0x8013;
    /// `SERVICE_TIMECHANGE_INFO`: two times.
    const TIMES: usize = 16;
    /// `POWERBROADCAST_SETTING` up to its data: a GUID and their length.
    const SETTING: usize = 20;
    if data.is_null() {
        return &[];
    }
    let length_at = |at: usize| {
        // SAFETY: each of these structures is longer than where it is asked, and need not be aligned.
        let length = unsafe { ptr::read_unaligned(data.add(at).cast::<u32>()) };
        // Structures of some KB at most; a length that makes no sense reads nothing wild.
        (length as usize).min(1 << 16)
    };
    let length = match number {
        SERVICE_CONTROL_SESSIONCHANGE => length_at(0).min(8),
        SERVICE_CONTROL_DEVICEEVENT => length_at(0),
        SERVICE_CONTROL_TIMECHANGE => TIMES,
        SERVICE_CONTROL_POWEREVENT if event == POWER_SETTING_CHANGE => SETTING + length_at(16),
        _no_data => 0,
    };
    // SAFETY: as long as the structure says that it is; it outlives the handler's call, within which it is copied.
    unsafe { slice::from_raw_parts(data, length) }
}

/// The way to the manager of a service that it has started.
struct Connection {
    /// `SERVICE_STATUS_HANDLE`, which need not be closed; a number, since any thread may use it.
    handle: usize,
    name: Vec<u16>,
}

impl Link for Connection {
    fn report(&self, status: RawStatus) -> Result<(), Error> {
        let status = SERVICE_STATUS {
            dwServiceType: SERVICE_WIN32_OWN_PROCESS,
            dwCurrentState: status.state,
            dwControlsAccepted: status.accepted,
            dwWin32ExitCode: status.win32_exit,
            dwServiceSpecificExitCode: status.specific_exit,
            dwCheckPoint: status.checkpoint,
            dwWaitHint: status.wait_hint_ms,
        };
        // SAFETY: the handle is the manager's, and the structure is read before the call returns.
        if unsafe { SetServiceStatus(self.handle as SERVICE_STATUS_HANDLE, &raw const status) } != 0 {
            return Ok(());
        }
        // SAFETY: it asks for a number of this thread.
        let number = unsafe { GetLastError() };
        Err(Error::system(Cow::Borrowed("tell the service control manager the service's state"), number))
    }

    /// The manager has no place for words; the event log has.
    fn tell(&self, _text: &str) {}

    fn beat(&self) {}

    fn beat_interval(&self) -> Option<Duration> {
        None
    }

    fn reloading(&self) {}

    fn start_reason(&self) -> Option<StartReason> {
        limits::start_reason(self.handle as SERVICE_STATUS_HANDLE)
    }

    fn time_to_end(&self, cause: Cause) -> Option<Duration> {
        match cause {
            Cause::Shutdown => Some(limits::shutdown()),
            Cause::Preshutdown => Some(limits::preshutdown(&self.name)),
            Cause::Stop | Cause::Interrupt | Cause::Hangup | Cause::Own => None,
        }
    }

    fn raw_handle(&self) -> Option<usize> {
        Some(self.handle)
    }
}

fn wide(text: &OsStr) -> Vec<u16> {
    text.encode_wide().chain([0]).collect()
}

/// # Safety
/// `text` is null or ends with a zero.
unsafe fn from_wide(text: *const u16) -> OsString {
    if text.is_null() {
        return OsString::new();
    }
    let mut length = 0;
    // SAFETY: up to the zero all of it can be read.
    unsafe {
        while *text.add(length) != 0 {
            length += 1;
        }
        OsString::from_wide(slice::from_raw_parts(text, length))
    }
}
