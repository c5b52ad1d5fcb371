//! `keepwell service` and the accounts of services, as far as Wine knows accounts: it keeps of an access list what the modes of
//! Unix can hold, and starts every service as the same user.

use std::fs;
use std::process::Command;
use std::time::Duration;

use keepwell_wine::{Answer, Prefix, Service, answer, child, needs_wine, windows_path};

fn cli(prefix: &Prefix, args: &[&str]) -> Answer {
    prefix.cli(&[&["service"], args].concat())
}

/// A program that nobody but its owner may use.
fn private_program(prefix: &Prefix) -> String {
    let program = prefix.path("private.exe");
    fs::copy(child(), &program).expect("own folder");
    let done = Command::new("chmod").arg("700").arg(&program).status();
    assert!(done.is_ok_and(|status| status.success()), "chmod 700 {}", program.display());
    windows_path(&program)
}

fn is_registered(prefix: &Prefix, name: &str) -> bool {
    prefix.run("reg", &["query", &format!(r"HKLM\System\CurrentControlSet\Services\{name}")]).code == 0
}

#[test]
fn a_program_that_the_account_may_not_run_is_found_before_anything_is_registered() {
    needs_wine!();
    let prefix = Prefix::new();
    let program = private_program(&prefix);
    let add = |more: &[&str]| cli(&prefix, &[&["add", "web"], more, &["--", &program, "hang"]].concat());
    add(&[]).with_code(1).says(&[r"the account NT SERVICE\web may not run ", "private.exe", "--grant"]);
    assert!(!is_registered(&prefix, "web"));
    assert!(!prefix.drive_c("ProgramData/keepwell/web/keepwell.toml").exists());
    add(&["--grant", "--now"]).good().says(&[r"NT SERVICE\web may run ", "the service web runs"]);
    let service = Service::known(&prefix, "web");
    service.stop();
    prefix.assert_nothing_left(Duration::ZERO);
}

#[test]
fn accounts_that_are_not_there_and_passwords_that_are_missing_are_named() {
    needs_wine!();
    let prefix = Prefix::new();
    let program = windows_path(child());
    let add = |more: &[&str]| {
        let mut command =
            prefix.keepwell(&[&["service", "add", "web"], more, &["--", &program, "hang"]].concat());
        command.env("SHOP_SECRET", "s3cret w0rd");
        answer(&mut command)
    };
    add(&["--account", "no such user"])
        .with_code(2)
        .says(&[r"the account .\no such user is not known to this host"]);
    add(&["--account", "virtual", "--password-env", "SHOP_SECRET"])
        .with_code(2)
        .says(&["no password of yours"]);
    add(&["--account", r".\root", "--password-env", "NO_SUCH"])
        .with_code(2)
        .says(&["NO_SUCH holds no password"]);
    // Under Wine there is one user, whose rights in the policy nobody keeps: it lacks this one always.
    let root = ["--account", r".\root", "--start", "demand"];
    let with = |more: &[&str]| add(&[&root[..], more].concat());
    with(&[]).with_code(1).says(&[r"the account .\root may not log on as a service", "--grant"]);
    with(&["--grant"]).with_code(2).says(&["--password-file FILE or --password-env VARIABLE"]);
    assert!(!is_registered(&prefix, "web"));
    with(&["--grant", "--password-env", "SHOP_SECRET"]).good().says(&[r".\root may log on as a service now"]);
    let key = r"HKLM\System\CurrentControlSet\Services\web";
    let shown = prefix.run("reg", &["query", key, "/s"]).good();
    assert!(shown.out.contains(r".\root") && !shown.out.contains("s3cret"), "{}", shown.out);
    let folder = prefix.drive_c("ProgramData/keepwell/web");
    let texts =
        fs::read_dir(&folder).expect("it is there").flatten().map(|e| fs::read(e.path()).unwrap_or_default());
    assert!(texts.into_iter().all(|t| !String::from_utf8_lossy(&t).contains("s3cret")));
    cli(&prefix, &["show", "web"]).good().says(&[r".\root"]);
    assert!(!cli(&prefix, &["show", "web"]).all().contains("s3cret"));
}
