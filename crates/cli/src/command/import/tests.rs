use clap::{CommandFactory, Parser};

use super::draft::Draft;
use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    import: Import,
}

/// The configuration that came out.
pub(super) fn loaded(draft: &Draft) -> Config {
    meant(draft, &draft.toml("keepwell.toml")).unwrap_or_else(|f| panic!("{f}"))
}

pub(super) fn notes_of(draft: &Draft) -> Vec<String> {
    draft.notes.iter().map(|n| n.what.clone()).collect()
}

fn import(words: &[&str]) -> Result<i32> {
    Line::try_parse_from([&["import"], words].concat()).unwrap().import.run()
}

fn testdata(name: &str) -> String {
    format!("{}/src/command/import/testdata/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_file_is_written_and_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new/keepwell.toml");
    let (source, output) = (testdata("winsw-2.xml"), file.display().to_string());
    let words = ["winsw", &source, "--base", r"C:\jenkins", "-o", &output];
    assert_eq!(import(&words), Ok(exit::DONE));
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(&format!("--config {output}")) && text.contains(r"cwd = 'C:\jenkins'"), "{text}");
    fs::write(&file, "mine").unwrap();
    let refused = import(&words).unwrap_err();
    assert_eq!(refused.code, exit::FAILED);
    assert!(refused.text.contains("is there already"), "{refused}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    assert_eq!(import(&[&words[..], &["--force"]].concat()), Ok(exit::DONE));
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn all_services_of_a_file_have_a_folder_each() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().display().to_string();
    assert_eq!(import(&["nssm", &testdata("nssm-two.reg"), "--all", "-o", &output]), Ok(exit::DONE));
    for name in ["alpha", "Beta.2"] {
        let text = fs::read_to_string(folder.path().join(name).join("keepwell.toml")).unwrap();
        assert!(text.contains("[services."), "{text}");
    }
    // One that cannot be written changes nothing of the others' files.
    fs::remove_file(folder.path().join("alpha/keepwell.toml")).unwrap();
    assert!(import(&["nssm", &testdata("nssm-two.reg"), "--all", "-o", &output]).is_err());
    assert!(!folder.path().join("alpha/keepwell.toml").exists());
}

#[test]
fn what_cannot_be_read_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let reg = file("bad.reg", "Windows Registry Editor Version 5.00\n\n[a]\nb\n");
    let xml =
        file("bad.xml", "<service>\n  <id>a</id>\n  <executable>a</executable>\n  <env/>\n</service>\n");
    let none = file("none.reg", "Windows Registry Editor Version 5.00\n\n[a]\n");
    let two = testdata("nssm-two.reg");
    let missing = fs::read("no-such.xml").unwrap_err();
    let missing = format!("no-such.xml cannot be read: {}", keepwell_os::in_words(&missing));
    for (words, code, text) in [
        (vec!["nssm", &reg], exit::USAGE, format!("{reg}:4: it is neither")),
        (vec!["winsw", &xml], exit::USAGE, format!("{xml}:4: <env> has no name")),
        (vec!["nssm", &none], exit::USAGE, "none of NSSM's".into()),
        (vec!["nssm", &two], exit::USAGE, "holds 2 services".into()),
        (vec!["nssm", &two, "--name", "gamma"], exit::USAGE, "no service `gamma`".into()),
        (vec!["winsw", "no-such.xml"], exit::USAGE, missing),
    ] {
        let failure = import(&words).unwrap_err();
        assert_eq!(failure.code, code, "{failure}");
        assert!(failure.text.contains(&text), "{text} in {failure}");
    }
}

#[test]
fn one_line_is_told_of_each_thing() {
    let keys = reg::parse(include_str!("testdata/nssm-all.reg")).unwrap();
    let draft = nssm::draft(&keys, "Web Shop").unwrap();
    assert!(draft.notes.iter().all(|n| !n.told().contains('\n')));
    let told: Vec<String> = draft.notes.iter().map(draft::Note::told).collect();
    assert!(!told.concat().contains("hunter2") && !told.concat().contains("abc123"), "{told:#?}");
}

#[test]
fn the_help_is_a_page_and_each_option_is_in_the_manual() {
    let manual = include_str!("../../../../../docs/cli.md");
    let (_, manual) = manual.split_once("## Importing").unwrap();
    for from in Line::command().get_subcommands_mut() {
        for option in from.get_arguments().filter_map(|a| a.get_long()) {
            let (plain, valued) = (format!("`--{option}`"), format!("`--{option} "));
            assert!(manual.contains(&plain) || manual.contains(&valued), "docs/cli.md lacks --{option}");
        }
        insta::assert_snapshot!(from.get_name().to_owned(), from.render_long_help());
    }
}
