//! Users and groups. Numbers of users, as Unix has them, do not exist here: where one is asked for, it is 0.
//!
//! A program can be started as one of the accounts that services have and that need no password, and only by a guardian that is
//! LocalSystem. Any other account has a guardian of its own, whose password Windows keeps.

use super::security::{self, Sid};
use crate::types::Identity;

/// Why a name means nothing here, or nothing that this guardian could become.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdentityError {
    /// No account has this name.
    #[error("there is no account `{0}`")]
    Unknown(String),
    /// Windows has no such thing.
    #[error("a program has no group of its own on Windows; leave `group` out")]
    Group,
    /// Another account may not become it.
    #[error(
        "only a guardian that runs as LocalSystem can start a program as `{0}`: keepwell service install --account system"
    )]
    NeedsSystem(String),
    /// It has a password.
    #[error(
        "`{0}` has a password, which keepwell does not keep; give the service a guardian of its own: keepwell service add --account"
    )]
    Password(String),
}

/// The only account whose guardian can start programs as others, where that is so.
pub const BECOMES_OTHERS: Option<&str> = Some("LocalSystem");

const SYSTEM: &str = "S-1-5-18";
/// Of all accounts `NT SERVICE\…`.
const SERVICES: &str = "S-1-5-80-";

/// What the accounts of Windows' own are called in the domain of its own.
fn full(user: &str) -> String {
    let known = ["LocalService", "NetworkService"].into_iter().find(|known| known.eq_ignore_ascii_case(user));
    known.map_or_else(|| user.to_owned(), |known| format!(r"NT AUTHORITY\{known}"))
}

/// The account that a program is to be started as, for a guardian of this account.
///
/// # Errors
/// When there is none of this name, or this guardian cannot become it.
pub fn lookup(user: &str, group: Option<&str>) -> Result<Identity, IdentityError> {
    if group.is_some_and(|group| group != "0") {
        return Err(IdentityError::Group);
    }
    let name = full(user);
    let found = Sid::of_name(&name).map_err(|_| IdentityError::Unknown(user.to_owned()))?;
    let own = security::own_token().and_then(|token| security::user_of(&token)).map(|own| own.text());
    let account = becomes(user, &found.text(), &own.unwrap_or_default())?.then(|| name.into());
    Ok(Identity { account, ..Identity::default() })
}

/// Whether it has to become another, if it can.
fn becomes(user: &str, wanted: &str, own: &str) -> Result<bool, IdentityError> {
    let without_password = ["S-1-5-19", "S-1-5-20"].contains(&wanted) || wanted.starts_with(SERVICES);
    match (wanted == own, without_password, own == SYSTEM) {
        (true, ..) => Ok(false),
        (false, true, true) => Ok(true),
        (false, true, false) => Err(IdentityError::NeedsSystem(user.to_owned())),
        (false, false, _) => Err(IdentityError::Password(user.to_owned())),
    }
}

/// The name of the user that this process runs as: no other is known by a number.
#[must_use]
pub fn user_name(_: u32) -> String {
    let own = security::own_token().and_then(|token| security::user_of(&token));
    own.map_or_else(|_| std::env::var("USERNAME").unwrap_or_default(), |sid| sid.name())
}

/// Name and home folder of a user, where the host knows them: of this process's own.
#[must_use]
pub fn account(user: &str) -> Option<(String, String)> {
    let name = std::env::var("USERNAME").ok().filter(|own| own.eq_ignore_ascii_case(user) || user == "0")?;
    Some((name, std::env::var("USERPROFILE").unwrap_or_default()))
}

/// No number names this process's user.
#[must_use]
pub fn own_uid() -> u32 {
    0
}

/// Says that a program cannot be started in another group.
///
/// # Errors
/// Always.
pub fn group_id(_: &str) -> Result<u32, IdentityError> {
    Err(IdentityError::Group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_system_becomes_another_and_only_one_without_a_password() {
        let becomes = |wanted, own| becomes("x", wanted, own);
        assert_eq!(becomes("S-1-5-21-1-2-3-1001", "S-1-5-21-1-2-3-1001"), Ok(false));
        assert_eq!(becomes("S-1-5-18", "S-1-5-18"), Ok(false));
        for account in ["S-1-5-19", "S-1-5-20", "S-1-5-80-1-2-3-4-5"] {
            assert_eq!(becomes(account, "S-1-5-18"), Ok(true));
            let told = becomes(account, "S-1-5-21-1-2-3-1001").unwrap_err().to_string();
            assert!(told.contains("only a guardian that runs as LocalSystem"), "{told}");
        }
        for own in ["S-1-5-18", "S-1-5-19", "S-1-5-21-1-2-3-1002", ""] {
            let told = becomes("S-1-5-21-1-2-3-1001", own).unwrap_err().to_string();
            assert!(told.contains("a guardian of its own"), "{told}");
        }
    }

    #[test]
    fn accounts_are_known_by_their_names() {
        let me = user_name(0);
        assert!(!me.is_empty());
        assert_eq!(lookup(&me, None), Ok(Identity::default()));
        assert!(matches!(lookup("no such account", None), Err(IdentityError::Unknown(_))));
        assert_eq!(lookup(&me, Some("staff")), Err(IdentityError::Group));
        assert_eq!(full("localservice"), r"NT AUTHORITY\LocalService");
        assert_eq!(full(r"NT SERVICE\web"), r"NT SERVICE\web");
        // The tests do not run as LocalSystem.
        assert!(matches!(lookup("LocalService", None), Err(IdentityError::NeedsSystem(_))));
    }
}
