//! Commands that change something: send, say what was not asked for, wait for the outcome.

use std::time::Duration;

use clap::Args;
use keepwell_sdk::exit;
use keepwell_sdk::wire::CommandRequest;

use crate::command::Context;
use crate::failure::Result;
use crate::guardian::Guardian;
use crate::locate::Target;
use crate::output::events::Lines;
use crate::output::{human, talk};
use crate::time;
use crate::wait::{Goal, Telling, Wait};
use keepwell_sdk::client::EventQuery;

/// How long a command waits for its outcome.
#[derive(Args, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Waiting {
    /// Do not wait for the outcome
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,
    /// Wait no longer than this (exit code 4); it goes on in the background
    #[arg(long, value_name = "DURATION", value_parser = time::parse)]
    timeout: Option<Duration>,
}

impl Waiting {
    /// Nothing when it is not to be waited.
    pub(crate) fn timeout(self) -> Option<Option<Duration>> {
        (!self.no_wait).then_some(self.timeout)
    }
}

/// Sends a command and says what of its plan was not asked for.
///
/// # Errors
/// The guardian's refusal, or that there is none.
async fn send(
    target: &Target,
    request: &CommandRequest,
) -> Result<(Guardian, keepwell_sdk::wire::CommandReply)> {
    let guardian = Guardian::find_for_change(target, &request.services).await?;
    let reply = guardian.command(request).await?;
    for note in human::command_notes(&reply, &request.verb, &request.services) {
        talk(&note);
    }
    Ok((guardian, reply))
}

/// Sends a command that is done when it is accepted, and says so.
///
/// # Errors
/// As `send`.
pub(crate) async fn at_once(target: &Target, request: &CommandRequest) -> Result<i32> {
    let (_, reply) = send(target, request).await?;
    human::done(request, &reply).iter().for_each(|line| talk(line));
    Ok(exit::DONE)
}

/// Sends a command and waits until what it touches is as it should be.
///
/// # Errors
/// Also when that did not come about, or not in time.
pub(crate) async fn change(
    cx: &Context,
    target: &Target,
    request: CommandRequest,
    goal: Option<(Goal, Waiting)>,
) -> Result<i32> {
    let (guardian, reply) = send(target, &request).await?;
    let Some((goal, Some(timeout))) = goal.map(|(goal, waiting)| (goal, waiting.timeout())) else {
        return Ok(exit::DONE);
    };
    let mut lines = Lines::new(cx.look());
    let wait = Wait {
        verb: request.verb,
        goals: goal.of(&reply.actions),
        from: EventQuery { after: Some(reply.after_seq), ..EventQuery::default() },
        timeout,
        telling: Telling::default(),
    };
    wait.until_done(&guardian, &mut lines).await
}
