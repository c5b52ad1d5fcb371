//! `keepwell down`.

use std::time::Duration;

use clap::Args;
use keepwell_sdk::exit;
use keepwell_sdk::wire::CommandRequest;
use tokio::time::{Instant, sleep, timeout_at};

use super::Context;
use crate::failure::{Failure, Result};
use crate::guardian::Guardian;
use crate::interrupt::Interrupt;
use crate::locate::Target;
use crate::output::events::Lines;
use crate::output::{self, Look, human, talk};
use crate::time::{self, rough};
use crate::wait::{INTERRUPTED, until};
use keepwell_sdk::client::EventQuery;

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
        let guardian = Guardian::find(&self.target, &[]).await?;
        guardian.must_be_meant("down")?;
        let deadline = self.timeout.map(|t| Instant::now() + t);
        let mut end = Ending { pid: None, accepted: false };
        if let Err(failure) = self.end(&guardian, cx, deadline, &mut end).await {
            let over = Instant::now() + if end.accepted { GOING } else { GONE };
            let over = deadline.map_or(over, |d| d.min(over));
            // What broke off may have done so because it ended, which is what was asked for.
            if !matches!(failure.code, exit::FAILED | exit::NOT_RUNNING)
                || !gone(&guardian, end.pid, over).await
            {
                return Err(failure);
            }
        }
        let pid = end.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        talk(&format!("keepwell{pid} has ended"));
        Ok(exit::DONE)
    }

    async fn end(
        &self,
        guardian: &Guardian,
        cx: &Context,
        deadline: Option<Instant>,
        end: &mut Ending,
    ) -> Result<()> {
        let interrupt = Interrupt::listen()?;
        let info = guardian.info().await?;
        end.pid = Some(info.anchor_pid);
        let all = guardian.services(&[]).await?;
        let headline = human::headline(&info, std::env::current_dir().ok().as_deref());
        talk(&Look::stderr(cx.color).text(&format!("ending {headline}")));
        // Listened to before it is asked: with nothing to stop it is gone in the same moment.
        let query = EventQuery { after: Some(guardian.last_seq().await?), ..EventQuery::default() };
        let mut events = guardian.follow_events(query).await?;
        let request = CommandRequest { verb: "shutdown".into(), ..CommandRequest::default() };
        // Without an answer it may do what was asked all the same, and says so.
        if let Err(failure) = guardian.command(&request).await
            && !guardian.info().await.is_ok_and(|info| info.stopping)
        {
            return Err(failure);
        }
        end.accepted = true;
        let mut lines = Lines::new(cx.look());
        lines.expect(&all);
        loop {
            tokio::select! {
                event = events.next() => match event? {
                    Some(event) => match lines.progress(&event) {
                        Some(line) => output::print(&line)?,
                        None => continue,
                    },
                    None => return Ok(()),
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
    }
}

/// How far it came.
struct Ending {
    /// The anchor's.
    pid: Option<u32>,
    /// It said that it will.
    accepted: bool,
}

/// An answer that does not come may be one that its sender did not live to give.
const GONE: Duration = Duration::from_secs(2);
/// One that is to end and cannot be listened to any more has stopped its services, or nearly so.
const GOING: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(50);

/// Whether nobody answers there any more, or another than `pid`, before `over`. While a daemon is replaced connections wait.
async fn gone(guardian: &Guardian, pid: Option<u32>, over: Instant) -> bool {
    let asked = async {
        loop {
            match guardian.info().await {
                Err(failure) if failure.code == exit::NOT_RUNNING => return,
                Ok(info) if pid.is_some_and(|pid| pid != info.anchor_pid) => return,
                Ok(_) | Err(_) => sleep(RETRY).await,
            }
        }
    };
    timeout_at(over, asked).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locate::Place;
    use keepwell_os::local::{Access, Endpoint, Listener};

    #[tokio::test]
    async fn it_is_gone_when_nobody_answers_and_not_when_somebody_hangs_up() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("keepwell.sock");
        let endpoint = Endpoint::bind(&socket, Access::Owner).unwrap();
        let listener = Listener::new(endpoint).unwrap();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(stream);
            }
        });
        let guardian = Guardian::at(&Place::named(socket)).await.unwrap();
        let over = Instant::now() + Duration::from_millis(500);
        assert!(!gone(&guardian, None, over).await);
        // It ends while it is asked.
        let (ended, ()) = tokio::join!(gone(&guardian, Some(7), Instant::now() + GOING), async {
            sleep(RETRY).await;
            server.abort();
        });
        assert!(ended);
    }
}
