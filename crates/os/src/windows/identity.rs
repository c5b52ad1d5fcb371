//! Users and groups. Numbers of users, as Unix has them, do not exist here: where one is asked for, it is 0.

use super::security;
use crate::types::Identity;

/// Why a name means nothing here.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdentityError {
    /// Starting a program as another user is not possible from within a guardian.
    #[error(
        "programs of this guardian run as its own user on Windows; for `{0}`, give the service a guardian of its own that runs as it"
    )]
    Unsupported(String),
}

/// Says that a program cannot be started as another user.
///
/// # Errors
/// Always.
pub fn lookup(user: &str, _: Option<&str>) -> Result<Identity, IdentityError> {
    Err(IdentityError::Unsupported(user.to_owned()))
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
pub fn group_id(group: &str) -> Result<u32, IdentityError> {
    Err(IdentityError::Unsupported(group.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_user_has_a_name_and_others_are_refused_with_advice() {
        assert!(!user_name(0).is_empty());
        assert!(lookup("web", None).unwrap_err().to_string().contains("guardian of its own"));
    }
}
