//! The Service Control Manager (<https://learn.microsoft.com/windows/win32/services/service-control-manager>).
//!
//! A [`Manager`] is a connection; a [`Service`] is an open service. Both close themselves.
#![expect(unsafe_code, reason = "calls of the SCM")]

mod ask;
mod config;
mod facts;
pub(crate) mod host;
mod rights;
mod service;
mod sys;
mod trigger;
mod watch;

use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::ERROR_MORE_DATA;
use windows_sys::Win32::System::Services::{
    CreateServiceW, ENUM_SERVICE_STATUS_PROCESSW, EnumServicesStatusExW, OpenSCManagerW, OpenServiceW,
    SC_ENUM_PROCESS_INFO, SC_MANAGER_CONNECT, SC_MANAGER_CREATE_SERVICE, SC_MANAGER_ENUMERATE_SERVICE,
    SERVICE_ALL_ACCESS, SERVICE_ENUMERATE_DEPENDENTS, SERVICE_INTERROGATE, SERVICE_PAUSE_CONTINUE,
    SERVICE_QUERY_CONFIG, SERVICE_QUERY_STATUS, SERVICE_START, SERVICE_STATE_ALL, SERVICE_STOP,
    SERVICE_USER_DEFINED_CONTROL, SERVICE_WIN32, SERVICE_WIN32_OWN_PROCESS,
};

use self::sys::{Handle, failed, last_error, optional, text, wide, wide_list};
use super::definition::{ServiceDefinition, StartMode};
use super::difference::differences;
use super::host::Installed;
use super::status::Status;
use crate::error::Error;

pub(crate) use self::ask::ask;
pub use self::service::{Control, Service};

/// How long a deleted service may take to be gone, at each look.
const GLANCE: Duration = Duration::from_millis(50);

/// A connection to the SCM of this host.
#[derive(Debug)]
pub struct Manager(Handle);

/// What is to be done with the SCM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ManagerAccess {
    /// Look at services and list them.
    Look,
    /// Also make services; needs an administrator.
    Change,
}

/// What is to be done with a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Look at it.
    Look,
    /// Start it, stop it, pause it, and look.
    Drive,
    /// All that there is.
    Full,
}

/// A service of the SCM's list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What people see.
    pub display_name: String,
    /// How it is.
    pub status: Status,
}

impl Manager {
    /// Connects to the SCM of this host.
    ///
    /// # Errors
    /// When it does not answer, or the caller may not do this.
    pub fn connect(access: ManagerAccess) -> Result<Self, Error> {
        let look = SC_MANAGER_CONNECT | SC_MANAGER_ENUMERATE_SERVICE;
        let access = match access {
            ManagerAccess::Look => look,
            ManagerAccess::Change => look | SC_MANAGER_CREATE_SERVICE,
        };
        // SAFETY: null means this host and its active database.
        let handle = unsafe { OpenSCManagerW(ptr::null(), ptr::null(), access) };
        Handle::new(handle).map(Self).ok_or_else(|| match last_error() {
            5 => Error::Denied("change the services of this host".into()),
            number => Error::system("connect to the service manager", number),
        })
    }

    /// Opens a service.
    ///
    /// # Errors
    /// When there is none, or the caller may not do this with it.
    pub fn open(&self, name: &str, access: Access) -> Result<Service, Error> {
        let look =
            SERVICE_QUERY_STATUS | SERVICE_QUERY_CONFIG | SERVICE_ENUMERATE_DEPENDENTS | SERVICE_INTERROGATE;
        let drive = SERVICE_START | SERVICE_STOP | SERVICE_PAUSE_CONTINUE | SERVICE_USER_DEFINED_CONTROL;
        let (rights, step) = match access {
            Access::Look => (look, "look at"),
            Access::Drive => (look | drive, "drive"),
            Access::Full => (SERVICE_ALL_ACCESS, "change"),
        };
        let wide = wide(name);
        // SAFETY: an open handle, and text that ends with a zero.
        let handle = unsafe { OpenServiceW(self.0.raw(), wide.as_ptr(), rights) };
        match Handle::new(handle) {
            Some(handle) => Ok(Service::new(name.to_owned(), handle)),
            None => Err(failed(name, step, last_error())),
        }
    }

    /// Makes a service with all that the definition says. What this Windows does not know is named in the answer.
    ///
    /// # Errors
    /// Nothing is left of a service that could not be made whole.
    pub fn create(&self, definition: &ServiceDefinition) -> Result<(Service, Vec<&'static str>), Error> {
        definition.check()?;
        let name = &definition.name;
        let [wide_name, display, image] =
            [name.as_str(), &definition.display_name, &definition.image()].map(wide);
        let dependencies = wide_list(&definition.depends_on);
        let group = definition.windows.group.as_deref().map(wide);
        let (account, password) = config::account(definition);
        // SAFETY: all texts end with a zero and live through the call.
        let handle = unsafe {
            CreateServiceW(
                self.0.raw(),
                wide_name.as_ptr(),
                display.as_ptr(),
                SERVICE_ALL_ACCESS,
                SERVICE_WIN32_OWN_PROCESS,
                config::start_type(definition.start),
                config::error_control(definition.error_control),
                image.as_ptr(),
                optional(group.as_ref()),
                ptr::null_mut(),
                dependencies.as_ptr(),
                account.as_ptr(),
                optional(password.as_ref()),
            )
        };
        let Some(handle) = Handle::new(handle) else { return Err(failed(name, "make", last_error())) };
        let service = Service::new(name.clone(), handle);
        match service.write_extra(definition, &|_| true) {
            Ok(unsupported) => Ok((service, unsupported)),
            Err(error) => {
                // It was not there before, and is not to be there half; what went wrong is told in any case.
                let _ = service.delete();
                Err(error)
            }
        }
    }

    /// Makes the service, or what is there to be so, in place: one that runs goes on, and nobody's handle is in the way.
    ///
    /// # Errors
    /// Nothing is left of a service that could not be made whole.
    pub fn install(&self, definition: &ServiceDefinition) -> Result<Installed, Error> {
        definition.check()?;
        let service = match self.open(&definition.name, Access::Full) {
            Ok(service) => service,
            Err(Error::NoSuchService(_)) => {
                let (_, unsupported) = self.create(definition)?;
                return Ok(Installed { created: true, changes: Vec::new(), unsupported });
            }
            Err(error) => return Err(error),
        };
        let (mut now, unknown) = service.read()?;
        if unknown.contains(&"delayed start")
            && (now.start, definition.start) == (StartMode::Auto, StartMode::Delayed)
        {
            now.start = StartMode::Delayed;
        }
        let mut changes = differences(&now, definition);
        changes.retain(|c| !unknown.contains(&c.what.as_str()));
        let changed = |what: &str| changes.iter().any(|c| c.what == what);
        let wanted = |what: &str| {
            unknown.contains(&what) || changed(what) || what == "delayed start" && changed("start")
        };
        if config::BASIC.iter().any(|what| wanted(what)) {
            service.write_basic(definition, wanted("account"))?;
        }
        let unsupported = service.write_extra(definition, &wanted)?;
        Ok(Installed { created: false, changes, unsupported })
    }

    /// All services of programs, without drivers, by name.
    ///
    /// # Errors
    /// When the SCM does not say.
    pub fn list(&self) -> Result<Vec<Entry>, Error> {
        let (mut all, mut resume) = (Vec::new(), 0_u32);
        loop {
            let mut buffer = vec![0_u64; 8 * 1024];
            let (mut needed, mut count) = (0, 0);
            // SAFETY: the buffer has the size that is said; the other places are ours.
            let done = unsafe {
                EnumServicesStatusExW(
                    self.0.raw(),
                    SC_ENUM_PROCESS_INFO,
                    SERVICE_WIN32,
                    SERVICE_STATE_ALL,
                    buffer.as_mut_ptr().cast(),
                    size_of_val(buffer.as_slice()) as u32,
                    &raw mut needed,
                    &raw mut count,
                    &raw mut resume,
                    ptr::null(),
                )
            } != 0;
            let error = if done { 0 } else { last_error() };
            if !done && error != ERROR_MORE_DATA {
                return Err(Error::system("list the services of this host", error));
            }
            let first = buffer.as_ptr().cast::<ENUM_SERVICE_STATUS_PROCESSW>();
            for i in 0..count as usize {
                // SAFETY: the call has filled so many, and their texts are in the buffer.
                let entry = unsafe {
                    let found = &*first.add(i);
                    Entry {
                        name: text(found.lpServiceName),
                        display_name: text(found.lpDisplayName),
                        status: service::status_of(&found.ServiceStatusProcess),
                    }
                };
                all.push(entry);
            }
            if done || count == 0 {
                all.sort_by_key(|e: &Entry| e.name.to_lowercase());
                return Ok(all);
            }
        }
    }

    /// Stops a service, deletes it, and waits until it is really gone: until then its name is taken.
    ///
    /// # Errors
    /// Also when it is still there after `timeout`, since somebody holds it open.
    pub fn remove(&self, name: &str, timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        let service = self.open(name, Access::Full)?;
        service.stop(timeout)?;
        match service.delete() {
            Ok(()) | Err(Error::BeingDeleted(_)) => {}
            Err(error) => return Err(error),
        }
        // Its own handle is one of those that it waits for.
        drop(service);
        loop {
            match self.open(name, Access::Look) {
                Err(Error::NoSuchService(_)) => return Ok(()),
                Ok(_) | Err(Error::BeingDeleted(_)) if Instant::now() < deadline => thread::sleep(GLANCE),
                Ok(_) | Err(Error::BeingDeleted(_)) => return Err(Error::BeingDeleted(name.to_owned())),
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests;
