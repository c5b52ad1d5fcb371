//! `keepwell import`: what another wrapper of services was told, as a configuration of keepwell's.

mod draft;
mod fill;
mod nssm;
mod reg;
mod winsw;

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use keepwell_config::{Config, Context, Source, System};
use keepwell_sdk::exit;
use keepwell_service::{Error, manager::registry};

use self::draft::Draft;
pub(crate) use self::fill::secret_options;
use crate::failure::{Failure, Result, io_words};
use crate::locate::{CONFIG, Surroundings};
use crate::output::{self, talk};

/// Turn what NSSM or WinSW was told into a keepwell.toml, and say what could not be carried over
///
/// Nothing else is changed: the file is printed, or written with --output, and begins with the command that registers it.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell import nssm web                            # a service of this Windows
  keepwell import nssm web -o C:\\web\\keepwell.toml
  keepwell import nssm --all -o C:\\keepwell            # each in a folder of its own
  keepwell import nssm web.reg                        # reg export HKLM\\SYSTEM\\CurrentControlSet\\Services\\web web.reg
  keepwell import winsw C:\\jenkins\\jenkins.xml -o C:\\jenkins\\keepwell.toml")]
pub(crate) struct Import {
    #[command(subcommand)]
    from: From,
}

#[derive(Subcommand, Debug)]
enum From {
    Nssm(Nssm),
    Winsw(Winsw),
}

/// From NSSM: a service of this Windows, or the file of a `reg export` of its key
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell import nssm web -o C:\\web\\keepwell.toml
  keepwell import nssm --all -o C:\\keepwell
  keepwell import nssm services.reg --name web")]
struct Nssm {
    /// The service's name, or the file
    #[arg(value_name = "NAME|FILE", required_unless_present = "all")]
    source: Option<String>,
    /// Of a file with several services, this one
    #[arg(long, conflicts_with = "all")]
    name: Option<String>,
    /// Every service of NSSM's on this Windows, or in the file; --output is then a folder
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    to: To,
}

/// From WinSW: its XML
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell import winsw C:\\jenkins\\jenkins.xml -o C:\\jenkins\\keepwell.toml
  keepwell import winsw jenkins.xml --base C:\\jenkins    # on another host")]
struct Winsw {
    /// The file
    #[arg(value_name = "FILE")]
    source: PathBuf,
    /// What %BASE% is to be; otherwise the folder of the file
    #[arg(long, value_name = "DIR")]
    base: Option<String>,
    #[command(flatten)]
    to: To,
}

#[derive(Args, Debug)]
struct To {
    /// Write it there; otherwise it is printed
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write over a file that is there
    #[arg(long, requires = "output")]
    force: bool,
}

impl Import {
    pub(crate) fn run(self) -> Result<i32> {
        match self.from {
            From::Nssm(args) => {
                let drafts = from_nssm(&args)?;
                let places = args.to.places(&drafts, args.all)?;
                finish(&drafts, &places, args.to.force)?;
            }
            From::Winsw(args) => {
                let drafts = [from_winsw(&args)?];
                finish(&drafts, &args.to.places(&drafts, false)?, args.to.force)?;
            }
        }
        Ok(exit::DONE)
    }
}

fn from_nssm(args: &Nssm) -> Result<Vec<Draft>> {
    let (source, keys) = match args.source.as_deref() {
        Some(source) if Path::new(source).is_file() => {
            let keys = reg::parse(&reg::text(&read(Path::new(source))?));
            (source.to_owned(), keys.map_err(|wrong| at(source, &wrong))?)
        }
        Some(name) => (format!("the service {name}"), registered(name)?),
        None => ("this host".to_owned(), registered_all()?),
    };
    let mut found = nssm::services(&keys);
    if let Some(name) = &args.name {
        found.retain(|n| n.eq_ignore_ascii_case(name));
    }
    match found.as_slice() {
        [] => {
            return Err(Failure::usage(match &args.name {
                Some(name) => format!("{source} holds no service `{name}` of NSSM's"),
                None if args.source.is_none() => "no service of this host is NSSM's".to_owned(),
                None => format!("{source} is none of NSSM's: there is no Parameters\\Application"),
            })
            .hint(
                "the key of a service is HKLM\\SYSTEM\\CurrentControlSet\\Services\\NAME, with all below it",
            ));
        }
        [_, _, ..] if !args.all => {
            return Err(Failure::usage(format!("{source} holds {} services of NSSM's", found.len()))
                .hint(format!("--name chooses one, --all takes all: {}", found.join(", "))));
        }
        [..] => {}
    }
    let draft =
        |name: &String| nssm::draft(&keys, name).map_err(|why| Failure::usage(format!("{source}: {why}")));
    found.iter().map(draft).collect()
}

/// A service of this Windows.
fn registered(name: &str) -> Result<reg::Keys> {
    let stored = registry::stored(name).map_err(|error| match error {
        Error::NoSuchService(_) => {
            Failure::usage(format!("there is no file {name} and no service of that name on this host"))
                .hint("keepwell import nssm --all shows every service of NSSM's")
        }
        Error::NoManager(_) => Failure::usage(format!(
            "there is no file {name}, and this host is no Windows, whose services have names"
        ))
        .hint("on the Windows host: reg export HKLM\\SYSTEM\\CurrentControlSet\\Services\\NAME NAME.reg"),
        other => unread(&other),
    })?;
    // As it is written, however it was typed.
    let written =
        registry::services().ok().and_then(|all| all.into_iter().find(|n| n.eq_ignore_ascii_case(name)));
    Ok(reg::keys(written.as_deref().unwrap_or(name), stored))
}

fn registered_all() -> Result<reg::Keys> {
    let names = registry::services().map_err(|error| match error {
        Error::NoManager(_) => Failure::usage(
            "this host is no Windows: --all needs the file of a registry export",
        )
        .hint("on the Windows host: reg export HKLM\\SYSTEM\\CurrentControlSet\\Services services.reg"),
        other => unread(&other),
    })?;
    let mut all = reg::Keys::new();
    for name in names {
        match registry::stored(&name) {
            Ok(stored) => all.extend(reg::keys(&name, stored)),
            // It was deleted just now, or only the system may read it: none of NSSM's are so.
            Err(Error::NoSuchService(_) | Error::Denied(_)) => {}
            Err(other) => return Err(unread(&other)),
        }
    }
    Ok(all)
}

fn unread(error: &Error) -> Failure {
    Failure::failed(error.to_string()).hint("use an elevated prompt")
}

fn from_winsw(args: &Winsw) -> Result<Draft> {
    let file = &args.source;
    let text = reg::text(&read(file)?);
    let whole = std::path::absolute(file).unwrap_or_else(|_| file.clone());
    let folder = || whole.parent().unwrap_or(Path::new("")).display().to_string();
    let base = args.base.clone().unwrap_or_else(folder);
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    winsw::draft(&text, &base, &stem).map_err(|wrong| at(&file.display().to_string(), &wrong))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).map_err(|e| Failure::usage(format!("{} cannot be read: {}", file.display(), io_words(&e))))
}

fn at(file: &str, wrong: &reg::Wrong) -> Failure {
    Failure::usage(format!("{file}:{}: {}", wrong.line, wrong.why))
}

impl To {
    /// Where each is written; none for what is printed.
    fn places(&self, drafts: &[Draft], each: bool) -> Result<Vec<Option<PathBuf>>> {
        let Some(output) = &self.output else { return Ok(vec![None; drafts.len()]) };
        let output = Surroundings::here()?.cwd.join(output);
        let own = |d: &Draft| output.join(crate::command::service::service_name(&d.name)).join(CONFIG);
        Ok(drafts.iter().map(|d| Some(if each { own(d) } else { output.clone() })).collect())
    }
}

fn finish(drafts: &[Draft], places: &[Option<PathBuf>], force: bool) -> Result<()> {
    if let Some(there) = places.iter().flatten().find(|p| !force && p.exists()) {
        // Before the first of several is written.
        return Err(exists(there));
    }
    let mut texts = Vec::new();
    for (draft, place) in drafts.iter().zip(places) {
        let config = place.as_ref().map_or_else(|| CONFIG.to_owned(), |p| p.display().to_string());
        let text = draft.toml(&config);
        meant(draft, &text)?;
        texts.push((text, config));
    }
    for (number, ((draft, place), (text, config))) in drafts.iter().zip(places).zip(&texts).enumerate() {
        match place {
            None if number > 0 => output::print(&format!("\n{text}"))?,
            None => output::print(text)?,
            Some(file) => write(file, text, force)?,
        }
        if drafts.len() > 1 {
            talk(&format!("{}{}", if number > 0 { "\n" } else { "" }, draft.name));
        }
        if let Some(file) = place {
            talk(&format!("wrote {}", file.display()));
        }
        let (carried, lost): (Vec<_>, Vec<_>) = draft.notes.iter().partition(|n| n.carried);
        for note in lost.into_iter().chain(carried) {
            talk(&note.told());
        }
        talk(&format!("to register it, once {}'s service of this name is removed:", draft.from));
        talk(&format!("  {}", draft.command_line(config)));
    }
    Ok(())
}

/// What was carried over wrongly is our mistake, and is to be known now and not at the next boot.
fn meant(draft: &Draft, text: &str) -> Result<Config> {
    let folder = Surroundings::here()?.cwd;
    let context = Context {
        state_dir: folder.join(".keepwell"),
        base: folder,
        // What the service will inherit is not here, and this may be another host.
        env: draft.needed().map(|name| (name.to_owned(), String::new())).collect(),
        system: System::Windows,
    };
    let source = Source { path: CONFIG.into(), text: text.to_owned() };
    keepwell_config::load(&[source], &context).map_err(|errors| {
        let why = errors.0.first().map(|d| d.message.clone()).unwrap_or_default();
        Failure::failed(format!("the service {} cannot be a configuration: {why}", draft.name))
    })
}

fn exists(file: &Path) -> Failure {
    Failure::failed(format!("{} is there already; it was not changed", file.display()))
        .hint("--force writes over it")
}

fn write(file: &Path, text: &str, force: bool) -> Result<()> {
    let failed = |e: std::io::Error| match e.kind() {
        ErrorKind::AlreadyExists => exists(file),
        _ => Failure::failed(format!("{} cannot be written: {}", file.display(), io_words(&e))),
    };
    fs::create_dir_all(file.parent().unwrap_or(Path::new(""))).map_err(failed)?;
    let mut made = if force { fs::File::create(file) } else { fs::File::create_new(file) }.map_err(failed)?;
    made.write_all(text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests;
