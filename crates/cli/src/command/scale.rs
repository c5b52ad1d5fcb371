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
/// Holds until another `scale`, or a reload with another number of instances in the file; also over `down` and `up`.
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

/// As `instances` in the configuration.
const MAX_INSTANCES: u16 = 10_000;

fn parse(text: &str) -> std::result::Result<(String, u16), String> {
    let wrong = || format!("`{text}` should look like web=3");
    let (name, number) = text.split_once('=').ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let too_many = || format!("a service has at most {MAX_INSTANCES} instances");
    match (name, u16::try_from(number).unwrap_or(u16::MAX)) {
        ("", _) => Err(wrong()),
        (_, number) if number > MAX_INSTANCES => Err(too_many()),
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
        for wrong in ["web", "web=", "=3", "web=x", "web=-1"] {
            assert!(parse(wrong).unwrap_err().contains("web=3"), "{wrong}");
        }
        assert_eq!(parse("web=10000"), Ok(("web".to_owned(), 10_000)));
        for many in ["web=10001", "web=70000"] {
            assert!(parse(many).unwrap_err().contains("at most 10000"), "{many}");
        }
        assert!(parse("web=0").unwrap_err().contains("keepwell stop web"));
    }
}
