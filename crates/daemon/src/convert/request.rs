//! Requests as they come from the wire, checked, as the core takes them. What is wrong is said with what would be right.

use std::time::Duration;

use keepwell_core::spec::To;
use keepwell_core::{Command, Wall};
use keepwell_sdk::wire;

use super::signal::{signal_names, signal_number};

const VERBS: [&str; 10] =
    ["start", "stop", "restart", "signal", "pause", "resume", "enable", "disable", "scale", "shutdown"];

/// The command that a request means.
///
/// # Errors
/// A problem that names the field and what it may be.
pub fn command(r: wire::CommandRequest) -> Result<Command, wire::Problem> {
    fits_verb(&r)?;
    let services = r.services.clone();
    Ok(match r.verb.as_str() {
        "start" => Command::Start { services: some(services)?, ignore_dependencies: r.ignore_dependencies },
        "stop" => Command::Stop { services: some(services)?, with_dependents: r.with_dependents },
        "restart" => Command::Restart { services: some(services)? },
        "signal" => Command::Signal { services: some(services)?, signal: signal(r.signal)?, to: to(r.to)? },
        "pause" => Command::Pause {
            services: some(services)?,
            freeze: r.freeze,
            stop_after: r.stop_after_ms.map(Duration::from_millis),
        },
        "resume" => Command::Resume { services: some(services)? },
        "enable" => Command::Enable { services: some(services)? },
        "disable" => Command::Disable { services: some(services)? },
        "scale" => scale(services, r.instances)?,
        "shutdown" if services.is_empty() => Command::Shutdown,
        "shutdown" => return Err(bad("`shutdown` stops everything and takes no `services`", None)),
        "" => return Err(bad("`verb` is missing", Some(format!("one of {}", VERBS.join(", "))))),
        other => {
            let hint = match closest(other, VERBS.into_iter()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("one of {}", VERBS.join(", ")),
            };
            return Err(bad(&format!("there is no verb `{other}`"), Some(hint)));
        }
    })
}

/// A point in time as RFC 3339 has it, with any offset.
///
/// # Errors
/// A problem that shows how one looks.
pub fn instant(text: &str) -> Result<Wall, wire::Problem> {
    match text.parse::<jiff::Timestamp>() {
        Ok(t) => Ok(Wall(t.as_millisecond())),
        Err(_) => Err(bad(
            &format!("`{text}` is no point in time"),
            Some("RFC 3339, such as 2026-07-01T14:07:11Z; a `+` in a URL is written %2B".into()),
        )),
    }
}

/// A request that cannot be taken as it stands.
pub(crate) fn bad(message: &str, hint: Option<String>) -> wire::Problem {
    wire::Problem { code: "invalid".to_owned(), message: message.to_owned(), hint }
}

/// The name that was probably meant.
pub(crate) fn closest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // One slip in three letters is a typing error more often than another word.
    let allowed = (given.chars().count() / 3).max(1);
    let distance = |k: &str| strsim::damerau_levenshtein(&given.to_lowercase(), &k.to_lowercase());
    known.map(|k| (distance(k), k)).filter(|(d, _)| *d <= allowed).min_by_key(|(d, _)| *d).map(|(_, k)| k)
}

/// A field that its verb does not read would be ignored in silence, so it is refused.
fn fits_verb(r: &wire::CommandRequest) -> Result<(), wire::Problem> {
    let fields = [
        ("ignore_dependencies", r.ignore_dependencies, "start"),
        ("with_dependents", r.with_dependents, "stop"),
        ("signal", r.signal.is_some(), "signal"),
        ("to", r.to.is_some(), "signal"),
        ("freeze", r.freeze, "pause"),
        ("stop_after_ms", r.stop_after_ms.is_some(), "pause"),
        ("instances", r.instances.is_some(), "scale"),
    ];
    match fields
        .into_iter()
        .find(|(_, set, verb)| *set && r.verb != *verb && VERBS.contains(&r.verb.as_str()))
    {
        Some((field, _, verb)) => {
            Err(bad(&format!("`{field}` belongs to `{verb}`, not to `{}`", r.verb), None))
        }
        None => Ok(()),
    }
}

fn some(services: Vec<String>) -> Result<Vec<String>, wire::Problem> {
    if services.is_empty() {
        return Err(bad("`services` is empty", Some("name at least one: {\"services\": [\"web\"]}".into())));
    }
    Ok(services)
}

fn signal(text: Option<String>) -> Result<i32, wire::Problem> {
    let Some(text) = text else {
        return Err(bad(
            "`signal` is missing",
            Some("a name or a number: \"HUP\", \"SIGHUP\", \"1\"".into()),
        ));
    };
    signal_number(&text).ok_or_else(|| {
        let upper = text.to_ascii_uppercase();
        let hint = closest(upper.strip_prefix("SIG").unwrap_or(&upper), signal_names()).map_or_else(
            || "a name or a number: HUP, SIGHUP, 1".to_owned(),
            |h| format!("did you mean `{h}`?"),
        );
        bad(&format!("there is no signal `{text}`"), Some(hint))
    })
}

fn to(text: Option<String>) -> Result<To, wire::Problem> {
    match text.as_deref() {
        None | Some("main") => Ok(To::Main),
        Some("group") => Ok(To::Group),
        Some("tree") => Ok(To::Tree),
        Some(other) => {
            Err(bad(&format!("`to` cannot be `{other}`"), Some("one of main, group, tree".into())))
        }
    }
}

/// More than a configuration may ask for.
const MANY: u16 = 10_001;

fn scale(mut services: Vec<String>, instances: Option<u16>) -> Result<Command, wire::Problem> {
    let (Some(service), true) = (services.pop(), services.is_empty()) else {
        return Err(bad("`scale` takes exactly one service", None));
    };
    match instances {
        Some(0) => Err(bad("`instances` must be at least 1", Some(format!("keepwell stop {service}")))),
        Some(MANY..) => Err(bad("`instances` must be at most 10000", None)),
        Some(instances) => Ok(Command::Scale { service, instances }),
        None => Err(bad("`instances` is missing", Some("a number from 1".into()))),
    }
}
