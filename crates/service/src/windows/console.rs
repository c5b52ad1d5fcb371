//! A terminal on Windows: Ctrl+C, Ctrl+Break, and the window's end.
#![expect(unsafe_code, reason = "the system calls back")]

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, CTRL_C_EVENT, CTRL_CLOSE_EVENT, CTRL_LOGOFF_EVENT, CTRL_SHUTDOWN_EVENT,
    SetConsoleCtrlHandler,
};

use crate::error::Error;
use crate::inbox::Incoming;
use crate::outside::{Deliver, Quiet};
use crate::runner::Host;
use crate::scm::Link;
use crate::token::Cause;

static DELIVER: OnceLock<Deliver> = OnceLock::new();

/// Who has started this process, if not the service control manager.
pub(crate) fn outside() -> (Host, Arc<dyn Link>) {
    (Host::Terminal, Arc::new(Quiet))
}

/// Has every wish of the console come to `deliver`, from now on.
pub(crate) fn listen(deliver: Deliver, _host: Host) -> Result<(), Error> {
    if DELIVER.set(deliver).is_err() {
        return Err(Error::AlreadyRan);
    }
    // SAFETY: the function lives as long as the process.
    if unsafe { SetConsoleCtrlHandler(Some(on_event), 1) } == 0 {
        let number = io::Error::last_os_error().raw_os_error().unwrap_or(0);
        return Err(Error::system("listen to the console", number.cast_unsigned()));
    }
    Ok(())
}

/// Called by the system on a new thread for each event. To answer 1 means that it was taken.
unsafe extern "system" fn on_event(event: u32) -> i32 {
    static ASKED: AtomicBool = AtomicBool::new(false);
    let Some(deliver) = DELIVER.get() else {
        return 0;
    };
    match event {
        CTRL_C_EVENT | CTRL_BREAK_EVENT => {
            // The second time a person means it: the system's own handler ends the process.
            if ASKED.swap(true, Ordering::Relaxed) {
                return 0;
            }
            deliver(Incoming::End(Cause::Interrupt));
            1
        }
        CTRL_CLOSE_EVENT | CTRL_LOGOFF_EVENT | CTRL_SHUTDOWN_EVENT => {
            deliver(Incoming::End(if event == CTRL_SHUTDOWN_EVENT {
                Cause::Shutdown
            } else {
                Cause::Hangup
            }));
            // The process is ended when this returns, so it must not before the service has; then the thread ends with it.
            loop {
                thread::park();
            }
        }
        _other => 0,
    }
}
