//! Programs that start when somebody logs on: the registry's `Run` keys
//! (<https://learn.microsoft.com/windows/win32/setupapi/run-and-runonce-registry-keys>).
#![expect(unsafe_code, reason = "the registry has no safe form in the standard library")]

use std::io;
use std::ptr;

use windows_sys::Win32::Foundation::{ERROR_FILE_NOT_FOUND, ERROR_NO_MORE_ITEMS, ERROR_SUCCESS};
use windows_sys::Win32::System::Registry::{
    HKEY, HKEY_CURRENT_USER, HKEY_LOCAL_MACHINE, KEY_QUERY_VALUE, KEY_SET_VALUE, REG_EXPAND_SZ,
    REG_OPTION_NON_VOLATILE, REG_SZ, RegCloseKey, RegCreateKeyExW, RegDeleteValueW, RegEnumValueW,
    RegSetValueExW,
};

use super::command_line;
use super::definition::{Invalid, ServiceDefinition};
use super::difference::Change;
use super::host::Installed;
use crate::error::Error;

const KEY: &str = r"Software\Microsoft\Windows\CurrentVersion\Run";
/// Of a name and of a line; what is longer is not ours.
const LONGEST: usize = 32 * 1024;

/// Where programs of a user keep what is the user's; the system says whose when it starts one that is everybody's.
pub(crate) const EACH_USERS: &str = "%LOCALAPPDATA%";

/// Whose logon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Logon {
    /// The user's own.
    User,
    /// Everybody's.
    AllUsers,
}

/// An open key.
struct Key(HKEY);

impl Drop for Key {
    fn drop(&mut self) {
        // SAFETY: it is open, and nobody else owns it.
        unsafe { RegCloseKey(self.0) };
    }
}

impl Logon {
    /// As people write it.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Logon::User => r"HKCU\Software\Microsoft\Windows\CurrentVersion\Run",
            Logon::AllUsers => r"HKLM\Software\Microsoft\Windows\CurrentVersion\Run",
        }
    }

    /// The command line, as this user's logon runs it.
    pub(crate) fn command(self, line: &str) -> Vec<String> {
        let own = match self {
            Logon::User => None,
            Logon::AllUsers => std::env::var(EACH_USERS.trim_matches('%')).ok(),
        };
        command_line::split(&own.map_or_else(|| line.to_owned(), |own| line.replace(EACH_USERS, &own)))
    }

    pub(crate) fn install(self, definition: &ServiceDefinition) -> Result<Installed, Error> {
        definition.check()?;
        let (name, line) = (&definition.name, definition.image());
        let kind = match self {
            Logon::User => REG_SZ,
            Logon::AllUsers if line.replace(EACH_USERS, "").contains('%') => {
                return Err(Invalid(format!(
                    "{name}: a path holds %, which Windows would read as a variable"
                ))
                .into());
            }
            Logon::AllUsers => REG_EXPAND_SZ,
        };
        let before = match self.line(name) {
            Ok(before) => Some(before),
            Err(Error::NoSuchService(_)) => None,
            Err(error) => return Err(error),
        };
        let key = self.open(KEY_SET_VALUE)?;
        let (wide_name, wide_line) = (wide(name), wide(&line));
        let size = size_of_val(wide_line.as_slice()) as u32;
        // SAFETY: an open key; texts that end with a zero, with the size that is said.
        let answer =
            unsafe { RegSetValueExW(key.0, wide_name.as_ptr(), 0, kind, wide_line.as_ptr().cast(), size) };
        self.done(answer, "write")?;
        let created = before.is_none();
        let change = |from| Change { what: "command".to_owned(), from, to: line.clone() };
        let changes = before.filter(|before| *before != line).map(change).into_iter().collect();
        Ok(Installed { created, changes, unsupported: Vec::new() })
    }

    pub(crate) fn uninstall(self, name: &str) -> Result<(), Error> {
        let (key, wide) = (self.open(KEY_SET_VALUE)?, wide(name));
        // SAFETY: an open key, and text that ends with a zero.
        match unsafe { RegDeleteValueW(key.0, wide.as_ptr()) } {
            ERROR_FILE_NOT_FOUND => Err(Error::NoSuchService(name.to_owned())),
            answer => self.done(answer, "change"),
        }
    }

    /// The command line of a name.
    pub(crate) fn line(self, name: &str) -> Result<String, Error> {
        let found = self.all()?.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, line)| line).ok_or_else(|| Error::NoSuchService(name.to_owned()))
    }

    /// Names and command lines.
    pub(crate) fn all(self) -> Result<Vec<(String, String)>, Error> {
        let key = self.open(KEY_QUERY_VALUE)?;
        let mut all = Vec::new();
        for i in 0.. {
            let (mut name, mut value) = (vec![0_u16; LONGEST], vec![0_u16; LONGEST]);
            let (mut name_len, mut size, mut kind) = (LONGEST as u32, LONGEST as u32 * 2, 0);
            // SAFETY: an open key; the buffers have the sizes that are said.
            let answer = unsafe {
                let (n, v) = (name.as_mut_ptr(), value.as_mut_ptr().cast());
                let (n_len, v_len) = (&raw mut name_len, &raw mut size);
                RegEnumValueW(key.0, i, n, n_len, ptr::null(), &raw mut kind, v, v_len)
            };
            if answer == ERROR_NO_MORE_ITEMS {
                break;
            }
            self.done(answer, "read")?;
            name.truncate(name_len as usize);
            value.truncate(size as usize / 2);
            if kind == REG_SZ || kind == REG_EXPAND_SZ {
                let value = String::from_utf16_lossy(&value);
                all.push((String::from_utf16_lossy(&name), value.trim_end_matches('\0').to_owned()));
            }
        }
        Ok(all)
    }

    /// Makes it if it is not there: a user who never had such a program has no such key.
    fn open(self, access: u32) -> Result<Key, Error> {
        let root = match self {
            Logon::User => HKEY_CURRENT_USER,
            Logon::AllUsers => HKEY_LOCAL_MACHINE,
        };
        let (mut key, wide): (HKEY, _) = (ptr::null_mut(), wide(KEY));
        // SAFETY: text that ends with a zero; the key that is made is ours.
        let answer = unsafe {
            let (class, security) = (ptr::null(), ptr::null());
            let (name, made) = (wide.as_ptr(), &raw mut key);
            RegCreateKeyExW(
                root,
                name,
                0,
                class,
                REG_OPTION_NON_VOLATILE,
                access,
                security,
                made,
                ptr::null_mut(),
            )
        };
        self.done(answer, "open")?;
        Ok(Key(key))
    }

    fn done(self, answer: u32, step: &str) -> Result<(), Error> {
        match answer {
            ERROR_SUCCESS => Ok(()),
            number => {
                let source = io::Error::from_raw_os_error(number.cast_signed());
                Err(Error::of(format!("{step} {}", self.key()), source))
            }
        }
    }
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_changed_and_taken_away() {
        let name = format!("keepwell test {}", std::process::id());
        let definition = |argument: &str| ServiceDefinition {
            arguments: vec![argument.to_owned()],
            ..ServiceDefinition::new(&name, r"C:\Program Files\keepwell.exe")
        };
        let first = Logon::User.install(&definition("up")).unwrap();
        assert!(first.created && first.changes.is_empty());
        assert_eq!(Logon::User.line(&name).unwrap(), r#""C:\Program Files\keepwell.exe" up"#);
        let second = Logon::User.install(&definition("a b")).unwrap();
        assert!(!second.created);
        assert_eq!(second.changes[0].to, r#""C:\Program Files\keepwell.exe" "a b""#);
        Logon::User.uninstall(&name).unwrap();
        let folder = super::super::scm::host::each_users_folder("shop").display().to_string();
        Logon::AllUsers.install(&definition(&folder)).unwrap();
        let line = Logon::AllUsers.line(&name).unwrap();
        assert!(line.ends_with(r"%LOCALAPPDATA%\keepwell\shop"), "{line}");
        let own = std::env::var("LOCALAPPDATA").unwrap();
        assert_eq!(Logon::AllUsers.command(&line)[1], format!(r"{own}\keepwell\shop"));
        Logon::AllUsers.uninstall(&name).unwrap();
        assert!(matches!(Logon::AllUsers.install(&definition("100%")), Err(Error::Invalid(_))));
        assert!(matches!(Logon::User.uninstall(&name), Err(Error::NoSuchService(_))));
        assert!(matches!(Logon::User.line(&name), Err(Error::NoSuchService(_))));
    }
}
