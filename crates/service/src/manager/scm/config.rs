//! What the SCM keeps of a service: read into a definition, and written from one.
#![expect(unsafe_code, reason = "structures of the SCM hold bare pointers")]

use std::ffi::c_void;
use std::ptr;
use std::time::Duration;

use windows_sys::Win32::Foundation::{ERROR_CALL_NOT_IMPLEMENTED, ERROR_INVALID_LEVEL, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertSecurityDescriptorToStringSecurityDescriptorW,
    ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::{DACL_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR};
use windows_sys::Win32::System::Services::{
    ChangeServiceConfig2W, ChangeServiceConfigW, QUERY_SERVICE_CONFIGW, QueryServiceConfig2W,
    QueryServiceConfigW, QueryServiceObjectSecurity, SC_ACTION, SC_ACTION_NONE, SC_ACTION_REBOOT,
    SC_ACTION_RESTART, SC_ACTION_RUN_COMMAND, SERVICE_AUTO_START, SERVICE_CONFIG_DELAYED_AUTO_START_INFO,
    SERVICE_CONFIG_DESCRIPTION, SERVICE_CONFIG_FAILURE_ACTIONS, SERVICE_CONFIG_FAILURE_ACTIONS_FLAG,
    SERVICE_CONFIG_PRESHUTDOWN_INFO, SERVICE_CONFIG_REQUIRED_PRIVILEGES_INFO,
    SERVICE_CONFIG_SERVICE_SID_INFO, SERVICE_CONFIG_TRIGGER_INFO, SERVICE_DELAYED_AUTO_START_INFO,
    SERVICE_DEMAND_START, SERVICE_DESCRIPTIONW, SERVICE_DISABLED, SERVICE_ERROR_CRITICAL,
    SERVICE_ERROR_IGNORE, SERVICE_ERROR_NORMAL, SERVICE_ERROR_SEVERE, SERVICE_FAILURE_ACTIONS_FLAG,
    SERVICE_FAILURE_ACTIONSW, SERVICE_PRESHUTDOWN_INFO, SERVICE_REQUIRED_PRIVILEGES_INFOW, SERVICE_SID_INFO,
    SERVICE_SID_TYPE_NONE, SERVICE_SID_TYPE_UNRESTRICTED, SERVICE_TRIGGER,
    SERVICE_TRIGGER_ACTION_SERVICE_START, SERVICE_TRIGGER_ACTION_SERVICE_STOP,
    SERVICE_TRIGGER_DATA_TYPE_STRING, SERVICE_TRIGGER_INFO, SERVICE_TRIGGER_SPECIFIC_DATA_ITEM,
    SERVICE_WIN32_OWN_PROCESS, SetServiceObjectSecurity,
};
use windows_sys::core::GUID;

use super::service::Service;
use super::sys::{failed, grown, last_error, optional, text, text_list, wide, wide_list};
use super::trigger;
use crate::error::Error;
use crate::manager::command_line;
use crate::manager::definition::{
    Account, ErrorControl, Privileges, Recovery, RecoveryAction, RecoveryKind, Secret, ServiceDefinition,
    SidType, StartMode, Trigger, TriggerAction,
};

/// What `ChangeServiceConfigW` writes, in the words of [`crate::manager::differences`].
pub(super) const BASIC: [&str; 7] =
    ["program", "display name", "start", "account", "dependencies", "error control", "load order group"];
/// winnt.h; both bits, since a restricted SID is also in the token.
const SERVICE_SID_TYPE_RESTRICTED: u32 = 3;

pub(super) fn start_type(start: StartMode) -> u32 {
    match start {
        StartMode::Auto | StartMode::Delayed => SERVICE_AUTO_START,
        StartMode::Demand => SERVICE_DEMAND_START,
        StartMode::Disabled => SERVICE_DISABLED,
    }
}

pub(super) fn error_control(control: ErrorControl) -> u32 {
    match control {
        ErrorControl::Ignore => SERVICE_ERROR_IGNORE,
        ErrorControl::Normal => SERVICE_ERROR_NORMAL,
        ErrorControl::Severe => SERVICE_ERROR_SEVERE,
        ErrorControl::Critical => SERVICE_ERROR_CRITICAL,
    }
}

/// Its name, and its password: none for accounts that the system manages, since it would refuse them with one.
pub(super) fn account(definition: &ServiceDefinition) -> (Vec<u16>, Option<Vec<u16>>) {
    let password = match &definition.account {
        Account::Virtual => None,
        Account::System | Account::LocalService | Account::NetworkService => Some(wide("")),
        Account::User { password, .. } => password.as_ref().map(Secret::expose).map(wide),
    };
    (wide(&definition.account_name()), password)
}

fn account_of(name: &str, service: &str) -> Account {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    match name {
        _ if name.is_empty() || is("LocalSystem") || is(r"NT AUTHORITY\SYSTEM") => Account::System,
        _ if is(r"NT AUTHORITY\LocalService") || is(r"NT AUTHORITY\LOCAL SERVICE") => Account::LocalService,
        _ if is(r"NT AUTHORITY\NetworkService") || is(r"NT AUTHORITY\NETWORK SERVICE") => {
            Account::NetworkService
        }
        _ if is(&format!(r"NT SERVICE\{service}")) => Account::Virtual,
        name => Account::User { name: name.to_owned(), password: None },
    }
}

impl Service {
    /// What the SCM keeps of it, and what of that this Windows does not say. A password is never read.
    ///
    /// # Errors
    /// When the SCM does not say even what every Windows knows.
    pub fn read(&self) -> Result<(ServiceDefinition, Vec<&'static str>), Error> {
        let mut definition = self.read_basic()?;
        let unknown = self.read_extra(&mut definition)?;
        Ok((definition, unknown))
    }

    /// What every Windows knows, in one question.
    ///
    /// # Errors
    /// When the SCM does not say.
    pub(super) fn read_basic(&self) -> Result<ServiceDefinition, Error> {
        let buffer = grown(|buffer, size, needed| {
            // SAFETY: the buffer has the size that is said.
            unsafe { QueryServiceConfigW(self.handle().raw(), buffer.cast(), size, needed) }
        });
        let buffer = buffer.map_err(|n| failed(self.name(), "look at", n))?;
        // SAFETY: the call has filled it, and its texts are in the buffer.
        let (found, line, display, account, dependencies, group) = unsafe {
            let found = &*buffer.as_ptr().cast::<QUERY_SERVICE_CONFIGW>();
            (
                found,
                text(found.lpBinaryPathName),
                text(found.lpDisplayName),
                text(found.lpServiceStartName),
                text_list(found.lpDependencies),
                text(found.lpLoadOrderGroup),
            )
        };
        let mut words = command_line::split(&line).into_iter();
        let mut definition = ServiceDefinition::new(self.name(), words.next().unwrap_or_default());
        definition.arguments = words.collect();
        definition.display_name = display;
        definition.account = account_of(&account, self.name());
        definition.depends_on = dependencies;
        definition.windows.group = Some(group).filter(|g| !g.is_empty());
        definition.start = match found.dwStartType {
            SERVICE_AUTO_START => StartMode::Auto,
            SERVICE_DISABLED => StartMode::Disabled,
            _ => StartMode::Demand,
        };
        definition.error_control = match found.dwErrorControl {
            SERVICE_ERROR_IGNORE => ErrorControl::Ignore,
            SERVICE_ERROR_SEVERE => ErrorControl::Severe,
            SERVICE_ERROR_CRITICAL => ErrorControl::Critical,
            _ => ErrorControl::Normal,
        };
        Ok(definition)
    }

    fn read_extra(&self, definition: &mut ServiceDefinition) -> Result<Vec<&'static str>, Error> {
        let mut unknown = Vec::new();
        let mut level =
            |what: &'static str, level, take: &mut dyn FnMut(*const c_void)| match self.query(level) {
                Ok(buffer) => {
                    take(buffer.as_ptr().cast());
                    Ok(())
                }
                Err(ERROR_INVALID_LEVEL | ERROR_CALL_NOT_IMPLEMENTED) => {
                    unknown.push(what);
                    Ok(())
                }
                Err(number) => Err(failed(self.name(), "look at", number)),
            };
        level("description", SERVICE_CONFIG_DESCRIPTION, &mut |found| {
            // SAFETY: the level's structure, filled by the call, with its texts in the same buffer; so below, too.
            definition.description = unsafe { text((*found.cast::<SERVICE_DESCRIPTIONW>()).lpDescription) };
        })?;
        level("delayed start", SERVICE_CONFIG_DELAYED_AUTO_START_INFO, &mut |found| {
            // SAFETY: as above.
            let delayed =
                unsafe { (*found.cast::<SERVICE_DELAYED_AUTO_START_INFO>()).fDelayedAutostart != 0 };
            if delayed && definition.start == StartMode::Auto {
                definition.start = StartMode::Delayed;
            }
        })?;
        level("recovery", SERVICE_CONFIG_FAILURE_ACTIONS, &mut |found| {
            // SAFETY: as above.
            definition.recovery = unsafe { recovery_of(&*found.cast::<SERVICE_FAILURE_ACTIONSW>()) };
        })?;
        level("recovery on errors", SERVICE_CONFIG_FAILURE_ACTIONS_FLAG, &mut |found| {
            // SAFETY: as above.
            let flag = unsafe { *found.cast::<SERVICE_FAILURE_ACTIONS_FLAG>() };
            definition.recovery.also_on_error = flag.fFailureActionsOnNonCrashFailures != 0;
        })?;
        level("service SID", SERVICE_CONFIG_SERVICE_SID_INFO, &mut |found| {
            // SAFETY: as above.
            definition.windows.sid = match unsafe { (*found.cast::<SERVICE_SID_INFO>()).dwServiceSidType } {
                SERVICE_SID_TYPE_UNRESTRICTED => SidType::Unrestricted,
                SERVICE_SID_TYPE_RESTRICTED => SidType::Restricted,
                _ => SidType::None,
            };
        })?;
        level("privileges", SERVICE_CONFIG_REQUIRED_PRIVILEGES_INFO, &mut |found| {
            // SAFETY: as above.
            let list = unsafe {
                text_list((*found.cast::<SERVICE_REQUIRED_PRIVILEGES_INFOW>()).pmszRequiredPrivileges)
            };
            definition.windows.privileges =
                if list.is_empty() { Privileges::All } else { Privileges::These(list) };
        })?;
        level("stop timeout", SERVICE_CONFIG_PRESHUTDOWN_INFO, &mut |found| {
            // SAFETY: as above.
            let ms = unsafe { (*found.cast::<SERVICE_PRESHUTDOWN_INFO>()).dwPreshutdownTimeout };
            definition.stop_timeout = Duration::from_millis(u64::from(ms));
        })?;
        level("triggers", SERVICE_CONFIG_TRIGGER_INFO, &mut |found| {
            // SAFETY: as above.
            definition.windows.triggers = unsafe { triggers_of(&*found.cast::<SERVICE_TRIGGER_INFO>()) };
        })?;
        definition.windows.security = self.security();
        Ok(unknown)
    }

    fn query(&self, level: u32) -> Result<Vec<u64>, u32> {
        grown(|buffer, size, needed| {
            // SAFETY: the buffer has the size that is said.
            unsafe { QueryServiceConfig2W(self.handle().raw(), level, buffer, size, needed) }
        })
    }

    /// Who may do what with it, as SDDL; `None` where that may not be asked.
    #[must_use]
    pub fn security(&self) -> Option<String> {
        let descriptor = grown(|buffer, size, needed| {
            // SAFETY: the buffer has the size that is said.
            unsafe {
                let into = buffer.cast();
                QueryServiceObjectSecurity(self.handle().raw(), DACL_SECURITY_INFORMATION, into, size, needed)
            }
        });
        sddl(descriptor.ok()?.as_ptr().cast_mut().cast())
    }

    /// Writes what every Windows knows.
    ///
    /// # Errors
    /// When the SCM refuses.
    pub(super) fn write_basic(
        &self,
        definition: &ServiceDefinition,
        with_account: bool,
    ) -> Result<(), Error> {
        let [display, image] = [definition.display_name.as_str(), &definition.image()].map(wide);
        let dependencies = wide_list(&definition.depends_on);
        let group = wide(definition.windows.group.as_deref().unwrap_or_default());
        let (account, password) = account(definition);
        let account = with_account.then_some(account);
        let password = password.filter(|_| with_account);
        // SAFETY: all texts end with a zero and live through the call.
        let answer = unsafe {
            ChangeServiceConfigW(
                self.handle().raw(),
                SERVICE_WIN32_OWN_PROCESS,
                start_type(definition.start),
                error_control(definition.error_control),
                image.as_ptr(),
                group.as_ptr(),
                ptr::null_mut(),
                dependencies.as_ptr(),
                optional(account.as_ref()),
                optional(password.as_ref()),
                display.as_ptr(),
            )
        };
        if answer == 0 {
            return Err(failed(self.name(), "change", last_error()));
        }
        Ok(())
    }

    /// Writes of the rest what is `wanted`, and answers what of that this Windows does not know.
    ///
    /// # Errors
    /// When the SCM refuses.
    pub(super) fn write_extra(
        &self,
        definition: &ServiceDefinition,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<&'static str>, Error> {
        let mut unsupported = Vec::new();
        let mut write = |what: &'static str, level, info: *const c_void| {
            if !wanted(what) {
                return Ok(());
            }
            // SAFETY: the level's structure; it and its texts live through the call.
            let answer = unsafe { ChangeServiceConfig2W(self.handle().raw(), level, info) };
            match if answer == 0 { last_error() } else { 0 } {
                0 => Ok(()),
                ERROR_INVALID_LEVEL | ERROR_CALL_NOT_IMPLEMENTED => {
                    unsupported.push(what);
                    Ok(())
                }
                number => Err(failed(self.name(), "change", number)),
            }
        };
        let mut description = wide(&definition.description);
        let description = SERVICE_DESCRIPTIONW { lpDescription: description.as_mut_ptr() };
        write("description", SERVICE_CONFIG_DESCRIPTION, (&raw const description).cast())?;
        let delayed = i32::from(definition.start == StartMode::Delayed);
        let delayed = SERVICE_DELAYED_AUTO_START_INFO { fDelayedAutostart: delayed };
        if definition.start == StartMode::Delayed
            || self.query(SERVICE_CONFIG_DELAYED_AUTO_START_INFO).is_ok()
        {
            write("delayed start", SERVICE_CONFIG_DELAYED_AUTO_START_INFO, (&raw const delayed).cast())?;
        }
        let mut actions = Actions::new(&definition.recovery);
        let recovery = actions.info();
        write("recovery", SERVICE_CONFIG_FAILURE_ACTIONS, (&raw const recovery).cast())?;
        let flag = i32::from(definition.recovery.also_on_error);
        let flag = SERVICE_FAILURE_ACTIONS_FLAG { fFailureActionsOnNonCrashFailures: flag };
        write("recovery on errors", SERVICE_CONFIG_FAILURE_ACTIONS_FLAG, (&raw const flag).cast())?;
        let sid = SERVICE_SID_INFO { dwServiceSidType: sid_type(definition.windows.sid) };
        write("service SID", SERVICE_CONFIG_SERVICE_SID_INFO, (&raw const sid).cast())?;
        let mut list = wide_list(&definition.privileges());
        let privileges = SERVICE_REQUIRED_PRIVILEGES_INFOW { pmszRequiredPrivileges: list.as_mut_ptr() };
        write("privileges", SERVICE_CONFIG_REQUIRED_PRIVILEGES_INFO, (&raw const privileges).cast())?;
        let stop = SERVICE_PRESHUTDOWN_INFO { dwPreshutdownTimeout: milliseconds(definition.stop_timeout) };
        write("stop timeout", SERVICE_CONFIG_PRESHUTDOWN_INFO, (&raw const stop).cast())?;
        let mut triggers = Triggers::new(&definition.windows.triggers);
        let info = triggers.info();
        // With none to set and none there, asking is enough to fail on a host without triggers.
        let triggers_wanted =
            !definition.windows.triggers.is_empty() || self.query(SERVICE_CONFIG_TRIGGER_INFO).is_ok();
        if triggers_wanted {
            write("triggers", SERVICE_CONFIG_TRIGGER_INFO, (&raw const info).cast())?;
        }
        if let Some(sddl) = definition.windows.security.as_deref().filter(|_| wanted("security")) {
            self.set_security(sddl)?;
        }
        Ok(unsupported)
    }

    /// Says who may do what with it, as SDDL.
    ///
    /// # Errors
    /// When the text is no SDDL, or the SCM refuses.
    pub fn set_security(&self, sddl: &str) -> Result<(), Error> {
        let mut descriptor: PSECURITY_DESCRIPTOR = ptr::null_mut();
        let wide = wide(sddl);
        // SAFETY: the text ends with a zero; the descriptor is ours to free, and is freed once.
        let answer = unsafe {
            let (from, into) = (wide.as_ptr(), &raw mut descriptor);
            ConvertStringSecurityDescriptorToSecurityDescriptorW(from, SDDL_REVISION_1, into, ptr::null_mut())
        };
        if answer == 0 {
            return Err(failed(self.name(), "read the SDDL of", last_error()));
        }
        // SAFETY: as above.
        let number = unsafe {
            let done =
                SetServiceObjectSecurity(self.handle().raw(), DACL_SECURITY_INFORMATION, descriptor) != 0;
            let number = if done { 0 } else { last_error() };
            LocalFree(descriptor);
            number
        };
        if number == 0 { Ok(()) } else { Err(failed(self.name(), "secure", number)) }
    }
}

fn sddl(descriptor: PSECURITY_DESCRIPTOR) -> Option<String> {
    let mut wide: *mut u16 = ptr::null_mut();
    // SAFETY: a valid descriptor; the text is ours to free, and is freed once.
    unsafe {
        let (what, into) = (DACL_SECURITY_INFORMATION, &raw mut wide);
        let revision = SDDL_REVISION_1;
        if ConvertSecurityDescriptorToStringSecurityDescriptorW(
            descriptor,
            revision,
            what,
            into,
            ptr::null_mut(),
        ) == 0
        {
            return None;
        }
        let sddl = text(wide);
        LocalFree(wide.cast());
        Some(sddl)
    }
}

fn sid_type(sid: SidType) -> u32 {
    match sid {
        SidType::None => SERVICE_SID_TYPE_NONE,
        SidType::Unrestricted => SERVICE_SID_TYPE_UNRESTRICTED,
        SidType::Restricted => SERVICE_SID_TYPE_RESTRICTED,
    }
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Recovery actions and what their structure points to.
struct Actions {
    actions: Vec<SC_ACTION>,
    reset: u32,
    command: Vec<u16>,
    message: Vec<u16>,
}

impl Actions {
    fn new(recovery: &Recovery) -> Self {
        let kind = |kind| match kind {
            RecoveryKind::Nothing => SC_ACTION_NONE,
            RecoveryKind::Restart => SC_ACTION_RESTART,
            RecoveryKind::Reboot => SC_ACTION_REBOOT,
            RecoveryKind::Command => SC_ACTION_RUN_COMMAND,
        };
        let action = |a: &RecoveryAction| SC_ACTION { Type: kind(a.kind), Delay: milliseconds(a.delay) };
        Self {
            actions: recovery.actions.iter().map(action).collect(),
            reset: u32::try_from(recovery.reset_after.as_secs()).unwrap_or(u32::MAX),
            command: wide(recovery.command.as_deref().unwrap_or_default()),
            message: wide(recovery.reboot_message.as_deref().unwrap_or_default()),
        }
    }

    /// A list that is not null and empty deletes what was there.
    fn info(&mut self) -> SERVICE_FAILURE_ACTIONSW {
        SERVICE_FAILURE_ACTIONSW {
            dwResetPeriod: self.reset,
            lpRebootMsg: self.message.as_mut_ptr(),
            lpCommand: self.command.as_mut_ptr(),
            cActions: self.actions.len() as u32,
            lpsaActions: self.actions.as_mut_ptr(),
        }
    }
}

/// # Safety
/// Filled by the SCM, with what it points to alive.
unsafe fn recovery_of(found: &SERVICE_FAILURE_ACTIONSW) -> Recovery {
    let action = |i: usize| {
        // SAFETY: so many are there.
        let action = unsafe { *found.lpsaActions.add(i) };
        let kind = match action.Type {
            SC_ACTION_RESTART => RecoveryKind::Restart,
            SC_ACTION_REBOOT => RecoveryKind::Reboot,
            SC_ACTION_RUN_COMMAND => RecoveryKind::Command,
            _ => RecoveryKind::Nothing,
        };
        RecoveryAction { kind, delay: Duration::from_millis(u64::from(action.Delay)) }
    };
    let count = if found.lpsaActions.is_null() { 0 } else { found.cActions as usize };
    // SAFETY: as the caller promises.
    let [command, message] = unsafe { [text(found.lpCommand), text(found.lpRebootMsg)] };
    Recovery {
        actions: (0..count).map(action).collect(),
        reset_after: Duration::from_secs(u64::from(found.dwResetPeriod)),
        also_on_error: false,
        command: Some(command).filter(|t| !t.is_empty()),
        reboot_message: Some(message).filter(|t| !t.is_empty()),
    }
}

/// Triggers and what their structures point to.
struct Triggers {
    subtypes: Vec<GUID>,
    data: Vec<Vec<Vec<u16>>>,
    items: Vec<Vec<SERVICE_TRIGGER_SPECIFIC_DATA_ITEM>>,
    triggers: Vec<SERVICE_TRIGGER>,
}

impl Triggers {
    fn new(list: &[Trigger]) -> Self {
        let wires: Vec<_> = list.iter().map(|t| trigger::wire(&t.kind)).collect();
        // A list of texts ends with one more zero than a text.
        let bytes = |text: &String| if text.contains('\0') { wide(&format!("{text}\0")) } else { wide(text) };
        let mut all = Self {
            subtypes: wires.iter().map(|w| w.1).collect(),
            data: wires.iter().map(|w| w.2.iter().map(bytes).collect()).collect(),
            items: Vec::new(),
            triggers: Vec::new(),
        };
        for data in &mut all.data {
            let item = |text: &mut Vec<u16>| SERVICE_TRIGGER_SPECIFIC_DATA_ITEM {
                dwDataType: SERVICE_TRIGGER_DATA_TYPE_STRING,
                cbData: size_of_val(text.as_slice()) as u32,
                pData: text.as_mut_ptr().cast(),
            };
            all.items.push(data.iter_mut().map(item).collect());
        }
        for (i, one) in list.iter().enumerate() {
            all.triggers.push(SERVICE_TRIGGER {
                dwTriggerType: wires[i].0,
                dwAction: match one.action {
                    TriggerAction::Start => SERVICE_TRIGGER_ACTION_SERVICE_START,
                    TriggerAction::Stop => SERVICE_TRIGGER_ACTION_SERVICE_STOP,
                },
                pTriggerSubtype: &raw mut all.subtypes[i],
                cDataItems: all.items[i].len() as u32,
                pDataItems: if all.items[i].is_empty() { ptr::null_mut() } else { all.items[i].as_mut_ptr() },
            });
        }
        all
    }

    fn info(&mut self) -> SERVICE_TRIGGER_INFO {
        SERVICE_TRIGGER_INFO {
            cTriggers: self.triggers.len() as u32,
            pTriggers: self.triggers.as_mut_ptr(),
            pReserved: ptr::null_mut(),
        }
    }
}

/// # Safety
/// Filled by the SCM, with what it points to alive.
unsafe fn triggers_of(found: &SERVICE_TRIGGER_INFO) -> Vec<Trigger> {
    let count = if found.pTriggers.is_null() { 0 } else { found.cTriggers as usize };
    let one = |i: usize| {
        // SAFETY: so many are there, each with its subtype and as many items as it says.
        let (found, subtype, data) = unsafe {
            let found = &*found.pTriggers.add(i);
            let items = (0..found.cDataItems as usize).map(|i| &*found.pDataItems.add(i));
            let data: Vec<String> = items.map(|item| data_of(item)).collect();
            (found, &*found.pTriggerSubtype, data)
        };
        let stop = found.dwAction == SERVICE_TRIGGER_ACTION_SERVICE_STOP;
        Trigger {
            kind: trigger::kind(found.dwTriggerType, subtype, data),
            action: if stop { TriggerAction::Stop } else { TriggerAction::Start },
        }
    };
    (0..count).map(one).collect()
}

/// # Safety
/// Filled by the SCM.
unsafe fn data_of(item: &SERVICE_TRIGGER_SPECIFIC_DATA_ITEM) -> String {
    // SAFETY: so many bytes are there. They need not be aligned.
    let bytes = unsafe { std::slice::from_raw_parts(item.pData, item.cbData as usize) };
    let wide: Vec<u16> = bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
    String::from_utf16_lossy(&wide).trim_end_matches('\0').to_owned()
}
