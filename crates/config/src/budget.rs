//! How long it may take to stop everything: what a service manager has to grant.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keepwell_core::spec::{Hook, ServiceSpec};

use crate::config::Config;

/// From the kill of a tree until the last of its processes is gone and reaped.
const KILL: Duration = Duration::from_secs(2);

impl Config {
    /// The longest that it takes to stop all services, each after those that depend on it, if every one of them uses up all
    /// its waits.
    #[must_use]
    pub fn stop_budget(&self) -> Duration {
        let services = &self.specs.services;
        let mut dependents: BTreeMap<&str, Vec<&Arc<str>>> = BTreeMap::new();
        for (name, spec) in services {
            for dependency in &spec.depends_on {
                dependents.entry(&dependency.on).or_default().push(name);
            }
        }
        let mut known = BTreeMap::new();
        let all = services.keys().map(|name| budget(name, services, &dependents, &mut known));
        all.max().unwrap_or_default()
    }
}

/// With all that has to stop before it. A configuration with a circle of dependencies is never accepted.
fn budget<'a>(
    name: &'a str,
    services: &'a BTreeMap<Arc<str>, ServiceSpec>,
    dependents: &BTreeMap<&str, Vec<&'a Arc<str>>>,
    known: &mut BTreeMap<&'a str, Duration>,
) -> Duration {
    if let Some(known) = known.get(name) {
        return *known;
    }
    let before = dependents.get(name).into_iter().flatten();
    let before = before.map(|d| budget(d, services, dependents, known)).max().unwrap_or_default();
    let own = services.get(name).map(own).unwrap_or_default();
    known.insert(name, before + own);
    before + own
}

fn own(spec: &ServiceSpec) -> Duration {
    let timeout = |hook: &Option<Hook>| hook.as_ref().map(|h| h.timeout).unwrap_or_default();
    let ladder = timeout(&spec.hooks.pre_stop) + spec.stop.iter().map(|s| s.wait).sum::<Duration>();
    let ladder = spec.stop_timeout.map_or(ladder, |most| ladder.min(most));
    ladder + KILL + timeout(&spec.hooks.post_stop)
}

#[cfg(test)]
mod tests {
    use crate::{Context, Source, load};

    fn budget(text: &str) -> u64 {
        let source = Source { path: "keepwell.toml".into(), text: text.to_owned() };
        load(&[source], &Context::default()).unwrap().stop_budget().as_secs()
    }

    #[test]
    fn steps_and_hooks_of_one_add_up() {
        let stop =
            r#"stop = [{ http = "http://127.0.0.1/stop", wait = "20s" }, { command = "quit", wait = "5s" }]"#;
        let hooks = r#"hooks = { pre_stop = "true", post_stop = { command = "true", timeout = "3s" } }"#;
        assert_eq!(budget(&format!("[services.a]\ncommand = \"a\"\n{stop}\n{hooks}")), 20 + 5 + 30 + 3 + 2);
        let bound = "stop_timeout = \"12s\"";
        assert_eq!(budget(&format!("[services.a]\ncommand = \"a\"\n{stop}\n{hooks}\n{bound}")), 12 + 3 + 2);
    }

    #[test]
    fn the_longest_chain_counts_and_not_the_sum_of_all() {
        let service = |name: &str, wait: u64, on: &str| {
            format!(
                "[services.{name}]\ncommand = \"x\"\ndepends_on = [{on}]\nstop = [{{ signal = \"TERM\", wait = \"{wait}s\" }}]\n"
            )
        };
        let all = [
            service("db", 10, ""),
            service("a", 20, "\"db\""),
            service("b", 5, "\"db\""),
            service("c", 25, ""),
        ];
        assert_eq!(budget(&all.concat()), 20 + 2 + 10 + 2);
    }
}
