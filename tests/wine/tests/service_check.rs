//! `keepwell service check`: keepwell's own services, and those that others have made, with `sc` as the other.

use std::fs;
use std::path::Path;
use std::process::Command;

use keepwell_wine::{Prefix, child, needs_wine, windows_path};

fn codes(prefix: &Prefix, name: &str) -> Vec<String> {
    let answer = prefix.cli(&["service", "check", name, "--json"]);
    let all = answer.json();
    let all = all.as_array().expect("an array");
    assert_eq!(answer.code, i32::from(!all.is_empty()));
    all.iter().map(|f| f["code"].as_str().expect("a word").to_owned()).collect()
}

/// Wine makes an access list of it.
fn chmod(mode: &str, path: &Path) {
    let done = Command::new("chmod").arg(mode).arg(path).status();
    assert!(done.is_ok_and(|status| status.success()), "chmod {mode} {}", path.display());
}

fn create(prefix: &Prefix, name: &str, more: &[&str]) {
    prefix.run("sc", &[&["create", name], more].concat()).good();
}

#[test]
fn services_of_others_are_looked_at() {
    needs_wine!();
    let prefix = Prefix::new();
    let folder = prefix.drive_c("my shop");
    fs::create_dir(&folder).unwrap();
    fs::copy(child(), folder.join("server.exe")).unwrap();

    // Wine keeps no recovery actions, so none are missed.
    create(&prefix, "plain", &["binPath=", r#""C:\my shop\server.exe" hang"#]);
    assert_eq!(codes(&prefix, "plain"), [""; 0]);

    create(&prefix, "bare", &["binPath=", r"C:\my shop\server.exe hang"]);
    let key = r"HKLM\SYSTEM\CurrentControlSet\Services\bare";
    let value = ["/v", "DependOnService", "/t", "REG_MULTI_SZ", "/d", r"Spooler\0no-such", "/f"];
    prefix.run("reg", &[&["add", key], &value[..]].concat()).good();
    assert_eq!(codes(&prefix, "bare"), ["path_not_quoted", "dependency_missing"]);
    let told = prefix.cli(&["service", "check", "bare"]).with_code(1);
    told.says(&[r"Windows tries C:\my.exe first", r#"binPath= "\"C:\my shop\server.exe\" hang""#]);
    create(&prefix, "gone", &["binPath=", r#""C:\my shop\gone.exe""#]);
    assert_eq!(codes(&prefix, "gone"), ["program_missing"]);

    create(&prefix, "told", &["binPath=", r#""C:\my shop\server.exe" hang --password=hunter2"#]);
    let told = prefix.cli(&["service", "check", "told"]).with_code(1);
    told.says(&["seems to hold a secret (--password)"]);
    assert!(!told.all().contains("hunter2"), "{}", told.all());

    // NSSM's: what counts is the program that it starts.
    create(&prefix, "nssm", &["binPath=", r#""C:\my shop\server.exe""#]);
    let parameters = r"HKLM\SYSTEM\CurrentControlSet\Services\nssm\Parameters";
    let value = ["/v", "Application", "/t", "REG_EXPAND_SZ", "/d", r"%SystemDrive%\my shop\other.exe", "/f"];
    prefix.run("reg", &[&["add", parameters], &value[..]].concat()).good();
    assert_eq!(codes(&prefix, "nssm"), ["program_missing"]);
    let told = prefix.cli(&["service", "check", "nssm"]).with_code(1);
    told.says(&[r"there is no program C:\my shop\other.exe"]);

    // Whom the folder's mode lets write is everybody in the list that Wine makes of it.
    chmod("777", &folder);
    let told = prefix.cli(&["service", "check", "plain"]).with_code(1);
    told.says(&[r"Everyone may put files into C:\my shop", "1 error, 0 warnings in 1 service"]);

    let all = prefix.cli(&["service", "check"]).with_code(1);
    all.says(&["plain", "bare", "gone", "nssm", " in 5 services"]);
    assert!(!all.out.contains("Spooler"), "Windows' own are not looked at:\n{}", all.out);
    prefix.cli(&["service", "check", "no-such"]).with_code(2).says(&["there is no service `no-such`"]);
}

#[test]
fn keepwells_own_are_looked_at_with_their_configuration() {
    needs_wine!();
    let prefix = Prefix::new();
    let config = prefix.drive_c("web/keepwell.toml");
    fs::create_dir(config.parent().unwrap()).unwrap();
    let write = |wait: &str| {
        let program = windows_path(child());
        let text = format!(
            "[services.web]\ncommand = ['{program}', 'hang']\nstop = [{{ signal = 'INT', wait = '{wait}' }}]\n"
        );
        fs::write(&config, text).unwrap();
    };
    write("5s");
    let install =
        ["service", "install", "--name", "web", "--config", r"C:\web\keepwell.toml", "--start", "demand"];
    prefix.cli(&install).good();
    assert_eq!(codes(&prefix, "web"), [""; 0]);
    prefix.cli(&["service", "check"]).good().says(&["1 service: nothing found"]);

    write("10m");
    assert_eq!(codes(&prefix, "web"), ["stop_timeout"]);
    prefix.cli(&install).good();
    assert_eq!(codes(&prefix, "web"), [""; 0]);

    chmod("666", &config);
    assert_eq!(codes(&prefix, "web"), ["file_open"]);
    fs::write(&config, "[services.web]\ncomand = 'x'\n").unwrap();
    chmod("644", &config);
    assert!(codes(&prefix, "web").contains(&"configuration".to_owned()));
}
