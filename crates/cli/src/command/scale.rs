//! `keepwell scale`.

use clap::Args;
use keepwell_sdk::wire::CommandRequest;

use super::Context;
use crate::change::{Waiting, change};
use crate::failure::Result;
use crate::locate::Target;
use crate::wait::Goal;

/// Change how many instances of a service run; the others are left alone
///
/// Holds until the configuration is reloaded with another number, or until the next `keepwell up`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell scale web=3
  keepwell scale web=1 --no-wait")]
pub(crate) struct Scale {
    /// A service's name and its new number of instances, from 1
    #[arg(value_name = "SERVICE=N", value_parser = parse)]
    what: (String, u16),
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    target: Target,
}

fn parse(text: &str) -> std::result::Result<(String, u16), String> {
    let wrong = || format!("`{text}` should look like web=3");
    let (name, number) = text.split_once('=').ok_or_else(wrong)?;
    let number: u16 = number.parse().map_err(|_| wrong())?;
    match (name, number) {
        ("", _) => Err(wrong()),
        (_, 0) => Err(format!("a service has at least 1 instance; keepwell stop {name} stops it")),
        (name, number) => Ok((name.to_owned(), number)),
    }
}

impl Scale {
    pub(crate) async fn run(self, cx: &Context) -> Result<i32> {
        let (service, instances) = self.what;
        let request = CommandRequest {
            verb: "scale".into(),
            services: vec![service],
            instances: Some(instances),
            ..CommandRequest::default()
        };
        change(cx, &self.target, request, Some((Goal::AsPlanned, self.waiting))).await
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_name_and_a_number() {
        assert_eq!(parse("web=3"), Ok(("web".to_owned(), 3)));
        for wrong in ["web", "web=", "=3", "web=x", "web=-1", "web=70000"] {
            assert!(parse(wrong).unwrap_err().contains("web=3"), "{wrong}");
        }
        assert!(parse("web=0").unwrap_err().contains("keepwell stop web"));
    }
}
