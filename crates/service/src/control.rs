//! What a manager tells a service. What came along is copied before the handler returns, since the manager's memory is gone
//! after it.

use std::time::{Duration, SystemTime};

use crate::error::code;
use crate::state::Accept;

/// A control as it came. On Linux, and in a terminal, `Stop`, `Shutdown` and `ParamChange` come, as signals.
///
/// `SERVICE_CONTROL_INTERROGATE` is not among them: the crate answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Control {
    /// To stop.
    Stop,
    /// To pause.
    Pause,
    /// To go on after a pause.
    Continue,
    /// The system shuts down, and gives a few seconds.
    Shutdown,
    /// The system will shut down, and waits as long as the installation says.
    Preshutdown,
    /// Its parameters have changed: a reload.
    ParamChange,
    /// A network binding has changed.
    NetBind(NetBind),
    /// A device has come or gone, for a service that has registered for it.
    Device(DeviceEvent),
    /// The hardware profile changes.
    HardwareProfile(HardwareProfile),
    /// Power has changed.
    Power(Power),
    /// A user's session has changed.
    Session(SessionChange),
    /// The system's time was set.
    Time(TimeChange),
    /// A trigger of the service has fired.
    Trigger,
    /// The user whose service it is logged off.
    UserLogoff,
    /// The session is low on resources.
    LowResources,
    /// The system is low on resources.
    SystemLowResources,
    /// A number that means what the service says.
    User(UserCode),
}

/// A user-defined control: 128 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserCode(u8);

impl UserCode {
    /// The smallest.
    pub const FIRST: u8 = 128;
    /// The largest.
    pub const LAST: u8 = 255;

    /// `None` below 128, where the system's own controls are.
    #[must_use]
    pub const fn new(number: u8) -> Option<UserCode> {
        if number < UserCode::FIRST { None } else { Some(UserCode(number)) }
    }

    /// 128 to 255.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// How a network binding has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetBind {
    /// There is a new component.
    Add,
    /// A component is gone.
    Remove,
    /// A binding was enabled.
    Enable,
    /// A binding was disabled.
    Disable,
}

/// What has happened to a device: the system's number (`DBT_DEVICEARRIVAL` and the like), and its `DEV_BROADCAST_HDR` with
/// what follows it, as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceEvent {
    /// `dwEventType`.
    pub kind: u32,
    /// The structure, of as many bytes as it says itself.
    pub data: Vec<u8>,
}

/// How the hardware profile changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HardwareProfile {
    /// May it? (`DBT_QUERYCHANGECONFIG`; the answer is always yes.)
    Query,
    /// It has changed.
    Changed,
    /// It did not after all.
    Cancelled,
    /// Something else, by its number.
    Other(u32),
}

/// What has happened to power (`WM_POWERBROADCAST`'s events).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Power {
    /// Mains or battery, or the charge.
    StatusChange,
    /// The system goes to sleep now.
    Suspend,
    /// It woke by itself; nobody may be there.
    ResumeAutomatic,
    /// It woke because of a user.
    ResumeByUser,
    /// A setting that the service has registered for (`RegisterPowerSettingNotification`).
    Setting {
        /// Which: the GUID's 16 bytes as they lie in memory.
        setting: [u8; 16],
        /// Its new value.
        value: Vec<u8>,
    },
    /// Something else, by its number.
    Other(u32),
}

/// What has happened to a user's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionChange {
    /// What.
    pub reason: SessionReason,
    /// To which session.
    pub session: u32,
}

/// What has happened to a user's session (`WTS_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionReason {
    /// Connected to the console.
    ConsoleConnect,
    /// Disconnected from the console.
    ConsoleDisconnect,
    /// Connected from afar.
    RemoteConnect,
    /// Disconnected from afar.
    RemoteDisconnect,
    /// A user has logged on.
    Logon,
    /// A user has logged off.
    Logoff,
    /// It was locked.
    Lock,
    /// It was unlocked.
    Unlock,
    /// Its remote control has changed.
    RemoteControl,
    /// It was made (reserved by the system).
    Create,
    /// It was ended (reserved by the system).
    Terminate,
    /// Something else, by its number.
    Other(u32),
}

/// The system's time before and after it was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeChange {
    /// As it is now.
    pub new: SystemTime,
    /// As it was.
    pub old: SystemTime,
}

/// What the handler says to a control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was taken.
    Taken,
    /// The service does not know it (120).
    Unknown,
    /// It was not taken, for this reason (a number of Win32).
    Refused(u32),
}

impl Answer {
    /// As the manager wants it.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Answer::Taken => code::NONE,
            Answer::Unknown => code::NOT_IMPLEMENTED,
            Answer::Refused(number) => number,
        }
    }
}

impl Control {
    /// What a service has to accept for this to arrive. A device's events come to who has registered for them.
    #[must_use]
    pub fn needs(&self) -> Accept {
        match self {
            Control::Stop => Accept::STOP,
            Control::Pause | Control::Continue => Accept::PAUSE_CONTINUE,
            Control::Shutdown => Accept::SHUTDOWN,
            Control::Preshutdown => Accept::PRESHUTDOWN,
            Control::ParamChange => Accept::PARAM_CHANGE,
            Control::NetBind(_) => Accept::NET_BIND_CHANGE,
            Control::Device(_) => Accept::NOTHING,
            Control::HardwareProfile(_) => Accept::HARDWARE_PROFILE_CHANGE,
            Control::Power(_) => Accept::POWER_EVENT,
            Control::Session(_) => Accept::SESSION_CHANGE,
            Control::Time(_) => Accept::TIME_CHANGE,
            Control::Trigger => Accept::TRIGGER_EVENT,
            Control::UserLogoff => Accept::USER_LOGOFF,
            Control::LowResources => Accept::LOW_RESOURCES,
            Control::SystemLowResources => Accept::SYSTEM_LOW_RESOURCES,
            Control::User(number) => Accept::user(*number),
        }
    }

    /// Whether it asks the service to end.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self, Control::Stop | Control::Shutdown | Control::Preshutdown)
    }

    /// From what a `HandlerEx` is given: the control, the type of its event, and a copy of the event's data. `None` is a
    /// control that this crate does not know, or one whose data are too short.
    #[must_use]
    pub fn decode(number: u32, event: u32, data: &[u8]) -> Option<Control> {
        Some(match number {
            1 => Control::Stop,
            2 => Control::Pause,
            3 => Control::Continue,
            5 => Control::Shutdown,
            6 => Control::ParamChange,
            7 => Control::NetBind(NetBind::Add),
            8 => Control::NetBind(NetBind::Remove),
            9 => Control::NetBind(NetBind::Enable),
            10 => Control::NetBind(NetBind::Disable),
            11 => Control::Device(DeviceEvent { kind: event, data: data.to_vec() }),
            12 => Control::HardwareProfile(match event {
                0x17 => HardwareProfile::Query,
                0x18 => HardwareProfile::Changed,
                0x19 => HardwareProfile::Cancelled,
                other => HardwareProfile::Other(other),
            }),
            13 => Control::Power(decode_power(event, data)?),
            14 => Control::Session(SessionChange { reason: session_reason(event), session: word(data, 4)? }),
            15 => Control::Preshutdown,
            16 => Control::Time(TimeChange { new: file_time(data, 0)?, old: file_time(data, 8)? }),
            32 => Control::Trigger,
            17 => Control::UserLogoff,
            96 => Control::LowResources,
            97 => Control::SystemLowResources,
            other => Control::User(UserCode::new(u8::try_from(other).ok()?)?),
        })
    }
}

fn decode_power(event: u32, data: &[u8]) -> Option<Power> {
    Some(match event {
        0x4 => Power::Suspend,
        0x7 => Power::ResumeByUser,
        0xA => Power::StatusChange,
        0x12 => Power::ResumeAutomatic,
        0x8013 => {
            let length = usize::try_from(word(data, 16)?).ok()?;
            Power::Setting {
                setting: data.get(..16)?.try_into().ok()?,
                value: data.get(20..)?.get(..length)?.to_vec(),
            }
        }
        other => Power::Other(other),
    })
}

fn session_reason(event: u32) -> SessionReason {
    match event {
        1 => SessionReason::ConsoleConnect,
        2 => SessionReason::ConsoleDisconnect,
        3 => SessionReason::RemoteConnect,
        4 => SessionReason::RemoteDisconnect,
        5 => SessionReason::Logon,
        6 => SessionReason::Logoff,
        7 => SessionReason::Lock,
        8 => SessionReason::Unlock,
        9 => SessionReason::RemoteControl,
        10 => SessionReason::Create,
        11 => SessionReason::Terminate,
        other => SessionReason::Other(other),
    }
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..)?.get(..4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// A `FILETIME`: 100 ns since 1601.
fn file_time(data: &[u8], at: usize) -> Option<SystemTime> {
    const TO_1970: u64 = 116_444_736_000_000_000;
    let ticks = data.get(at..)?.get(..8)?.try_into().ok().map(u64::from_ne_bytes)?;
    let far =
        |ticks: u64| Duration::new(ticks / 10_000_000, u32::try_from(ticks % 10_000_000).unwrap_or(0) * 100);
    match ticks.checked_sub(TO_1970) {
        Some(since) => SystemTime::UNIX_EPOCH.checked_add(far(since)),
        None => SystemTime::UNIX_EPOCH.checked_sub(far(TO_1970 - ticks)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_change_names_its_session() {
        let mut data = 8_u32.to_ne_bytes().to_vec();
        data.extend(3_u32.to_ne_bytes());
        let locked = SessionChange { reason: SessionReason::Lock, session: 3 };
        assert_eq!(Control::decode(14, 7, &data), Some(Control::Session(locked)));
        assert_eq!(Control::decode(14, 7, &data[..6]), None, "data that are cut off");
    }

    #[test]
    fn a_power_setting_is_copied_with_its_value_and_no_more() {
        let mut data = vec![7; 16];
        data.extend(2_u32.to_ne_bytes());
        data.extend([1, 2, 3]);
        let setting = Power::Setting { setting: [7; 16], value: vec![1, 2] };
        assert_eq!(Control::decode(13, 0x8013, &data), Some(Control::Power(setting)));
        data[16] = 9;
        assert_eq!(Control::decode(13, 0x8013, &data), None, "a length beyond the data");
        assert_eq!(Control::decode(13, 4, &[]), Some(Control::Power(Power::Suspend)));
    }

    #[test]
    fn a_change_of_the_time_carries_both_times() {
        let ticks = |seconds: u64| (116_444_736_000_000_000 + seconds * 10_000_000).to_ne_bytes();
        let mut data = ticks(60).to_vec();
        data.extend(ticks(30));
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let change = TimeChange { new: at(60), old: at(30) };
        assert_eq!(Control::decode(16, 0, &data), Some(Control::Time(change)));
    }

    #[test]
    fn only_128_to_255_are_a_users() {
        assert_eq!(Control::decode(127, 0, &[]), None);
        assert_eq!(Control::decode(128, 0, &[]), UserCode::new(128).map(Control::User));
        assert_eq!(Control::decode(255, 0, &[]), UserCode::new(255).map(Control::User));
        assert_eq!(Control::decode(256, 0, &[]), None);
    }

    #[test]
    fn no_two_controls_come_with_the_same_leave() {
        let numbers = (1..=32).chain([96, 97]).filter(|n| ![2, 7, 8, 9].contains(n));
        let data = [0; 24];
        let mut seen: Vec<Accept> = Vec::new();
        for control in numbers.filter_map(|number| Control::decode(number, 0, &data)) {
            assert!(!seen.contains(&control.needs()), "{control:?}");
            seen.push(control.needs());
        }
        assert_eq!(seen.len(), 15);
    }
}
