//! Where the files of a service are, and how its command line says so.

use std::path::{Path, PathBuf};

use keepwell_service::manager::{Host, Scope};

use super::{Whose, failure};
use crate::failure::{Failure, Result};
use crate::locate::{CONFIG, Surroundings};

/// What a guardian without a terminal says; in its state folder.
const LAST_WORDS: &str = "anchor.log";

/// A guardian that is installed as a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// Its name.
    pub(crate) name: String,
    /// Its configuration; absolute.
    pub(crate) config: PathBuf,
    /// Its state folder; absolute.
    pub(crate) state: PathBuf,
}

impl Place {
    /// As the service manager starts it. What is not supervised goes into the background by itself.
    pub(super) fn arguments(&self, supervised: bool) -> Vec<String> {
        let (config, state) = (self.config.display().to_string(), self.state.display().to_string());
        let words = if supervised {
            vec!["internal", "service", "--name", &self.name, "--config", &config, "--state", &state]
        } else {
            vec!["up", "--detach", "--file", &config, "--state", &state]
        };
        words.into_iter().map(str::to_owned).collect()
    }

    /// The reverse; nothing for services of others.
    pub(crate) fn of(name: &str, command: &[String]) -> Option<Self> {
        let words: Vec<&str> = command.iter().skip(1).map(String::as_str).collect();
        let rest = match words.as_slice() {
            ["internal", "service", "--name", _, rest @ ..] | ["up", "--detach", rest @ ..] => rest,
            _ => return None,
        };
        let value =
            |option: &str| rest.windows(2).find(|pair| pair[0] == option).map(|pair| PathBuf::from(pair[1]));
        let config = value("--config").or_else(|| value("--file"))?;
        let state = value("--state").unwrap_or_else(|| crate::locate::service_state(name));
        Some(Self { name: name.to_owned(), config, state })
    }

    /// Of an installed service.
    ///
    /// # Errors
    /// When there is none of this name, or it is not keepwell's.
    pub(super) fn installed(host: &Host, name: &str) -> Result<Self> {
        let command = host.command(name).map_err(failure)?;
        Self::of(name, &command).ok_or_else(|| {
            Failure::usage(format!("the service `{name}` is not keepwell's: {}", command.join(" ")))
                .hint("keepwell service list shows those that are")
        })
    }

    /// Whether its folder was made for it by `add`.
    pub(super) fn is_own(&self, whose: Whose) -> bool {
        folder_of(&self.name, whose).is_ok_and(|own| self.config.parent() == Some(&own))
    }
}

/// Where `add` puts the configuration of a service.
///
/// # Errors
/// When there is no home folder.
pub(super) fn folder_of(name: &str, whose: Whose) -> Result<PathBuf> {
    let base = match whose.scope() {
        Scope::User => Surroundings::here()?.user_config()?.parent().map(Path::to_owned).unwrap_or_default(),
        Scope::System | Scope::AllUsers => keepwell_os::files::system_config(),
    };
    Ok(base.join(name))
}

/// Where the state of a service goes. The system's and the user's own guardians have theirs where `--system` and `--user`
/// of the other commands look.
///
/// # Errors
/// When there is no home folder.
pub(super) fn state_of(name: &str, config: &Path, whose: Whose) -> Result<PathBuf> {
    let here = Surroundings::here()?;
    match whose.scope() {
        Scope::System if config == keepwell_os::files::system_config().join(CONFIG) => {
            Ok(keepwell_os::files::system_state())
        }
        Scope::System => Ok(crate::locate::service_state(name)),
        Scope::User if config == here.user_config()? => here.user_state(),
        Scope::User => Ok(here.user_state()?.join(name)),
        // Whoever logs on has a guardian of their own of the configuration that they share.
        Scope::AllUsers => Ok(Host::each_users_folder(name)),
    }
}

/// What to look at when a service does not come up.
pub(super) fn last_words(name: &str) -> String {
    let file = crate::locate::service_state(name).join(LAST_WORDS);
    format!("what it said last is in {}", file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            name: "shop".into(),
            config: "/etc/x y/keepwell.toml".into(),
            state: "/var/lib/keepwell/shop".into(),
        }
    }

    #[test]
    fn a_place_is_known_again_by_its_command_line() {
        for supervised in [true, false] {
            let command = [vec!["/usr/bin/keepwell".to_owned()], place().arguments(supervised)].concat();
            assert_eq!(Place::of("shop", &command), Some(place()));
        }
    }

    #[test]
    fn services_of_others_are_not_ours() {
        for command in
            [vec![], vec!["x"], vec!["svchost.exe", "-k", "netsvcs"], vec!["keepwell", "up", "--detach"]]
        {
            let command: Vec<String> = command.into_iter().map(str::to_owned).collect();
            assert_eq!(Place::of("shop", &command), None, "{command:?}");
        }
    }
}
