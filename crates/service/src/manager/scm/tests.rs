//! Against the SCM of this host, which is Wine's where the tests run. Each service that is made has a name of its own and
//! is taken away again.

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::*;
use crate::manager::{Account, ErrorControl, Recovery, RecoveryAction, RecoveryKind, StartMode};
use crate::state::State;

const TIMEOUT: Duration = Duration::from_secs(30);

fn manager() -> Manager {
    Manager::connect(ManagerAccess::Change).unwrap()
}

fn definition(name: &str) -> ServiceDefinition {
    ServiceDefinition {
        display_name: format!("{name} & söhne"),
        description: "Says \"hällo\" 🦀".into(),
        arguments: vec!["internal".into(), "a b".into(), r#"c:\x\"y" "#.into(), String::new()],
        ..ServiceDefinition::new(name, r"C:\Program Files\keep well\keepwell.exe")
    }
}

/// Wine's client of the SCM answers "invalid handle" now and then when two threads ask at once.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whatever a test makes goes with it.
struct Gone(&'static str);

impl Drop for Gone {
    fn drop(&mut self) {
        if let Ok(service) = manager().open(self.0, Access::Full) {
            let _ = service.delete();
        }
    }
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn registry(name: &str, value: &str) -> String {
    let key = format!(r"HKLM\System\CurrentControlSet\Services\{name}");
    said("reg", &["query", &key, "/v", value])
}

#[test]
fn what_is_made_is_read_back() {
    let name = "kw-made";
    let (_alone, _gone) = (alone(), Gone(name));
    let mut wanted = definition(name);
    wanted.depends_on = vec!["Eventlog".into(), "PlugPlay".into()];
    wanted.error_control = ErrorControl::Severe;
    wanted.start = StartMode::Demand;
    wanted.account = Account::LocalService;
    wanted.stop_timeout = Duration::from_secs(77);
    let (service, unsupported) = manager().create(&wanted).unwrap();
    let (found, unknown) = service.read().unwrap();
    let differences = differences(&found, &wanted);
    // Wine keeps the dependencies and does not give them back.
    let known: Vec<_> = differences
        .iter()
        .filter(|c| c.what != "dependencies" && !unknown.contains(&c.what.as_str()))
        .collect();
    assert!(known.is_empty(), "{known:?}, without {unknown:?} and {unsupported:?}");
    assert_eq!(found.arguments, wanted.arguments);
    assert!(
        registry(name, "DependOnService").contains(r"Eventlog\0PlugPlay"),
        "{}",
        registry(name, "DependOnService")
    );
    assert_eq!(service.status().unwrap().state, State::Stopped);
    assert!(matches!(manager().create(&wanted), Err(Error::Exists(_))));
}

#[test]
fn others_see_what_was_made() {
    let name = "kw-seen";
    let (_alone, _gone) = (alone(), Gone(name));
    manager().create(&definition(name)).unwrap();
    let image = registry(name, "ImagePath");
    assert!(image.contains(r#""C:\Program Files\keep well\keepwell.exe" internal "a b""#), "{image}");
    assert!(registry(name, "ObjectName").contains(&format!(r"NT SERVICE\{name}")));
    assert!(registry(name, "Start").contains("0x2"));
    assert!(said("sc", &["query", name]).contains("STOPPED"), "{}", said("sc", &["query", name]));
}

#[test]
fn installing_again_changes_what_differs_and_nothing_else() {
    let name = "kw-twice";
    let (_alone, _gone) = (alone(), Gone(name));
    let first = definition(name);
    assert!(manager().install(&first).unwrap().created);
    let again = manager().install(&first).unwrap();
    assert!(!again.created && again.changes.is_empty(), "{again:?}");
    let mut second = definition(name);
    second.start = StartMode::Demand;
    second.description = "Another".into();
    second.recovery = Recovery {
        actions: vec![RecoveryAction { kind: RecoveryKind::Restart, delay: Duration::from_secs(1) }],
        ..Recovery::default()
    };
    // Held open meanwhile, as by a window that shows services.
    let held = manager().open(name, Access::Look).unwrap();
    let changed = manager().install(&second).unwrap();
    let what: Vec<&str> = changed.changes.iter().map(|c| c.what.as_str()).collect();
    assert!(what.contains(&"description") && what.contains(&"start"), "{what:?}");
    let (found, _) = held.read().unwrap();
    assert_eq!((found.start, found.description.as_str()), (StartMode::Demand, "Another"));
}

#[test]
fn what_is_not_there_is_named() {
    let _alone = alone();
    let open = manager().open("kw-none", Access::Look).err().unwrap();
    assert_eq!(open.to_string(), "there is no service `kw-none` on this host");
    assert!(matches!(manager().remove("kw-none", TIMEOUT), Err(Error::NoSuchService(_))));
}

#[test]
fn one_that_is_removed_is_really_gone_and_its_name_free() {
    let name = "kw-removed";
    let (_alone, _gone) = (alone(), Gone(name));
    for _ in 0..3 {
        manager().install(&definition(name)).unwrap();
        manager().remove(name, TIMEOUT).unwrap();
        assert!(matches!(manager().open(name, Access::Look), Err(Error::NoSuchService(_))));
    }
}

#[test]
fn the_list_has_what_was_made() {
    let name = "kw-listed";
    let (_alone, _gone) = (alone(), Gone(name));
    manager().install(&definition(name)).unwrap();
    let list = manager().list().unwrap();
    let entry = list.iter().find(|e| e.name == name).unwrap();
    assert_eq!(entry.display_name, format!("{name} & söhne"));
    assert!(list.len() > 1, "the host has services of its own");
}

#[test]
fn a_service_of_the_host_is_started_and_stopped() {
    let _alone = alone();
    // One that every Windows has and Wine, too, and that nobody needs here.
    let service = manager().open("Spooler", Access::Drive).unwrap();
    service.stop(TIMEOUT).unwrap();
    assert_eq!(service.status().unwrap().state, State::Stopped);
    assert!(matches!(service.control(Control::Interrogate), Err(Error::DoesNotRun(_))));
    let status = service.start(&[], TIMEOUT).unwrap();
    assert_eq!(status.state, State::Running);
    assert!(status.pid.is_some());
    assert!(matches!(service.begin_start(&[]), Err(Error::RunsAlready(_))));
    let late = service.wait_for(State::Paused, Duration::from_millis(200)).unwrap_err();
    assert!(matches!(late, Error::TimedOut { state: State::Running, .. }), "{late}");
    assert_eq!(service.stop(TIMEOUT).unwrap().state, State::Stopped);
    assert_eq!(service.stop(TIMEOUT).unwrap().state, State::Stopped);
}

#[test]
fn a_program_that_is_not_there_cannot_be_started() {
    let name = "kw-missing";
    let (_alone, _gone) = (alone(), Gone(name));
    manager().install(&definition(name)).unwrap();
    let error = manager().open(name, Access::Drive).unwrap().start(&[], TIMEOUT).unwrap_err();
    assert!(matches!(error, Error::System { .. }), "{error}");
}
