//! `keepwell service` on Linux, with a `systemctl` that only remembers: units written, enabled, driven, taken away.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use keepwell_e2e::{Answer, Guardian};

/// Of `systemctl` no more than what is asked of it here. What it was told is in `calls`, whether a unit runs in `NAME.on`.
const SYSTEMCTL: &str = r#"#!/bin/sh
folder=$(dirname "$0")
echo "$*" >> "$folder/calls"
[ "$1" = --user ] && shift
verb=$1
for name; do :; done
case $verb in
start) touch "$folder/$name.on" ;;
stop) rm -f "$folder/$name.on" ;;
show)
  [ -e "$XDG_CONFIG_HOME/systemd/user/$name" ] && echo LoadState=loaded || echo LoadState=not-found
  [ -e "$folder/$name.on" ] && echo ActiveState=active && echo MainPID=4711 || echo ActiveState=inactive ;;
fail) exit 1 ;;
esac
"#;

const CONFIG: &str =
    "[services.web]\ncommand = [\"sleep\", \"1000\"]\nstop = [{ signal = \"TERM\", wait = \"50s\" }]\n";

/// A user's home with a `systemctl`.
struct Home(Guardian);

impl Home {
    fn new() -> Home {
        let mut guardian = Guardian::new(CONFIG);
        let bin = guardian.path("bin");
        fs::create_dir(&bin).unwrap();
        guardian.write("bin/systemctl", SYSTEMCTL);
        let made = Command::new("chmod").arg("+x").arg(bin.join("systemctl")).status().unwrap();
        assert!(made.success());
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        guardian.set_env("PATH", &path);
        for (name, folder) in [("XDG_CONFIG_HOME", "config"), ("XDG_STATE_HOME", "state")] {
            let folder = guardian.path(folder).display().to_string();
            guardian.set_env(name, &folder);
        }
        Home(guardian)
    }

    fn service(&self, args: &[&str]) -> Answer {
        self.0.cli(&[&["service"], args].concat())
    }

    fn unit(&self, name: &str) -> PathBuf {
        self.0.path(&format!("config/systemd/user/{name}.service"))
    }

    fn calls(&self) -> String {
        self.0.read("bin/calls")
    }
}

#[test]
fn a_configuration_becomes_a_unit_that_is_driven_and_taken_away() {
    let home = Home::new();
    let config = home.0.path("keepwell.toml").display().to_string();
    let install = ["install", "--user", "--name", "shop", "--config", &config, "--now"];
    home.service(&install).good().says(&["installed the service shop", "the service shop runs (pid 4711)"]);
    let unit = fs::read_to_string(home.unit("shop")).unwrap();
    let state = home.0.path("state/keepwell/shop").display().to_string();
    let image = format!(" internal service --name shop --config {config} --state {state}\n");
    assert!(unit.contains(&image), "{unit}");
    // The step, the kill, and keepwell's own 10 s.
    assert!(unit.contains("\nTimeoutStopSec=62s\n"), "{unit}");
    for line in [
        "Type=notify",
        "NotifyAccess=main",
        "KillMode=mixed",
        "Delegate=yes",
        "OOMPolicy=continue",
        "Restart=always",
    ] {
        assert!(unit.contains(&format!("\n{line}\n")), "{line} in {unit}");
    }
    home.service(&install).good().says(&["the service shop is as it should be"]);
    home.service(&["install", "--user", "--name", "shop", "--config", &config, "--stop-timeout", "2m"])
        .good()
        .says(&["changed the service shop\n  TimeoutStopSec  62s → 120s"]);

    let status = home.service(&["status", "shop", "--user", "--json"]).good().json();
    assert_eq!((status["state"].as_str(), status["pid"].as_u64()), (Some("running"), Some(4711)));
    let list = home.service(&["list", "--user", "--json"]).good().json();
    assert_eq!((list[0]["name"].as_str(), list[0]["config"].as_str()), (Some("shop"), Some(config.as_str())));
    home.service(&["stop", "shop", "--user"]).good().says(&["has stopped"]);
    home.service(&["status", "shop", "--user"]).with_code(3).says(&["stopped", &config]);
    home.service(&["show", "shop", "--user"]).good().says(&["stop timeout  120s", "internal service"]);

    home.service(&["uninstall", "shop", "--user"]).good().says(&["removed the service shop"]);
    assert!(!home.unit("shop").exists());
    home.service(&["uninstall", "shop", "--user"]).with_code(2).says(&["there is no service `shop`"]);
    let calls = home.calls();
    for call in [
        "daemon-reload",
        "enable shop.service",
        "start shop.service",
        "stop shop.service",
        "disable shop.service",
    ] {
        assert!(calls.contains(&format!("--user {call}\n")), "{call} in {calls}");
    }
}

#[test]
fn its_guardian_is_found_by_its_configuration_and_from_anywhere() {
    let home = Home::new();
    let config = home.0.path("keepwell.toml").display().to_string();
    let install = ["install", "--user", "--name", "shop", "--config", &config];
    home.service(&install).good();
    // The folder of the other commands has a configuration; this one has none, nor has any above it.
    let away = tempfile::tempdir().unwrap();
    let from_away = |args: &[&str]| {
        let done = home.0.command(args).current_dir(away.path()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (done.status.code(), text(&done.stdout), text(&done.stderr))
    };
    assert_eq!(from_away(&["status"]).0, Some(3));

    let state = home.0.path("state/keepwell/shop").display().to_string();
    let run = ["internal", "service", "--name", "shop", "--config", &config, "--state", &state];
    let mut child = home.0.command(&run).spawn().unwrap();
    keepwell_e2e::wait_until("it to answer", || home.0.cli(&["status", "--state", &state]).code == 0);

    for args in [&["status"][..], &["status", "-f", &config], &["status", "--project"]] {
        home.0.cli(args).good().says(&["web", "running"]);
    }
    let (code, out, _) = from_away(&["status"]);
    assert_eq!(code, Some(0));
    assert!(out.contains(&format!("shop · user service · {config} · --state {state}\n")), "{out}");
    let (_, out, _) = from_away(&["status", "--json"]);
    let all: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        [&all[0]["guardian"], &all[0]["scope"], &all[0]["name"], &all[0]["state"]],
        ["shop", "user service", "web", "running"]
    );
    for field in ["instance", "reason", "pid", "restarts", "since", "next_attempt"] {
        assert!(all[0].get(field).is_some(), "{field}");
    }
    assert_eq!(from_away(&["status", "--check"]).0, Some(0));
    assert_eq!(from_away(&["status", "none"]).0, Some(2));
    assert_eq!(from_away(&["explain", "web"]).0, Some(0));
    let (code, _, said) = from_away(&["stop", "web"]);
    assert!(code == Some(0) && said.contains("asking the guardian of the service shop"), "{said}");
    let refused = home.0.cli(&["down"]).with_code(3);
    refused.says(&["keepwell service stop shop --user"]);
    home.0.cli(&["down", "--file", &config]).good();
    assert!(child.wait().unwrap().success());
    assert_eq!(from_away(&["status"]).0, Some(3));
}

#[test]
fn a_program_becomes_a_service_that_is_changed_and_removed() {
    let home = Home::new();
    home.service(&["add", "web", "--user", "--env", "PORT=80", "--", "/bin/sleep", "1000"])
        .good()
        .says(&["installed the service web", "keepwell service start --user web starts it now"]);
    let config = home.0.path("config/keepwell/web/keepwell.toml");
    assert!(fs::read_to_string(&config).unwrap().contains("command = [\"/bin/sleep\", \"1000\"]"));
    home.service(&["add", "web", "--user", "--", "/bin/true"]).with_code(1).says(&["is there already"]);

    assert_eq!(home.service(&["get", "web", "env.PORT", "--user"]).good().out, "80\n");
    home.service(&["get", "web", "nice", "--user"]).with_code(1).says(&["has its default"]);
    home.service(&["set", "web", "nice", "5", "--user"]).good().says(&["it counts from the next start"]);
    assert_eq!(home.service(&["get", "web", "nice", "--user"]).good().out, "5\n");
    home.service(&["set", "web", "nice=6", "--user"]).good();
    assert_eq!(home.service(&["get", "web", "nice", "--user"]).good().out, "6\n");
    home.service(&["set", "web", "umask", "--user"])
        .with_code(1)
        .says(&["umask is not written", "has its default"]);
    let before = fs::read_to_string(&config).unwrap();
    home.service(&["set", "web", "nice", "99", "--user"]).with_code(2).says(&["as it was before"]);
    assert_eq!(fs::read_to_string(&config).unwrap(), before);

    let line = home.service(&["dump", "web", "--user"]).good().out;
    assert!(
        line.starts_with("keepwell service add web --user --cwd ") && line.ends_with("-- /bin/sleep 1000\n"),
        "{line}"
    );
    home.service(&["uninstall", "none", "--user"]).with_code(2);
    home.service(&["remove", "web", "--user", "--yes"]).good();
    assert!(!config.exists() && !home.unit("web").exists());
}

#[test]
fn an_editor_changes_a_service_and_a_wrong_change_is_undone() {
    let mut home = Home::new();
    home.service(&["add", "web", "--user", "--", "/bin/sleep", "1000"]).good();
    let config = home.0.path("config/keepwell/web/keepwell.toml");
    home.0.set_env("VISUAL", "sed -i s/always/on-failure/");
    home.service(&["edit", "web", "--user"]).good();
    let edited = fs::read_to_string(&config).unwrap();
    assert!(edited.contains("restart = \"on-failure\""), "{edited}");
    home.service(&["edit", "web", "--user"]).good().says(&["nothing was changed"]);
    home.0.set_env("VISUAL", "sed -i s/restart/restrat/");
    home.service(&["edit", "web", "--user"]).with_code(2).says(&["did you mean"]);
    home.0.set_env("VISUAL", "false");
    home.service(&["edit", "web", "--user"]).with_code(1).says(&["nothing was changed"]);
    assert_eq!(fs::read_to_string(&config).unwrap(), edited);
}

#[test]
fn what_is_not_ours_or_cannot_be_is_refused() {
    let home = Home::new();
    let config = home.0.path("keepwell.toml").display().to_string();
    fs::create_dir_all(home.unit("sshd").parent().unwrap()).unwrap();
    fs::write(home.unit("sshd"), "[Service]\nExecStart=/usr/sbin/sshd\n").unwrap();
    let install = |name: &str, more: &[&str]| {
        home.service(&[&["install", "--user", "--config", &config, "--name", name], more].concat())
    };
    install("sshd", &[]).with_code(1).says(&["is not from keepwell"]);
    assert!(fs::read_to_string(home.unit("sshd")).unwrap().contains("/usr/sbin/sshd"));
    home.service(&["uninstall", "sshd", "--user"]).with_code(2).says(&["is not keepwell's"]);
    install("my shop", &[]).with_code(2).says(&["systemd takes letters"]);
    install("shop", &["--security", "D:"]).with_code(2).says(&["for Windows only"]);
    install("shop", &["--account", "anna"]).with_code(2).says(&["as that user only"]);
    home.0.write("keepwell.toml", "[services.web]\n");
    install("shop", &[]).with_code(2).says(&["command"]);
    assert!(!home.unit("shop").exists());
    home.service(&["start", "none", "--user"]).with_code(2).says(&["there is no service `none`"]);
}
