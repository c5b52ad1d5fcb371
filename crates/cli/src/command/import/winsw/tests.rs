use super::super::tests::{loaded, notes_of};
use super::*;

fn small(more: &str) -> Result<Draft, Wrong> {
    draft(&format!("<service>\n<id>a</id>\n<executable>a.exe</executable>\n{more}</service>"), r"C:\srv", "a")
}

#[test]
fn all_of_version_2_is_carried_over_or_told() {
    let draft = draft(include_str!("../testdata/winsw-2.xml"), r"C:\jenkins", "jenkins").unwrap();
    let toml = draft.toml(r"C:\jenkins\keepwell.toml");
    assert!(!toml.contains("hunter2"), "{toml}");
    insta::assert_snapshot!(toml);
    loaded(&draft);
}

#[test]
fn all_of_version_3_is_carried_over_or_told() {
    let draft = draft(include_str!("../testdata/winsw-3.xml"), r"C:\tomcat", "tomcat").unwrap();
    insta::assert_snapshot!(draft.toml(r"C:\tomcat\keepwell.toml"));
    loaded(&draft);
}

#[test]
fn little_is_enough() {
    let draft = small("").unwrap();
    assert!(draft.notes.is_empty(), "{:?}", draft.notes);
    insta::assert_snapshot!(draft.toml("keepwell.toml"), @r#"
    # What WinSW was told of the service `a`. This registers it:
    #   keepwell service install --name a --config keepwell.toml --account system

    [services.a]
    command = ["a.exe"]
    cwd = 'C:\srv'
    restart = { policy = "never" }
    stop = [{ signal = "INT", wait = "15s", to = "main" }, { signal = "CLOSE", wait = "15s", to = "tree" }]
    log = { file = 'C:\srv\a.out.log', stderr_file = 'C:\srv\a.err.log' }
    "#);
    loaded(&draft);
}

#[test]
fn each_element_leaves_a_trace() {
    let before = small("").unwrap().toml("keepwell.toml");
    for name in super::rest::KNOWN {
        let element = match name {
            // Those of `small`, and what changes nothing.
            "id" | "executable" => continue,
            "env" => "<env name=\"A\" value=\"1\"/>".to_owned(),
            "onfailure" => "<onfailure action=\"restart\" delay=\"1 sec\"/>".to_owned(),
            "prestart" | "poststart" | "prestop" | "poststop" => {
                format!("<{name}><executable>x</executable></{name}>")
            }
            "log" => "<log mode=\"reset\"/>".to_owned(),
            "logmode" => "<logmode>reset</logmode>".to_owned(),
            "priority" => "<priority>idle</priority>".to_owned(),
            "startmode" => "<startmode>Manual</startmode>".to_owned(),
            "preshutdown" | "preshutdownTimeout" => {
                "<preshutdown>true</preshutdown><preshutdownTimeout>1 min</preshutdownTimeout>".to_owned()
            }
            "serviceaccount" => {
                "<serviceaccount><username>LocalService</username></serviceaccount>".to_owned()
            }
            "stoptimeout" | "resetfailure" | "waithint" | "sleeptime" => format!("<{name}>1 min</{name}>"),
            "delayedAutoStart"
            | "stopparentprocessfirst"
            | "outfiledisabled"
            | "errfiledisabled"
            | "hidewindow"
            | "autoRefresh" => format!("<{name}>true</{name}>"),
            _ => format!("<{name}>x</{name}>"),
        };
        let after = small(&element).unwrap_or_else(|w| panic!("{name}: {}", w.why));
        loaded(&after);
        assert_ne!(before, after.toml("keepwell.toml"), "{name}");
    }
}

#[test]
fn times_are_those_of_winsw() {
    let all = ["15 sec", "1min", "2 hours", "1 day", "100", "5 ms", "x", "1 week"].map(milliseconds);
    let known =
        [Some(15_000), Some(60_000), Some(7_200_000), Some(86_400_000), Some(100), Some(5), None, None];
    assert_eq!(all, known);
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (more, line, why) in [
        ("<stoptimeout>soon</stoptimeout>", 4, "<stoptimeout> is a number"),
        ("<onfailure/>", 4, "no action"),
        ("\n<onfailure action=\"explode\"/>", 5, "`explode`"),
        ("<env value=\"x\"/>", 4, "no name"),
        ("<env name=\"x\"/>", 4, "no value"),
        ("<startmode>later</startmode>", 4, "`later`"),
        ("<hidewindow>maybe</hidewindow><delayedAutoStart>maybe</delayedAutoStart>", 4, "true or false"),
        ("<log mode=\"loud\"/>", 4, "`loud`"),
        ("<log mode=\"roll-by-size\">\n<sizeThreshold>x</sizeThreshold></log>", 5, "is a number"),
    ] {
        let wrong = small(more).unwrap_err();
        assert_eq!(wrong.line, line, "{more}: {}", wrong.why);
        assert!(wrong.why.contains(why), "{more}: {}", wrong.why);
    }
    for (text, line, why) in [
        ("<a", 1, "no XML"),
        ("<service>\n<a></b>\n</service>", 2, "no XML"),
        ("<project/>", 1, "<project>"),
        ("<service/>", 1, "<id>"),
        ("<service><id>a</id></service>", 1, "<executable>"),
    ] {
        let wrong = draft(text, "/", "x").unwrap_err();
        assert_eq!(wrong.line, line, "{text}: {}", wrong.why);
        assert!(wrong.why.contains(why), "{text}: {}", wrong.why);
    }
}

#[test]
fn failures_become_a_policy() {
    let with = |more: &str| {
        let draft = small(more).unwrap();
        let restart: Vec<String> = draft.restart.iter().map(|(k, v)| format!("{k} = {v}")).collect();
        (restart.join(", "), notes_of(&draft))
    };
    assert_eq!(with(""), ("policy = \"never\"".into(), vec![]));
    assert_eq!(with("<onfailure action=\"restart\"/>").0, "policy = \"on-failure\", delay = \"0s\"");
    let list =
        "<onfailure action=\"restart\" delay=\"1 sec\"/><onfailure action=\"restart\" delay=\"1 min\"/>";
    assert_eq!(with(list).0, "policy = \"on-failure\", delay = \"1s\", max_delay = \"60s\"");
    assert_eq!(with("<onfailure action=\"reboot\"/>").1, ["onfailure action=\"reboot\""]);
}
