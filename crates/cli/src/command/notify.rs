//! `keepwell notify`.

use clap::{Args, Subcommand};
use keepwell_sdk::exit;
use keepwell_sdk::wire::NotifyAnswer;

use super::Context;
use crate::failure::Result;
use crate::guardian::Guardian;
use crate::locate::Target;
use crate::output::{self, json};

/// Try the way to those who are told by message (`notify` in [keepwell])
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell notify test
  keepwell notify test --to ops --json")]
pub(crate) struct NotifyArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Send a message that says that nothing has happened, now and once, and tell what each receiver answered
    Test(TestArgs),
}

#[derive(Args, Debug)]
struct TestArgs {
    /// To this receiver alone
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
    /// For machines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl NotifyArgs {
    pub(crate) async fn run(self, _: &Context) -> Result<i32> {
        let Action::Test(TestArgs { to, json, target }) = self.action;
        let guardian = Guardian::find_for_change(&target, &[]).await?;
        let answers = guardian.notify_test(to).await?;
        output::print(&if json { json::document(&answers)? } else { table(&answers) })?;
        Ok(if answers.iter().all(|a| a.ok) { exit::DONE } else { exit::FAILED })
    }
}

fn table(answers: &[NotifyAnswer]) -> String {
    if answers.is_empty() {
        return "nobody is told by message: set `notify` in [keepwell], see docs/notify.md\n".to_owned();
    }
    let width = answers.iter().map(|a| a.receiver.chars().count()).max().unwrap_or_default();
    let line = |a: &NotifyAnswer| {
        let what = if a.ok { "took it" } else { "did not take it" };
        let body =
            if a.body.is_empty() { String::new() } else { format!(" · {}", a.body.replace('\n', " ")) };
        format!("{:width$}  {} {what}: {} after {} ms{body}\n", a.receiver, a.kind, a.answer, a.took_ms)
    };
    answers.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_receiver_has_a_line() {
        let answer = |receiver: &str, ok, answer: &str, body: &str| NotifyAnswer {
            receiver: receiver.into(),
            kind: "slack".into(),
            ok,
            answer: answer.into(),
            body: body.into(),
            took_ms: 12,
        };
        let all =
            [answer("ops", true, "status 200", "ok"), answer("webhook-2", false, "status 404", "no\nhook")];
        assert_eq!(
            table(&all),
            "ops        slack took it: status 200 after 12 ms · ok\n\
             webhook-2  slack did not take it: status 404 after 12 ms · no hook\n"
        );
        assert!(table(&[]).contains("nobody"));
    }
}
