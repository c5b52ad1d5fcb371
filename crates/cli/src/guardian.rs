//! The guardian that a command talks to: finding it, asking it, and turning its refusals into failures.

use std::io;
use std::path::Path;
use std::result;

use keepwell_sdk::client::{Client, Error, EventQuery, Events, IncidentQuery, Lines, LogQuery};
use keepwell_sdk::wire::{
    CommandReply, CommandRequest, Event, Explanation, Incidents, Info, LogLine, NotifyAnswer, Problem,
    ReloadReply, Status,
};

use crate::everyone;
use crate::failure::{Failure, Result, io_words};
use crate::locate::{Place, Scope, Surroundings, Target};
use crate::output::talk;

/// A guardian that answered.
#[derive(Clone, Debug)]
pub(crate) struct Guardian {
    client: Client,
    place: Place,
}

/// What a command may mean.
struct Meant {
    /// Where was looked.
    places: Vec<Place>,
    /// Who answered there.
    running: Vec<Guardian>,
}

/// Why a question has no answer.
#[derive(Clone, Debug)]
pub(crate) enum Refused {
    /// The guardian said no.
    Problem(Problem),
    /// Nobody answered.
    Unreachable(Failure),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Problem(problem) => Failure::refused(&problem),
            Refused::Unreachable(failure) => failure,
        }
    }
}

impl Guardian {
    /// The first that runs of those that are meant.
    ///
    /// # Errors
    /// Says where it looked.
    pub(crate) async fn find(target: &Target, services: &[String]) -> Result<Self> {
        let found = Self::meant(target, services).await?;
        match found.running.into_iter().next() {
            Some(guardian) => Ok(guardian),
            None => Err(nobody(&found.places)),
        }
    }

    /// The guardian of the project, or of the service that is installed with its configuration: nothing when neither runs.
    ///
    /// # Errors
    /// When one does not let the operator in.
    pub(crate) async fn of_project(here: &Surroundings) -> Result<Option<Self>> {
        let Some(config) = here.nearest_config() else { return Ok(None) };
        let mut places = here.places(&Target { project: true, ..Target::default() })?;
        places.extend(everyone::services_of(&config));
        for place in &mut places {
            place.chosen = false;
        }
        Ok(Self::running(&places).await?.into_iter().next())
    }

    /// Those that run of those that are meant, the nearest first. Services of the host come last, and only the one that
    /// knows these services of it.
    async fn meant(target: &Target, services: &[String]) -> Result<Meant> {
        let here = Surroundings::here()?;
        let mut places = here.places(target)?;
        let mut running = Self::running(&places).await?;
        let is_near = |g: &Self| g.place.chosen || g.place.scope == Some(Scope::Project);
        if !running.iter().any(is_near)
            && let Some(config) = here.meant_config(target)
        {
            let chosen = !target.is_open();
            let own: Vec<Place> =
                everyone::services_of(&config).into_iter().map(|p| Place { chosen, ..p }).collect();
            running.splice(0..0, Self::running(&own).await?);
            places.extend(own);
        }
        if running.is_empty() && target.is_open() {
            let all = everyone::services().into_iter().map(|known| known.place()).collect::<Vec<_>>();
            let mut others = vec![];
            for place in &all {
                // One that does not let this user in is not meant.
                others.extend(Self::at(place).await.ok());
            }
            running.extend(Self::the_one(others, services).await?);
        }
        Ok(Meant { places, running })
    }

    /// Of several services of the host, the one that knows these names.
    async fn the_one(mut all: Vec<Self>, services: &[String]) -> Result<Option<Self>> {
        if all.len() > 1 && !services.is_empty() {
            let mut knowing = vec![];
            for guardian in all {
                if guardian.services(services).await.is_ok() {
                    knowing.push(guardian);
                }
            }
            all = knowing;
        }
        match all.as_slice() {
            [] | [_] => Ok(all.pop()),
            several => {
                let list: Vec<String> = several
                    .iter()
                    .filter_map(|g| {
                        let state = g.place.socket.parent()?.display();
                        Some(format!("{}: --state {state}", g.place.service.as_ref()?.name))
                    })
                    .collect();
                Err(Failure::usage("several services of this host may be meant")
                    .hint(format!("say which: {}", list.join(", "))))
            }
        }
    }

    /// As `find`, for a command that changes something: says which guardian it is unless that is obvious, and refuses where
    /// several know these services.
    ///
    /// # Errors
    /// Also when the choice is not clear.
    pub(crate) async fn find_for_change(target: &Target, services: &[String]) -> Result<Self> {
        let Meant { places, mut running } = Self::meant(target, services).await?;
        if running.len() > 1 && !services.is_empty() {
            let mut knowing = vec![];
            for guardian in &running {
                if guardian.services(services).await.is_ok() {
                    knowing.push(guardian.place.clone());
                }
            }
            one_knows(&knowing, &running[0].place, services)?;
        }
        if running.is_empty() {
            return Err(nobody(&places));
        }
        let guardian = running.swap_remove(0);
        if !guardian.is_obvious() {
            talk(&format!("asking {}", guardian.place));
        }
        Ok(guardian)
    }

    /// Only the one whose anchor has this pid, and nobody who takes its place.
    pub(crate) fn bound_to(self, anchor: u32) -> Self {
        Self { client: self.client.bound_to(anchor), ..self }
    }

    async fn running(places: &[Place]) -> Result<Vec<Self>> {
        let mut found = vec![];
        for place in places {
            match Self::at(place).await {
                Ok(guardian) => found.push(guardian),
                Err(e)
                    if e.kind() == io::ErrorKind::PermissionDenied && (place.chosen || found.is_empty()) =>
                {
                    return Err(Failure::failed(format!("{place} does not let you in: permission denied"))
                        .hint("its user, root and the groups in [keepwell] operators and readers may talk to it"));
                }
                Err(_) => {}
            }
        }
        Ok(found)
    }

    /// The one that listens there.
    ///
    /// # Errors
    /// The system's, when nobody does.
    pub(crate) async fn at(place: &Place) -> io::Result<Self> {
        drop(keepwell_os::local::connect(&place.socket).await?);
        Ok(Self::in_place(place.clone()))
    }

    fn in_place(place: Place) -> Self {
        let socket: std::sync::Arc<Path> = place.socket.as_path().into();
        let connect = move || {
            let socket = std::sync::Arc::clone(&socket);
            async move { keepwell_os::local::connect(&socket).await }
        };
        Self { client: Client::new(connect), place }
    }

    fn is_obvious(&self) -> bool {
        self.place.chosen || self.place.scope == Some(Scope::Project)
    }

    /// Refuses to do `verb` to a whole guardian that was only found because nothing nearer ran.
    ///
    /// # Errors
    /// Says how to mean it.
    pub(crate) fn must_be_meant(&self, verb: &str) -> Result<()> {
        if self.is_obvious() {
            return Ok(());
        }
        if let Some(service) = &self.place.service {
            return Err(Failure::not_running("no project's guardian runs here")
                .hint(format!("{} does; to end it: keepwell service stop {service}", self.place)));
        }
        let option = self.place.scope.map_or("project", Scope::name);
        Err(Failure::not_running("no project's guardian runs here")
            .hint(format!("{} does; to mean it: keepwell {verb} --{option}", self.place)))
    }

    /// About itself.
    pub(crate) async fn info(&self) -> Result<Info> {
        self.ask(self.client.info().await)
    }

    /// These, or all, without what they use.
    pub(crate) async fn services(&self, names: &[String]) -> Result<Vec<Status>> {
        self.ask(self.client.states(names).await)
    }

    /// These, or all, with what they use.
    pub(crate) async fn services_and_usage(&self, names: &[String]) -> Result<Vec<Status>> {
        self.ask(self.client.services(names).await)
    }

    /// One explanation an instance.
    pub(crate) async fn explain(&self, name: &str) -> Result<Vec<Explanation>> {
        self.ask(self.client.explain(name).await)
    }

    /// Incidents, newest first.
    pub(crate) async fn notify_test(&self, to: Option<String>) -> Result<Vec<NotifyAnswer>> {
        self.ask(self.client.notify_test(to).await)
    }

    pub(crate) async fn incidents(&self, query: &IncidentQuery) -> Result<Incidents> {
        self.ask(self.client.incidents(query).await)
    }

    /// Answers the accepted plan.
    pub(crate) async fn command(&self, request: &CommandRequest) -> Result<CommandReply> {
        self.ask(self.client.command(request).await)
    }

    /// Answers the plan, which is being carried out unless `dry_run`.
    pub(crate) async fn reload(&self, dry_run: bool) -> result::Result<ReloadReply, Refused> {
        self.client.reload(dry_run).await.map_err(|e| self.refused(e))
    }

    /// Answers the level from now on.
    pub(crate) async fn log_level(&self, level: &str) -> Result<String> {
        self.ask(self.client.log_level(level).await)
    }

    /// What is past.
    pub(crate) async fn events(&self, query: &EventQuery) -> Result<Vec<Event>> {
        self.ask(self.client.events(query).await)
    }

    /// The newest event's number.
    pub(crate) async fn last_seq(&self) -> Result<u64> {
        let last = self.events(&EventQuery { limit: Some(1), ..EventQuery::default() }).await?;
        Ok(last.last().map_or(0, |e| e.seq))
    }

    /// What is past and what comes.
    pub(crate) async fn follow_events(&self, query: EventQuery) -> Result<Follow<Events>> {
        let stream = self.ask(self.client.events_follow(query).await)?;
        Ok(Follow { stream, guardian: self.clone() })
    }

    /// What is in the files.
    pub(crate) async fn logs(&self, query: &LogQuery) -> Result<Vec<LogLine>> {
        self.ask(self.client.logs(query).await)
    }

    /// What is in the files and what comes.
    pub(crate) async fn follow_logs(&self, query: LogQuery) -> Result<Follow<Lines>> {
        let stream = self.ask(self.client.logs_follow(query).await)?;
        Ok(Follow { stream, guardian: self.clone() })
    }

    fn ask<T>(&self, answer: result::Result<T, Error>) -> Result<T> {
        answer.map_err(|e| self.refused(e).into())
    }

    fn refused(&self, error: Error) -> Refused {
        let unreachable = |failure| Refused::Unreachable(failure);
        match error {
            Error::Refused(problem) => Refused::Problem(problem),
            Error::NotRunning(_) => unreachable(Failure::not_running(format!("{} has ended", self.place))),
            Error::Unreachable(e) => {
                unreachable(Failure::failed(format!("{} cannot be reached: {}", self.place, io_words(&e))))
            }
            Error::Broken(why) => {
                let text = format!("{} broke off: {why}", self.place);
                unreachable(Failure::failed(text).hint("keepwell.log in its state folder may say why"))
            }
        }
    }
}

/// A stream that outlives a replaced daemon and ends with the guardian.
pub(crate) struct Follow<S> {
    stream: S,
    guardian: Guardian,
}

impl Follow<Events> {
    /// The next one; nothing when the guardian has ended. Dropping the future loses none.
    ///
    /// # Errors
    /// When the guardian is there and does not go on.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>> {
        self.guardian.ask(self.stream.next().await)
    }
}

impl Follow<Lines> {
    /// As for events.
    ///
    /// # Errors
    /// As for events.
    pub(crate) async fn next(&mut self) -> Result<Option<LogLine>> {
        self.guardian.ask(self.stream.next().await)
    }
}

/// Says where was looked.
pub(crate) fn nobody(places: &[Place]) -> Failure {
    let looked: Vec<String> = places.iter().map(|p| format!("  {}", p.socket.display())).collect();
    let logs = places.first().and_then(|p| p.socket.parent()).map(|s| s.join("logs")).filter(|l| l.is_dir());
    let logs = logs.map(|l| format!("; output of earlier runs is in {}", l.display())).unwrap_or_default();
    Failure::not_running(format!("no guardian runs; nobody answers at\n{}", looked.join("\n")))
        .hint(format!("keepwell up starts one{logs}"))
}

fn one_knows(knowing: &[Place], first: &Place, services: &[String]) -> Result<()> {
    let names = services.join(", ");
    let options = |places: &[Place]| {
        let option = |p: &Place| match p.scope {
            Some(scope) => format!("--{}", scope.name()),
            None => format!("--state {}", p.socket.parent().unwrap_or(Path::new("")).display()),
        };
        places.iter().map(option).collect::<Vec<_>>().join(" or ")
    };
    match knowing {
        [] => Ok(()),
        [only] if only == first => Ok(()),
        [only] => Err(Failure::usage(format!("{first} does not know {names}, but {only} does"))
            .hint(format!("to mean that one: {}", options(knowing)))),
        [one, another, ..] => Err(Failure::usage(format!("{one} and {another} both know {names}"))
            .hint(format!("say which with {}", options(knowing)))),
    }
}

/// The API in a state folder.
pub(crate) fn socket_in(state: &Path) -> std::path::PathBuf {
    state.join(crate::locate::SOCKET)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(scope: Scope) -> Place {
        let socket = format!("/{}/keepwell.sock", scope.name()).into();
        Place { scope: Some(scope), chosen: false, ..Place::named(socket) }
    }

    #[test]
    fn two_that_know_a_name_are_not_guessed_between() {
        let (project, system) = (place(Scope::Project), place(Scope::System));
        let names = ["web".to_owned()];
        assert_eq!(one_knows(std::slice::from_ref(&project), &project, &names), Ok(()));
        let both = one_knows(&[project.clone(), system.clone()], &project, &names).unwrap_err();
        insta::assert_snapshot!(both.text, @"the project's guardian (/project/keepwell.sock) and the system's guardian (/system/keepwell.sock) both know web");
        assert_eq!(both.hint.as_deref(), Some("say which with --project or --system"));
        let other = one_knows(&[system], &project, &names).unwrap_err();
        assert_eq!((other.code, other.hint.as_deref()), (2, Some("to mean that one: --system")));
    }

    #[test]
    fn where_it_looked_is_said() {
        let failure = nobody(&[place(Scope::Project), place(Scope::System)]);
        insta::assert_snapshot!(failure.text, @r"
        no guardian runs; nobody answers at
          /project/keepwell.sock
          /system/keepwell.sock
        ");
        assert_eq!((failure.code, failure.hint.as_deref()), (3, Some("keepwell up starts one")));
    }

    #[test]
    fn ending_a_far_guardian_must_be_meant() {
        let at = Guardian::in_place;
        assert_eq!(at(place(Scope::Project)).must_be_meant("down"), Ok(()));
        let far = at(place(Scope::System)).must_be_meant("down").unwrap_err();
        assert!(far.hint.unwrap().ends_with("keepwell down --system"));
        assert_eq!(at(Place { chosen: true, ..place(Scope::System) }).must_be_meant("down"), Ok(()));
    }
}
