//! What a service waits for before its start: one look at all of it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keepwell_core::Outcome;
use keepwell_os::files;
use keepwell_service::State;
use keepwell_service::manager::{Host, Scope};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::gate::Gate;
use super::{Check, Failure, Limit, attempt};

/// Everything that one service waits for.
#[derive(Debug)]
pub struct Outside(Vec<Item>);

/// One of them.
#[derive(Debug)]
pub struct Item {
    /// How people know it.
    pub name: String,
    /// What is looked at, or why it cannot be.
    pub what: Result<What, String>,
}

/// See [`Item::what`].
#[derive(Debug)]
pub struct What(Kind);

#[derive(Debug)]
enum Kind {
    Answers(Check),
    Mounted(PathBuf, Gate),
    Runs(String, Gate),
}

impl What {
    /// A check that passes.
    #[must_use]
    pub fn answers(check: Check) -> What {
        What(Kind::Answers(check))
    }

    /// A file system is mounted on this folder.
    #[must_use]
    pub fn mounted(folder: PathBuf) -> What {
        What(Kind::Mounted(folder, Gate::new()))
    }

    /// A service of the system runs.
    #[must_use]
    pub fn runs(service: String) -> What {
        What(Kind::Runs(service, Gate::new()))
    }
}

impl Outside {
    /// All of these.
    #[must_use]
    pub fn new(all: Vec<Item>) -> Outside {
        Outside(all)
    }
}

/// Looks at all at once. The failure names what is missing, in the order of the configuration.
pub(super) async fn look(outside: &Arc<Outside>, timeout: Duration) -> Outcome {
    let mut looks = JoinSet::new();
    for number in 0..outside.0.len() {
        let outside = Arc::clone(outside);
        looks.spawn(async move { (number, look_at(&outside.0[number], timeout).await) });
    }
    let mut missing = Vec::new();
    while let Some(look) = looks.join_next().await {
        // A look that panicked has found nothing.
        let Ok((number, found)) = look else { return Outcome::Unknown("it could not be looked at".into()) };
        if let Err(why) = found {
            missing.push((number, format!("{}: {why}", outside.0[number].name)));
        }
    }
    if missing.is_empty() {
        return Outcome::Pass;
    }
    missing.sort_unstable();
    let words: Vec<String> = missing.into_iter().map(|(_, words)| words).collect();
    Outcome::Fail(words.join("; "))
}

async fn look_at(item: &Item, timeout: Duration) -> Result<(), String> {
    let limit = Limit { at: Instant::now() + timeout, whole: timeout };
    let slow = || "no answer".to_owned();
    let words = |failure: Failure| match failure {
        Failure::Service(why) | Failure::Ours(why) => why,
    };
    match &item.what.as_ref().map_err(Clone::clone)?.0 {
        Kind::Answers(check) => match attempt(check, timeout).await {
            Outcome::Pass => Ok(()),
            Outcome::Fail(why) | Outcome::Unknown(why) => Err(why),
        },
        Kind::Mounted(folder, gate) => {
            let folder = folder.clone();
            match limit.run(slow, gate.run(move || files::is_mount_point(&folder))).await.map_err(words)? {
                Ok(true) => Ok(()),
                Ok(false) => Err("nothing is mounted there".to_owned()),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Err("it does not exist".to_owned()),
                Err(e) => Err(keepwell_os::in_words(&e)),
            }
        }
        Kind::Runs(service, gate) => {
            let service = service.clone();
            let asked = gate.run(move || Ok(state_of(&service)));
            match limit.run(slow, asked).await.map_err(words)? {
                Ok(Ok(State::Running)) => Ok(()),
                Ok(Ok(state)) => Err(format!("it is {state}")),
                Ok(Err(why)) => Err(why),
                Err(e) => Err(keepwell_os::in_words(&e)),
            }
        }
    }
}

fn state_of(service: &str) -> Result<State, String> {
    let host = Host::new(Scope::System).map_err(|e| e.to_string())?;
    host.status(service).map(|status| status.state).map_err(|e| e.to_string())
}
