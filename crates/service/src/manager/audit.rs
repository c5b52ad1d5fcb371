//! What is wrong with how a service is registered, of anybody's services: paths that lead elsewhere, programs that others may
//! change, nothing that helps when it fails. Looks, and never changes anything.

use std::path::{Path, PathBuf};

use super::definition::{RecoveryKind, ServiceDefinition, StartMode};
use super::host::Host;
use crate::error::Error;

/// A service as its host keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// What the host was told.
    pub definition: ServiceDefinition,
    /// What of that the host does not say, in the words of [`super::differences`].
    pub unknown: Vec<&'static str>,
    /// The command line as it is stored, with variables filled in.
    pub line: String,
    /// It may show windows to whoever sits at the host, which no Windows lets it any more.
    pub interactive: bool,
    /// Programs that it starts itself, as far as that is known.
    pub runs: Vec<PathBuf>,
    /// Files that say what it does.
    pub reads: Vec<PathBuf>,
}

/// What is known of the host beside the service.
pub trait Facts {
    /// Whether there is such a file.
    fn is_file(&self, path: &Path) -> bool;
    /// Who may change the file, or put files into the folder, although they are no administrators.
    fn outsiders(&self, path: &Path) -> Vec<String>;
    /// How another service is started; nothing when there is none.
    fn start_of(&self, service: &str) -> Option<StartMode>;
}

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// It does not work, or gives somebody rights that they should not have.
    Error,
    /// It will hurt one day.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// A word that stays, for machines.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// What to do.
    pub fix: Option<String>,
}

impl Finding {
    /// Something that does not work, or is a hole.
    #[must_use]
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Finding { severity: Severity::Error, code, message: message.into(), fix: None }
    }

    /// Something to see to.
    #[must_use]
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Finding { severity: Severity::Warning, ..Finding::error(code, message) }
    }

    /// The same, with what to do.
    #[must_use]
    pub fn fix(self, fix: impl Into<String>) -> Self {
        Finding { fix: Some(fix.into()), ..self }
    }
}

/// All that is wrong with it, as far as the host says.
#[must_use]
pub fn findings(kept: &Kept, facts: &dyn Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    let (name, own) = (&kept.definition.name, program_of(&kept.line, facts));
    if let Some(plain) = unquoted(&kept.line) {
        let rest = kept.line.trim_start()[plain.len()..].replace('"', "\\\"");
        let message = format!("its path is not quoted: Windows tries {}.exe first", first_word(plain));
        let fix = format!("sc config \"{name}\" binPath= \"\\\"{plain}\\\"{rest}\"");
        all.push(Finding::error("path_not_quoted", message).fix(fix));
    }
    let programs = || own.iter().chain(&kept.runs);
    for program in programs() {
        if !facts.is_file(program) {
            all.push(Finding::error("program_missing", format!("there is no program {}", program.display())));
        }
    }
    let mut folders: Vec<&Path> = Vec::new();
    for file in programs().chain(&kept.reads) {
        open(&mut all, "file_open", file, "may change", facts);
        folders.extend(file.parent().filter(|f| !f.as_os_str().is_empty()));
    }
    folders.sort_unstable();
    folders.dedup();
    for folder in folders {
        open(&mut all, "folder_open", folder, "may put files into", facts);
    }
    dependencies(&mut all, kept, facts);
    recovery(&mut all, kept);
    if kept.interactive {
        let message = "it is marked interactive, which no Windows since Vista heeds";
        all.push(Finding::warning("interactive", message).fix(format!("sc config \"{name}\" type= own")));
    }
    all
}

fn open(all: &mut Vec<Finding>, code: &'static str, path: &Path, what: &str, facts: &dyn Facts) {
    let who = facts.outsiders(path);
    if !who.is_empty() {
        let message = format!("{} {what} {}", who.join(", "), path.display());
        all.push(
            Finding::error(code, message).fix("let only administrators, and whom it runs as, change it"),
        );
    }
}

fn dependencies(all: &mut Vec<Finding>, kept: &Kept, facts: &dyn Facts) {
    // What begins so is a group.
    for other in kept.definition.depends_on.iter().filter(|d| !d.starts_with('+')) {
        let starts_itself = !matches!(kept.definition.start, StartMode::Disabled);
        match facts.start_of(other) {
            None => {
                let message = format!("it depends on {other}, which is not there: it cannot be started");
                all.push(Finding::error("dependency_missing", message));
            }
            Some(StartMode::Disabled) if starts_itself => {
                let message = format!("it depends on {other}, which is disabled: it cannot be started");
                all.push(Finding::error("dependency_disabled", message));
            }
            Some(StartMode::Auto | StartMode::Delayed | StartMode::Demand | StartMode::Disabled) => {}
        }
    }
}

fn recovery(all: &mut Vec<Finding>, kept: &Kept) {
    let (name, recovery) = (&kept.definition.name, &kept.definition.recovery);
    let starts_itself = matches!(kept.definition.start, StartMode::Auto | StartMode::Delayed);
    if kept.unknown.contains(&"recovery") || !starts_itself {
        return;
    }
    if recovery.actions.iter().all(|a| a.kind == RecoveryKind::Nothing) {
        let fix = format!("sc failure \"{name}\" reset= 86400 actions= restart/5000");
        all.push(Finding::warning("no_recovery", "nothing starts it again when it fails").fix(fix));
    } else if !recovery.also_on_error && !kept.unknown.contains(&"recovery on errors") {
        let message = "it is started again when it disappears, and not when it stops with an error";
        let fix = format!("sc failureflag \"{name}\" 1");
        all.push(Finding::warning("recovery_not_on_errors", message).fix(fix));
    }
}

fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap_or(text)
}

/// The path of a program that has blanks and no quotes (CWE-428).
fn unquoted(line: &str) -> Option<&str> {
    let line = line.trim_start();
    if line.starts_with('"') {
        return None;
    }
    let lower = line.to_ascii_lowercase();
    let end = lower.match_indices(".exe").map(|(at, ending)| at + ending.len());
    let end = end.into_iter().find(|end| matches!(line.as_bytes().get(*end), None | Some(b' ' | b'\t')))?;
    let absolute = line.get(1..3) == Some(":\\") || line.starts_with('\\');
    Some(&line[..end]).filter(|program| absolute && program.contains(' '))
}

/// The program that a line starts, by the rules of `CreateProcessW`: without quotes the first that is there.
fn program_of(line: &str, facts: &dyn Facts) -> Option<PathBuf> {
    let line = line.trim_start();
    if let Some(quoted) = line.strip_prefix('"') {
        return quoted.split('"').next().filter(|p| !p.is_empty()).map(PathBuf::from);
    }
    let ends = line.match_indices(' ').map(|(at, _)| at).chain([line.len()]);
    let tries = ends.flat_map(|end| [PathBuf::from(&line[..end]), format!("{}.exe", &line[..end]).into()]);
    let meant = || unquoted(line).unwrap_or(first_word(line));
    let found = tries.into_iter().find(|path| facts.is_file(path)).or_else(|| Some(meant().into()));
    found.filter(|path| !path.as_os_str().is_empty())
}

/// `%NAME%` filled in, as Windows does it; a name that is not known stays. Paths of the kernel become those of programs.
#[cfg(any(windows, test))]
pub(crate) fn expanded(text: &str, value: &dyn Fn(&str) -> Option<String>) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('%') {
        out += before;
        match after.split_once('%').and_then(|(name, rest)| Some((value(name)?, rest))) {
            Some((filled, after)) => {
                out += &filled;
                rest = after;
            }
            None => {
                out.push('%');
                rest = after;
            }
        }
    }
    out += rest;
    let root = || value("SystemRoot").unwrap_or_default();
    let lower = out.to_ascii_lowercase();
    if let Some(path) = out.strip_prefix(r"\??\") {
        path.to_owned()
    } else if lower.starts_with(r"\systemroot\") {
        format!("{}{}", root(), &out[r"\SystemRoot".len()..])
    } else {
        out
    }
}

impl Host {
    /// What the host keeps of a service, whoever has made it.
    ///
    /// # Errors
    /// When there is none, or it may not be looked at.
    pub fn kept(&self, name: &str) -> Result<Kept, Error> {
        self.system().kept(name)
    }

    /// Names of the services whose programs are not the system's own, in order; on Linux those that keepwell has made.
    ///
    /// # Errors
    /// When the host does not say.
    pub fn added(&self) -> Result<Vec<String>, Error> {
        self.system().added()
    }
}

impl Facts for Host {
    fn is_file(&self, path: &Path) -> bool {
        path.is_file()
    }

    fn outsiders(&self, path: &Path) -> Vec<String> {
        self.system().outsiders(path)
    }

    fn start_of(&self, service: &str) -> Option<StartMode> {
        self.system().start_of(service)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::super::definition::{Recovery, RecoveryAction};
    use super::*;

    #[derive(Default)]
    struct Fake {
        files: Vec<&'static str>,
        open: BTreeMap<&'static str, &'static str>,
        services: BTreeMap<&'static str, StartMode>,
    }

    impl Facts for Fake {
        fn is_file(&self, path: &Path) -> bool {
            self.files.iter().any(|f| Path::new(f) == path)
        }
        fn outsiders(&self, path: &Path) -> Vec<String> {
            self.open.iter().filter(|(p, _)| Path::new(p) == path).map(|(_, who)| (*who).to_owned()).collect()
        }
        fn start_of(&self, service: &str) -> Option<StartMode> {
            self.services.get(service).copied()
        }
    }

    fn kept(line: &str) -> Kept {
        let mut definition = ServiceDefinition::new("shop", "/srv/shop");
        let restart = RecoveryAction { kind: RecoveryKind::Restart, delay: Duration::from_secs(5) };
        definition.recovery = Recovery { actions: vec![restart], also_on_error: true, ..Recovery::none() };
        Kept {
            definition,
            unknown: vec![],
            line: line.to_owned(),
            interactive: false,
            runs: vec![],
            reads: vec![],
        }
    }

    fn codes(kept: &Kept, fake: &Fake) -> Vec<&'static str> {
        findings(kept, fake).iter().map(|f| f.code).collect()
    }

    #[test]
    fn a_service_that_is_well_is_left_alone() {
        let fake = Fake { files: vec!["/srv/my shop/server"], ..Fake::default() };
        assert_eq!(findings(&kept("\"/srv/my shop/server\" --port 80"), &fake), []);
    }

    #[test]
    fn a_path_without_quotes_is_told_with_the_line_that_quotes_it() {
        let fake = Fake { files: vec![r"C:\my shop\server.exe"], ..Fake::default() };
        let all = findings(&kept(r#"C:\my shop\server.exe --name "a b""#), &fake);
        let [one] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((one.severity, one.code), (Severity::Error, "path_not_quoted"));
        assert_eq!(one.message, r"its path is not quoted: Windows tries C:\my.exe first");
        let fix = r#"sc config "shop" binPath= "\"C:\my shop\server.exe\" --name \"a b\"""#;
        assert_eq!(one.fix.as_deref(), Some(fix));
        for well in [
            r#""C:\my shop\server.exe" -x"#,
            r"C:\shop\server.exe --file C:\my file",
            r"C:\Windows\system32\svchost.exe -k netsvcs",
            "server.exe a b.exe",
        ] {
            assert_eq!(unquoted(well), None, "{well}");
        }
    }

    #[test]
    fn the_program_is_the_one_that_windows_takes() {
        let there = |files: &[&'static str], line: &str| {
            let fake = Fake { files: files.to_vec(), ..Fake::default() };
            program_of(line, &fake).unwrap().display().to_string()
        };
        let line = r"C:\my shop\server.exe -x";
        assert_eq!(there(&[r"C:\my shop\server.exe"], line), r"C:\my shop\server.exe");
        assert_eq!(there(&[r"C:\my.exe", r"C:\my shop\server.exe"], line), r"C:\my.exe");
        assert_eq!(there(&[], line), r"C:\my shop\server.exe");
        assert_eq!(there(&[], r"C:\shop\server -x"), r"C:\shop\server");
    }

    #[test]
    fn what_others_may_change_is_told_once_a_path() {
        let mut service = kept("\"/srv/nssm\"");
        service.runs = vec!["/srv/shop/server".into()];
        service.reads = vec!["/srv/shop/keepwell.toml".into()];
        let open =
            [("/srv/shop/server", "Users"), ("/srv/shop", "Everyone"), ("/srv/shop/keepwell.toml", "Users")];
        let fake = Fake { files: vec!["/srv/nssm"], open: open.into(), ..Fake::default() };
        let said: Vec<String> = findings(&service, &fake).into_iter().map(|f| f.message).collect();
        assert_eq!(
            said,
            [
                "there is no program /srv/shop/server",
                "Users may change /srv/shop/server",
                "Users may change /srv/shop/keepwell.toml",
                "Everyone may put files into /srv/shop"
            ]
        );
    }

    #[test]
    fn what_helps_when_it_fails_is_looked_for() {
        let fake = Fake { files: vec!["/srv/a"], ..Fake::default() };
        let mut service = kept("\"/srv/a\"");
        service.definition.recovery.also_on_error = false;
        assert_eq!(codes(&service, &fake), ["recovery_not_on_errors"]);
        service.definition.recovery = Recovery::none();
        assert_eq!(codes(&service, &fake), ["no_recovery"]);
        service.unknown = vec!["recovery"];
        assert_eq!(codes(&service, &fake), [""; 0]);
        service.unknown = vec![];
        service.definition.start = StartMode::Demand;
        assert_eq!(codes(&service, &fake), [""; 0]);
    }

    #[test]
    fn dependencies_have_to_be_there() {
        let services = [("db", StartMode::Disabled), ("tcpip", StartMode::Auto)];
        let fake = Fake { files: vec!["/srv/a"], services: services.into(), ..Fake::default() };
        let mut service = kept("\"/srv/a\"");
        service.interactive = true;
        service.definition.depends_on = ["tcpip", "db", "none", "+group"].map(str::to_owned).to_vec();
        assert_eq!(codes(&service, &fake), ["dependency_disabled", "dependency_missing", "interactive"]);
    }

    #[test]
    fn variables_and_paths_of_the_kernel_become_paths() {
        let value = |name: &str| name.eq_ignore_ascii_case("systemroot").then(|| r"C:\Windows".to_owned());
        let all = [r"%SystemRoot%\x.exe", r"\SystemRoot\x.exe", r"\??\C:\x.exe", r"C:\100%\%NONE%"];
        let filled = all.map(|text| expanded(text, &value));
        assert_eq!(filled, [r"C:\Windows\x.exe", r"C:\Windows\x.exe", r"C:\x.exe", r"C:\100%\%NONE%"]);
    }
}
