//! What the registry holds of services, as it is stored: for programs that read what other wrappers of services were told.
//! Windows only; on other hosts there is none.

use crate::error::Error;

/// The key below which Windows keeps its services.
pub const SERVICES: &str = r"SYSTEM\CurrentControlSet\Services";

/// One key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StoredKey {
    /// From the service's own key on, which is the empty one: `Parameters\AppExit`.
    pub below: String,
    /// Its values, in the order of the registry.
    pub values: Vec<StoredValue>,
}

/// One value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredValue {
    /// The default value's is empty.
    pub name: String,
    /// `REG_SZ` is 1 (<https://learn.microsoft.com/windows/win32/sysinfo/registry-value-types>).
    pub kind: u32,
    /// As they are stored; text is UTF-16.
    pub bytes: Vec<u8>,
}

impl StoredValue {
    /// Text, its variables not filled in; nothing when it is none.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let text = self.letters();
        matches!(self.kind, 1 | 2).then(|| text.split('\0').next().unwrap_or_default().to_owned())
    }

    /// A list of texts; nothing when it is none.
    #[must_use]
    pub fn list(&self) -> Option<Vec<String>> {
        let text = self.letters();
        let all = || text.split('\0').filter(|t| !t.is_empty()).map(str::to_owned).collect();
        (self.kind == 7).then(all)
    }

    fn letters(&self) -> String {
        let units: Vec<u16> =
            self.bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        String::from_utf16_lossy(&units)
    }

    /// A number of four bytes; nothing when it is none.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        let bytes = self.bytes.as_slice().try_into().ok().filter(|_| self.kind == 4)?;
        Some(u32::from_le_bytes(bytes).into())
    }
}

/// Names of all that is kept as a service, drivers included.
///
/// # Errors
/// When the registry does not say, or there is none.
pub fn services() -> Result<Vec<String>, Error> {
    system::services()
}

/// The key of a service and all below it. What may not be read is left out.
///
/// # Errors
/// When there is no such service, or its own key may not be read.
pub fn stored(service: &str) -> Result<Vec<StoredKey>, Error> {
    system::stored(service)
}

#[cfg(unix)]
mod system {
    use super::{Error, StoredKey};

    fn none() -> Error {
        Error::NoManager("this host has no registry".to_owned())
    }

    pub(super) fn services() -> Result<Vec<String>, Error> {
        Err(none())
    }

    pub(super) fn stored(_service: &str) -> Result<Vec<StoredKey>, Error> {
        Err(none())
    }
}

#[cfg(windows)]
mod system {
    #![expect(unsafe_code, reason = "the registry has no safe form in the standard library")]

    use std::io;
    use std::ptr;

    use windows_sys::Win32::Foundation::{
        ERROR_FILE_NOT_FOUND, ERROR_MORE_DATA, ERROR_NO_MORE_ITEMS, ERROR_SUCCESS,
    };
    use windows_sys::Win32::System::Registry::{
        HKEY, HKEY_LOCAL_MACHINE, KEY_READ, RegCloseKey, RegEnumKeyExW, RegEnumValueW, RegOpenKeyExW,
    };

    use super::{Error, SERVICES, StoredKey, StoredValue};

    /// The longest names of keys and of values
    /// (<https://learn.microsoft.com/windows/win32/sysinfo/registry-element-size-limits>).
    const LONGEST_NAME: usize = 16_384;
    /// No value of a service that matters here is longer; Windows advises against more than 1 MB.
    const LARGEST_VALUE: usize = 1 << 20;
    /// Of keys within keys: the registry's own bound is 512, and no service needs more than a few.
    const DEEPEST: usize = 8;

    /// An open key.
    struct Key(HKEY);

    impl Drop for Key {
        fn drop(&mut self) {
            // SAFETY: it is open, and nobody else owns it.
            unsafe { RegCloseKey(self.0) };
        }
    }

    pub(super) fn services() -> Result<Vec<String>, Error> {
        let step = || format!(r"read HKLM\{SERVICES}");
        let key = Key::open(HKEY_LOCAL_MACHINE, SERVICES).map_err(|e| failed(step(), e))?;
        key.keys().map_err(|e| failed(step(), e))
    }

    pub(super) fn stored(service: &str) -> Result<Vec<StoredKey>, Error> {
        let path = format!(r"{SERVICES}\{service}");
        let step = || format!(r"read HKLM\{path}");
        if service.is_empty() || service.contains('\\') {
            return Err(Error::NoSuchService(service.to_owned()));
        }
        let key = Key::open(HKEY_LOCAL_MACHINE, &path).map_err(|e| match e {
            ERROR_FILE_NOT_FOUND => Error::NoSuchService(service.to_owned()),
            e => failed(step(), e),
        })?;
        let mut all = Vec::new();
        key.read("", 0, &mut all).map_err(|e| failed(step(), e))?;
        Ok(all)
    }

    fn failed(step: String, number: u32) -> Error {
        Error::of(step, io::Error::from_raw_os_error(number.cast_signed()))
    }

    impl Key {
        fn open(above: HKEY, name: &str) -> Result<Key, u32> {
            let name: Vec<u16> = name.encode_utf16().chain([0]).collect();
            let mut key: HKEY = ptr::null_mut();
            // SAFETY: an open key, and text that ends with a zero; the key that is opened is ours.
            match unsafe { RegOpenKeyExW(above, name.as_ptr(), 0, KEY_READ, &raw mut key) } {
                ERROR_SUCCESS => Ok(Key(key)),
                number => Err(number),
            }
        }

        fn read(&self, below: &str, depth: usize, all: &mut Vec<StoredKey>) -> Result<(), u32> {
            all.push(StoredKey { below: below.to_owned(), values: self.values()? });
            if depth == DEEPEST {
                return Ok(());
            }
            for name in self.keys()? {
                // What only the system itself may read is none of the wrapper's.
                let Ok(key) = Key::open(self.0, &name) else { continue };
                let path = if below.is_empty() { name } else { format!(r"{below}\{name}") };
                key.read(&path, depth + 1, all)?;
            }
            Ok(())
        }

        fn keys(&self) -> Result<Vec<String>, u32> {
            let (mut all, mut name) = (Vec::new(), vec![0_u16; LONGEST_NAME]);
            for i in 0.. {
                let mut len = LONGEST_NAME as u32;
                // SAFETY: an open key; the buffer has the size that is said, and nothing else is asked for.
                let answer = unsafe {
                    let (none, no_class) = (ptr::null_mut(), ptr::null_mut());
                    let (class_len, time) = (ptr::null_mut(), ptr::null_mut());
                    RegEnumKeyExW(self.0, i, name.as_mut_ptr(), &raw mut len, none, no_class, class_len, time)
                };
                match answer {
                    ERROR_SUCCESS => all.push(String::from_utf16_lossy(&name[..len as usize])),
                    ERROR_NO_MORE_ITEMS => break,
                    number => return Err(number),
                }
            }
            Ok(all)
        }

        fn values(&self) -> Result<Vec<StoredValue>, u32> {
            let (mut all, mut name) = (Vec::new(), vec![0_u16; LONGEST_NAME]);
            let mut bytes = vec![0_u8; 4096];
            let mut i = 0;
            loop {
                let (mut name_len, mut size, mut kind) = (LONGEST_NAME as u32, bytes.len() as u32, 0);
                // SAFETY: an open key; the buffers have the sizes that are said.
                let answer = unsafe {
                    let (n, b) = (name.as_mut_ptr(), bytes.as_mut_ptr());
                    let (n_len, b_len) = (&raw mut name_len, &raw mut size);
                    RegEnumValueW(self.0, i, n, n_len, ptr::null(), &raw mut kind, b, b_len)
                };
                match answer {
                    ERROR_SUCCESS => {
                        let name = String::from_utf16_lossy(&name[..name_len as usize]);
                        all.push(StoredValue { name, kind, bytes: bytes[..size as usize].to_vec() });
                        i += 1;
                    }
                    ERROR_NO_MORE_ITEMS => return Ok(all),
                    ERROR_MORE_DATA if bytes.len() < LARGEST_VALUE => bytes.resize(bytes.len() * 4, 0),
                    number => return Err(number),
                }
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::super::{services, stored};
        use super::Error;

        #[test]
        fn the_services_of_this_windows_are_read() {
            let names = services().unwrap();
            let name =
                names.iter().find(|n| n.eq_ignore_ascii_case("eventlog")).expect("every Windows has it");
            let keys = stored(name).unwrap();
            assert_eq!(keys[0].below, "");
            let image = keys[0].values.iter().find(|v| v.name.eq_ignore_ascii_case("ImagePath")).unwrap();
            assert!(matches!(image.kind, 1 | 2) && image.bytes.len() > 8, "{image:?}");
        }

        #[test]
        fn what_is_no_service_is_told() {
            for name in ["no such service", "", r"EventLog\..\EventLog"] {
                assert!(matches!(stored(name), Err(Error::NoSuchService(_))), "{name}");
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn values_are_text_or_numbers() {
        let value = |kind, bytes: &[u8]| StoredValue { name: "x".into(), kind, bytes: bytes.to_vec() };
        assert_eq!(value(2, b"a\0b\0\0\0c\0").text().as_deref(), Some("ab"));
        assert_eq!(value(7, b"a\0\0\0b\0\0\0\0\0").list(), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(value(4, &[1, 1, 0, 0]).number(), Some(257));
        assert_eq!((value(4, &[1]).number(), value(4, b"a\0").text()), (None, None));
        assert_eq!(value(1, b"a\0\0\0").number(), None);
    }

    #[test]
    fn other_hosts_have_none() {
        assert_eq!(services().unwrap_err().to_string(), "this host has no registry");
        assert!(matches!(stored("x"), Err(Error::NoManager(_))));
    }
}
