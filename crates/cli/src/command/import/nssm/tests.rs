use super::super::reg::{self, Keys};
use super::super::tests::{loaded, notes_of};
use super::*;

fn keys(text: &str) -> Keys {
    reg::parse(text).unwrap()
}

#[test]
fn all_of_nssm_is_carried_over_or_told() {
    let text = include_str!("../testdata/nssm-all.reg");
    let keys = keys(text);
    assert_eq!(services(&keys), ["Web Shop"]);
    let draft = draft(&keys, "web shop").unwrap();
    let toml = draft.toml(r"C:\srv\shop\keepwell.toml");
    assert!(!toml.contains("hunter2"), "{toml}");
    insta::assert_snapshot!(toml);
    let service = &loaded(&draft).specs.services["Web-Shop"];
    assert_eq!(service.stop.len(), 2);
    assert_eq!(service.stop[0].wait.as_secs(), 10);
    assert_eq!(service.stop[1].wait.as_millis(), 1500);
}

#[test]
fn each_parameter_leaves_a_trace() {
    let names = super::rest::KNOWN.iter().filter(|n| !matches!(**n, "" | "appexit" | "appevents"));
    // These say more of others, which leave one.
    let silent = ["approtateonline", "approtatedelay", "approtatebyteshigh", "appstdincreationdisposition"];
    let bare =
        "Windows Registry Editor Version 5.00\n[HKLM\\a\\Parameters]\n\"Application\"=\"C:\\\\x\\\\a.exe\"\n";
    let before = draft(&keys(bare), "a").unwrap().toml("keepwell.toml");
    for name in names.filter(|n| !silent.contains(n)) {
        let value = match *name {
            "application" | "appdirectory" | "appparameters" | "appstdin" | "appstdout" | "appstderr" => {
                "\"D:\\\\y\""
            }
            "appaffinity" => "\"0-1\"",
            "appenvironment" | "appenvironmentextra" => "hex(7):41,00,3d,00,31,00,00,00,00,00",
            "appkillprocesstree" => "dword:0",
            "apppriority" => "dword:40",
            "approtatebytes" => "dword:100000\n\"AppRotateFiles\"=dword:1",
            "approtatefiles" => "dword:1\n\"AppStdout\"=\"D:\\\\y\"",
            // Adding to a file is what keepwell does, too.
            name if name.ends_with("creationdisposition") => "dword:2",
            _ => "dword:8",
        };
        let after = draft(&keys(&format!("{bare}\"{name}\"={value}\n")), "a").unwrap().toml("keepwell.toml");
        assert_ne!(before, after, "{name}");
    }
}

#[test]
fn one_of_several_is_chosen() {
    let keys = keys(include_str!("../testdata/nssm-two.reg"));
    assert_eq!(services(&keys), ["alpha", "Beta.2"]);
    let alpha = draft(&keys, "ALPHA").unwrap();
    loaded(&alpha);
    assert!(alpha.notes.is_empty(), "{:?}", alpha.notes);
    insta::assert_snapshot!(alpha.toml("keepwell.toml"));
    let beta = draft(&keys, "Beta.2").unwrap();
    let service = &loaded(&beta).specs.services["Beta.2"];
    assert!(service.stop.is_empty(), "every method was skipped");
    insta::assert_snapshot!(beta.toml("keepwell.toml"));
    assert!(draft(&keys, "Tcpip").is_err() && draft(&keys, "gamma").is_err());
}

#[test]
fn what_a_wide_file_says_is_the_same() {
    let text = include_str!("../testdata/nssm-two.reg").replace('\n', "\r\n");
    let wide: Vec<u8> =
        [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    assert_eq!(keys(&reg::text(&wide)), keys(include_str!("../testdata/nssm-two.reg")));
}

#[test]
fn exit_codes_become_a_policy() {
    let with = |exits: &str| {
        let text = format!(
            "Windows Registry Editor Version 5.00\n[HKLM\\a\\Parameters]\n\"Application\"=\"a.exe\"\n[HKLM\\a\\Parameters\\AppExit]\n{exits}\n"
        );
        let draft = draft(&keys(&text), "a").unwrap();
        loaded(&draft);
        let restart: Vec<String> = draft.restart.iter().map(|(k, v)| format!("{k} = {v}")).collect();
        (restart.join(", "), notes_of(&draft))
    };
    assert_eq!(with("").0, "policy = \"always\"");
    assert_eq!(with("@=\"Restart\"\n\"7\"=\"restart\""), ("policy = \"always\"".into(), vec![]));
    let some = "policy = \"on-failure\", exit_codes = { success = [0, 3] }";
    assert_eq!(with("\"3\"=\"Exit\"\n\"0\"=\"Exit\""), (some.into(), vec![]));
    assert_eq!(with("@=\"Exit\""), ("policy = \"never\"".into(), vec![]));
    assert_eq!(with("@=\"Ignore\"").1, ["AppExit = Ignore"]);
    assert_eq!(with("@=\"Exit\"\n\"1\"=\"Restart\"").1, ["AppExit"]);
    assert_eq!(with("\"3221225786\"=\"Exit\"").1, ["AppExit 3221225786"]);
}

#[test]
fn names_may_have_any_letters() {
    let text = "Windows Registry Editor Version 5.00\n[HKLM\\İİ größe\\Parameters]\n\"Application\"=\"C:\\\\ä\\\\ö.exe\"\n\"ÜX\"=\"1\"\n[HKLM\\İİ größe\\Parameters\\Mİ\\Nß]\n";
    let keys = keys(text);
    assert_eq!(services(&keys), ["İİ größe"]);
    let draft = draft(&keys, "İİ größe").unwrap();
    assert_eq!(notes_of(&draft), ["ÜX", r"Parameters\Mİ\Nß"]);
    loaded(&draft);
}
