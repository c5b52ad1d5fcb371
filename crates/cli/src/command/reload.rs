//! `keepwell reload`.

use clap::Args;
use keepwell_sdk::exit;

use super::Context;
use crate::change::Waiting;
use crate::failure::{Failure, Result};
use crate::guardian::{Guardian, Refused};
use crate::locate::Target;
use crate::output::events::Lines;
use crate::output::{self, human, json};
use crate::time::Clock;
use crate::wait::{Goal, Telling, Wait};
use keepwell_sdk::client::EventQuery;

/// Read the configuration again, print the plan, and do it with the fewest restarts
///
/// A configuration with an error is refused, and what runs runs on.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell reload --dry-run      # only the plan
  keepwell reload
  keepwell reload --no-wait")]
pub(crate) struct Reload {
    /// Print the plan and do nothing
    #[arg(long)]
    dry_run: bool,
    /// For machines: the plan as one object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    target: Target,
}

impl Reload {
    pub(crate) async fn run(self, cx: &Context) -> Result<i32> {
        let guardian = Guardian::find_for_change(&self.target, &[]).await?;
        let plan = match guardian.reload(self.dry_run).await {
            Ok(plan) => plan,
            Err(refused) => return Err(not_taken(&guardian, refused).await),
        };
        let look = cx.look();
        output::print(&if self.json { json::document(&plan)? } else { human::reload_plan(&plan, &look) })?;
        let Some(timeout) = self.waiting.timeout().filter(|_| !self.dry_run) else {
            return Ok(exit::DONE);
        };
        let wait = Wait {
            verb: "reload".into(),
            goals: Goal::AsPlanned.of(&plan.actions),
            from: EventQuery { after: Some(plan.after_seq), ..EventQuery::default() },
            timeout,
            telling: Telling { quiet: self.json, json: false },
        };
        wait.until_done(&guardian, &mut Lines::new(look)).await
    }
}

/// The diagnostics speak for themselves; what runs now is worth a word.
async fn not_taken(guardian: &Guardian, refused: Refused) -> Failure {
    let Refused::Problem(problem) = &refused else {
        return refused.into();
    };
    if problem.code != "config" {
        return refused.into();
    }
    output::talk(&nearer(problem.message.trim_end(), std::env::current_dir().ok().as_deref()));
    let info = guardian.info().await.ok();
    let accepted = info.and_then(|i| Clock::real().at(&i.config_accepted?));
    let runs = accepted.map(|at| format!("; what runs is the configuration of {at}")).unwrap_or_default();
    output::talk(&format!("Nothing was changed{runs}."));
    Failure::silent(exit::USAGE)
}

/// The daemon names files by their whole paths; from here they may be shorter.
fn nearer(message: &str, here: Option<&std::path::Path>) -> String {
    match here.map(|h| format!(" {}{}", h.display(), std::path::MAIN_SEPARATOR)) {
        Some(prefix) if prefix.len() > 2 => message.replace(&prefix, " "),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::nearer;
    use std::path::Path;

    #[test]
    fn files_are_named_from_here() {
        let here = Path::new("/srv/shop");
        let file = here.join("keepwell.toml");
        let message = format!("error: x\n   --> {}:1:1\n   --> /srv/other/x.toml:1:1", file.display());
        let shown = nearer(&message, Some(here));
        assert_eq!(shown, "error: x\n   --> keepwell.toml:1:1\n   --> /srv/other/x.toml:1:1");
        assert_eq!(nearer(&message, Some(Path::new("/"))), message);
        assert_eq!(nearer(&message, None), message);
    }
}
