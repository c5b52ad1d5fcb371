//! Whether the account of a service may do what the service has to, before anything is registered.

use std::io::IsTerminal;
use std::path::Path;

use keepwell_service::manager::{Account, Host, Lack, Needs, ServiceDefinition, ask_secret};

use super::place::{Place, state_of};
use super::{Whose, failure};
use crate::failure::{Failure, Result, io_words};
use crate::output::talk;

/// Sees to it that the account is known, has its password, and may use all that the service needs. Its state folder, where
/// keepwell chose it or it is not there yet, is made for it; what else it lacks is refused, or given with `grant`.
///
/// # Errors
/// Names what it lacks.
pub(super) fn permit(
    host: &Host,
    whose: Whose,
    place: &Place,
    definition: &mut ServiceDefinition,
    mut needs: Needs,
    grant: bool,
) -> Result<()> {
    definition.check().map_err(|invalid| failure(invalid.into()))?;
    let chosen = state_of(&place.name, &place.config, whose).is_ok_and(|default| default == place.state);
    let own = chosen || !place.state.exists();
    needs.run.insert(0, definition.program.clone());
    // Beside it are the files that it includes.
    needs.read.insert(0, place.config.clone());
    if !own {
        needs.write.push(place.state.clone());
    }
    let lacks = host.lacks(definition, &needs).map_err(failure)?;
    if let Some(unknown @ Lack::Account(_)) = lacks.first() {
        return Err(Failure::usage(format!("the account {} {unknown}", definition.account_name())));
    }
    if !lacks.is_empty() && !grant {
        return Err(refusal(definition, &lacks));
    }
    password(host, definition)?;
    for lack in &lacks {
        host.grant(definition, lack).map_err(failure)?;
        talk(&format!("{} {}", definition.account_name(), given(lack)));
    }
    if chosen {
        trust(host, definition, &place.state)?;
    }
    if own {
        host.own_folder(definition, &place.state).map_err(failure)?;
    }
    Ok(())
}

/// Whoever may make folders where keepwell keeps its state could have made this one first.
fn trust(host: &Host, definition: &ServiceDefinition, state: &Path) -> Result<()> {
    for folder in [Some(state), state.parent()].into_iter().flatten() {
        if !host.is_trusted(definition, folder).map_err(failure)? {
            let text =
                format!("{} belongs to another user, who could change what is in it", folder.display());
            return Err(Failure::failed(text)
                .hint("look at what is there, and remove it or give it to administrators"));
        }
    }
    Ok(())
}

fn refusal(definition: &ServiceDefinition, lacks: &[Lack]) -> Failure {
    let list: Vec<String> = lacks.iter().map(Lack::to_string).collect();
    let text = format!("the account {} {}", definition.account_name(), list.join(", and "));
    Failure::failed(text).hint("--grant gives it that; --account names another")
}

fn given(lack: &Lack) -> String {
    match lack {
        Lack::Account(_) => "is known now".to_owned(),
        Lack::LogOn => "may log on as a service now".to_owned(),
        Lack::Run(path) => format!("may run {} now", path.display()),
        Lack::Read(path) => format!("may use {} now", path.display()),
        Lack::Write(path) => format!("may write to {} now", path.display()),
    }
}

/// From a terminal, if nobody has given it and the host will want it.
fn password(host: &Host, definition: &mut ServiceDefinition) -> Result<()> {
    if !host.wants_password(definition).map_err(failure)? {
        return Ok(());
    }
    let name = definition.account_name();
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "the account {name} has a password, and Windows wants to know it"
        ))
        .hint("--password-file FILE or --password-env VARIABLE says where it is"));
    }
    let secret = ask_secret(&format!("password of {name}: "))
        .map_err(|e| Failure::failed(format!("the password cannot be asked for: {}", io_words(&e))))?;
    if let Account::User { password, .. } = &mut definition.account {
        *password = Some(secret);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_lacking_is_said_at_once() {
        let definition = ServiceDefinition::new("web", r"C:\keepwell.exe");
        let lacks = [Lack::Run("/srv/web".into()), Lack::Write("/srv/state".into()), Lack::LogOn];
        let refused = refusal(&definition, &lacks);
        insta::assert_snapshot!(refused.text, @r"the account NT SERVICE\web may not run /srv/web, and may not write to /srv/state, and may not log on as a service");
        assert_eq!(
            (refused.code, refused.hint.as_deref()),
            (1, Some("--grant gives it that; --account names another"))
        );
        assert_eq!(given(&lacks[1]), "may write to /srv/state now");
    }
}
