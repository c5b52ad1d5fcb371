//! Memory that a guardian no longer uses goes back to the host.
#![expect(unsafe_code, reason = "the working set has no safe form in the standard library")]

use windows_sys::Win32::System::ProcessStatus::K32EmptyWorkingSet;
use windows_sys::Win32::System::Threading::GetCurrentProcess;

/// Nothing to do: the system's heap has no arenas for each thread.
pub fn share_one_arena() {}

/// Gives pages that are not in use back to the host; what is used again comes back from its standby list.
pub fn give_back() {
    // SAFETY: the pseudo handle of this process; a failure changes nothing.
    unsafe { K32EmptyWorkingSet(GetCurrentProcess()) };
}

/// The same: text and data are not told apart here.
pub fn let_go_of_text() {
    give_back();
}
