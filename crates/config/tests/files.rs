//! Reading files: the configuration's own and `env_file`.

use std::fs;
use std::path::{MAIN_SEPARATOR_STR, Path};

use keepwell_config::{Account, Context, Diagnostics, Host, load, read_sources};

fn context(base: &Path) -> Context {
    let env =
        [("PATH".to_owned(), base.join("bin").display().to_string()), ("LANG".to_owned(), "C".to_owned())];
    Context {
        base: base.to_path_buf(),
        state_dir: base.join(".keepwell"),
        env: env.into(),
        ..Context::default()
    }
}

/// As on every system.
fn shown(errors: &Diagnostics, folder: &Path) -> String {
    with_slashes(&errors.render(false, false).replace(&folder.display().to_string(), "DIR"))
}

fn with_slashes(text: &str) -> String {
    text.replace(MAIN_SEPARATOR_STR, "/")
}

#[test]
fn the_folder_beside_the_file_is_read_in_the_order_of_names() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keepwell.toml");
    fs::write(&file, "\u{feff}[services.a]\r\ncommand = \"x\"\r\n").unwrap();
    assert_eq!(read_sources(&file).unwrap().len(), 1);
    let d = dir.path().join("keepwell.d");
    fs::create_dir(&d).unwrap();
    for name in ["20-b.toml", "10-c.toml", ".hidden.toml", "x.toml~", "readme.md"] {
        fs::write(
            d.join(name),
            format!("[services.s{}]\ncommand = \"x\"\n", &name[..2].replace(['.', 'x'], "")),
        )
        .unwrap();
    }
    let sources = read_sources(&file).unwrap();
    let name = |path: &Path| with_slashes(path.strip_prefix(dir.path()).unwrap().to_str().unwrap());
    let names: Vec<_> = sources.iter().map(|s| name(&s.path)).collect();
    assert_eq!(names, ["keepwell.toml", "keepwell.d/10-c.toml", "keepwell.d/20-b.toml"]);
    let config = load(&sources, &context(dir.path())).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.services.len(), 3);
}

#[test]
fn files_that_cannot_be_read_are_told_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path().join("keepwell.d");
    fs::create_dir(&d).unwrap();
    fs::write(d.join("a.toml"), b"a = 1\nb = \"\xff\"\n").unwrap();
    fs::write(d.join("b.toml"), b"\xff\xfea\0").unwrap();
    fs::create_dir(d.join("c.toml")).unwrap();
    fs::File::create(d.join("d.toml")).unwrap().set_len(keepwell_config::MAX_FILE + 1).unwrap();
    let errors = read_sources(&dir.path().join("keepwell.toml")).unwrap_err();
    insta::assert_snapshot!(shown(&errors, dir.path()));
}

#[test]
fn lines_of_an_env_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keepwell.toml");
    let text = "[services.a]\ncommand = \"x\"\nenv_file = \"${service}.env\"\nenv = { B = \"own\", PATH = \"/x:${PATH}\", E = \"${E}!\" }\n";
    fs::write(&file, text).unwrap();
    let lines = "# comment\n\nA=1\nB=2\nexport C = two words \nD=\"a\\nb\\\"c\" \nE='$x \\n'\nF=\n";
    fs::write(dir.path().join("a.env"), lines).unwrap();
    let cx = context(dir.path());
    let config = load(&read_sources(&file).unwrap(), &cx).unwrap_or_else(|e| panic!("{e}"));
    let env = config.services["a"].resolve(1, &cx).unwrap().env;
    let of = |n: &str| env.get(n).map(String::as_str);
    assert_eq!((of("A"), of("B"), of("C")), (Some("1"), Some("own"), Some("two words")));
    assert_eq!((of("D"), of("E"), of("F")), (Some("a\nb\"c"), Some("$x \\n!"), Some("")));
    assert_eq!(of("PATH").map(ToOwned::to_owned), Some(format!("/x:{}", dir.path().join("bin").display())));
}

#[test]
fn an_env_file_that_is_wrong_names_its_line_and_no_value() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keepwell.toml");
    fs::write(&file, "[services.a]\ncommand = \"x\"\nenv_file = \"a.env\"\n").unwrap();
    let cx = context(dir.path());
    let config = load(&read_sources(&file).unwrap(), &cx).unwrap();
    let mut all = String::new();
    let contents: [&[u8]; 6] = [
        b"A=1\ns3cret\n",
        b"A=\"s3cret\n",
        b"KEEPWELL_X=s3cret\n",
        b"A B=s3cret\n",
        b"A=\xff",
        b"A=s3\0cret",
    ];
    let mut tell = || {
        let d = config.services["a"].resolve(1, &cx).unwrap_err();
        all += &shown(&Diagnostics(vec![d]), dir.path());
    };
    tell();
    for content in contents {
        fs::write(dir.path().join("a.env"), content).unwrap();
        tell();
    }
    assert!(!all.contains("s3cret"));
    insta::assert_snapshot!(all);
}

#[test]
fn what_only_the_host_knows() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keepwell.toml");
    let text = "[services.a]\ncommand = \"server --now\"\n\n[services.b]\ncommand = [\"./bin/b\"]\n\n[services.c]\ncommand = \"there\"\n\n[services.d]\ncommand = \"x\"\nenv_file = \"absent.env\"\n\n[services.e]\ncommand = \"there\"\nuser = \"nobody-here\"\nhooks = { pre_start = \"./prepare\" }\nready = { exec = \"probe\" }\n\n[services.f]\ncommand = \"there\"\ncwd = \"absent\"\n";
    fs::write(&file, text).unwrap();
    let cx = context(dir.path());
    let sources = read_sources(&file).unwrap();
    let config = load(&sources, &cx).unwrap();
    let found = Diagnostics(config.check_host(&sources, &cx, &mut There));
    insta::assert_snapshot!(shown(&found, dir.path()));
}

/// A host with files named `there`, and no users.
struct There;

impl Host for There {
    fn program(&mut self, path: &Path) -> Result<(), String> {
        if path.ends_with("there") { Ok(()) } else { Err("there is no such file".to_owned()) }
    }
    fn folder(&mut self, path: &Path) -> Result<(), String> {
        if path.ends_with("absent") { Err("there is no such folder".to_owned()) } else { Ok(()) }
    }
    fn accounts(&mut self, user: Option<&Account>, _group: Option<&Account>) -> Result<(), String> {
        match user {
            Some(Account::Name(name)) => Err(format!("there is no user `{name}` on this host")),
            Some(Account::Id(_)) | None => Ok(()),
        }
    }
}

#[test]
fn a_port_in_use_is_a_warning_at_the_check_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keepwell.toml");
    let text = r#"
[services.web]
command = "x"
instances = 3
ready = { http = "http://localhost:808${instance}/" }
[services.db]
command = "x"
ready = { tcp = "[::1]:5432" }
[services.off]
command = "x"
enabled = false
ready = { tcp = "127.0.0.1:5432" }
[services.plain]
command = "x"
"#;
    fs::write(&file, text).unwrap();
    let (sources, cx) = (read_sources(&file).unwrap(), context(dir.path()));
    let config = load(&sources, &cx).unwrap_or_else(|e| panic!("{e}"));
    let mut asked = Vec::new();
    let found = config.check_ports(&sources, &cx, &mut |service, host, port| {
        asked.push(format!("{service} {host} {port}"));
        (port == 8082).then(|| "nginx (pid 812)".to_owned())
    });
    let all = ["db ::1 5432", "web localhost 8081", "web localhost 8082", "web localhost 8083"];
    assert_eq!(asked, all);
    insta::assert_snapshot!(shown(&Diagnostics(found), dir.path()));
}
