//! Who may use what keepwell makes: security descriptors and the token of whoever asks.
#![expect(unsafe_code, reason = "security descriptors and tokens have no safe form in the standard library")]

use std::ffi::c_void;
use std::io;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::ptr;

use windows_sys::Win32::Foundation::{HANDLE, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::{
    CheckTokenMembership, CreateWellKnownSid, DACL_SECURITY_INFORMATION, EqualSid, GetTokenInformation,
    LookupAccountNameW, LookupAccountSidW, PROTECTED_DACL_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, PSID,
    SECURITY_ATTRIBUTES, SECURITY_MAX_SID_SIZE, SID_NAME_USE, SetKernelObjectSecurity, TOKEN_QUERY,
    TOKEN_USER, TokenUser, WELL_KNOWN_SID_TYPE,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

use super::sys::{check, owned, wide};

/// SYSTEM, Administrators and the owner, and nobody else.
pub(crate) const PRIVATE: &str = "D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;FA;;;OW)";

/// A security descriptor made from its text.
pub(crate) struct Descriptor(PSECURITY_DESCRIPTOR);

impl Descriptor {
    pub(crate) fn new(text: &str) -> io::Result<Descriptor> {
        let mut descriptor: PSECURITY_DESCRIPTOR = ptr::null_mut();
        let (text, size) = (wide(text), ptr::null_mut());
        // SAFETY: the text ends with a zero; the descriptor that is returned is ours to free.
        check(unsafe {
            let (text, made) = (text.as_ptr(), &raw mut descriptor);
            ConvertStringSecurityDescriptorToSecurityDescriptorW(text, SDDL_REVISION_1, made, size)
        })?;
        Ok(Descriptor(descriptor))
    }

    /// For calls that make something; valid for as long as this lives.
    pub(crate) fn attributes(&self) -> SECURITY_ATTRIBUTES {
        SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: self.0,
            bInheritHandle: 0,
        }
    }

    /// Gives it to something that is open with the right to change it.
    pub(crate) fn give_to(&self, handle: HANDLE) -> io::Result<()> {
        let what = DACL_SECURITY_INFORMATION | PROTECTED_DACL_SECURITY_INFORMATION;
        // SAFETY: an open handle and a valid descriptor.
        check(unsafe { SetKernelObjectSecurity(handle, what, self.0) })
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: it came from the call that says to free it so.
        unsafe { LocalFree(self.0) };
    }
}

/// A user or a group by its number. As `u32` for its alignment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sid([u32; SECURITY_MAX_SID_SIZE as usize / 4]);

impl Sid {
    fn empty() -> Sid {
        Sid([0; SECURITY_MAX_SID_SIZE as usize / 4])
    }

    fn raw(&self) -> PSID {
        self.0.as_ptr().cast_mut().cast()
    }

    /// A group of this host by its name.
    pub(crate) fn of_name(name: &str) -> io::Result<Sid> {
        let (name, sid) = (wide(name), Sid::empty());
        let (mut size, mut domain, mut room) = (SECURITY_MAX_SID_SIZE, [0_u16; 256], 256);
        let mut kind: SID_NAME_USE = 0;
        // SAFETY: all buffers have the sizes that are said.
        check(unsafe {
            let (name, into) = (name.as_ptr(), sid.raw());
            let domain = domain.as_mut_ptr();
            LookupAccountNameW(ptr::null(), name, into, &raw mut size, domain, &raw mut room, &raw mut kind)
        })?;
        Ok(sid)
    }

    pub(crate) fn well_known(which: WELL_KNOWN_SID_TYPE) -> io::Result<Sid> {
        let (sid, mut size) = (Sid::empty(), SECURITY_MAX_SID_SIZE);
        // SAFETY: `sid` has the size that is said.
        check(unsafe { CreateWellKnownSid(which, ptr::null_mut(), sid.raw(), &raw mut size) })?;
        Ok(sid)
    }

    /// `DOMAIN\name`, or the number as text where there is no name.
    pub(crate) fn name(&self) -> String {
        let (mut name, mut domain) = ([0_u16; 256], [0_u16; 256]);
        let (mut name_room, mut domain_room) = (256, 256);
        let mut kind: SID_NAME_USE = 0;
        // SAFETY: all buffers have the sizes that are said.
        let found = unsafe {
            let (name, domain) = (name.as_mut_ptr(), domain.as_mut_ptr());
            let (n, d) = (&raw mut name_room, &raw mut domain_room);
            LookupAccountSidW(ptr::null(), self.raw(), name, n, domain, d, &raw mut kind)
        };
        let part =
            |text: &[u16], len: u32| String::from_utf16_lossy(text.get(..len as usize).unwrap_or_default());
        match (found != 0, part(&domain, domain_room), part(&name, name_room)) {
            (false, ..) => self.text(),
            (true, domain, name) if domain.is_empty() => name,
            (true, domain, name) => format!(r"{domain}\{name}"),
        }
    }

    /// `S-1-5-18`.
    pub(crate) fn text(&self) -> String {
        let mut text: *mut u16 = ptr::null_mut();
        // SAFETY: a valid SID; the text that is returned ends with a zero and is ours to free.
        unsafe {
            if ConvertSidToStringSidW(self.raw(), &raw mut text) == 0 {
                return String::new();
            }
            let len = (0..).take_while(|i| *text.add(*i) != 0).count();
            let owned = String::from_utf16_lossy(std::slice::from_raw_parts(text, len));
            LocalFree(text.cast());
            owned
        }
    }

    pub(crate) fn is(&self, other: &Sid) -> bool {
        // SAFETY: two valid SIDs.
        unsafe { EqualSid(self.raw(), other.raw()) != 0 }
    }
}

/// The token of this process.
pub(crate) fn own_token() -> io::Result<OwnedHandle> {
    let mut token: HANDLE = ptr::null_mut();
    // SAFETY: `token` is filled by the call with a new handle that is ours.
    unsafe {
        check(OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token))?;
        owned(token)
    }
}

/// Whose token it is.
pub(crate) fn user_of(token: &OwnedHandle) -> io::Result<Sid> {
    // As `u64` for its alignment: a TOKEN_USER, and the SID that it points to.
    let mut info = [0_u64; 32];
    let mut len = 0;
    let room = size_of_val(&info) as u32;
    let sid = Sid::empty();
    // SAFETY: `info` has the size that is said; what the TOKEN_USER points to is in it, and no SID is longer than ours.
    unsafe {
        let into = info.as_mut_ptr().cast::<c_void>();
        check(GetTokenInformation(token.as_raw_handle(), TokenUser, into, room, &raw mut len))?;
        let found = (*info.as_ptr().cast::<TOKEN_USER>()).User.Sid;
        check(windows_sys::Win32::Security::CopySid(SECURITY_MAX_SID_SIZE, sid.raw(), found))?;
    }
    Ok(sid)
}

/// Whether a token that stands for another (an impersonation) has this group, and it counts.
pub(crate) fn has_group(token: &OwnedHandle, group: &Sid) -> bool {
    let mut member = 0;
    // SAFETY: an open token, a valid SID; `member` is filled by the call.
    unsafe { CheckTokenMembership(token.as_raw_handle(), group.raw(), &raw mut member) != 0 && member != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windows_sys::Win32::Security::WinBuiltinAdministratorsSid;

    #[test]
    fn this_process_has_a_user_and_the_host_has_administrators() {
        let me = user_of(&own_token().unwrap()).unwrap();
        assert!(me.text().starts_with("S-1-5-"), "{}", me.text());
        assert!(!me.name().is_empty());
        assert!(me.is(&me.clone()));
        let administrators = Sid::well_known(WinBuiltinAdministratorsSid).unwrap();
        assert_eq!(administrators.text(), "S-1-5-32-544");
        assert!(!administrators.is(&me));
        assert!(Sid::of_name("no such group here").is_err());
    }

    #[test]
    fn a_descriptor_is_made_from_text_or_refused() {
        assert_eq!(Descriptor::new(PRIVATE).unwrap().attributes().bInheritHandle, 0);
        assert!(Descriptor::new("nonsense").is_err());
    }
}
