//! Command lines as Windows reads them, and keys that have no effect there.

use std::fs;

use keepwell_wine::{Guardian, Prefix, child, keepwell, needs_wine, read_lossy, wait_some, windows_path};

#[test]
fn a_raw_command_line_reaches_the_program_as_it_is() {
    needs_wine!();
    let g = Guardian::up(
        r#"
        [services.a]
        command_line = '"CHILD" print-args a"b c"d \"x\" ${service} %PATH%'
        [services.b]
        command = 'CHILD print-args C:\data\ "two words" last'
        "#,
    );
    let log = g.wait_log("a", "end of arguments");
    let all: Vec<_> = log.lines().take_while(|l| l.starts_with('[')).collect();
    assert_eq!(all, ["[ab cd]", "[\"x\"]", "[${service}]", "[%PATH%]"]);
    let log = g.wait_log("b", "end of arguments");
    let all: Vec<_> = log.lines().take_while(|l| l.starts_with('[')).collect();
    assert_eq!(all, ["[C:\\data\\]", "[two words]", "[last]"]);
    g.end();
}

#[test]
fn a_shell_is_the_one_of_the_system() {
    needs_wine!();
    let g = Guardian::up(
        "[services.a]\nshell = true\ncommand = 'echo one & echo \"two three\" & \"CHILD\" say four'\n",
    );
    let log = g.wait_log("a", "four");
    assert!(log.contains("one") && log.contains("\"two three\""), "{log}");
    g.cli(&["stop", "a"]).good();
    assert_eq!(g.prefix().children(), []);
    g.end();
}

#[test]
fn check_warns_of_what_has_no_effect_and_looks_programs_up_as_the_system_does() {
    needs_wine!();
    let g = Guardian::new("[services.a]\ncommand = 'cmd /c exit'\numask = '022'\nlimits = { nofile = 9 }\n");
    g.cli(&["check"]).says(&[
        "`umask` of services.a has no effect on Windows",
        "`limits.nofile` of services.a has no effect on Windows",
    ]);
    g.write("keepwell.toml", "[services.a]\ncommand = 'no-such-program'\n");
    g.cli(&["check"]).with_code(2).says(&["cannot be started: no-such-program"]);
    g.write("keepwell.toml", "[services.a]\ncommand = 'a'\ncwd = \"C:\\data\"\n");
    g.cli(&["check"]).says(&["in single quotes"]);
}

#[test]
fn a_powershell_script_is_given_to_powershell_with_its_arguments() {
    needs_wine!();
    let prefix = Prefix::new();
    let powershell = prefix.drive_c("windows/system32/WindowsPowerShell/v1.0/powershell.exe");
    fs::create_dir_all(powershell.parent().expect("it stands in a folder")).expect("own prefix");
    let _ = fs::remove_file(&powershell);
    fs::copy(child(), &powershell).expect("own prefix");
    let mut g = Guardian::on(prefix, "[services.a]\ncommand = ['./my report.ps1', 'two words', '$plain']\n");
    g.write("my report.ps1", "Start-Sleep 1000\n");
    g.start(&["--quiet"]);
    g.wait_answering();
    let log = g.wait_log("a", "end of arguments");
    let script = windows_path(&g.path("my report.ps1"));
    let all: Vec<_> = log.lines().take_while(|l| l.starts_with('[')).collect();
    let given =
        ["[-NoLogo]", "[-NoProfile]", "[-NonInteractive]", "[-ExecutionPolicy]", "[Bypass]", "[-File]"];
    assert_eq!(all[..6], given, "{log}");
    assert!(
        all[6].replace('/', "\\").replace("\\.\\", "\\").eq_ignore_ascii_case(&format!("[{script}]")),
        "{log}"
    );
    assert_eq!(all[7..], ["[two words]", "[$plain]"]);
    g.end();
}

#[test]
fn names_are_looked_up_with_the_extensions_of_pathext() {
    needs_wine!();
    let prefix = Prefix::new();
    fs::create_dir(prefix.path("bin")).expect("own folder");
    fs::write(prefix.path("bin/tool.bat"), "@echo from bat\r\n").expect("own folder");
    fs::write(prefix.path("bin/tool.cmd"), "@echo from cmd\r\n").expect("own folder");
    let bin = windows_path(&prefix.path("bin"));
    let config = format!("[services.a]\ncommand = 'tool'\nrestart = 'never'\nenv = {{ PATH = '{bin}' }}\n");
    let g = Guardian::on(prefix, &config);
    for (pathext, said) in [(".COM;.EXE;.BAT;.CMD", "from bat"), (".exe;.cmd", "from cmd")] {
        // Wine sets it anew for what is not started from within. keepwell ends by itself, since nothing is left to do.
        let up = format!("set PATHEXT={pathext}&& {} up --quiet", windows_path(keepwell()));
        g.prefix().run("cmd", &["/c", &up]).good();
        assert!(g.log("a").contains(said), "{}", g.traces());
    }
}

#[test]
fn folders_may_be_deeper_than_old_windows_allowed() {
    needs_wine!();
    let prefix = Prefix::new();
    let state = prefix.path(&["x".repeat(120), "y".repeat(120), "my state".to_owned()].join("/"));
    let whole = windows_path(&state);
    assert!(whole.len() > 260);
    let program = windows_path(child());
    let config = format!(
        "[services.a]\ncommand = ['CHILD', 'say', 'plain']\n[services.b]\ncommand = ['\\\\?\\{program}', 'say', 'with a prefix']\n",
    );
    let g = Guardian::on(prefix, &config);
    g.cli(&["up", "--detach", "--state", &whole]).good();
    for (name, said) in [("a", "plain"), ("b", "with a prefix")] {
        let log = state.join(format!("logs/{name}.log"));
        wait_some(said, || Some(read_lossy(&log)).filter(|text| text.contains(said)));
    }
    g.cli(&["status", "--state", &whole]).good();
    g.cli(&["down", "--state", &whole]).good();
}

#[test]
fn a_program_of_another_account_takes_a_guardian_of_the_system_and_all_say_so() {
    needs_wine!();
    let g = Guardian::new("[services.a]\ncommand = 'CHILD hang'\nuser = 'LocalService'\n");
    let why = ["only a guardian that runs as LocalSystem can start a program as `LocalService`"];
    g.cli(&["check"]).with_code(2).says(&why);
    g.cli(&["service", "install"])
        .with_code(2)
        .says(&["services.a is to run as `LocalService`", "only LocalSystem can"]);
    assert!(!g.prefix().run("sc", &["query", "keepwell"]).out.contains("STATE"));
    g.cli(&["service", "install", "--account", "system", "--start", "demand"]).good();
    let mut g = g;
    g.start(&["--quiet"]);
    g.wait_answering();
    let a = g.wait_state("a", &["backing_off", "gave_up"]);
    assert!(a.reason.contains(why[0]), "{}", a.reason);
    g.end();
}
