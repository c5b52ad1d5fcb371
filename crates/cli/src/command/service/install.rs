//! `keepwell service install` and `uninstall`.

use std::path::PathBuf;

use clap::Args;
use keepwell_sdk::exit;
use keepwell_service::manager::{Host, Installed, Scope as HostScope, ServiceDefinition};

use super::definition::Settings;
use super::events;
use super::permit::permit;
use super::place::{Place, state_of};
use super::{DEFAULT, Patience, Which, Whose, drive, failure};
use crate::command::Context;
use crate::config_check::{must_load, needs, stop_budget, users};
use crate::failure::{Failure, Result};
use crate::hold::supported;
use crate::locate::{CONFIG, Home, Scope, Surroundings};
use crate::output::{self, Look, talk};

/// Have the host start keepwell with a configuration, or change how it does
///
/// Installing again changes what differs, in place; what runs goes on.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell service install --config /etc/keepwell/keepwell.toml --now
  keepwell service install --name shop --config shop/keepwell.toml --start delayed --depends-on postgresql
  keepwell service install --user                     # for you, when you log on
  keepwell service install --account web --password-file web.secret")]
pub(super) struct Install {
    /// The configuration; otherwise the nearest keepwell.toml, else the system's or, with --user, yours
    #[arg(long, visible_alias = "file", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The name of the service
    #[arg(long, default_value = DEFAULT)]
    name: String,
    /// Where it keeps its state; otherwise a folder of its own below the system's or, with --user and --all-users, the user's
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Start it, too
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    patience: Patience,
}

/// Stop a service, delete it, and wait until it is really gone; its configuration and its state stay
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell service uninstall
  keepwell service uninstall shop --timeout 1m")]
pub(super) struct Uninstall {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    patience: Patience,
}

impl Install {
    pub(super) fn run(self, cx: &Context) -> Result<i32> {
        let here = Surroundings::here()?;
        let config = self.config(&here)?;
        let state = match &self.state {
            Some(state) => here.cwd.join(state),
            None => state_of(&self.name, &config, self.whose)?,
        };
        let place = Place { name: self.name.clone(), config, state };
        let host = self.whose.host()?;
        install(cx, &host, self.whose, &place, &self.settings)?;
        drive::begin(&host, &self.name, self.whose, self.now.then_some(self.patience))?;
        Ok(exit::DONE)
    }

    fn config(&self, here: &Surroundings) -> Result<PathBuf> {
        if let Some(config) = &self.config {
            return Ok(here.config_path(config));
        }
        if let Some(nearest) = here.nearest_config() {
            return Ok(nearest);
        }
        match self.whose.scope() {
            HostScope::User => here.user_config(),
            HostScope::System | HostScope::AllUsers => Ok(keepwell_os::files::system_config().join(CONFIG)),
        }
    }
}

/// Checks the configuration, registers the service, and says what came of it.
///
/// # Errors
/// When it was not registered.
pub(super) fn install(
    cx: &Context,
    host: &Host,
    whose: Whose,
    place: &Place,
    settings: &Settings,
) -> Result<ServiceDefinition> {
    supported()?;
    let scope = match whose.scope() {
        HostScope::System => Scope::System,
        HostScope::User | HostScope::AllUsers => Scope::User,
    };
    let home = Home { scope, config: place.config.clone(), state: place.state.clone() };
    must_load(&home, &Look::stderr(cx.color))?;
    let mut definition = settings.definition(place, host, stop_budget(&home))?;
    if scope == Scope::System {
        one_account(keepwell_os::identity::BECOMES_OTHERS, &definition, &users(&home))?;
    }
    permit(host, whose, place, &mut definition, needs(&home), settings.grant)?;
    let installed = host.install(&definition).map_err(failure)?;
    events::register(whose.scope());
    output::print(&told(&definition, place, &installed))?;
    Ok(definition)
}

/// Refuses programs that run as others under a guardian that cannot become them.
fn one_account(
    becomes_others: Option<&str>,
    definition: &ServiceDefinition,
    users: &[(String, String)],
) -> Result<()> {
    let own = definition.account_name();
    let Some(able) = becomes_others.filter(|able| *able != own) else { return Ok(()) };
    let bare = |name: &str| name.rsplit('\\').next().unwrap_or_default().to_ascii_lowercase();
    match users.iter().find(|(_, user)| bare(user) != bare(&own)) {
        None => Ok(()),
        Some((service, user)) => Err(Failure::usage(format!(
            "services.{service} is to run as `{user}`, and a guardian that runs as {own} cannot start it so: only {able} can"
        ))
        .hint(format!(
            "--account system makes it that; or give {service} a guardian of its own: keepwell service add --account"
        ))),
    }
}

fn told(definition: &ServiceDefinition, place: &Place, installed: &Installed) -> String {
    let name = &definition.name;
    let mut text = match (installed.created, installed.changes.as_slice()) {
        (true, _) => format!("installed the service {name}\n  configuration  {}\n", place.config.display()),
        (false, []) => format!("the service {name} is as it should be\n"),
        (false, changes) => {
            let value = |text: &str| if text.is_empty() { "none".to_owned() } else { text.to_owned() };
            let line = |c: &keepwell_service::manager::Change| {
                format!("  {}  {} → {}\n", c.what, value(&c.from), value(&c.to))
            };
            let lines: String = changes.iter().map(line).collect();
            format!("changed the service {name}\n{lines}")
        }
    };
    if !installed.unsupported.is_empty() {
        text += &format!("  this host knows no {}; it goes without\n", installed.unsupported.join(", no "));
    }
    text
}

impl Uninstall {
    pub(super) fn run(self) -> Result<i32> {
        let host = self.which.whose.host()?;
        let place = uninstall(&host, &self.which.name, self.patience)?;
        talk(&format!(
            "its configuration {} and its state {} stay",
            place.config.display(),
            place.state.display()
        ));
        Ok(exit::DONE)
    }
}

/// Ends it, and takes it from the host.
///
/// # Errors
/// Also when it is no service of keepwell's.
pub(super) fn uninstall(host: &Host, name: &str, patience: Patience) -> Result<Place> {
    let place = Place::installed(host, name)?;
    if !host.supervises() {
        drive::stop(host, name, patience)?;
    }
    host.uninstall(name, patience.timeout).map_err(failure)?;
    events::forget(host);
    talk(&format!("removed the service {name}"));
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepwell_service::manager::{Account, Change};

    #[test]
    fn programs_of_others_take_a_guardian_that_can_become_them() {
        let with =
            |account| ServiceDefinition { account, ..ServiceDefinition::new("shop", "/usr/bin/keepwell") };
        let users = |user: &str| [("web".to_owned(), user.to_owned())];
        let able = Some("LocalSystem");
        let refused = one_account(able, &with(Account::Virtual), &users("LocalService")).unwrap_err();
        insta::assert_snapshot!(refused.text, @r"services.web is to run as `LocalService`, and a guardian that runs as NT SERVICE\shop cannot start it so: only LocalSystem can");
        assert!(one_account(able, &with(Account::System), &users("LocalService")).is_ok());
        assert!(one_account(able, &with(Account::LocalService), &users("LocalService")).is_ok());
        assert!(one_account(able, &with(Account::Virtual), &users(r"NT SERVICE\shop")).is_ok());
        assert!(one_account(able, &with(Account::Virtual), &[]).is_ok());
        assert!(one_account(None, &with(Account::Virtual), &users("web")).is_ok());
    }

    #[test]
    fn what_was_done_is_told() {
        let definition = ServiceDefinition::new("shop", "/usr/bin/keepwell");
        let place = Place {
            name: "shop".into(),
            config: "/etc/keepwell/shop.toml".into(),
            state: "/var/lib/x".into(),
        };
        let change =
            |what: &str, from: &str, to: &str| Change { what: what.into(), from: from.into(), to: to.into() };
        let all = [
            Installed {
                created: true,
                unsupported: vec!["delayed start", "triggers"],
                ..Installed::default()
            },
            Installed::default(),
            Installed {
                changes: vec![change("start", "auto", "delayed"), change("dependencies", "", "Tcpip")],
                ..Installed::default()
            },
        ];
        let text: Vec<String> = all.iter().map(|i| told(&definition, &place, i)).collect();
        insta::assert_snapshot!(text.concat(), @r"
        installed the service shop
          configuration  /etc/keepwell/shop.toml
          this host knows no delayed start, no triggers; it goes without
        the service shop is as it should be
        changed the service shop
          start  auto → delayed
          dependencies  none → Tcpip
        ");
    }
}
