//! What only the host can tell of a configuration. The looking itself is the caller's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use keepwell_core::spec::System;

use crate::config::{Account, Config, Context, ServiceConfig};
use crate::diagnostic::Diagnostic;
use crate::read::{At, Draft, Reader};
use crate::resolve::{ResolvedReady, ResolvedService, ResolvedStop};
use crate::source::Source;

/// Looks at the host; an error says what is wrong there.
pub trait Host {
    /// Whether this file can be started.
    ///
    /// # Errors
    /// Why not.
    fn program(&mut self, path: &Path) -> Result<(), String>;
    /// Whether something can run in this folder.
    ///
    /// # Errors
    /// Why not.
    fn folder(&mut self, path: &Path) -> Result<(), String>;
    /// Whether this host knows them.
    ///
    /// # Errors
    /// Which of them it does not know.
    fn accounts(&mut self, user: Option<&Account>, group: Option<&Account>) -> Result<(), String>;
}

impl Config {
    /// What only the host can tell: programs and folders that are not there, users that it does not know, `env_file`s that
    /// cannot be read. Findings are errors for `keepwell check`; a guardian starts all the same.
    pub fn check_host(&self, sources: &[Source], cx: &Context, host: &mut dyn Host) -> Vec<Diagnostic> {
        let mut r = Reader::new(sources);
        for service in self.services.values() {
            check(&mut r, service, cx, host);
        }
        r.finish().0.0
    }

    /// Warnings about ports on which services are to answer and somebody else does. `taken_by` looks at the host and port of
    /// one service, and says who does.
    pub fn check_ports(
        &self,
        sources: &[Source],
        cx: &Context,
        taken_by: &mut dyn FnMut(&str, &str, u16) -> Option<String>,
    ) -> Vec<Diagnostic> {
        let mut r = Reader::new(sources);
        for (name, service) in &self.services {
            let spec = self.specs.services.get(name).filter(|s| s.enabled);
            let mut seen = BTreeSet::new();
            for instance in 1..=spec.map_or(0, |s| s.instances) {
                let Some((host, port)) = service.resolve(instance, cx).ok().and_then(|s| s.ready.port())
                else {
                    break;
                };
                if !seen.insert(port) {
                    continue;
                }
                let Some(who) = taken_by(name, &host, port) else { continue };
                let message = format!("the port of services.{name} is in use: {host}:{port}");
                let draft = Draft::warning("port-in-use", service.places.ready, message);
                let draft = draft.label(format!("{who} listens there already"));
                r.push(draft.help("end that first, or give the service and this check another port"));
            }
        }
        r.finish().1
    }
}

fn check(r: &mut Reader<'_>, service: &ServiceConfig, cx: &Context, host: &mut dyn Host) {
    let (name, places) = (&service.name, service.places);
    if let Err(why) = host.accounts(service.user.as_ref(), service.group.as_ref()) {
        let draft = Draft::error("unknown-account", places.account, format!("services.{name}: {why}"));
        r.push(draft.help(match cx.system {
            System::Unix => "names are looked up in /etc/passwd and /etc/group, then with getent",
            System::Windows => "a guardian that runs as LocalSystem can start programs as LocalService, NetworkService or NT SERVICE\\NAME",
        }));
    }
    let resolved = match service.resolve(1, cx) {
        Ok(resolved) => resolved,
        Err(d) => {
            let at = if d.code == "env-file" { places.env_file } else { places.command };
            r.push(Draft::error(d.code, at, d.message).help(d.help.unwrap_or_default()));
            return;
        }
    };
    if let Err(why) = host.folder(&resolved.cwd) {
        let draft =
            Draft::error("missing-folder", places.cwd, format!("services.{name} cannot run in its `cwd`"));
        let label = format!("{}: {why}", resolved.cwd.display());
        r.push(draft.label(label).help("`cwd` is relative to the folder of the configuration"));
        // Programs are looked for in it.
        return;
    }
    for (whose, argv, at) in programs(&resolved, service) {
        program(r, &resolved, argv, at, &format!("{whose} of services.{name}"), host);
    }
}

/// All that a service may start.
fn programs<'a>(
    resolved: &'a ResolvedService,
    service: &ServiceConfig,
) -> impl Iterator<Item = (&'static str, &'a [String], At)> {
    let (hooks, places) = (&resolved.hooks, service.places);
    let check = match &resolved.ready {
        ResolvedReady::Exec(argv) => Some(argv),
        ResolvedReady::None
        | ResolvedReady::Delay(_)
        | ResolvedReady::Http(_)
        | ResolvedReady::Tcp { .. }
        | ResolvedReady::Unix(_)
        | ResolvedReady::Pipe(_)
        | ResolvedReady::Grpc(_)
        | ResolvedReady::Line { .. }
        | ResolvedReady::Log { .. }
        | ResolvedReady::File(_)
        | ResolvedReady::Fresh { .. }
        | ResolvedReady::Notify => None,
    };
    let all = [
        ("the program", Some(&resolved.argv), places.command),
        ("the readiness check", check, places.ready),
        ("the pre_start hook", hooks.pre_start.as_ref(), places.hooks),
        ("the post_start hook", hooks.post_start.as_ref(), places.hooks),
        ("the pre_stop hook", hooks.pre_stop.as_ref(), places.hooks),
        ("the post_stop hook", hooks.post_stop.as_ref(), places.hooks),
        ("the on_suspend hook", hooks.on_suspend.as_ref(), places.hooks),
        ("the on_resume hook", hooks.on_resume.as_ref(), places.hooks),
        ("the on_power_change hook", hooks.on_power_change.as_ref(), places.hooks),
        ("the on_session hook", hooks.on_session.as_ref(), places.hooks),
    ];
    let commands = resolved.stop.values().filter_map(move |stop| match stop {
        ResolvedStop::Command(argv) => Some(("a stop command", argv.as_slice(), places.stop)),
        ResolvedStop::Http(..) => None,
    });
    let probes = resolved.probes.iter().filter_map(move |probe| match probe {
        ResolvedReady::Exec(argv) => Some(("a check", argv.as_slice(), places.probes)),
        _ => None,
    });
    let guards = resolved
        .guards
        .iter()
        .flatten()
        .map(move |argv| ("a guard's command", argv.as_slice(), places.hooks));
    let rungs = resolved
        .escalation
        .iter()
        .flatten()
        .map(move |argv| ("an escalation's command", argv.as_slice(), places.hooks));
    let wait_run = resolved.wait_run.iter();
    let wait_run = wait_run.map(move |argv| ("the command of wait_for", argv.as_slice(), places.hooks));
    all.into_iter()
        .filter_map(|(whose, argv, at)| Some((whose, argv?.as_slice(), at)))
        .chain(commands)
        .chain(wait_run)
        .chain(probes)
        .chain(guards)
        .chain(rungs)
}

fn program(
    r: &mut Reader<'_>,
    resolved: &ResolvedService,
    argv: &[String],
    at: At,
    whose: &str,
    host: &mut dyn Host,
) {
    let candidates = resolved.candidates_of(argv);
    let mut reasons: Vec<(&PathBuf, String)> = vec![];
    if candidates.iter().any(|c| host.program(c).map_err(|why| reasons.push((c, why))).is_ok()) {
        return;
    }
    let program = argv.first().map(String::as_str).unwrap_or_default();
    let label = match reasons.as_slice() {
        [(path, why)] => format!("{}: {why}", path.display()),
        _ => "it is in no folder of PATH".to_owned(),
    };
    let draft = Draft::error("missing-program", at, format!("{whose} cannot be started: {program}"));
    r.push(
        draft
            .label(label)
            .help("a name with a slash is looked up in `cwd`, a bare one in the service's PATH"),
    );
}
