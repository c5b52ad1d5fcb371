//! `keepwell down`.

use std::time::Duration;

use clap::Args;
use keepwell_sdk::exit;
use keepwell_sdk::wire::CommandRequest;
use tokio::time::Instant;

use super::Context;
use crate::failure::{Failure, Result};
use crate::guardian::{Follow, Guardian};
use crate::interrupt::Interrupt;
use crate::locate::Target;
use crate::output::events::Lines;
use crate::output::{self, human, talk};
use crate::time::{self, rough};
use crate::wait::{INTERRUPTED, until};
use keepwell_sdk::client::{EventQuery, Events};

/// Stop all services in reverse order, and end keepwell
///
/// What is wanted does not change: the next `keepwell up` starts the same services again. Without --user or --system only
/// a project's guardian is ended.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell down
  keepwell down --timeout 30s
  keepwell down -f /srv/shop/keepwell.toml")]
pub(crate) struct Down {
    /// Wait no longer than this (exit code 4); it goes on in the background
    #[arg(long, value_name = "DURATION", value_parser = time::parse)]
    timeout: Option<Duration>,
    #[command(flatten)]
    target: Target,
}

impl Down {
    pub(crate) async fn run(self, cx: &Context) -> Result<i32> {
        let guardian = Guardian::find(&self.target).await?;
        guardian.must_be_meant("down")?;
        let deadline = self.timeout.map(|t| Instant::now() + t);
        let interrupt = Interrupt::listen()?;
        let info = guardian.info().await?;
        let all = guardian.services(&[]).await?;
        talk(&format!("ending {}", human::headline(&info, std::env::current_dir().ok().as_deref())));
        // Listened to before it is asked: with nothing to stop it is gone in the same moment.
        let query = EventQuery { after: Some(guardian.last_seq().await?), ..EventQuery::default() };
        let mut events = guardian.follow_events(query).await?;
        let request = CommandRequest { verb: "shutdown".into(), ..CommandRequest::default() };
        let refused = guardian.command(&request).await.err();
        if let Some(failure) = refused
            && tokio::time::timeout(GONE, gone(&mut events)).await.is_err()
        {
            return Err(failure);
        }
        let mut lines = Lines::new(cx.look());
        lines.expect(&all);
        loop {
            tokio::select! {
                event = events.next() => match event? {
                    Some(event) => match lines.progress(&event) {
                        Some(line) => output::print(&line)?,
                        None => continue,
                    },
                    None => break,
                },
                () = until(deadline) => {
                    let after = self.timeout.map(rough).unwrap_or_default();
                    return Err(Failure::timed_out(format!("keepwell (pid {}) still runs after {after}", info.anchor_pid))
                        .hint("it goes on stopping; keepwell status shows what is left"));
                }
                () = interrupt.happened() => {
                    talk("\nkeepwell goes on stopping; keepwell status shows what is left");
                    return Err(Failure::silent(INTERRUPTED));
                }
            }
        }
        talk(&format!("keepwell (pid {}) has ended", info.anchor_pid));
        Ok(exit::DONE)
    }
}

/// An answer that does not come may be one that its sender did not live to give.
const GONE: Duration = Duration::from_secs(2);

async fn gone(events: &mut Follow<Events>) {
    while let Ok(Some(_)) = events.next().await {}
}
