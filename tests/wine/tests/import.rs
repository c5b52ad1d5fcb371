//! `keepwell import nssm` on keys that `reg` has written, and the service that runs from what came out.

use keepwell_wine::{Prefix, Service, child, needs_wine, read_lossy, wait_some, windows_path};

/// As `nssm install` and `nssm set` leave them.
fn nssm(prefix: &Prefix, name: &str, values: &[(&str, &str, &str)]) {
    prefix.run("sc", &["create", name, "binPath=", r"C:\tools\nssm.exe", "start=", "demand"]).good();
    let parameters = format!(r"HKLM\SYSTEM\CurrentControlSet\Services\{name}\Parameters");
    for (value, kind, data) in values {
        let (key, value) = match value.rsplit_once('\\') {
            Some((below, value)) => (format!(r"{parameters}\{below}"), value),
            None => (parameters.clone(), *value),
        };
        prefix.run("reg", &["add", &key, "/v", value, "/t", kind, "/d", data, "/f"]).good();
    }
}

#[test]
fn a_service_of_nssms_is_read_from_the_registry_and_runs_from_what_came_out() {
    needs_wine!();
    let prefix = Prefix::with_work("my shop");
    let program = windows_path(child());
    let folder = windows_path(prefix.work());
    nssm(
        &prefix,
        "web shop",
        &[
            ("Application", "REG_EXPAND_SZ", &program),
            ("AppParameters", "REG_EXPAND_SZ", r#"print-args "a b" %SHOP_DATA%\x $5"#),
            ("AppDirectory", "REG_EXPAND_SZ", &folder),
            ("AppEnvironmentExtra", "REG_MULTI_SZ", r"SHOP_DATA=D:\data\0DB_PASSWORD=hunter2"),
            ("AppStdout", "REG_EXPAND_SZ", "shop.log"),
            ("AppThrottle", "REG_DWORD", "5000"),
            ("AppStdin", "REG_EXPAND_SZ", r"C:\in.txt"),
            (r"AppExit\3", "REG_SZ", "Exit"),
        ],
    );
    let config = prefix.drive_c("kw/web shop/keepwell.toml");
    let told = prefix.cli(&["import", "nssm", "WEB SHOP", "-o", r"C:\kw\web shop\keepwell.toml"]).good();
    told.says(&["not carried over  AppStdin: a service has no input", "not carried over  DB_PASSWORD: "]);
    let command = told.err.lines().find_map(|l| l.trim().strip_prefix("keepwell service install "));
    let command = command.expect("the command is told");
    assert!(command.starts_with(r#"--name "web shop" --config "C:\kw\web shop\keepwell.toml""#), "{command}");
    let text = read_lossy(&config);
    assert!(!told.all().contains("hunter2") && !text.contains("hunter2"), "{text}");
    assert!(text.contains(command), "{text}");
    prefix.cli(&["import", "nssm", "web shop", "-o", r"C:\kw\web shop\keepwell.toml"]).with_code(1);

    // As the page on the change from NSSM has it: what was told is written, the old service goes, the new one comes.
    std::fs::write(prefix.drive_c("kw/web shop/secrets.env"), "DB_PASSWORD=other\n").unwrap();
    prefix.cli(&["check", r"C:\kw\web shop\keepwell.toml"]).good();
    prefix.run("sc", &["delete", "web shop"]).good();
    let words = ["--config", r"C:\kw\web shop\keepwell.toml", "--start", "demand", "--account", "system"];
    prefix.cli(&[&["service", "install", "--name", "web shop"], &words[..]].concat()).good();
    let service = Service::known(&prefix, "web shop");
    service.start();
    let log = wait_some("the arguments in the file that NSSM was told", || {
        Some(read_lossy(&prefix.path("shop.log"))).filter(|log| log.contains("end of arguments"))
    });
    for line in ["[a b]", r"[D:\data\x]", "[$5]", &format!("in {folder}")] {
        assert!(log.contains(line), "{line} in {log}");
    }
    service.stop();
}

#[test]
fn all_services_of_nssms_are_found_and_no_other() {
    needs_wine!();
    let prefix = Prefix::new();
    let program = windows_path(child());
    for name in ["alpha", "beta"] {
        nssm(&prefix, name, &[("Application", "REG_EXPAND_SZ", &program)]);
    }
    prefix.cli(&["import", "nssm", "--all", "-o", r"C:\kw"]).good().says(&[r"C:\kw\beta\keepwell.toml"]);
    for name in ["alpha", "beta"] {
        let text = read_lossy(&prefix.drive_c(&format!("kw/{name}/keepwell.toml")));
        assert!(text.contains(&format!("[services.{name}]")), "{text}");
    }
    assert_eq!(std::fs::read_dir(prefix.drive_c("kw")).unwrap().count(), 2);
    prefix.cli(&["import", "nssm", "Spooler"]).with_code(2).says(&["the service Spooler is none of NSSM's"]);
    prefix
        .cli(&["import", "nssm", "gamma"])
        .with_code(2)
        .says(&["no file gamma and no service of that name"]);

    // The same, by the file that `reg export` makes.
    prefix.run("reg", &["export", r"HKLM\SYSTEM\CurrentControlSet\Services\alpha", "alpha.reg", "/y"]).good();
    let from_file = prefix.cli(&["import", "nssm", "alpha.reg"]).good();
    assert_eq!(from_file.out, prefix.cli(&["import", "nssm", "alpha"]).good().out);
}
