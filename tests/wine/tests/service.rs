//! `keepwell service` against Wine's SCM and registry, with `sc` and `reg` as the witnesses from outside.

use keepwell_wine::{Answer, Prefix, needs_wine, windows_path};

const CONFIG: &str = "[services.web]\ncommand = [\"cmd\", \"/c\", \"pause\"]\n";

fn service(prefix: &Prefix, args: &[&str]) -> Answer {
    prefix.cli(&[&["service"], args].concat())
}

fn registry(prefix: &Prefix, name: &str) -> String {
    prefix.run("reg", &["query", &format!(r"HKLM\System\CurrentControlSet\Services\{name}")]).out
}

#[test]
fn a_configuration_becomes_a_service_that_is_changed_in_place_and_taken_away() {
    needs_wine!();
    let prefix = Prefix::with_work("my shop");
    std::fs::write(prefix.path("keepwell.toml"), CONFIG).unwrap();
    let config = windows_path(&prefix.path("keepwell.toml"));
    let install = |more: &[&str]| {
        service(
            &prefix,
            &[&["install", "--name", "my shop", "--config", &config, "--start", "demand"], more].concat(),
        )
    };
    install(&["--depends-on", "Spooler"]).good().says(&["installed the service my shop"]);
    let key = registry(&prefix, "my shop");
    let image = format!(
        r#"internal service --name "my shop" --config "{config}" --state "C:\ProgramData\keepwell\my shop""#
    );
    assert!(key.contains(&image), "{image} in {key}");
    assert!(key.contains("ImagePath    REG_SZ    \""), "the program stands in quotes: {key}");
    for value in [
        r"NT SERVICE\my shop",
        "Start    REG_DWORD    0x3",
        "PreshutdownTimeout    REG_DWORD    0x7530",
        "Spooler",
    ] {
        assert!(key.contains(value), "{value} in {key}");
    }
    assert!(prefix.run("sc", &["query", "my shop"]).out.contains("STOPPED"));

    install(&[]).good().says(&["the service my shop is as it should be"]);
    install(&["--description", "Sells \"things\"", "--stop-timeout", "1m"])
        .good()
        .says(&["changed the service my shop", "stop timeout  30000 ms → 60000 ms"]);
    assert!(registry(&prefix, "my shop").contains("Sells \"things\""));
    service(&prefix, &["show", "my shop"]).good().says(&["stop timeout  60 s", r"NT SERVICE\my shop"]);
    let list = service(&prefix, &["list", "--json"]).good().json();
    assert_eq!((list[0]["name"].as_str(), list[0]["state"].as_str()), (Some("my shop"), Some("stopped")));
    service(&prefix, &["status", "my shop"]).with_code(3).says(&["stopped", &config]);

    service(&prefix, &["uninstall", "my shop"]).good().says(&["removed the service my shop"]);
    assert!(!prefix.run("sc", &["query", "my shop"]).out.contains("STATE"));
    service(&prefix, &["uninstall", "my shop"]).with_code(2).says(&["there is no service `my shop`"]);
}

#[test]
fn a_program_becomes_a_service_with_a_configuration_of_its_own() {
    needs_wine!();
    let prefix = Prefix::new();
    service(&prefix, &["add", "web", "--env", "A=b", "--", r"C:\windows\system32\cmd.exe", "/c", "pause"])
        .good()
        .says(&["installed the service web", r"C:\ProgramData\keepwell\web\keepwell.toml"]);
    let file = prefix.drive_c("ProgramData/keepwell/web/keepwell.toml");
    assert!(
        std::fs::read_to_string(&file)
            .unwrap()
            .contains(r#"command = ["C:\\windows\\system32\\cmd.exe", "/c", "pause"]"#)
    );
    service(&prefix, &["set", "web", "restart.delay", "2s"]).good();
    assert_eq!(service(&prefix, &["get", "web", "restart.delay"]).good().out.trim(), "2s");
    service(&prefix, &["remove", "web", "--yes"]).good();
    assert!(!file.exists());
}

#[test]
fn a_user_without_rights_has_it_started_at_logon() {
    needs_wine!();
    let prefix = Prefix::new();
    let key = r"HKCU\Software\Microsoft\Windows\CurrentVersion\Run";
    service(&prefix, &["add", "mine", "--user", "--", r"C:\windows\system32\cmd.exe", "/c", "pause"]).good();
    let run = prefix.run("reg", &["query", key]).out;
    assert!(run.contains("mine    REG_SZ    \"") && run.contains(" up --detach --file "), "{run}");
    service(&prefix, &["status", "mine", "--user"]).good().says(&["started at logon"]);
    service(&prefix, &["remove", "mine", "--user", "--yes"]).good().says(&["does not run"]);
    assert!(!prefix.run("reg", &["query", key]).out.contains("mine"));
}

/// Added, started, seen, changed, stopped and removed while it runs, with one of the options for logons.
fn lives_through_a_logon(whose: &str, key: &str, line: &str) {
    let prefix = Prefix::new();
    let child = windows_path(keepwell_wine::child());
    service(&prefix, &["add", "mine", whose, "--", &child, "hang"]).good().says(&["starts it now"]);
    let run = prefix.run("reg", &["query", key, "/v", "mine"]).good();
    run.says(&[" up --detach --file ", line]);
    service(&prefix, &["install", whose, "--name", "mine", "--config", r"C:\none.toml"]).with_code(2);
    prefix.run("reg", &["query", key, "/v", "mine"]).good().says(&[line]);
    service(&prefix, &["start", whose, "mine"]).good();
    assert_eq!(prefix.children().len(), 1);
    let seen = prefix.cli(&["status", "--json"]).good().json();
    assert_eq!(
        (seen[0]["guardian"].as_str(), seen[0]["scope"].as_str()),
        (Some("mine"), Some("user service"))
    );
    let pid = seen[0]["pid"].as_u64();
    service(&prefix, &["set", "mine", whose, "env.A", "b"]).good();
    keepwell_wine::wait_until("it was started anew", || {
        let now = prefix.cli(&["status", "--json"]).json();
        now[0]["pid"].as_u64().is_some_and(|now| Some(now) != pid)
    });
    service(&prefix, &["restart", whose, "mine"]).good();
    assert_eq!(prefix.children().len(), 1);
    service(&prefix, &["stop", whose, "mine"]).good();
    prefix.assert_nothing_left(std::time::Duration::from_secs(2));
    service(&prefix, &["start", whose, "mine"]).good();
    service(&prefix, &["remove", whose, "mine", "--yes", "--purge"]).good();
    prefix.assert_nothing_left(std::time::Duration::from_secs(2));
    assert_ne!(prefix.run("reg", &["query", key, "/v", "mine"]).code, 0);
}

#[test]
fn a_users_service_lives_through_a_logon() {
    needs_wine!();
    lives_through_a_logon(
        "--user",
        r"HKCU\Software\Microsoft\Windows\CurrentVersion\Run",
        r"state\keepwell\mine",
    );
}

#[test]
fn a_service_of_each_user_keeps_its_state_where_that_user_does() {
    needs_wine!();
    let key = r"HKLM\Software\Microsoft\Windows\CurrentVersion\Run";
    lives_through_a_logon("--all-users", key, r"REG_EXPAND_SZ");
}

#[test]
fn what_is_not_ours_is_left_alone() {
    needs_wine!();
    let prefix = Prefix::new();
    service(&prefix, &["uninstall", "Spooler"]).with_code(2).says(&["is not keepwell's"]);
    assert!(prefix.run("sc", &["query", "Spooler"]).out.contains("STATE"));
    service(&prefix, &["start", "none"]).with_code(2).says(&["there is no service `none`"]);
}
