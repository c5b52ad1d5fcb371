//! Spaces, quotes and letters of all kinds, in paths, arguments, environment and output; batch files.

use keepwell_wine::{Guardian, Prefix, needs_wine, windows_path};

#[test]
fn arguments_arrive_as_they_were_written() {
    needs_wine!();
    let g = Guardian::up(
        r#"
        [services.a]
        command = ['CHILD', 'print-args', 'two words', 'a "quote"', 'back\', 'back\\" both', '', 'ünï 世界', '%PATH%', '&|<>^']
        "#,
    );
    let log = g.wait_log("a", "end of arguments");
    let all: Vec<_> = log.lines().take_while(|l| l.starts_with('[')).collect();
    assert_eq!(
        all,
        [
            "[two words]",
            "[a \"quote\"]",
            "[back\\]",
            "[back\\\\\" both]",
            "[]",
            "[ünï 世界]",
            "[%PATH%]",
            "[&|<>^]"
        ]
    );
    g.end();
}

#[test]
fn a_folder_may_have_any_name() {
    needs_wine!();
    let mut g = Guardian::on(
        Prefix::with_work("my wörk (x86) & 世界's"),
        "[services.'a']\ncommand = ['CHILD', 'print-args']\n[services.b]\ncommand = ['./a b.cmd']\n",
    );
    g.write("a b.cmd", "@CHILD say from-cmd\r\n");
    g.start(&["--quiet"]);
    g.wait_answering();
    let log = g.wait_log("a", "end of arguments");
    assert!(log.contains(&format!("in {}\n", windows_path(g.prefix().work()))), "{log}");
    g.wait_log("b", "from-cmd");
    g.cli(&["status"]).good();
    g.end();
}

#[test]
fn a_program_may_stand_in_a_folder_with_any_name() {
    needs_wine!();
    let g = Guardian::new("");
    g.write("child", "CHILD");
    let folder = g.path("Programme (x86) ü");
    std::fs::create_dir(&folder).expect("own folder");
    let from = g.read("child").trim_start_matches("Z:").to_owned();
    std::fs::copy(from, folder.join("my child.exe")).expect("own folder");
    g.write("keepwell.toml", "[services.a]\ncommand = ['Programme (x86) ü\\my child', 'say', 'here I am']\n");
    // A name with a backslash within double quotes of TOML would be an escape.
    g.write("keepwell.toml", &g.read("keepwell.toml").replace(r"ü\my", "ü/my"));
    g.cli(&["up", "--detach"]).good();
    g.wait_log("a", "here I am");
    g.cli(&["down"]).good();
}

#[test]
fn batch_files_run_with_their_arguments_and_their_exit_code() {
    needs_wine!();
    let g = Guardian::new(
        "[services.a]\ncommand = ['./script.cmd', 'two words', 'three']\nrestart = 'never'\n\
         [services.b]\ncommand = './other.bat'\n",
    );
    g.write("script.cmd", "@echo first %1\r\n@echo second %~2\r\n@exit 5\r\n");
    g.write("other.bat", "@echo batch\r\n@CHILD hang\r\n");
    let mut g = g;
    g.start(&["--quiet"]);
    g.wait_answering();
    let log = g.wait_log("a", "second three");
    assert!(log.contains("first \"two words\""), "{log}");
    g.wait_log("b", "batch");
    let all = g.wait_for("the end of a", |all| all.iter().any(|s| s.name == "a" && !s.exits.is_empty()));
    let a = all.iter().find(|s| s.name == "a").expect("it is configured");
    assert_eq!(a.exits[0].code, Some(5));
    g.end();
}

#[test]
fn the_environment_is_what_was_asked_for() {
    needs_wine!();
    let g = Guardian::up(
        "[services.a]\ncommand = 'CHILD print-env'\nenv = { COLOUR = 'blue ${service}', 'WÖRT' = 'ü' }\n",
    );
    let log = g.wait_log("a", "end of environment");
    for line in ["COLOUR=blue a", "KEEPWELL_SERVICE=a", "KEEPWELL_INSTANCE=1", "WÖRT=ü"] {
        assert!(log.lines().any(|l| l == line), "{line} is not in\n{log}");
    }
    assert!(log.contains("KEEPWELL_RUN="), "{log}");
    g.end();
}

#[test]
fn output_is_kept_byte_by_byte_and_shown_as_text() {
    needs_wine!();
    let g = Guardian::up("[services.a]\ncommand = 'CHILD encodings'\n");
    g.wait_log("a", "end of encodings");
    let bytes = std::fs::read(g.state("logs/a.log")).expect("the log is there");
    let mut expected = "Grüße, 世界\r\nGr".as_bytes().to_vec();
    expected.extend(b"\x81\xe1e\r\nw\0i\0d\0e\0\r\0\n\0end of encodings\r\n");
    assert_eq!(bytes, expected);
    g.cli(&["logs", "a"]).good().says(&["Grüße, 世界", "end of encodings"]);
    g.end();
}
