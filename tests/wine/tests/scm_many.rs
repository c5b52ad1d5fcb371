//! keepwell under Wine's real service control manager: several services, dependencies, reload, names of all kinds.

use std::time::Duration;

use keepwell_wine::{Prefix, Service, needs_wine, wait_until};

const TICK: &str = "[services.web]\ncommand = 'CHILD tick ticks'\n";

#[test]
fn of_two_services_one_may_die_alone() {
    needs_wine!();
    let prefix = Prefix::new();
    let one = Service::running(&prefix, "one", TICK);
    let two = Service::running(&prefix, "two", TICK);
    one.wait_log("web", "tick 3");
    two.wait_log("web", "tick 3");
    one.anchor().expect("it runs").kill();
    assert_eq!(two.query().expect("it is installed").state, "RUNNING");
    let before = two.read("ticks").len();
    wait_until("it goes on", || two.read("ticks").len() > before + 100);
    two.stop();
    prefix.assert_nothing_left(Duration::ZERO);
}

#[test]
fn what_a_service_depends_on_is_written_down() {
    needs_wine!();
    let prefix = Prefix::new();
    let db = Service::running(&prefix, "db", TICK);
    // Wine's manager knows dependencies and heeds none, so whoever comes first is started first.
    let web = Service::installed_with(&prefix, "web", TICK, &["depend=", "db"]);
    let key = r"HKLM\SYSTEM\CurrentControlSet\Services\web";
    prefix.run("reg", &["query", key, "/v", "DependOnService"]).good().says(&["REG_MULTI_SZ    db"]);
    web.start();
    web.stop();
    assert_eq!(db.query().expect("it is installed").state, "RUNNING");
    db.stop();
}

#[test]
fn a_file_with_twenty_programs_is_one_service() {
    needs_wine!();
    let prefix = Prefix::new();
    let config: String = (0..20).map(|n| format!("[services.s{n}]\ncommand = 'CHILD hang'\n")).collect();
    let mut service = Service::running(&prefix, "many", &config);
    service.reach();
    service.wait_for("all up", |all| all.len() == 20 && all.iter().all(|s| s.pid.is_some()));
    service.stop();
    prefix.assert_nothing_left(Duration::ZERO);
}

#[test]
fn a_reload_changes_what_changed_and_an_error_changes_nothing() {
    needs_wine!();
    let prefix = Prefix::new();
    let two = "[services.a]\ncommand = 'CHILD hang'\n[services.b]\ncommand = 'CHILD hang'\n";
    let mut service = Service::running(&prefix, "shop", two);
    service.reach();
    let (a, b) = (service.pid("a"), service.pid("b"));
    service.write(
        "keepwell.toml",
        &two.replace("[services.b]\ncommand = 'CHILD hang'", "[services.b]\ncommand = 'CHILD tick ticks'"),
    );
    service.cli(&["reload"]).good();
    service.wait_log("b", "tick 3");
    assert_eq!(service.pid("a"), a);
    assert_ne!(service.pid("b"), b);
    service.write("keepwell.toml", "[services.a]\nkommand = 'CHILD hang'\n");
    service.cli(&["reload"]).with_code(2).says(&["kommand"]);
    assert_eq!(service.pid("a"), a);
    assert_eq!(service.query().expect("it is installed").state, "RUNNING");
    service.stop();
}

fn named(name: &str) {
    needs_wine!();
    let prefix = Prefix::new();
    let service = Service::running(&prefix, name, TICK);
    service.wait_log("web", "tick 3");
    service.cli(&["status"]).good().says(&["web"]);
    service.stop();
    prefix.assert_nothing_left(Duration::ZERO);
    service.sc("delete", &[]).good();
    assert_eq!(service.query(), None);
}

#[test]
fn a_name_may_have_spaces() {
    named("my shop (test)");
}

#[test]
fn a_name_may_have_letters_of_all_kinds() {
    named("Größe");
}

#[test]
fn a_configuration_may_stand_anywhere() {
    needs_wine!();
    let prefix = Prefix::new();
    let service = Service::prepared(&prefix, "shop", "");
    let folder = prefix.drive_c("my 世界/ü & co");
    std::fs::create_dir_all(&folder).expect("own folder");
    std::fs::copy(keepwell_wine::child(), folder.join("child.exe")).expect("own folder");
    std::fs::write(folder.join("conf.toml"), "[services.web]\ncommand = './child tick ticks'\n")
        .expect("own folder");
    let program = keepwell_wine::windows_path(keepwell_wine::keepwell());
    let line =
        format!("\"{program}\" internal service --name shop --config \"C:\\my 世界\\ü & co\\conf.toml\"");
    service.sc("create", &["binPath=", &line]).good();
    service.start();
    service.wait_log("web", "tick 3");
    wait_until("its file", || folder.join("ticks").is_file());
    service.stop();
    prefix.assert_nothing_left(Duration::ZERO);
}

#[test]
fn a_name_may_have_signs_of_the_shell() {
    named("R&D's 100% ^ shop");
}

#[test]
fn programs_get_their_arguments_as_they_were_written() {
    needs_wine!();
    let prefix = Prefix::new();
    let config = "[services.a]\ncommand = ['CHILD', 'print-args', 'two words', 'a \"quote\"', 'back\\', '', 'ünï 世界']\n";
    let service = Service::running(&prefix, "shop", config);
    let log = service.wait_log("a", "end of arguments");
    let all: Vec<_> = log.lines().take_while(|l| l.starts_with('[')).collect();
    assert_eq!(all, ["[two words]", "[a \"quote\"]", "[back\\]", "[]", "[ünï 世界]"]);
    assert!(log.contains("in C:\\ProgramData\\keepwell\\shop"), "{log}");
    service.stop();
}

#[test]
fn the_program_may_stand_in_a_folder_with_any_name() {
    needs_wine!();
    let prefix = Prefix::new();
    let service = Service::prepared(&prefix, "shop", TICK);
    let folder = prefix.drive_c("Program Files/Käse & Brot");
    std::fs::create_dir_all(&folder).expect("own folder");
    std::fs::copy(keepwell_wine::keepwell(), folder.join("keepwell.exe")).expect("own folder");
    let line = "\"C:\\Program Files\\Käse & Brot\\keepwell.exe\" internal service --name shop \
                --config C:\\ProgramData\\keepwell\\shop\\keepwell.toml";
    service.sc("create", &["binPath=", line]).good();
    service.start();
    service.wait_log("web", "tick 3");
    service.stop();
    prefix.assert_nothing_left(Duration::ZERO);
}

#[test]
fn a_binary_that_is_replaced_while_it_runs_is_used_at_the_next_start() {
    needs_wine!();
    let prefix = Prefix::new();
    let mut service = Service::prepared(&prefix, "shop", TICK);
    let folder = prefix.drive_c("keepwell");
    std::fs::create_dir_all(&folder).expect("own folder");
    let (program, old) = (folder.join("keepwell.exe"), folder.join("old.exe"));
    std::fs::copy(keepwell_wine::keepwell(), &program).expect("own folder");
    let line = "C:\\keepwell\\keepwell.exe internal service --name shop --config C:\\ProgramData\\keepwell\\shop\\keepwell.toml";
    service.sc("create", &["binPath=", line]).good();
    service.start();
    service.reach();
    let pid = service.pid("web");
    // As Windows allows it: a program that runs may be renamed, and another put in its place.
    prefix.run("cmd", &["/c", "ren C:\\keepwell\\keepwell.exe old.exe"]).good();
    std::fs::copy(&old, &program).expect("own folder");
    assert_eq!(service.pid("web"), pid);
    let daemon = service.info().expect("it answers").daemon_pid;
    service.daemon().expect("it runs").kill();
    wait_until("another daemon", || service.info().is_some_and(|i| i.daemon_pid != daemon));
    assert_eq!(service.pid("web"), pid);
    service.stop();
    service.start();
    assert_ne!(service.pid("web"), pid);
    service.stop();
    prefix.assert_nothing_left(Duration::ZERO);
}

#[test]
fn services_start_and_stop_ten_times_in_a_row() {
    needs_wine!();
    let prefix = Prefix::new();
    let service = Service::installed(&prefix, "shop", TICK);
    for _ in 0..10 {
        service.start();
        let end = service.stop();
        assert_eq!((end.exit, end.own_exit), (0, 0));
        prefix.assert_nothing_left(Duration::ZERO);
    }
}
