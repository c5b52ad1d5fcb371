//! Words and signs that every screen shares.

use keepwell_sdk::wire::{Action, CommandReply, CommandRequest, Info, ReloadReply, Status};

use super::{Look, Paint};
use crate::time::{Clock, rough};

/// How a state looks: its sign, its sign in ASCII, its words, its colour.
pub(crate) struct StateLook {
    /// Beyond ASCII.
    pub(crate) sign: &'static str,
    /// In ASCII.
    pub(crate) ascii: &'static str,
    /// For people.
    pub(crate) words: &'static str,
    /// By meaning.
    pub(crate) paint: Paint,
}

/// A state that this release does not know is shown by its name, which the caller has.
pub(crate) fn state_look(state: &str) -> Option<StateLook> {
    let look = |sign, ascii, words, paint| Some(StateLook { sign, ascii, words, paint });
    match state {
        "stopped" => look("○", "-", "stopped", Paint::Dim),
        "waiting" => look("◌", ".", "waiting", Paint::Busy),
        "starting" => look("◌", ".", "starting", Paint::Busy),
        "running" => look("●", "*", "running", Paint::Good),
        "ready" => look("●", "*", "ready", Paint::Good),
        "degraded" => look("◐", "!", "degraded", Paint::Warn),
        "paused" => look("‖", "=", "paused", Paint::Warn),
        "stopping" => look("◌", ".", "stopping", Paint::Busy),
        "backing_off" => look("↻", "~", "backing off", Paint::Warn),
        "crash_looping" => look("✗", "x", "crash-looping", Paint::Bad),
        "gave_up" => look("✗", "x", "gave up", Paint::Bad),
        "completed" => look("✓", "+", "completed", Paint::Good),
        _ => None,
    }
}

/// `● ready`.
pub(crate) fn state_text(state: &str, look: &Look) -> (String, Paint) {
    match state_look(state) {
        Some(s) => (format!("{} {}", if look.unicode { s.sign } else { s.ascii }, s.words), s.paint),
        None => (format!("? {}", state.replace('_', " ")), Paint::Plain),
    }
}

/// The words alone.
pub(crate) fn state_words(state: &str) -> String {
    state_look(state).map_or_else(|| state.replace('_', " "), |s| s.words.to_owned())
}

/// The widest `state_text`.
pub(crate) const STATE_WIDTH: usize = 15;

/// How an instance stands, for counting.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Health {
    /// As operators want it.
    Well,
    /// On its way there.
    Pending,
    /// Not as wanted, or held by an operator.
    Unwell,
}

/// What is stopped on purpose is well; what waits or starts is not yet.
pub(crate) fn health(s: &Status) -> Health {
    match s.state.as_str() {
        "ready" | "running" | "completed" | "stopped" => Health::Well,
        "waiting" | "starting" | "stopping" => Health::Pending,
        "gave_up" if !s.desired_up => Health::Well,
        _ => Health::Unwell,
    }
}

/// `1 service`, `5 services`.
pub(crate) fn count(n: usize, one: &str) -> String {
    match n {
        1 => format!("1 {one}"),
        n => format!("{n} {one}s"),
    }
}

/// Pads to a width in characters, never cutting.
pub(crate) fn pad(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(text.chars().count());
    format!("{text}{}", " ".repeat(missing))
}

/// Cuts to a width in characters, with a sign that it was cut.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// Where the guardian's first line comes from: `keepwell 0.1.0 · 5 services from keepwell.toml · state in .keepwell`.
pub(crate) fn headline(info: &Info, here: Option<&std::path::Path>) -> String {
    let short = |path: &str| {
        let within = here.and_then(|h| std::path::Path::new(path).strip_prefix(h).ok());
        within.map_or_else(|| path.to_owned(), |p| p.display().to_string())
    };
    let services = count(info.services as usize, "service");
    let from = info.config.as_deref().map(|c| format!(" from {}", short(c))).unwrap_or_default();
    format!("keepwell {} · {services}{from} · state in {}", info.version, short(&info.state_dir))
}

/// One of `Info::held_down`.
pub(crate) fn stays_down(held: &str) -> String {
    format!("{held}: stays stopped; keepwell up --all starts it too")
}

/// The accepted plan of a command, where it says more than what was asked for. `verb` is what was asked.
pub(crate) fn command_notes(reply: &CommandReply, verb: &str, asked: &[String]) -> Vec<String> {
    let was_asked = |service: &str| {
        asked
            .iter()
            .any(|a| a == service || service.strip_prefix(a.as_str()).is_some_and(|r| r.starts_with('@')))
    };
    let mut lines = vec![];
    for Action { service, action, why } in &reply.actions {
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        if action == "nothing" {
            lines.push(format!("{service}: nothing to do{why}"));
        } else if !was_asked(service) {
            lines.push(format!("{service}: {}{why}", action.replace('_', " ")));
        } else if action != verb && action != "update" && verb != "scale" {
            lines.push(format!("{service}: {} instead{why}", action.replace('_', " ")));
        }
    }
    lines.extend(reply.notes.iter().cloned());
    lines
}

/// What a command did of which no change of state tells.
pub(crate) fn done(request: &CommandRequest, reply: &CommandReply) -> Vec<String> {
    let signal = request.signal.as_deref().unwrap_or_default().to_ascii_uppercase();
    let what = match request.verb.as_str() {
        "pause" if request.freeze => "frozen".to_owned(),
        "pause" => "paused".to_owned(),
        "signal" if signal.starts_with("SIG") => format!("{signal} sent"),
        "signal" if signal.starts_with(|c: char| c.is_ascii_digit()) => format!("signal {signal} sent"),
        "signal" => format!("SIG{signal} sent"),
        verb => format!("{verb}d"),
    };
    let changed = reply.actions.iter().filter(|a| a.action != "nothing");
    changed.map(|a| format!("{}: {what}", a.service)).collect()
}

/// The plan of a reload.
pub(crate) fn reload_plan(reply: &ReloadReply, look: &Look) -> String {
    let changes: Vec<&Action> = reply.actions.iter().filter(|a| a.action != "nothing").collect();
    let others = if changes.is_empty() { "service" } else { "other service" };
    let untouched = match reply.untouched as usize {
        0 => String::new(),
        1 => format!("1 {others} is not touched.\n"),
        n => format!("{n} {others}s are not touched.\n"),
    };
    if changes.is_empty() {
        return format!("no changes\n{untouched}");
    }
    let restarts = changes.iter().filter(|a| a.action == "restart").count();
    let mut text = count(changes.len(), "change");
    if restarts > 0 {
        text += &format!(", {}", count(restarts, "restart"));
    }
    text.push('\n');
    let width = |f: fn(&Action) -> &str| changes.iter().map(|a| f(a).chars().count()).max().unwrap_or(0);
    let (names, actions) = (width(|a| &a.service), width(|a| &a.action));
    for a in changes {
        let paint = match a.action.as_str() {
            "restart" | "remove" | "stop" => Paint::Warn,
            "new" | "start" => Paint::Good,
            _ => Paint::Plain,
        };
        let action = look.paint(paint, &pad(&a.action.replace('_', " "), actions));
        let line = format!("  {}  {action}  {}", pad(&a.service, names), look.text(&a.why));
        text += line.trim_end();
        text.push('\n');
    }
    text + &untouched
}

/// `keepwell info`.
pub(crate) fn info(info: &Info, clock: &Clock, look: &Look) -> String {
    let time = |at: &Option<String>| {
        let at = at.as_deref()?;
        Some(format!("{} ({} ago)", clock.at(at)?, rough(clock.ago(at)?)))
    };
    let unknown = || "unknown".to_owned();
    let rows = [
        ("version", same_or_both(&info.version, &info.anchor_version)),
        ("anchor", format!("pid {}, since {}", info.anchor_pid, time(&info.started).unwrap_or_else(unknown))),
        ("daemon", daemon_line(info)),
        ("scope", info.scope.clone()),
        ("services", info.services.to_string()),
        ("config", info.config.clone().unwrap_or_else(|| "none: started by keepwell run".to_owned())),
        ("accepted", time(&info.config_accepted).unwrap_or_else(unknown)),
        ("state", info.state_dir.clone()),
        ("socket", info.socket.clone()),
    ];
    let mut text = String::new();
    for (label, value) in rows {
        text += &format!("{}  {}\n", look.paint(Paint::Dim, &pad(label, 10)), look.text(&value));
    }
    for (n, mechanism) in info.mechanisms.iter().enumerate() {
        let label = if n == 0 { "mechanisms" } else { "" };
        text += &format!("{}  {}\n", look.paint(Paint::Dim, &pad(label, 10)), look.text(mechanism));
    }
    for held in &info.held_down {
        text += &format!("{}  {}\n", look.paint(Paint::Dim, "held down "), look.text(held));
    }
    if info.stopping {
        text += "it is going down\n";
    }
    text
}

fn same_or_both(daemon: &str, anchor: &str) -> String {
    match anchor {
        a if a == daemon || a.is_empty() => daemon.to_owned(),
        a => format!("{daemon} under an anchor of {a}"),
    }
}

fn daemon_line(info: &Info) -> String {
    match info.rebirths {
        0 => format!("pid {}", info.daemon_pid),
        n => format!("pid {}, replaced {}", info.daemon_pid, count(n as usize, "time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_state_is_wider_than_its_column() {
        for state in ["stopped", "waiting", "starting", "running", "ready", "degraded", "paused", "stopping"]
            .into_iter()
            .chain(["backing_off", "crash_looping", "gave_up", "completed"])
        {
            let look = state_look(state).expect(state);
            assert!(look.ascii.is_ascii() && look.words.is_ascii());
            let (text, _) = state_text(state, &Look::SIGNS);
            assert!(text.chars().count() <= STATE_WIDTH, "{text}");
        }
        assert_eq!(state_text("half_there", &Look::PLAIN).0, "? half there");
    }

    #[test]
    fn cutting_counts_characters() {
        assert_eq!(cut("größer als", 6), "größe…");
        assert_eq!(cut("kurz", 6), "kurz");
    }

    #[test]
    fn the_plan_says_only_what_was_not_asked() {
        let action = |service: &str, action: &str, why: &str| Action {
            service: service.into(),
            action: action.into(),
            why: why.into(),
        };
        let reply = CommandReply {
            actions: vec![
                action("web", "stop", ""),
                action("api@2", "stop", ""),
                action("worker", "stop", "bound to web"),
                action("mailer", "nothing", "stopped already"),
            ],
            notes: vec!["report depends on web and runs on".into()],
            after_seq: 7,
        };
        let asked = ["web".to_owned(), "api".to_owned(), "mailer".to_owned()];
        assert_eq!(
            command_notes(
                &CommandReply { notes: vec![], ..reply.clone() },
                "scale",
                &["web".into(), "api".into(), "worker".into()]
            ),
            ["mailer: nothing to do (stopped already)"]
        );
        insta::assert_snapshot!(command_notes(&reply, "stop", &asked).join("\n"), @r"
        worker: stop (bound to web)
        mailer: nothing to do (stopped already)
        report depends on web and runs on
        ");
    }

    #[test]
    fn what_no_state_tells_is_said() {
        let action = |service: &str, action: &str| Action {
            service: service.into(),
            action: action.into(),
            why: String::new(),
        };
        let reply = CommandReply {
            actions: vec![action("web", "update"), action("api", "nothing")],
            ..CommandReply::default()
        };
        let said = |verb: &str, signal: Option<&str>, freeze: bool| {
            let signal = signal.map(str::to_owned);
            let request = CommandRequest { verb: verb.into(), signal, freeze, ..CommandRequest::default() };
            done(&request, &reply).join("; ")
        };
        assert_eq!(said("pause", None, false), "web: paused");
        assert_eq!(said("pause", None, true), "web: frozen");
        assert_eq!(said("resume", None, false), "web: resumed");
        assert_eq!(said("disable", None, false), "web: disabled");
        assert_eq!(said("signal", Some("hup"), false), "web: SIGHUP sent");
        assert_eq!(said("signal", Some("SIGHUP"), false), "web: SIGHUP sent");
        assert_eq!(said("signal", Some("1"), false), "web: signal 1 sent");
    }

    fn plan() -> ReloadReply {
        let action = |service: &str, action: &str, why: &str| Action {
            service: service.into(),
            action: action.into(),
            why: why.into(),
        };
        ReloadReply {
            actions: vec![
                action(
                    "api",
                    "restart",
                    "command changed · stops ≤ 10 s, then ready ≤ 10 s; worker waits meanwhile",
                ),
                action("worker", "live", "restart.max_delay 60s → 2m"),
                action("mailer", "new", "starts after api"),
                action("report", "new_disabled", ""),
            ],
            untouched: 41,
            after_seq: 9,
        }
    }

    #[test]
    fn a_reload_prints_its_plan() {
        insta::assert_snapshot!(reload_plan(&plan(), &Look::SIGNS), @r"
        4 changes, 1 restart
          api     restart       command changed · stops ≤ 10 s, then ready ≤ 10 s; worker waits meanwhile
          worker  live          restart.max_delay 60s → 2m
          mailer  new           starts after api
          report  new disabled
        41 other services are not touched.
        ");
        let idle = ReloadReply { actions: vec![], untouched: 1, after_seq: 9 };
        assert_eq!(reload_plan(&idle, &Look::PLAIN), "no changes\n1 service is not touched.\n");
    }

    fn some_info() -> Info {
        Info {
            anchor_pid: 410,
            daemon_pid: 977,
            version: "0.1.0".into(),
            anchor_version: "0.1.0".into(),
            state_dir: "/srv/shop/.keepwell".into(),
            socket: "/srv/shop/.keepwell/keepwell.sock".into(),
            config: Some("/srv/shop/keepwell.toml".into()),
            config_accepted: Some("2026-01-31T13:58:02Z".into()),
            scope: "project".into(),
            started: Some("2026-01-29T14:00:00Z".into()),
            rebirths: 2,
            heartbeats_refused: 0,
            mechanisms: vec!["spawn: clone3 into cgroup".into(), "tree: cgroup v2".into()],
            services: 5,
            held_down: vec!["web, stopped by anna".into()],
            stopping: false,
        }
    }

    #[test]
    fn info_is_a_list() {
        let text = info(&some_info(), &Clock::fixed("2026-01-31T14:00:00Z"), &Look::SIGNS);
        insta::assert_snapshot!(text, @r"
        version     0.1.0
        anchor      pid 410, since Thu 14:00:00 (2 d ago)
        daemon      pid 977, replaced 2 times
        scope       project
        services    5
        config      /srv/shop/keepwell.toml
        accepted    13:58:02 (118 s ago)
        state       /srv/shop/.keepwell
        socket      /srv/shop/.keepwell/keepwell.sock
        mechanisms  spawn: clone3 into cgroup
                    tree: cgroup v2
        held down   web, stopped by anna
        ");
    }

    #[test]
    fn the_headline_shortens_what_is_near() {
        let here = std::path::Path::new("/srv/shop");
        assert_eq!(
            headline(&some_info(), Some(here)),
            "keepwell 0.1.0 · 5 services from keepwell.toml · state in .keepwell"
        );
        assert_eq!(
            headline(&Info { config: None, services: 1, ..some_info() }, None),
            "keepwell 0.1.0 · 1 service · state in /srv/shop/.keepwell"
        );
    }
}
