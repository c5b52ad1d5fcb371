//! What the parser takes and refuses, and that every command's help has an example.

use clap::FromArgMatches;

use super::{Cli, definition};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    let words = std::iter::once("keepwell").chain(line.split_whitespace());
    definition().try_get_matches_from(words).and_then(|m| Cli::from_arg_matches(&m))
}

#[test]
fn the_definition_holds() {
    definition().debug_assert();
}

#[test]
fn what_hands_type_is_understood() {
    for line in [
        "up",
        "up -f examples/quickstart/keepwell.toml --quiet",
        "up -f keepwell.toml --state /tmp/s --json --all",
        "up -d --timeout 30s",
        "up --system --state /tmp/s",
        "down --timeout 1m30s",
        "run -- ./server --port 8080",
        "run --restart on-failure --ready http://127.0.0.1:8080/ --env A=b --env C=d --name x -- sh -c true",
        "status",
        "status web worker@2 --json",
        "status --watch --json",
        "status --check -f keepwell.toml",
        "start web worker --ignore-dependencies --timeout 5s",
        "stop db --with-dependents --no-wait",
        "restart web --socket /tmp/s",
        "signal HUP web --to group",
        "signal 10 web --system",
        "pause web --freeze --stop-after 10m",
        "resume web",
        "enable web worker --user",
        "disable web --project",
        "scale web=3 --no-wait",
        "logs -f -n 5 web worker",
        "logs --since 10m --json --file keepwell.toml",
        "events -f --since 1h web",
        "reload --dry-run --json",
        "check",
        "check keepwell.toml --json",
        "schema",
        "explain web --json",
        "info --json --state /tmp/s",
        "init",
        "init other.toml",
        "completions zsh",
        "service install --config keepwell.toml --name shop --start delayed --now --depends-on a --depends-on b",
        "service install --user --running-when ready --stop-timeout 1m --harden --no-recovery",
        "service install --account web --password-file - --privilege all --trigger network --security D:",
        "service uninstall",
        "service uninstall shop --timeout 1m",
        "service start shop --user",
        "service stop",
        "service restart shop",
        "service status shop --json",
        "service show --all-users",
        "service list --json",
        "service upgrade new --restart",
        "service add web --cwd /srv --env A=b --ready notify --restart never --set nice=5 --now -- ./server -p 80",
        "service remove web --yes --purge",
        "service edit web",
        "service get web restart.policy",
        "service set web restart.delay 2s",
        "service set web limits.memory",
        "service dump web --toml",
        "import nssm web --name web --output web.toml",
        "import winsw jenkins.xml",
        "log-level debug",
        "status --color never",
        "--color always status",
    ] {
        if let Err(e) = parse(line) {
            panic!("keepwell {line}: {e}");
        }
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (line, word) in [
        ("", "Usage"),
        ("start", "SERVICE"),
        ("statsu", "status"),
        ("up --timeout 5s", "--detach"),
        ("up --user --system", "--system"),
        ("up --user -f x.toml", "--file"),
        ("stop web --no-wait --timeout 5s", "--timeout"),
        ("status --check --watch", "--watch"),
        ("status --check --json", "--json"),
        ("status --project --system", "--system"),
        ("scale web", "web=3"),
        ("scale web=0", "at least 1"),
        ("pause web --stop-after 10", "10"),
        ("run --restart on-failure", "PROGRAM"),
        ("run ./server", "--"),
        ("run --env A -- x", "NAME=VALUE"),
        ("log-level loud", "debug"),
        ("completions tcsh", "zsh"),
        ("logs -n some", "some"),
        ("service", "Usage"),
        ("service add web", "PROGRAM"),
        ("service add web ./server", "--"),
        ("service install --user --all-users", "--all-users"),
        ("service install --trigger noon", "firewall"),
        ("service install --start never", "demand"),
    ] {
        let error = parse(line).err().unwrap_or_else(|| panic!("keepwell {line} was taken"));
        assert!(error.to_string().contains(word), "keepwell {line}: {error}");
        assert_eq!(error.exit_code(), keepwell_sdk::exit::USAGE, "keepwell {line}");
    }
}

#[test]
fn every_help_has_an_example() {
    for command in definition().get_subcommands().filter(|c| !c.is_hide_set()) {
        let help = command.clone().render_long_help().to_string();
        assert!(help.contains(&format!("  keepwell {}", command.get_name())), "{help}");
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(!about.is_empty() && !about.ends_with('.'), "{}: {about}", command.get_name());
    }
}

#[test]
fn every_verb_of_service_has_an_example_and_a_place_in_the_manual() {
    let (all, manual) = (definition(), include_str!("../../../docs/service.md"));
    for verb in all.find_subcommand("service").unwrap().get_subcommands() {
        let name = verb.get_name();
        let help = verb.clone().render_long_help().to_string();
        assert!(help.contains(&format!("  keepwell service {name}")), "{help}");
        assert!(manual.contains(&format!("`{name}")), "docs/service.md lacks {name}");
        for option in verb.get_arguments().filter_map(|a| a.get_long()) {
            let (plain, valued) = (format!("`--{option}`"), format!("`--{option} "));
            let named = manual.contains(&plain) || manual.contains(&valued);
            assert!(named, "docs/service.md lacks --{option} of {name}");
        }
    }
}

#[test]
fn f_follows_where_hands_expect_it() {
    for (name, long) in [("logs", "follow"), ("events", "follow"), ("status", "file"), ("up", "file")] {
        let all = definition();
        let command = all.find_subcommand(name).unwrap();
        let short: Vec<_> = command.get_arguments().filter(|a| a.get_short() == Some('f')).collect();
        assert_eq!(short.len(), 1, "{name}");
        assert_eq!(short[0].get_long(), Some(long), "{name}");
    }
}

#[test]
fn the_first_help_is_a_page() {
    insta::assert_snapshot!(definition().render_long_help());
}

#[test]
fn the_manual_names_every_command_and_option() {
    let manual = include_str!("../../../docs/cli.md");
    for command in definition().get_subcommands().filter(|c| !c.is_hide_set()) {
        assert!(
            manual.contains(&format!("`{}", command.get_name())),
            "docs/cli.md lacks {}",
            command.get_name()
        );
        for option in command.get_arguments().filter_map(|a| a.get_long()) {
            let (plain, valued) = (format!("`--{option}`"), format!("`--{option} "));
            let named = manual.contains(&plain) || manual.contains(&valued);
            assert!(named, "docs/cli.md lacks --{option} of {}", command.get_name());
        }
    }
}
