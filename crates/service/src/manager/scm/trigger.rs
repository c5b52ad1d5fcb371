//! Triggers as the SCM writes them.

use windows_sys::Win32::System::Services::{
    DOMAIN_JOIN_GUID, DOMAIN_LEAVE_GUID, FIREWALL_PORT_CLOSE_GUID, FIREWALL_PORT_OPEN_GUID,
    MACHINE_POLICY_PRESENT_GUID, NETWORK_MANAGER_FIRST_IP_ADDRESS_ARRIVAL_GUID,
    NETWORK_MANAGER_LAST_IP_ADDRESS_REMOVAL_GUID, SERVICE_TRIGGER_TYPE_DOMAIN_JOIN,
    SERVICE_TRIGGER_TYPE_FIREWALL_PORT_EVENT, SERVICE_TRIGGER_TYPE_GROUP_POLICY,
    SERVICE_TRIGGER_TYPE_IP_ADDRESS_AVAILABILITY, USER_POLICY_PRESENT_GUID,
};
use windows_sys::core::GUID;

use crate::manager::definition::TriggerKind;
use crate::manager::guid;

const NETWORK: u32 = SERVICE_TRIGGER_TYPE_IP_ADDRESS_AVAILABILITY;
const DOMAIN: u32 = SERVICE_TRIGGER_TYPE_DOMAIN_JOIN;
const POLICY: u32 = SERVICE_TRIGGER_TYPE_GROUP_POLICY;
const FIREWALL: u32 = SERVICE_TRIGGER_TYPE_FIREWALL_PORT_EVENT;

/// Its type, its subtype, its data. The subtype of `Other` was checked with the definition.
pub(super) fn wire(kind: &TriggerKind) -> (u32, GUID, Vec<String>) {
    match kind {
        TriggerKind::NetworkAvailable => (NETWORK, NETWORK_MANAGER_FIRST_IP_ADDRESS_ARRIVAL_GUID, vec![]),
        TriggerKind::NetworkGone => (NETWORK, NETWORK_MANAGER_LAST_IP_ADDRESS_REMOVAL_GUID, vec![]),
        TriggerKind::DomainJoin => (DOMAIN, DOMAIN_JOIN_GUID, vec![]),
        TriggerKind::DomainLeave => (DOMAIN, DOMAIN_LEAVE_GUID, vec![]),
        TriggerKind::MachinePolicy => (POLICY, MACHINE_POLICY_PRESENT_GUID, vec![]),
        TriggerKind::UserPolicy => (POLICY, USER_POLICY_PRESENT_GUID, vec![]),
        TriggerKind::FirewallPortOpened(port) => (FIREWALL, FIREWALL_PORT_OPEN_GUID, vec![firewall(port)]),
        TriggerKind::FirewallPortClosed(port) => (FIREWALL, FIREWALL_PORT_CLOSE_GUID, vec![firewall(port)]),
        TriggerKind::Other { kind, subtype, data } => {
            let (data1, data2, data3, data4) = guid::parse(subtype).unwrap_or_default();
            (*kind, GUID { data1, data2, data3, data4 }, data.clone())
        }
    }
}

/// And back.
pub(super) fn kind(number: u32, subtype: &GUID, data: Vec<String>) -> TriggerKind {
    let parts = (subtype.data1, subtype.data2, subtype.data3, subtype.data4);
    let plain = [
        TriggerKind::NetworkAvailable,
        TriggerKind::NetworkGone,
        TriggerKind::DomainJoin,
        TriggerKind::DomainLeave,
        TriggerKind::MachinePolicy,
        TriggerKind::UserPolicy,
    ];
    let same = |known: &GUID| (known.data1, known.data2, known.data3, known.data4) == parts;
    if let Some(known) = plain.into_iter().find(|k| {
        let (known, guid, _) = wire(k);
        known == number && same(&guid)
    }) {
        return known;
    }
    let port =
        || data.first().map(|d| d.split('\0').take(2).collect::<Vec<_>>().join(";")).unwrap_or_default();
    match number {
        FIREWALL if same(&FIREWALL_PORT_OPEN_GUID) => TriggerKind::FirewallPortOpened(port()),
        FIREWALL if same(&FIREWALL_PORT_CLOSE_GUID) => TriggerKind::FirewallPortClosed(port()),
        kind => TriggerKind::Other { kind, subtype: guid::text(parts), data },
    }
}

/// Port, protocol, program and service, each with a zero at its end; the last two may be empty
/// (<https://learn.microsoft.com/windows/win32/api/winsvc/ns-winsvc-service_trigger_specific_data_item>).
fn firewall(port: &str) -> String {
    port.split(';').collect::<Vec<_>>().join("\0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_back_from_the_scms_form() {
        let other = TriggerKind::Other {
            kind: 20,
            subtype: "1f81d131-3fac-4537-9e0c-7e7b0c2f4b55".into(),
            data: vec!["pipe".into()],
        };
        for trigger in [
            TriggerKind::NetworkAvailable,
            TriggerKind::NetworkGone,
            TriggerKind::DomainJoin,
            TriggerKind::DomainLeave,
            TriggerKind::MachinePolicy,
            TriggerKind::UserPolicy,
            TriggerKind::FirewallPortOpened("443;TCP".into()),
            TriggerKind::FirewallPortClosed("53;UDP".into()),
            other,
        ] {
            let (number, subtype, data) = wire(&trigger);
            assert_eq!(kind(number, &subtype, data), trigger);
        }
    }
}
