//! What a configuration means on Windows, and what it does not.
#![expect(clippy::unwrap_used, reason = "a failure is a failed test")]

use std::time::Duration;

use keepwell_config::{Config, Context, Source, load};
use keepwell_core::guard::Figure;
use keepwell_core::spec::{CLOSE, CTRL_BREAK, CTRL_C, StopAction, System, To};

fn on(system: System, text: &str) -> Result<Config, String> {
    let env = [("Path", r"C:\Windows"), ("TEMP", r"C:\temp"), ("Secret", "x")];
    let cx = Context {
        base: "/srv".into(),
        state_dir: "/srv/.keepwell".into(),
        env: env.map(|(n, v)| (n.to_owned(), v.to_owned())).into(),
        system,
    };
    let sources = [Source { path: "keepwell.toml".into(), text: text.to_owned() }];
    load(&sources, &cx).map_err(|d| d.render(false, false))
}

fn context(system: System) -> Context {
    let env = [("Path", r"C:\Windows"), ("TEMP", r"C:\temp"), ("Secret", "x")];
    let env = env.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    Context { base: "/srv".into(), state_dir: "/srv/.keepwell".into(), env, system }
}

fn ladder(system: System, stop: &str) -> (Vec<(i32, To, u64)>, usize) {
    let config = on(system, &format!("[services.a]\ncommand = 'a'\n{stop}\n")).unwrap();
    let steps = config.specs.services["a"].stop.iter().map(|s| {
        let StopAction::Signal(signal) = s.action else { panic!("{s:?}") };
        (signal, s.to, s.wait.as_secs())
    });
    (steps.collect(), config.warnings.len())
}

#[test]
fn each_kind_of_host_has_a_ladder_of_its_own() {
    assert_eq!(ladder(System::Unix, ""), (vec![(15, To::Main, 10)], 0));
    assert_eq!(ladder(System::Windows, ""), (vec![(CTRL_C, To::Main, 10), (CLOSE, To::Tree, 5)], 0));
    let both =
        "stop = [{ signal = 'TERM', wait = '3s' }, { signal = 'CLOSE', wait = '2s' }, { signal = 'BREAK' }]";
    assert_eq!(ladder(System::Unix, both), (vec![(15, To::Main, 3)], 2));
    let windows = vec![(CTRL_C, To::Main, 3), (CLOSE, To::Tree, 2), (CTRL_BREAK, To::Main, 10)];
    assert_eq!(ladder(System::Windows, both), (windows, 0));
    assert_eq!(ladder(System::Windows, "stop = [{ signal = 'USR1' }]"), (vec![], 1));
    let config = on(System::Windows, "[services.a]\ncommand = 'a'\nstop_timeout = '7s'\n").unwrap();
    assert_eq!(config.specs.services["a"].stop_timeout, Some(Duration::from_secs(7)));
}

#[test]
fn keys_without_effect_are_warned_of_where_they_have_none() {
    let text = "[services.a]\ncommand = 'a'\numask = '022'\noom_score_adj = 1\nno_new_privileges = true\n\
                capabilities = []\nlimits = { nofile = 9, core = '0B', memory = '1GB' }\nready = 'notify'\n";
    assert_eq!(on(System::Unix, text).unwrap().warnings, []);
    let told: Vec<String> =
        on(System::Windows, text).unwrap().warnings.into_iter().map(|w| w.message).collect();
    let expected = [
        "umask",
        "oom_score_adj",
        "no_new_privileges",
        "capabilities",
        "limits.nofile",
        "limits.core",
        "ready.notify",
    ];
    assert_eq!(told, expected.map(|key| format!("`{key}` of services.a has no effect on Windows")));
}

#[test]
fn a_command_is_read_as_the_host_reads_it() {
    let start = |system, text: &str| {
        let config = on(system, &format!("[services.a]\n{text}\n")).unwrap();
        let resolved = config.services["a"].resolve(1, &context(system)).unwrap();
        (resolved.argv, resolved.line)
    };
    let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let backslashes = r"command = 'C:\a\b.exe C:\data\'";
    assert_eq!(start(System::Windows, backslashes), (words(&[r"C:\a\b.exe", r"C:\data\"]), None));
    let shell = "command = 'dir \"C:\\a b\" | find \"x\"'\nshell = true";
    let (argv, line) = start(System::Windows, shell);
    assert_eq!(argv[0], "cmd.exe");
    assert_eq!(line.as_deref(), Some(r#"cmd.exe /d /s /c "dir "C:\a b" | find "x"""#));
    assert_eq!(start(System::Unix, shell).0[..2], ["/bin/sh", "-c"]);
    let raw = "command = 'other'\ncommand_line = '\"C:\\a b.exe\" /x\"y $HOME'";
    assert_eq!(
        start(System::Windows, raw),
        (words(&[r"C:\a b.exe"]), Some("\"C:\\a b.exe\" /x\"y $HOME".into()))
    );
    assert_eq!(start(System::Unix, raw), (words(&["other"]), None));
    let only = on(System::Unix, "[services.a]\ncommand_line = 'x'\n").unwrap_err();
    assert!(only.contains("`command_line` is for Windows only"), "{only}");
    let open = on(System::Windows, "[services.a]\ncommand_line = '\"C:\\x'\n").unwrap_err();
    assert!(open.contains("never closed"), "{open}");
}

#[test]
fn one_variable_is_one_however_it_is_written() {
    let env = |system, text: &str| {
        let config = on(system, &format!("[services.a]\ncommand = 'a'\n{text}\n")).unwrap();
        config.services["a"].resolve(1, &context(system)).unwrap().env
    };
    assert_eq!(env(System::Windows, "")["PATH"], r"C:\Windows");
    let own = env(System::Windows, "env = { pAtH = 'D:\\', temp = 'T' }");
    assert_eq!((own["PATH"].as_str(), own["temp"].as_str()), (r"D:\", "T"));
    assert!(!own.contains_key("TEMP") && !own.contains_key("Path"));
    let clear = env(System::Windows, "clear_env = true");
    assert!(clear.contains_key("TEMP") && !clear.contains_key("Secret"), "{:?}", clear.keys());
    assert_eq!(env(System::Unix, "")["Path"], r"C:\Windows");
}

/// NTFS tells no case apart, and a device takes what is written to it and keeps nothing.
#[test]
fn files_of_logs_are_files_and_nobody_elses() {
    let codes = |system, text: &str| {
        let cx = context(system);
        let source = Source { path: "keepwell.toml".into(), text: text.to_owned() };
        let errors = load(&[source], &cx).err().unwrap_or_default();
        errors.0.iter().map(|d| d.code).collect::<Vec<_>>()
    };
    let services = |names: &[&str]| -> String {
        names.iter().map(|name| format!("[services.{name}]\ncommand = 'a'\n")).collect()
    };
    let web = services(&["web", "Web"]);
    assert_eq!(codes(System::Windows, &web), ["shared-log"]);
    assert_eq!(codes(System::Unix, &web), [""; 0]);
    let told = on(System::Windows, &web).unwrap_err();
    assert!(told.contains("differ in case alone"), "{told}");
    let written = "[services.a]\ncommand = 'a'\nlog = { file = 'logs/X.log' }\n\
                   [services.b]\ncommand = 'b'\nlog = { file = 'Logs/x.log' }\n";
    assert_eq!((codes(System::Windows, written), codes(System::Unix, written)), (vec!["shared-log"], vec![]));
    let devices = services(&["Aux", "com1", "nul", "console", "com10", "null"]);
    assert_eq!(codes(System::Windows, &devices), ["device-name"; 3]);
    assert_eq!(codes(System::Unix, &devices), [""; 0]);
}

#[test]
fn a_path_in_double_quotes_is_told_to_stand_in_single_ones() {
    for text in ["cwd = \"C:\\data\"", "cwd = \"C:\\users\""] {
        let told = on(System::Windows, &format!("[services.a]\ncommand = 'a'\n{text}\n")).unwrap_err();
        assert!(told.contains("in single quotes"), "{told}");
    }
}

#[test]
fn hooks_for_what_only_windows_tells_are_a_warning_elsewhere() {
    let text = "[services.a]\ncommand = 'a'\nhooks = { on_resume = 'x', on_session = ['y'] }\n";
    let unix = on(System::Unix, text).expect("it is no error").warnings;
    let told: Vec<&str> = unix.iter().map(|w| w.message.as_str()).collect();
    assert_eq!(
        told,
        [
            "`hooks.on_resume` of services.a has no effect on Linux",
            "`hooks.on_session` of services.a has no effect on Linux"
        ]
    );
    let windows = on(System::Windows, text).expect("it is right");
    assert!(windows.warnings.is_empty(), "{:?}", windows.warnings);
    assert!(windows.specs.services["a"].hooks.on_session.is_some());
}

#[test]
fn guards_that_see_nothing_here_are_told() {
    let text = "[services.a]\ncommand = \"x\"\nlimits = { memory = \"1GB\" }\n\
        guards = [{ when = \"pss > 1MB\" }, { when = \"gdi_objects > 1\" }, { when = \"memory > 1GB\" }]\n";
    let told = |system| {
        let config = on(system, text).expect("it is right");
        config.warnings.iter().map(|w| w.message.to_string()).collect::<Vec<_>>()
    };
    let limit = "a guard of services.a lets more memory pass than `limits.memory`";
    assert_eq!(told(System::Unix), ["a guard of services.a on `gdi_objects` has no effect", limit]);
    assert_eq!(told(System::Windows), ["a guard of services.a on `pss` has no effect", limit]);
}

#[test]
fn a_limit_on_tasks_counts_threads_on_linux_and_processes_on_windows() {
    let text = "[services.a]\ncommand = \"x\"\nlimits = { tasks = 50 }\n\
        guards = [{ when = \"threads > 50\" }, { when = \"processes > 50\" }, { when = \"threads > 49\" }]\n";
    for (system, figure) in [(System::Unix, Figure::Threads), (System::Windows, Figure::Processes)] {
        let config = on(system, text).expect("it is right");
        assert_eq!(config.specs.services["a"].ceilings, [(figure, 50)]);
        let told: Vec<&str> = config.warnings.iter().map(|w| w.message.as_str()).collect();
        let name = if system == System::Unix { "threads" } else { "processes" };
        assert_eq!(told, [format!("a guard of services.a lets more {name} pass than `limits.tasks`")]);
    }
}

#[test]
fn a_guardian_of_low_overhead_samples_slower_unless_told_otherwise() {
    let every = |keepwell: &str| {
        let config = on(System::Unix, &format!("[keepwell]\n{keepwell}\n[services.a]\ncommand = \"x\"\n"))
            .expect("it is right");
        assert_eq!(config.guardian.sample_every, config.specs.sample_every);
        config.specs.sample_every.as_secs()
    };
    assert_eq!(every(""), 5);
    assert_eq!(every("profile = \"low-overhead\""), 15);
    assert_eq!(every("profile = \"low-overhead\"\nsample_every = \"2s\""), 2);
}
