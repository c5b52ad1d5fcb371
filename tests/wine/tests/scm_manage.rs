//! `keepwell service` under Wine's real service control manager: what it installs runs, and `sc`, `net` and `reg` see what was
//! asked for.

use std::path::PathBuf;
use std::time::Duration;

use keepwell_wine::{Answer, Prefix, Service, child, keepwell, needs_wine, wait_until, windows_path};

const TICK: &str = "[services.web]\ncommand = 'CHILD tick ticks'\n";

fn cli(prefix: &Prefix, args: &[&str]) -> Answer {
    prefix.cli(&[&["service"], args].concat())
}

/// `add NAME … -- CHILD …`.
fn add(prefix: &Prefix, name: &str, options: &[&str], command: &[&str]) -> Answer {
    let program = windows_path(child());
    cli(prefix, &[&["add", name], options, &["--", &program], command].concat())
}

/// A file of the folder to work in, as Windows knows it; `CHILD` in it stands for the helper's path.
fn config(prefix: &Prefix, name: &str, text: &str) -> String {
    let program = windows_path(child()).replace('\\', "/");
    std::fs::write(prefix.path(name), text.replace("CHILD", &program)).expect("own folder");
    windows_path(&prefix.path(name))
}

fn registry(prefix: &Prefix, name: &str) -> String {
    prefix.run("reg", &["query", &format!(r"HKLM\System\CurrentControlSet\Services\{name}")]).out
}

/// keepwell in a folder of its own, as an administrator would put it there.
fn placed(prefix: &Prefix, folder: &str) -> PathBuf {
    let folder = prefix.drive_c(folder);
    std::fs::create_dir_all(&folder).expect("own folder");
    let program = folder.join("keepwell.exe");
    std::fs::copy(keepwell(), &program).expect("own folder");
    program
}

#[test]
fn installed_with_now_it_runs_and_each_verb_does_what_it_says() {
    needs_wine!();
    let prefix = Prefix::new();
    let file = config(&prefix, "shop.toml", TICK);
    cli(&prefix, &["install", "--name", "shop", "--config", &file, "--now"])
        .good()
        .says(&["installed the service shop", "the service shop runs (pid "]);
    let mut service = Service::known(&prefix, "shop");
    assert_eq!(service.query().expect("it is installed").state, "RUNNING");
    service.wait_log("web", "tick 3");
    cli(&prefix, &["status", "shop"]).good().says(&["running", &file]);
    cli(&prefix, &["start", "shop"]).good().says(&["runs already"]);
    service.reach();
    let first = service.pid("web");
    cli(&prefix, &["restart", "shop"]).good().says(&["has stopped", "the service shop runs (pid "]);
    assert_ne!(service.pid("web"), first);
    cli(&prefix, &["stop", "shop"]).good().says(&["the service shop has stopped"]);
    let end = service.query().expect("it is installed");
    assert_eq!((end.state.as_str(), end.exit, end.own_exit), ("STOPPED", 0, 0));
    prefix.assert_nothing_left(Duration::ZERO);
    cli(&prefix, &["stop", "shop"]).good();
    cli(&prefix, &["status", "shop"]).with_code(3).says(&["stopped"]);
    prefix.run("net", &["start", "shop"]).good();
    service.wait_state("RUNNING");
    cli(&prefix, &["status", "shop", "--json"]).good().says(&["\"running\""]);
    cli(&prefix, &["uninstall", "shop"]).good().says(&["removed the service shop", &file]);
    assert_eq!(service.query(), None);
    prefix.assert_nothing_left(Duration::ZERO);
    assert!(prefix.path("shop.toml").is_file() && service.folder().join("logs/web.log").is_file());
}

#[test]
fn installed_twice_it_converges_in_place_while_it_runs() {
    needs_wine!();
    let prefix = Prefix::new();
    let file = config(&prefix, "shop.toml", TICK);
    let install = |more: &[&str]| {
        cli(&prefix, &[&["install", "--name", "shop", "--config", &file], more].concat()).good()
    };
    install(&["--now"]);
    let mut service = Service::known(&prefix, "shop");
    service.reach();
    let pid = service.pid("web");
    let again = install(&[]);
    again.says(&["the service shop is as it should be"]);
    assert!(!again.all().contains("starts it now"), "{again:?}");
    install(&["--start", "demand", "--display-name", "The \"best\" shöp", "--depends-on", "Spooler"]).says(
        &["start  auto → demand", "dependencies  none → Spooler", "display name  shop → The \"best\" shöp"],
    );
    let key = registry(&prefix, "shop");
    for value in
        ["Start    REG_DWORD    0x3", "DependOnService    REG_MULTI_SZ    Spooler", "The \"best\" sh"]
    {
        assert!(key.contains(value), "{value} in {key}");
    }
    assert_eq!(service.query().expect("it is installed").state, "RUNNING");
    assert_eq!(service.pid("web"), pid, "what runs goes on");
    service.stop();
    service.start();
    service.stop();
}

#[test]
fn a_program_is_added_driven_changed_and_removed_while_it_runs() {
    needs_wine!();
    let prefix = Prefix::new();
    add(&prefix, "web", &["--now", "--env", "GREETING=hi there"], &["print-env"])
        .good()
        .says(&["installed the service web", "the service web runs"]);
    let mut service = Service::known(&prefix, "web");
    service.wait_log("web", "GREETING=hi there");
    let list = cli(&prefix, &["list", "--json"]).good().json();
    assert_eq!((list[0]["name"].as_str(), list[0]["state"].as_str()), (Some("web"), Some("running")));
    add(&prefix, "web", &[], &["hang"]).with_code(1).says(&["is there already"]);

    service.reach();
    let pid = service.pid("web");
    cli(&prefix, &["set", "web", "env.GREETING", "good day"]).good();
    service.wait_log("web", "GREETING=good day");
    assert_ne!(service.pid("web"), pid);
    cli(&prefix, &["set", "web", "limits.memory", "1 lot"]).with_code(2).says(&["is as it was before"]);
    assert_eq!(cli(&prefix, &["get", "web", "env.GREETING"]).good().out.trim(), "good day");
    cli(&prefix, &["dump", "web"]).good().says(&[
        "keepwell service add web",
        "good day",
        " -- ",
        "print-env",
    ]);
    let toml = cli(&prefix, &["dump", "web", "--toml"]).good().out;
    assert_eq!(toml, service.read("keepwell.toml"));

    cli(&prefix, &["restart", "web"]).good();
    prefix.run("net", &["stop", "web"]).good().says(&["stopped successfully"]);
    cli(&prefix, &["start", "web"]).good();
    cli(&prefix, &["remove", "web", "--yes", "--purge"]).good().says(&["removed the service web"]);
    assert_eq!(service.query(), None);
    prefix.assert_nothing_left(Duration::ZERO);
    assert!(!service.folder().exists());
    add(&prefix, "web", &[], &["hang"]).good();
}

#[test]
fn status_shows_every_guardian_of_the_host() {
    needs_wine!();
    let prefix = Prefix::new();
    prefix.cli(&["status"]).with_code(3);
    add(&prefix, "web", &["--now"], &["hang"]).good();
    add(&prefix, "idle", &["--start", "demand"], &["hang"]).good();
    let file = config(&prefix, "shop.toml", TICK);
    cli(&prefix, &["install", "--name", "shop", "--config", &file, "--now"]).good();
    let all = prefix.cli(&["status"]).good();
    all.says(&["web · service · C:\\ProgramData\\keepwell\\web\\keepwell.toml", "shop · service · ", &file]);
    all.says(&["idle (service) does not run"]);
    let json = prefix.cli(&["status", "--json"]).good().json();
    let of = |name: &str| {
        let found = json.as_array().and_then(|a| a.iter().find(|s| s["guardian"] == name));
        found.unwrap_or_else(|| panic!("{name} in {json}")).clone()
    };
    assert_eq!(
        (of("web")["scope"].as_str(), of("shop")["state"].as_str()),
        (Some("service"), Some("running"))
    );
    prefix.cli(&["status", "-f", &file]).good().says(&["web", "running"]);
    // Two know a program `web`, and neither is nearer.
    prefix.cli(&["explain", "web"]).with_code(2).says(&["--state C:\\ProgramData\\keepwell\\shop"]);
    cli(&prefix, &["stop", "shop"]).good();
    prefix.cli(&["explain", "web"]).good();
    cli(&prefix, &["stop", "web"]).good();
    prefix.assert_nothing_left(Duration::ZERO);
}

#[test]
fn an_editor_changes_a_running_service_and_an_error_changes_nothing() {
    needs_wine!();
    let prefix = Prefix::new();
    add(&prefix, "web", &["--now"], &["hang"]).good();
    let mut service = Service::known(&prefix, "web");
    service.reach();
    let pid = service.pid("web");
    let edit = |script: &str| {
        std::fs::write(prefix.path("editor.bat"), script).expect("own folder");
        let mut command = prefix.keepwell(&["service", "edit", "web"]);
        command.env("EDITOR", windows_path(&prefix.path("editor.bat")));
        keepwell_wine::answer(&mut command)
    };
    edit("@echo nonsense>>%1\r\n").with_code(2).says(&["is as it was before"]);
    assert!(!service.read("keepwell.toml").contains("nonsense"));
    assert_eq!(service.pid("web"), pid);
    edit("@echo nice = 5 >>%1\r\n").good();
    assert!(service.read("keepwell.toml").contains("nice = 5"));
    wait_until("it was started anew", || service.pid("web") != pid);
    assert!(!service.folder().join("keepwell.toml.edit").exists());
    service.stop();
}

#[test]
fn names_paths_and_arguments_may_hold_all_letters() {
    needs_wine!();
    let prefix = Prefix::with_work("müde & 世界");
    let program = placed(&prefix, "Program Files/Käse & Brot");
    let folder = prefix.drive_c("mein Ordner 'ä'");
    std::fs::create_dir_all(&folder).expect("own folder");
    std::fs::copy(child(), folder.join("my child.exe")).expect("own folder");
    let name = "Größe & Co. (test)";
    let all = [
        "service",
        "add",
        name,
        "--cwd",
        r"C:\mein Ordner 'ä'",
        "--now",
        "--env",
        "A=a \"b\" $c %d%",
        "--",
        r"C:\mein Ordner 'ä'\my child.exe",
        "print-args",
        "two words",
        "a \"quote\"",
        r"back\",
        "",
        "ünï 世界",
        "$HOME",
        "%PATH%",
    ];
    prefix.run(&program.display().to_string(), &all).good();
    let service = Service::known(&prefix, name);
    let key = registry(&prefix, name);
    assert!(key.contains(r#""C:\Program Files\K"#), "{key}");
    let log = service.wait_log("Gr--e---Co.--test", "end of arguments");
    let got: Vec<_> = log.lines().take_while(|l| l.starts_with('[')).collect();
    assert_eq!(got, ["[two words]", "[a \"quote\"]", r"[back\]", "[]", "[ünï 世界]", "[$HOME]", "[%PATH%]"]);
    assert!(log.contains(r"in C:\mein Ordner 'ä'"), "{log}");
    service.stop();
    prefix.run(&program.display().to_string(), &["service", "start", name]).good();
    prefix.run(&program.display().to_string(), &["service", "remove", name, "--yes"]).good();
    assert_eq!(service.query(), None);
}

#[test]
fn the_binary_is_upgraded_while_services_run_from_it() {
    needs_wine!();
    let prefix = Prefix::new();
    let program = placed(&prefix, "keepwell");
    let file = config(&prefix, "shop.toml", TICK);
    let run = |args: &[&str]| prefix.run(r"C:\keepwell\keepwell.exe", &[&["service"], args].concat());
    run(&["install", "--name", "shop", "--config", &file, "--now"]).good();
    let mut service = Service::known(&prefix, "shop");
    service.reach();
    let pid = service.pid("web");

    std::fs::write(prefix.path("other.exe"), "no program").expect("own folder");
    run(&["upgrade", &windows_path(&prefix.path("other.exe"))]).with_code(2).says(&["cannot be run here"]);
    run(&["upgrade", &windows_path(child())]).with_code(2).says(&["is no keepwell; nothing was changed"]);

    // Another build: what stands behind the program does not keep it from running.
    let mut bytes = std::fs::read(keepwell()).expect("it is built");
    bytes.extend_from_slice(b"next");
    std::fs::write(prefix.path("next.exe"), &bytes).expect("own folder");
    let next = windows_path(&prefix.path("next.exe"));
    run(&["upgrade", &next]).good().says(&["is keepwell ", "shop still runs the old one"]);
    assert!(std::fs::read(&program).expect("it is there") == bytes);
    assert_eq!(service.pid("web"), pid, "the service runs on");
    assert_eq!(service.query().expect("it is installed").state, "RUNNING");

    // Once more, with an old one that still runs, and the services with it.
    run(&["upgrade", &next, "--restart"])
        .good()
        .says(&["the service shop has stopped", "the service shop runs"]);
    assert_ne!(service.pid("web"), pid);
    service.stop();
    prefix.assert_nothing_left(Duration::ZERO);
    run(&["upgrade", &next]).good();
    let left: Vec<_> = std::fs::read_dir(prefix.drive_c("keepwell")).expect("own folder").flatten().collect();
    assert!(left.len() <= 2, "{left:?}");
}

#[test]
fn one_that_does_not_come_up_is_told_with_where_to_look() {
    needs_wine!();
    let prefix = Prefix::new();
    let file = config(&prefix, "shop.toml", TICK);
    let mut command = vec!["install", "--name", "shop", "--config", &file, "--start", "demand"];
    cli(&prefix, &command).good();
    config(&prefix, "shop.toml", "[services.web]\ncomand = 'x'\n");
    cli(&prefix, &["start", "shop"]).with_code(1).says(&["stopped while", "code 2", "anchor.log"]);
    // What is wrong is found before anything is registered.
    command.extend(["--display-name", "other"]);
    cli(&prefix, &command).with_code(2).says(&["comand", "shop.toml:2"]);
    assert!(!registry(&prefix, "shop").contains("other"));
    config(&prefix, "shop.toml", TICK);
    cli(&prefix, &["start", "shop"]).good();
    cli(&prefix, &["uninstall", "shop"]).good();
}
