//! Keys that have no effect on this kind of host: each is told, so that nobody relies on it.

use keepwell_core::spec::System;

use super::Building;
use crate::element::service::RawService;
use crate::read::{At, Draft};

/// Warns of each that is written.
pub(super) fn warn(building: &mut Building<'_, '_>, raw: &RawService) {
    let (system, found) = match building.cx.system {
        System::Unix => ("Linux", on_unix(raw)),
        System::Windows => ("Windows", on_windows(raw)),
    };
    for (key, at, instead) in found {
        let message = format!("`{key}` of services.{} has no effect on {system}", building.name);
        building.tell(Draft::warning("no-effect", at, message).label(instead));
    }
}

fn on_unix(raw: &RawService) -> Vec<(&'static str, At, &'static str)> {
    const WHY: &str = "only the service manager of Windows tells of it";
    let Some(hooks) = raw.hooks.as_ref().map(|h| &h.value) else { return Vec::new() };
    let all = [
        ("hooks.on_suspend", &hooks.on_suspend),
        ("hooks.on_resume", &hooks.on_resume),
        ("hooks.on_power_change", &hooks.on_power_change),
        ("hooks.on_session", &hooks.on_session),
    ];
    all.into_iter().filter_map(|(key, hook)| hook.as_ref().map(|h| (key, h.at, WHY))).collect()
}

fn on_windows(raw: &RawService) -> Vec<(&'static str, At, &'static str)> {
    let limits = raw.limits.as_ref().map(|l| &l.value);
    let ready = raw.ready.as_ref().map(|r| &r.value.table);
    let all = [
        ("umask", raw.umask.as_ref().map(|l| l.at), "new files have the rights of their folder"),
        ("oom_score_adj", raw.oom_score_adj.as_ref().map(|l| l.at), "nothing is ended for memory there"),
        (
            "no_new_privileges",
            raw.no_new_privileges.as_ref().map(|l| l.at),
            "there are no setuid files there",
        ),
        ("capabilities", raw.capabilities.as_ref().map(|l| l.at), "its account decides what it may do"),
        (
            "limits.nofile",
            limits.and_then(|l| l.nofile.as_ref()).map(|l| l.at),
            "handles are not limited there",
        ),
        ("limits.core", limits.and_then(|l| l.core.as_ref()).map(|l| l.at), "there are no core files"),
        (
            "ready.notify",
            ready.and_then(|r| r.notify.as_ref()).map(|l| l.at),
            "there is no notify socket, so it never becomes ready",
        ),
        (
            "ready.unix",
            ready.and_then(|r| r.unix.as_ref()).map(|l| l.at),
            "there are no such sockets, so it never becomes ready",
        ),
    ];
    all.into_iter().filter_map(|(key, at, instead)| at.map(|at| (key, at, instead))).collect()
}
