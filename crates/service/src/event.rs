//! What a running service is told.

use std::sync::Arc;

use crate::control::{DeviceEvent, HardwareProfile, NetBind, Power, SessionChange, TimeChange, UserCode};
use crate::runtime::Runtime;
use crate::token::Stop;

/// What has happened, in the order of its coming; `Stop` overtakes the rest.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The service is to end. From now on there is nothing else.
    Stop(Stop),
    /// To pause: [`crate::Running::pausing`].
    Pause,
    /// To go on: [`crate::Paused::continuing`].
    Continue,
    /// To read its parameters again (`sc control NAME paramchange`, `systemctl reload`).
    Reload(Reload),
    /// A network binding has changed.
    NetBind(NetBind),
    /// A device has come or gone.
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
    /// A number that means what the service says. Any local user may send one.
    User(UserCode),
}

/// A reload that goes on until this is dropped; systemd's `systemctl reload` waits for it.
#[derive(Debug)]
pub struct Reload(pub(crate) Arc<Runtime>);

impl Drop for Reload {
    fn drop(&mut self) {
        self.0.reloaded();
    }
}
