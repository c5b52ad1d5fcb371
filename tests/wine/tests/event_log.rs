//! What a guardian reports to the event log. Wine keeps no events, but shows on its error output what is reported.

use std::fs;

use keepwell_wine::{Guardian, Prefix, Service, needs_wine, read_lossy, wait_some, windows_path};

const KEY: &str = r"HKLM\SYSTEM\CurrentControlSet\Services\EventLog\Application\keepwell";

/// A Windows whose services show what they report in the file `events.err`.
fn showing_events() -> Prefix {
    let prefix = Prefix::new();
    let mut first = prefix.command("cmd", &["/c", "exit"]);
    first.env("WINEDEBUG", "-all,trace+eventlog,warn+eventlog,err+eventlog");
    assert!(prefix.start(&mut first, "events").wait().expect("own child").success());
    prefix
}

/// Waits until this level and this text were reported.
#[track_caller]
fn wait_reported(prefix: &Prefix, level: &str, text: &str) {
    wait_some(&format!("{level} `{text}` in the event log"), || {
        let all = read_lossy(&prefix.path("events.err"));
        all.lines()
            .any(|l| l.contains(&format!("{level}:eventlog:ReportEventW")) && l.contains(text))
            .then_some(())
    });
}

#[test]
fn a_guardian_that_is_a_service_reports_and_its_source_goes_with_the_last_one() {
    needs_wine!();
    let prefix = showing_events();
    let config = |name: &str| windows_path(&prefix.path(&format!("{name}.toml")));
    let text = "[services.bad]\ncommand = ['CHILD', 'exit', '3']\nrestart = { delay = '100ms', limit = { max = 1, window = '60s' }, on_crash_loop = 'give_up' }\n\
                [services.good]\ncommand = ['CHILD', 'hang']\n";
    for name in ["shop", "bar"] {
        let text = text.replace("CHILD", &windows_path(keepwell_wine::child()));
        fs::write(prefix.path(&format!("{name}.toml")), text).expect("own folder");
        prefix.cli(&["service", "install", "--name", name, "--config", &config(name)]).good();
    }
    let file = prefix.drive_c("ProgramData/keepwell/keepwell-events.dll");
    let source = prefix.run("reg", &["query", KEY]).good();
    source.says(&[r"EventMessageFile    REG_EXPAND_SZ    C:\ProgramData\keepwell\keepwell-events.dll"]);
    assert!(fs::read(&file).expect("it was written").starts_with(b"MZ"));

    prefix.cli(&["service", "start", "shop"]).good();
    wait_reported(&prefix, "err", "bad gave up");
    for (level, text) in [
        ("trace", "keepwell is up"),
        ("trace", "good started"),
        ("warn", "bad exited: exit code 3"),
        ("warn", "bad: next attempt in"),
        ("trace", "\"shop\""),
    ] {
        wait_reported(&prefix, level, text);
    }
    fs::write(prefix.path("shop.toml"), "[services.bad]\nkommand = 'x'\n").expect("own folder");
    let shop = Service::known(&prefix, "shop");
    shop.cli(&["reload"]).with_code(2);
    wait_reported(&prefix, "warn", "configuration refused");
    prefix.cli(&["service", "stop", "shop"]).good();
    wait_reported(&prefix, "trace", "good is stopped");
    wait_reported(&prefix, "trace", "keepwell is stopping");

    // What is there cannot be taken on: it does not come up, and says why.
    let _ = prefix.cli(&["service", "start", "shop"]);
    wait_reported(&prefix, "err", "unknown key `kommand`");

    prefix.cli(&["service", "uninstall", "shop"]).good();
    assert!(file.exists() && prefix.run("reg", &["query", KEY]).code == 0, "another guardian needs it");
    prefix.cli(&["service", "uninstall", "bar"]).good();
    assert!(!file.exists() && prefix.run("reg", &["query", KEY]).code != 0);
}

#[test]
fn a_guardian_in_a_terminal_reports_nothing() {
    needs_wine!();
    let prefix = showing_events();
    let mut g = Guardian::on(prefix, "[services.a]\ncommand = ['CHILD', 'say', 'here']\n");
    g.start(&["--quiet"]);
    g.wait_log("a", "here");
    g.cli(&["down"]).good();
    assert_eq!(g.wait_exit(), 0);
    assert!(!g.read("events.err").contains("ReportEventW"), "{}", g.read("events.err"));
}
