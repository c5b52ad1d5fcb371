//! Who may do what. Decided by the credentials that the kernel vouches for, never by anything that a request says.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use keepwell_core::By;
use keepwell_os::local::Peer;

use super::ApiState;
use super::failure::Failure;

/// The groups that may use the API beside root and the guardian's own user; shared, and changed by a reload.
#[derive(Clone, Default)]
pub struct Access(Arc<Mutex<Arc<Groups>>>);

#[derive(Default)]
struct Groups {
    operators: Vec<String>,
    readers: Vec<String>,
}

/// What somebody may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Right {
    Nothing,
    Look,
    Control,
}

impl Access {
    /// From now on members of `operators` may control and members of `readers` may look.
    pub fn set<S: AsRef<str>>(&self, operators: &[S], readers: &[S]) {
        let texts = |names: &[S]| names.iter().map(|n| n.as_ref().to_owned()).collect();
        let groups = Groups { operators: texts(operators), readers: texts(readers) };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(groups);
    }

    fn right(&self, peer: &Peer) -> Right {
        self.right_of(peer.is_owner(), |group| peer.in_group(group))
    }

    fn right_of(&self, owner: bool, in_group: impl Fn(&str) -> bool) -> Right {
        if owner {
            return Right::Control;
        }
        let groups = Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let in_any = |names: &[String]| names.iter().any(|n| in_group(n));
        if in_any(&groups.operators) {
            Right::Control
        } else if in_any(&groups.readers) {
            Right::Look
        } else {
            Right::Nothing
        }
    }
}

/// From a command's head to its answer: longer than the engine takes at most.
const COMMAND_PATIENCE: Duration = Duration::from_secs(90);

/// Stands before every route.
pub(super) async fn authorise(
    State(state): State<Arc<ApiState>>,
    Extension(peer): Extension<Arc<Peer>>,
    request: Request,
    next: Next,
) -> Response {
    let needed = match *request.method() {
        Method::GET | Method::HEAD => Right::Look,
        _ => Right::Control,
    };
    if state.access.right(&peer) < needed {
        return refusal(needed).into_response();
    }
    if needed == Right::Look {
        return next.run(request).await;
    }
    // A body that never ends would hold its place for ever.
    match tokio::time::timeout(COMMAND_PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Failure::invalid("the body did not come in time", None).into_response(),
    }
}

fn refusal(needed: Right) -> Failure {
    let (message, hint) = match needed {
        Right::Control => (
            "you may not control this guardian",
            "its user, root and members of the groups in `operators` may; see [keepwell] in its configuration",
        ),
        Right::Look | Right::Nothing => (
            "you may not look at this guardian",
            "its user, root and members of the groups in `operators` and `readers` may; see [keepwell] in its configuration",
        ),
    };
    Failure::new("forbidden", message, Some(hint))
}

/// By what name others are told of this peer.
pub(super) async fn name(state: &ApiState, peer: &Peer) -> By {
    let (pid, peer) = (peer.pid, peer.clone());
    // Names may come from a directory service that takes its time.
    let found = state.off_thread(move || peer.user_name()).await;
    By(found.unwrap_or_else(|_| format!("process {pid}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_give_rights_and_owners_need_none() {
        let access = Access::default();
        assert_eq!(access.right_of(true, |_| false), Right::Control);
        assert_eq!(access.right_of(false, |_| true), Right::Nothing);
        access.set(&["ops"], &["eyes", "guests"]);
        assert_eq!(access.right_of(false, |g| g == "ops"), Right::Control);
        assert_eq!(access.right_of(false, |g| g == "guests"), Right::Look);
        assert_eq!(access.right_of(false, |_| true), Right::Control);
        assert_eq!(access.right_of(false, |_| false), Right::Nothing);
        access.set::<&str>(&[], &[]);
        assert_eq!(access.right_of(false, |_| true), Right::Nothing);
    }
}
