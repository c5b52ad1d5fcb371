//! Being told when a service's state changes, by `NotifyServiceStatusChange`; where the SCM does not tell, looking.
#![expect(unsafe_code, reason = "the SCM calls back into memory that is ours")]

use std::cell::Cell;
use std::ffi::c_void;
use std::thread;
use std::time::Duration;

use windows_sys::Win32::System::Services::{
    NotifyServiceStatusChangeW, SERVICE_NOTIFY_2W, SERVICE_NOTIFY_CONTINUE_PENDING,
    SERVICE_NOTIFY_PAUSE_PENDING, SERVICE_NOTIFY_PAUSED, SERVICE_NOTIFY_RUNNING,
    SERVICE_NOTIFY_START_PENDING, SERVICE_NOTIFY_STATUS_CHANGE, SERVICE_NOTIFY_STOP_PENDING,
    SERVICE_NOTIFY_STOPPED,
};
use windows_sys::Win32::System::Threading::SleepEx;

use super::sys::Handle;

/// A state may have come and gone before the SCM began to tell, and Wine tells of few: so a look now and then, too.
const LOOK: Duration = Duration::from_millis(100);

/// See the module. Of one thread, since the SCM calls it back in that one.
pub(super) struct Watch<'a> {
    handle: &'a Handle,
    asked: Option<Box<Asked>>,
    /// The SCM does not tell here.
    deaf: bool,
}

struct Asked {
    /// Filled by the SCM when it calls.
    buffer: SERVICE_NOTIFY_2W,
    told: Cell<bool>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(handle: &'a Handle) -> Self {
        Self { handle, asked: None, deaf: false }
    }

    /// Asks to be told of the next change, unless that is asked already. To be done before the state is looked at.
    pub(super) fn arm(&mut self) {
        if self.deaf || self.asked.as_ref().is_some_and(|a| !a.told.get()) {
            return;
        }
        let mut asked = Box::new(Asked { buffer: SERVICE_NOTIFY_2W::default(), told: Cell::new(false) });
        asked.buffer.dwVersion = SERVICE_NOTIFY_STATUS_CHANGE;
        asked.buffer.pfnNotifyCallback = Some(told);
        asked.buffer.pContext = (&raw const asked.told).cast_mut().cast();
        let mask = SERVICE_NOTIFY_STOPPED
            | SERVICE_NOTIFY_START_PENDING
            | SERVICE_NOTIFY_STOP_PENDING
            | SERVICE_NOTIFY_RUNNING
            | SERVICE_NOTIFY_CONTINUE_PENDING
            | SERVICE_NOTIFY_PAUSE_PENDING
            | SERVICE_NOTIFY_PAUSED;
        // SAFETY: the buffer stays where it is until the SCM has called, or for ever (see `drop`).
        match unsafe { NotifyServiceStatusChangeW(self.handle.raw(), mask, &raw const asked.buffer) } {
            0 => self.asked = Some(asked),
            _ => self.deaf = true,
        }
    }

    /// Until it is told, or it is time to look.
    pub(super) fn wait(&mut self, at_most: Duration) {
        let at_most = at_most.min(LOOK);
        if self.deaf {
            thread::sleep(at_most);
            return;
        }
        // SAFETY: no pointers; what is called meanwhile is `told`.
        unsafe { SleepEx(at_most.as_millis().max(1) as u32, 1) };
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let Some(asked) = self.asked.take()
            && !asked.told.get()
        {
            // The SCM may still write there and call. It does so once, so this much stays behind, per wait that ended first.
            Box::leak(asked);
        }
    }
}

/// # Safety
/// `parameter` is the buffer that was given with the question.
unsafe extern "system" fn told(parameter: *const c_void) {
    // SAFETY: the SCM gives back the buffer, whose context is a flag that lives as long.
    unsafe {
        let buffer = parameter.cast::<SERVICE_NOTIFY_2W>();
        (*(*buffer).pContext.cast::<Cell<bool>>()).set(true);
    }
}
