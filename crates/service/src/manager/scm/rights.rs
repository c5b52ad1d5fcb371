//! What the accounts of services may do with files, and the right to log on as a service.
#![expect(unsafe_code, reason = "access lists and policies of the system are bare pointers")]

use std::ffi::c_void;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr;

use windows_sys::Win32::Foundation::{ERROR_SUCCESS, LocalFree};
use windows_sys::Win32::NetworkManagement::NetManagement::{
    LG_INCLUDE_INDIRECT, LOCALGROUP_USERS_INFO_0, MAX_PREFERRED_LENGTH,
};
use windows_sys::Win32::Security::Authentication::Identity::{
    LSA_HANDLE, LSA_OBJECT_ATTRIBUTES, LSA_UNICODE_STRING, LsaAddAccountRights, LsaClose,
    LsaEnumerateAccountRights, LsaFreeMemory, LsaNtStatusToWinError, LsaOpenPolicy, POLICY_CREATE_ACCOUNT,
    POLICY_LOOKUP_NAMES,
};
use windows_sys::Win32::Security::Authorization::{
    EXPLICIT_ACCESS_W, GRANT_ACCESS, GetNamedSecurityInfoW, SE_FILE_OBJECT, SetEntriesInAclW,
    SetNamedSecurityInfoW, TRUSTEE_IS_SID, TRUSTEE_IS_UNKNOWN, TRUSTEE_W,
};
use windows_sys::Win32::Security::{
    ACCESS_ALLOWED_ACE, ACE_HEADER, ACL, DACL_SECURITY_INFORMATION, GetAce, GetLengthSid,
    GetTokenInformation, INHERIT_ONLY_ACE, LookupAccountNameW, OWNER_SECURITY_INFORMATION,
    PROTECTED_DACL_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, PSID, SECURITY_MAX_SID_SIZE,
    SUB_CONTAINERS_AND_OBJECTS_INHERIT, TOKEN_QUERY, TOKEN_USER, TokenUser,
};
use windows_sys::Win32::Storage::FileSystem::{
    DELETE, FILE_ALL_ACCESS, FILE_EXECUTE, FILE_GENERIC_EXECUTE, FILE_GENERIC_READ, FILE_GENERIC_WRITE,
    FILE_LIST_DIRECTORY, FILE_READ_DATA, FILE_TRAVERSE, FILE_WRITE_DATA,
};

use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

use super::sys::{function, last_error, text, wide};
use crate::error::Error;
use crate::manager::access::{Lack, Needs};
use crate::manager::acl::{Entry, Sid, permits};
use crate::manager::definition::{Account, ServiceDefinition};

/// What Windows asks an account for that runs services
/// (<https://learn.microsoft.com/windows/win32/secauthz/account-rights-constants>).
const LOG_ON: &str = "SeServiceLogonRight";
/// winnt.h.
const ACCESS_ALLOWED: u8 = 0;
const ACCESS_DENIED: u8 = 1;
/// winnt.h: what a file takes a generic right for.
const GENERIC: [(u32, u32); 4] = [
    (0x8000_0000, FILE_GENERIC_READ),
    (0x4000_0000, FILE_GENERIC_WRITE),
    (0x2000_0000, FILE_GENERIC_EXECUTE),
    (0x1000_0000, FILE_ALL_ACCESS),
];
/// All but changing who may do what.
const MODIFY: u32 = FILE_GENERIC_READ | FILE_GENERIC_WRITE | FILE_GENERIC_EXECUTE | DELETE;
/// ntstatus.h: nobody has ever given this account a right.
const STATUS_OBJECT_NAME_NOT_FOUND: i32 = 0xc000_0034_u32.cast_signed();

/// The account itself, and all that it is a member of, as far as this host says.
struct Who {
    own: Sid,
    all: Vec<Sid>,
    /// A domain may know of groups that this host does not.
    complete: bool,
}

pub(super) fn lacks(definition: &ServiceDefinition, needs: &Needs) -> Result<Vec<Lack>, Error> {
    let who = match who(definition) {
        Ok(who) => who,
        Err(error) => {
            return Ok(vec![Lack::Account(error.to_string())]);
        }
    };
    let mut all = Vec::new();
    if matches!(definition.account, Account::User { .. }) && !may_log_on(&who)? {
        all.push(Lack::LogOn);
    }
    let runs = FILE_READ_DATA | FILE_EXECUTE;
    let reads =
        |path: &Path| if path.is_dir() { FILE_LIST_DIRECTORY | FILE_TRAVERSE } else { FILE_READ_DATA };
    // The same bit makes files in a folder.
    let writes = FILE_LIST_DIRECTORY | FILE_WRITE_DATA;
    let may = |path: &Path, wanted| rights(path).is_none_or(|list| who.may(&list, wanted));
    all.extend(needs.run.iter().filter(|p| !may(p, runs)).cloned().map(Lack::Run));
    all.extend(needs.read.iter().filter(|p| !may(p, reads(p))).cloned().map(Lack::Read));
    all.extend(needs.write.iter().filter(|p| !may(p, writes)).cloned().map(Lack::Write));
    Ok(all)
}

pub(super) fn grant(definition: &ServiceDefinition, lack: &Lack) -> Result<(), Error> {
    let account = definition.account_name();
    let sid = own_sid(definition).map_err(|e| Error::of(format!("look up {account}"), e))?;
    let (path, mask) = match lack {
        Lack::Account(_) => {
            let doing = format!("the account {account} cannot be made here");
            return Err(Error::Refused { doing, said: "make it first, or name another".into() });
        }
        Lack::LogOn => return let_log_on(&sid, &account),
        Lack::Run(path) => (path, FILE_GENERIC_READ | FILE_GENERIC_EXECUTE),
        Lack::Read(path) if path.is_dir() => (path, FILE_GENERIC_READ | FILE_GENERIC_EXECUTE),
        Lack::Read(path) => (path, FILE_GENERIC_READ),
        Lack::Write(path) => (path, MODIFY),
    };
    give(path, &sid, mask).map_err(|e| Error::of(format!("let {account} use {}", path.display()), e))
}

/// For SYSTEM, Administrators and the account; nothing comes from above, where anybody may make folders.
pub(super) fn own_folder(definition: &ServiceDefinition, folder: &Path) -> Result<(), Error> {
    let step = || format!("make the folder {}", folder.display());
    let account = definition.account_name();
    let sid = own_sid(definition).map_err(|e| Error::of(format!("look up {account}"), e))?;
    let host = [(Sid::nt(&[18]), FILE_ALL_ACCESS), (Sid::nt(&[32, 544]), FILE_ALL_ACCESS)];
    let make = |path: &Path, last: (Sid, u32)| {
        std::fs::create_dir_all(path)?;
        let list = List::of(None, &[host[0].clone(), host[1].clone(), last])?;
        set(path, &list, PROTECTED_DACL_SECURITY_INFORMATION)
    };
    // The one above is for looking into: who could rename what is in it could put something else there.
    let above = folder.parent().filter(|above| !above.exists());
    let users = (Sid::nt(&[32, 545]), FILE_GENERIC_READ | FILE_GENERIC_EXECUTE);
    above.map_or(Ok(()), |above| make(above, users)).map_err(|e| Error::of(step(), e))?;
    make(folder, (sid, MODIFY)).map_err(|e| Error::of(step(), e))
}

impl Who {
    fn may(&self, list: &[Entry], wanted: u32) -> bool {
        if permits(list, &self.all, wanted) {
            return true;
        }
        // It may be a member of one of those; what is not known is not held against it.
        let mut perhaps = self.all.clone();
        if !self.complete {
            perhaps.extend(list.iter().filter(|e| !e.denies && e.who.is_made()).map(|e| e.who.clone()));
        }
        perhaps.len() > self.all.len() && permits(list, &perhaps, wanted)
    }
}

fn own_sid(definition: &ServiceDefinition) -> io::Result<Sid> {
    Ok(match &definition.account {
        Account::Virtual => Sid::of_service(&definition.name),
        Account::System => Sid::nt(&[18]),
        Account::LocalService => Sid::nt(&[19]),
        Account::NetworkService => Sid::nt(&[20]),
        Account::User { .. } => look_up(&definition.account_name())?,
    })
}

fn who(definition: &ServiceDefinition) -> io::Result<Who> {
    let own = own_sid(definition)?;
    // Everybody, all that log on, and all that do so as a service.
    let mut all = vec![own.clone(), Sid::world(), Sid::nt(&[11]), Sid::nt(&[6])];
    let (administrators, users) = (Sid::nt(&[32, 544]), Sid::nt(&[32, 545]));
    let mut complete = true;
    match &definition.account {
        Account::System => all.extend([administrators, users]),
        Account::Virtual => all.extend([Sid::nt(&[80, 0]), users]),
        Account::LocalService | Account::NetworkService => {
            all.extend([Sid::of_service(&definition.name), users]);
        }
        Account::User { .. } => {
            all.extend([Sid::of_service(&definition.name), users]);
            let name = definition.account_name();
            let groups = local_groups(name.strip_prefix(r".\").unwrap_or(&name));
            all.extend(groups.iter().flatten().filter_map(|g| look_up(g).ok()));
            complete = groups.is_some() && name.starts_with(r".\");
        }
    }
    Ok(Who { own, all, complete })
}

fn look_up(name: &str) -> io::Result<Sid> {
    // The system does not know what the dot of a local account means here.
    let name = wide(name.strip_prefix(r".\").unwrap_or(name));
    let mut sid = [0_u32; SECURITY_MAX_SID_SIZE as usize / 4];
    let (mut size, mut domain, mut room, mut kind) = (SECURITY_MAX_SID_SIZE, [0_u16; 256], 256, 0);
    // SAFETY: all buffers have the sizes that are said.
    let found = unsafe {
        let (into, domain) = (sid.as_mut_ptr().cast(), domain.as_mut_ptr());
        let (size, room, kind) = (&raw mut size, &raw mut room, &raw mut kind);
        LookupAccountNameW(ptr::null(), name.as_ptr(), into, size, domain, room, kind)
    };
    if found == 0 {
        return Err(io::Error::from_raw_os_error(last_error().cast_signed()));
    }
    // SAFETY: filled by the call.
    unsafe { copied(sid.as_mut_ptr().cast()) }.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// # Safety
/// A valid SID.
unsafe fn copied(sid: PSID) -> Option<Sid> {
    // SAFETY: as the caller promises; a SID consists of words.
    unsafe { Sid::of_words(std::slice::from_raw_parts(sid.cast::<u32>(), GetLengthSid(sid) as usize / 4)) }
}

type NetUserGetLocalGroups =
    unsafe extern "system" fn(*const u16, *const u16, u32, u32, *mut *mut u8, u32, *mut u32, *mut u32) -> u32;
type NetApiBufferFree = unsafe extern "system" fn(*const c_void) -> u32;

/// Nothing when the host does not say.
fn local_groups(user: &str) -> Option<Vec<String>> {
    let (user, mut buffer, mut count, mut total) = (wide(user), ptr::null_mut::<u8>(), 0_u32, 0_u32);
    // SAFETY: the functions have the types that are said; the name ends with a zero; the buffer is the system's, is read where
    // it was filled, and is given back once.
    unsafe {
        let ask: NetUserGetLocalGroups = function("netapi32.dll", c"NetUserGetLocalGroups")?;
        let free: NetApiBufferFree = function("netapi32.dll", c"NetApiBufferFree")?;
        let (read, all) = (&raw mut count, &raw mut total);
        let (server, into) = (ptr::null(), &raw mut buffer);
        let answer =
            ask(server, user.as_ptr(), 0, LG_INCLUDE_INDIRECT, into, MAX_PREFERRED_LENGTH, read, all);
        if answer != 0 || buffer.is_null() {
            return None;
        }
        let first = buffer.cast::<LOCALGROUP_USERS_INFO_0>();
        let groups = (0..count as usize).map(|i| text((*first.add(i)).lgrui0_name)).collect();
        free(buffer.cast::<c_void>());
        Some(groups)
    }
}

fn wide_path(path: &Path) -> Vec<u16> {
    path.as_os_str().encode_wide().chain([0]).collect()
}

/// A descriptor that the system has made, until it is dropped.
struct Descriptor(PSECURITY_DESCRIPTOR);

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: the system says to free it so; nobody else has it.
        unsafe { LocalFree(self.0) };
    }
}

/// The access list of a path, with the descriptor that it is a part of.
fn acl_of(path: &Path) -> io::Result<(Descriptor, *mut ACL)> {
    let (wide, nothing) = (wide_path(path), ptr::null_mut());
    let (mut list, mut descriptor): (*mut ACL, PSECURITY_DESCRIPTOR) = (ptr::null_mut(), ptr::null_mut());
    let what = DACL_SECURITY_INFORMATION;
    // SAFETY: the path ends with a zero; the descriptor is ours to free, and the list is a part of it.
    let answer = unsafe {
        let (owner, group) = (nothing, ptr::null_mut());
        let (list, made) = (&raw mut list, &raw mut descriptor);
        GetNamedSecurityInfoW(wide.as_ptr(), SE_FILE_OBJECT, what, owner, group, list, ptr::null_mut(), made)
    };
    match answer {
        ERROR_SUCCESS => Ok((Descriptor(descriptor), list)),
        number => Err(io::Error::from_raw_os_error(number.cast_signed())),
    }
}

/// Whether the system, administrators, the account or the caller own it: anybody else could put something else in the place of
/// what is in it. What is not there is nobody's.
pub(super) fn is_trusted(definition: &ServiceDefinition, path: &Path) -> Result<bool, Error> {
    if !path.exists() {
        return Ok(true);
    }
    let asked = || Ok((owner_of(path)?, me()?, own_sid(definition)?));
    let asked = asked().map_err(|e| Error::of(format!("ask whose {} is", path.display()), e));
    asked.map(|(owner, me, account)| owner == account || is_one_of_us(&owner, &me))
}

fn is_one_of_us(owner: &Sid, me: &Sid) -> bool {
    owner == me || [Sid::nt(&[18]), Sid::nt(&[32, 544]), Sid::of_service("TrustedInstaller")].contains(owner)
}

fn owner_of(path: &Path) -> io::Result<Sid> {
    let (wide, nothing) = (wide_path(path), ptr::null_mut());
    let (mut owner, mut descriptor): (PSID, PSECURITY_DESCRIPTOR) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the path ends with a zero; the descriptor is ours to free, and the owner is a part of it.
    unsafe {
        let (what, path) = (OWNER_SECURITY_INFORMATION, wide.as_ptr());
        let (into, made) = (&raw mut owner, &raw mut descriptor);
        let answer = GetNamedSecurityInfoW(
            path,
            SE_FILE_OBJECT,
            what,
            into,
            nothing,
            ptr::null_mut(),
            ptr::null_mut(),
            made,
        );
        if answer != ERROR_SUCCESS {
            return Err(io::Error::from_raw_os_error(answer.cast_signed()));
        }
        let _descriptor = Descriptor(descriptor);
        copied(owner).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// Who runs this process.
fn me() -> io::Result<Sid> {
    // As `u64` for its alignment: a TOKEN_USER, and the SID that it points to.
    let (mut info, mut len, mut token) = ([0_u64; 32], 0, ptr::null_mut());
    let size = size_of_val(&info) as u32;
    // SAFETY: the token is ours to close; `info` has the size that is said, and the SID is in it.
    unsafe {
        if OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) == 0 {
            return Err(io::Error::last_os_error());
        }
        let token = OwnedHandle::from_raw_handle(token);
        let into = info.as_mut_ptr().cast();
        if GetTokenInformation(token.as_raw_handle(), TokenUser, into, size, &raw mut len) == 0 {
            return Err(io::Error::last_os_error());
        }
        copied((*info.as_ptr().cast::<TOKEN_USER>()).User.Sid)
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// The entries of a path's list; nothing where there is no path, it does not say, or it has no list: everybody may all then.
pub(super) fn rights(path: &Path) -> Option<Vec<Entry>> {
    let (_descriptor, list) = acl_of(path).ok()?;
    if list.is_null() {
        return None;
    }
    let mut all = Vec::new();
    // SAFETY: the list lives as long as its descriptor, and says itself how many entries it has. Entries of these two kinds have
    // this form, and end with a SID.
    unsafe {
        for i in 0..u32::from((*list).AceCount) {
            let mut found: *mut c_void = ptr::null_mut();
            if GetAce(list, i, &raw mut found) == 0 {
                break;
            }
            let header = *found.cast::<ACE_HEADER>();
            let for_others = u32::from(header.AceFlags) & INHERIT_ONLY_ACE != 0;
            if for_others || !matches!(header.AceType, ACCESS_ALLOWED | ACCESS_DENIED) {
                continue;
            }
            let entry = found.cast::<ACCESS_ALLOWED_ACE>();
            let Some(who) = copied((&raw mut (*entry).SidStart).cast()) else { continue };
            let given = (*entry).Mask;
            let generic = GENERIC.into_iter().filter(|(bit, _)| given & bit != 0);
            let mask = generic.fold(given, |mask, (_, rights)| mask | rights);
            all.push(Entry { denies: header.AceType == ACCESS_DENIED, mask, who });
        }
    }
    Some(all)
}

/// An access list that the system has made, until it is dropped.
struct List(*mut ACL);

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the system says to free it so; nobody else has it.
        unsafe { LocalFree(self.0.cast()) };
    }
}

impl List {
    /// These, before those of another list. They also count for what is below.
    fn of(before: Option<*mut ACL>, entries: &[(Sid, u32)]) -> io::Result<List> {
        let entry = |(sid, mask): &(Sid, u32)| EXPLICIT_ACCESS_W {
            grfAccessPermissions: *mask,
            grfAccessMode: GRANT_ACCESS,
            grfInheritance: SUB_CONTAINERS_AND_OBJECTS_INHERIT,
            Trustee: TRUSTEE_W {
                pMultipleTrustee: ptr::null_mut(),
                MultipleTrusteeOperation: 0,
                TrusteeForm: TRUSTEE_IS_SID,
                TrusteeType: TRUSTEE_IS_UNKNOWN,
                ptstrName: sid.words().as_ptr().cast_mut().cast(),
            },
        };
        let given: Vec<EXPLICIT_ACCESS_W> = entries.iter().map(entry).collect();
        let mut made = ptr::null_mut();
        // SAFETY: so many entries, whose SIDs live through the call; the list is ours to free.
        let answer = unsafe {
            let before = before.unwrap_or(ptr::null_mut());
            SetEntriesInAclW(given.len() as u32, given.as_ptr(), before, &raw mut made)
        };
        match answer {
            ERROR_SUCCESS => Ok(List(made)),
            number => Err(io::Error::from_raw_os_error(number.cast_signed())),
        }
    }
}

/// Beside what others may.
fn give(path: &Path, sid: &Sid, mask: u32) -> io::Result<()> {
    let (_descriptor, before) = acl_of(path)?;
    let list = List::of(Some(before), &[(sid.clone(), mask)])?;
    set(path, &list, 0)
}

fn set(path: &Path, list: &List, protection: u32) -> io::Result<()> {
    let (wide, nothing) = (wide_path(path), ptr::null_mut());
    let what = DACL_SECURITY_INFORMATION | protection;
    // SAFETY: the path ends with a zero, and the list is valid.
    let answer = unsafe {
        SetNamedSecurityInfoW(
            wide.as_ptr(),
            SE_FILE_OBJECT,
            what,
            nothing,
            ptr::null_mut(),
            list.0,
            ptr::null(),
        )
    };
    match answer {
        ERROR_SUCCESS => Ok(()),
        number => Err(io::Error::from_raw_os_error(number.cast_signed())),
    }
}

/// The policy of this host, open until it is dropped.
struct Policy(LSA_HANDLE);

impl Drop for Policy {
    fn drop(&mut self) {
        // SAFETY: it is open, and nobody else has it.
        unsafe { LsaClose(self.0) };
    }
}

impl Policy {
    fn open(access: i32) -> Result<Policy, Error> {
        let attributes = LSA_OBJECT_ATTRIBUTES::default();
        let mut handle: LSA_HANDLE = 0;
        // SAFETY: null means this host; the handle is ours to close.
        let answer = unsafe {
            LsaOpenPolicy(ptr::null(), &raw const attributes, access.cast_unsigned(), &raw mut handle)
        };
        done(answer, "open the policy of this host")?;
        Ok(Policy(handle))
    }
}

fn done(status: i32, step: &str) -> Result<(), Error> {
    if status >= 0 {
        return Ok(());
    }
    // SAFETY: no pointers.
    let number = unsafe { LsaNtStatusToWinError(status) };
    Err(Error::of(step.to_owned(), io::Error::from_raw_os_error(number.cast_signed())))
}

/// Whether the account has been given the right itself, or a group that it is known to be in.
fn may_log_on(who: &Who) -> Result<bool, Error> {
    let policy = Policy::open(POLICY_LOOKUP_NAMES)?;
    for sid in std::iter::once(&who.own).chain(&who.all) {
        let (mut list, mut count): (*mut LSA_UNICODE_STRING, u32) = (ptr::null_mut(), 0);
        // SAFETY: an open policy and a valid SID; the list is the system's, is read where it was filled, and is given back once.
        let found = unsafe {
            let sid = sid.words().as_ptr().cast_mut().cast();
            let answer = LsaEnumerateAccountRights(policy.0, sid, &raw mut list, &raw mut count);
            if answer == STATUS_OBJECT_NAME_NOT_FOUND {
                continue;
            }
            done(answer, "ask for the rights of the account")?;
            let found = (0..count as usize).any(|i| {
                let one = &*list.add(i);
                let letters = std::slice::from_raw_parts(one.Buffer, usize::from(one.Length) / 2);
                String::from_utf16_lossy(letters) == LOG_ON
            });
            LsaFreeMemory(list.cast());
            found
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

fn let_log_on(sid: &Sid, account: &str) -> Result<(), Error> {
    let policy = Policy::open(POLICY_LOOKUP_NAMES | POLICY_CREATE_ACCOUNT)?;
    let mut letters: Vec<u16> = LOG_ON.encode_utf16().collect();
    let size = size_of_val(letters.as_slice()) as u16;
    let right = LSA_UNICODE_STRING { Length: size, MaximumLength: size, Buffer: letters.as_mut_ptr() };
    // SAFETY: an open policy, a valid SID, and one text that lives through the call.
    let answer =
        unsafe { LsaAddAccountRights(policy.0, sid.words().as_ptr().cast_mut().cast(), &raw const right, 1) };
    done(answer, &format!("let {account} log on as a service"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> ServiceDefinition {
        ServiceDefinition::new("shop", r"C:\keepwell.exe")
    }

    #[test]
    fn an_account_that_is_not_there_is_named() {
        let account = Account::User { name: "nobody of this name".into(), password: None };
        let lacks = lacks(&ServiceDefinition { account, ..shop() }, &Needs::default()).unwrap();
        assert!(matches!(lacks.as_slice(), [Lack::Account(_)]), "{lacks:?}");
    }

    #[test]
    fn what_is_not_there_is_not_held_against_anybody() {
        let needs = Needs { run: vec![r"C:\none.exe".into()], ..Needs::default() };
        assert_eq!(lacks(&shop(), &needs).unwrap(), []);
    }

    #[test]
    fn lists_say_who_may_and_take_more() {
        let folder = tempfile::tempdir().unwrap();
        let sid = Sid::of_service("shop");
        let list = List::of(None, &[(sid.clone(), MODIFY)]).unwrap();
        // SAFETY: a list of the system's, which lives to the end of this function.
        let count = unsafe { (*list.0).AceCount };
        assert_eq!(count, 1);
        let more = List::of(Some(list.0), &[(Sid::world(), FILE_GENERIC_READ)]).unwrap();
        // SAFETY: as above.
        assert_eq!(unsafe { (*more.0).AceCount }, 2);
        assert!(!rights(folder.path()).unwrap().is_empty());
        own_folder(&shop(), &folder.path().join("own")).unwrap();
        std::fs::write(folder.path().join("own/file"), "").unwrap();
        give(folder.path(), &sid, MODIFY).unwrap();
    }

    #[test]
    fn a_folder_is_trusted_by_whose_it_is() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path(), &folder.path().join("none")] {
            assert!(is_trusted(&shop(), path).unwrap());
        }
        let (me, anna) = (me().unwrap(), Sid::nt(&[21, 9, 9, 9, 1001]));
        assert_eq!(owner_of(folder.path()).unwrap(), me);
        assert!(is_one_of_us(&me, &me) && is_one_of_us(&Sid::nt(&[32, 544]), &me));
        assert!(!is_one_of_us(&anna, &me));
    }

    #[test]
    fn membership_that_is_not_known_counts_for_the_account() {
        let group = Sid::nt(&[21, 1, 2, 3, 513]);
        let list = [Entry { denies: false, mask: 3, who: group }];
        let own = Sid::nt(&[21, 1, 2, 3, 1000]);
        let who = |complete| Who { own: own.clone(), all: vec![own.clone()], complete };
        assert!(who(false).may(&list, 3) && !who(true).may(&list, 3));
    }
}
