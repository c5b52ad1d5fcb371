//! `keepwell service edit`, `get`, `set` and `dump`: the configuration of one service.

use std::fs;
use std::path::Path;
use std::process::Command;

use clap::Args;
use keepwell_config::Diagnostics;
use keepwell_sdk::exit;
use toml_edit::{DocumentMut, Item, Table, Value};

use super::place::Place;
use super::{Whose, add};
use crate::command::{Context, wait_for};
use crate::config_check::{look_at, tell};
use crate::failure::{Failure, Result, io_words};
use crate::guardian::{Guardian, Refused, socket_in};
use crate::locate::{Home, Place as Endpoint, Scope};
use crate::output::{self, Look, talk};

/// Edit the configuration of a service in $VISUAL or $EDITOR, check it, and have it taken on
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell service edit web")]
pub(super) struct Edit {
    #[command(flatten)]
    one: One,
}

/// Print a key of a service's configuration, or all that is written there
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell service get web
  keepwell service get web restart.policy")]
pub(super) struct Get {
    #[command(flatten)]
    one: One,
    /// As in the reference: restart.policy
    key: Option<String>,
}

/// Change a key of a service's configuration, check it, and have it taken on
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell service set web restart.delay 2s
  keepwell service set web env.PORT 8081
  keepwell service set web limits.memory            # take it out")]
pub(super) struct Set {
    #[command(flatten)]
    one: One,
    /// As in the reference: restart.policy
    key: String,
    /// TOML, or text as it is; without it the key is taken out
    value: Option<String>,
}

/// Print a service as the command line that makes it, or its configuration
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell service dump web
  keepwell service dump web --toml > keepwell.toml")]
pub(super) struct Dump {
    #[command(flatten)]
    one: One,
    /// Its configuration
    #[arg(long)]
    toml: bool,
}

#[derive(Args, Clone, Debug)]
struct One {
    /// The service
    name: String,
    #[command(flatten)]
    whose: Whose,
}

impl One {
    fn place(&self) -> Result<Place> {
        Place::installed(&self.whose.host()?, &self.name)
    }

    /// Its configuration's text, and the name that its service has there.
    fn text(&self, place: &Place) -> Result<(String, String)> {
        let text = fs::read_to_string(&place.config).map_err(|e| {
            Failure::failed(format!("{} cannot be read: {}", place.config.display(), io_words(&e)))
        })?;
        let document = parse(&text, &place.config)?;
        let names: Vec<&str> =
            services(&document).map(|t| t.iter().map(|(n, _)| n).collect()).unwrap_or_default();
        let wanted = add::service_name(&self.name);
        match names.as_slice() {
            [one] => Ok((text.clone(), (*one).to_owned())),
            many if many.contains(&wanted.as_str()) => Ok((text.clone(), wanted)),
            many => Err(Failure::usage(format!(
                "{} holds {} services and none is called {wanted}",
                place.config.display(),
                many.len()
            ))
            .hint("edit the file, then: keepwell reload")),
        }
    }
}

impl Get {
    pub(super) fn run(self) -> Result<i32> {
        let place = self.one.place()?;
        let (text, name) = self.one.text(&place)?;
        let Some(key) = &self.key else {
            output::print(&text)?;
            return Ok(exit::DONE);
        };
        let document = parse(&text, &place.config)?;
        let mut item = services(&document).and_then(|s| s.get(&name));
        for part in path(key)? {
            item = item.and_then(|i| i.get(part));
        }
        match item {
            Some(item) => output::print(&format!("{}\n", plain(item)))?,
            None => return Err(not_written(key, &place)),
        }
        Ok(exit::DONE)
    }
}

impl Set {
    pub(super) fn run(self, cx: &Context) -> Result<i32> {
        let place = self.one.place()?;
        let (text, name) = self.one.text(&place)?;
        let (key, value) = pair(&self.key, self.value.as_deref());
        let new = edited(&text, &name, key, value)?;
        if value.is_none() && new == text {
            return Err(not_written(key, &place));
        }
        replace(cx, &place, &text, &new)?;
        Ok(exit::DONE)
    }
}

impl Edit {
    pub(super) fn run(self, cx: &Context) -> Result<i32> {
        let place = self.one.place()?;
        let (before, _) = self.one.text(&place)?;
        let editor =
            ["VISUAL", "EDITOR"].into_iter().find_map(|v| std::env::var(v).ok().filter(|e| !e.is_empty()));
        let editor = editor.ok_or_else(|| {
            Failure::usage("neither VISUAL nor EDITOR names an editor")
                .hint(format!("edit {} by hand, then: keepwell reload", place.config.display()))
        })?;
        // Beside the file, so that an editor that is left half way changes nothing.
        let draft = place.config.with_extension("toml.edit");
        let unusable = |e: std::io::Error| {
            Failure::failed(format!("{} cannot be written: {}", draft.display(), io_words(&e)))
        };
        fs::write(&draft, &before).map_err(unusable)?;
        let done = edit(&editor, &draft).and_then(|()| fs::read_to_string(&draft).map_err(unusable));
        let result = done.and_then(|new| match new == before {
            true => {
                talk("nothing was changed");
                Ok(())
            }
            false => replace(cx, &place, &before, &new),
        });
        let _ = fs::remove_file(&draft);
        result.map(|()| exit::DONE)
    }
}

/// The editor may have arguments of its own: `code --wait`.
fn edit(editor: &str, file: &Path) -> Result<()> {
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or(editor);
    let status =
        Command::new(program).args(words).arg(file).status().map_err(|e| {
            Failure::failed(format!("the editor {program} cannot be started: {}", io_words(&e)))
        })?;
    match status.success() {
        true => Ok(()),
        false => {
            Err(Failure::failed(format!("the editor {program} ended with {status}; nothing was changed")))
        }
    }
}

impl Dump {
    pub(super) fn run(self) -> Result<i32> {
        let place = self.one.place()?;
        let (text, name) = self.one.text(&place)?;
        if self.toml {
            output::print(&text)?;
            return Ok(exit::DONE);
        }
        output::print(&command_line(&self.one, &text, &name, &place.config)?)?;
        Ok(exit::DONE)
    }
}

/// `keepwell service add …`.
fn command_line(one: &One, text: &str, name: &str, file: &Path) -> Result<String> {
    let document = parse(text, file)?;
    let service = services(&document).and_then(|s| s.get(name)).and_then(Item::as_table_like);
    let service =
        service.ok_or_else(|| Failure::failed(format!("{} holds no service {name}", file.display())))?;
    let mut words = vec![format!("keepwell service add {}{}", shell(&one.name), one.whose.option())];
    let mut program = String::new();
    for (key, item) in service.iter() {
        match (key, item.as_value()) {
            ("command", Some(Value::Array(list))) => {
                let list: Vec<String> =
                    list.iter().map(|v| shell(&plain_value(v).replace("$$", "$"))).collect();
                program = list.join(" ");
            }
            ("command", Some(value)) => {
                let split = keepwell_config::split(&plain_value(value));
                program = match split {
                    Ok(split) => split.words.iter().map(|w| shell(w)).collect::<Vec<_>>().join(" "),
                    Err(_) => shell(&plain_value(value)),
                };
            }
            ("cwd", Some(value)) => {
                words.push(format!("--cwd {}", shell(&plain_value(value).replace("$$", "$"))))
            }
            _ => set_words(key, item, &mut words),
        }
    }
    Ok(format!("{} -- {program}\n", words.join(" ")))
}

fn set_words(key: &str, item: &Item, words: &mut Vec<String>) {
    if let Some(table) = item.as_table_like() {
        for (name, item) in table.iter() {
            set_words(&format!("{key}.{name}"), item, words);
        }
        return;
    }
    words.push(format!("--set {}", shell(&format!("{key}={}", item.to_string().trim()))));
}

/// For the shell of this system.
fn shell(word: &str) -> String {
    if std::path::MAIN_SEPARATOR == '\\' {
        return keepwell_service::manager::command_line::quote(word);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

fn parse(text: &str, file: &Path) -> Result<DocumentMut> {
    text.parse().map_err(|e: toml_edit::TomlError| {
        Failure::usage(format!("{} is no TOML: {}", file.display(), e.message()))
            .hint(format!("keepwell check {}", file.display()))
    })
}

fn services(document: &DocumentMut) -> Option<&dyn toml_edit::TableLike> {
    document.get("services")?.as_table_like()
}

fn not_written(key: &str, place: &Place) -> Failure {
    Failure::failed(format!("{key} is not written in {}; it has its default", place.config.display()))
        .hint("keepwell schema services lists the keys and their defaults")
}

/// `restart.delay=2s` is understood as well, since `add --set` has it so.
fn pair<'a>(key: &'a str, value: Option<&'a str>) -> (&'a str, Option<&'a str>) {
    match (value, key.split_once('=')) {
        (None, Some((key, value))) => (key, Some(value)),
        (Some(_), _) | (None, None) => (key, value),
    }
}

fn path(key: &str) -> Result<Vec<&str>> {
    let parts: Vec<&str> = key.split('.').collect();
    match parts.iter().all(|p| !p.is_empty() && !p.contains('=')) {
        true => Ok(parts),
        false => Err(Failure::usage(format!("`{key}` is no key; keys look like restart.policy"))),
    }
}

fn plain(item: &Item) -> String {
    item.as_value().map_or_else(|| item.to_string().trim().to_owned(), plain_value)
}

fn plain_value(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string().trim().to_owned(), str::to_owned)
}

/// The text with one key of one service changed, or taken out; all else stays as it is, comments too.
///
/// # Errors
/// When the key cannot be there.
pub(super) fn edited(text: &str, service: &str, key: &str, value: Option<&str>) -> Result<String> {
    let mut document = parse(text, Path::new("the configuration"))?;
    let wrong = || Failure::usage(format!("{key} is below a key that is no table"));
    let parts = path(key)?;
    let (last, tables) = parts.split_last().ok_or_else(wrong)?;
    let mut item = document.as_item_mut();
    for part in ["services", service].into_iter().chain(tables.iter().copied()) {
        let table = item.as_table_like_mut().ok_or_else(wrong)?;
        if value.is_none() && !table.contains_key(part) {
            return Ok(text.to_owned());
        }
        // What may be written short (`restart = "always"`) becomes a table with its one key.
        let short = table.get(part).and_then(Item::as_str).and_then(|short| long_form(part, short));
        if let Some(long) = short {
            table.insert(part, long);
        }
        item = table.entry(part).or_insert_with(|| Item::Table(Table::new()));
    }
    let table = item.as_table_like_mut().ok_or_else(wrong)?;
    match value {
        Some(value) => {
            let mut new = meant(value);
            // The place, and the comments around it, stay.
            if let Some(old) = table.get(last).and_then(Item::as_value) {
                *new.decor_mut() = old.decor().clone();
            }
            table.insert(last, Item::Value(new));
        }
        None => drop(table.remove(last)),
    }
    Ok(document.to_string())
}

/// The keys that one text stands for.
fn long_form(key: &str, short: &str) -> Option<Item> {
    let name = match key {
        "restart" => "policy",
        _ => return None,
    };
    let mut table = toml_edit::InlineTable::new();
    table.insert(name, short.into());
    Some(Item::Value(Value::InlineTable(table)))
}

/// TOML where it is some; a word alone is text.
fn meant(value: &str) -> Value {
    value.trim().parse().unwrap_or_else(|_| Value::from(value))
}

/// Checks the new text where it will stand, writes it, and asks the guardian to take it on.
fn replace(cx: &Context, place: &Place, before: &str, new: &str) -> Result<()> {
    let shown = place.config.display();
    let unusable =
        |e: std::io::Error| Failure::failed(format!("{shown} cannot be written: {}", io_words(&e)));
    fs::write(&place.config, new).map_err(unusable)?;
    let home = Home { scope: Scope::System, config: place.config.clone(), state: place.state.clone() };
    let findings = look_at(&home, &std::collections::BTreeSet::new());
    let errors = findings.errors();
    tell(&Diagnostics(findings.all), &Look::stderr(cx.color));
    if errors > 0 {
        fs::write(&place.config, before).map_err(unusable)?;
        talk(&format!("{shown} is as it was before"));
        return Err(Failure::silent(exit::USAGE));
    }
    let endpoint = Endpoint::named(socket_in(&place.state));
    wait_for(async {
        let Ok(guardian) = Guardian::at(&endpoint).await else {
            talk(&format!("changed {shown}; it counts from the next start"));
            return Ok(());
        };
        match guardian.reload(false).await {
            Ok(plan) => output::print(&output::human::reload_plan(&plan, &cx.look())),
            Err(Refused::Problem(problem)) => Err(Failure::refused(&problem)),
            Err(refused @ Refused::Unreachable(_)) => Err(refused.into()),
        }
    })
}

#[cfg(test)]
mod tests {
    use keepwell_config::System;

    use super::*;

    const SHOP: &str = "# Mine.\n[services.shop]\ncommand = [\"./shop\", \"a b\", \"$$x\"] # as it is\nrestart = \"always\"\n\n[services.shop.env]\nPORT = \"80\"\n";

    #[test]
    fn a_key_is_changed_and_all_else_stays() {
        let text = edited(SHOP, "shop", "env.PORT", Some("8081")).unwrap();
        assert_eq!(text, SHOP.replace("PORT = \"80\"", "PORT = 8081"));
        let text = edited(SHOP, "shop", "env.NAME", Some("a b")).unwrap();
        assert!(text.ends_with("PORT = \"80\"\nNAME = \"a b\"\n"), "{text}");
        let text = edited(SHOP, "shop", "restart.delay", Some("2s")).unwrap();
        assert!(text.contains("restart = { policy = \"always\", delay = \"2s\" }"), "{text}");
        let text = edited(SHOP, "shop", "limits.memory", Some("1GB")).unwrap();
        assert!(
            text.contains("[services.shop.limits]\nmemory = \"1GB\"") && text.starts_with("# Mine."),
            "{text}"
        );
    }

    #[test]
    fn a_key_is_taken_out() {
        assert_eq!(
            edited(SHOP, "shop", "restart", None).unwrap(),
            SHOP.replace("restart = \"always\"\n", "")
        );
        assert_eq!(edited(SHOP, "shop", "limits.memory", None).unwrap(), SHOP);
        assert_eq!(pair("env.A=b=c", None), ("env.A", Some("b=c")));
        assert!(edited(SHOP, "shop", "env.A=b", Some("c")).is_err());
        assert!(edited(SHOP, "shop", "command.x", Some("1")).is_err());
    }

    #[test]
    fn values_are_toml_or_text() {
        let shown = |text| meant(text).to_string();
        assert_eq!(
            [shown("5"), shown("true"), shown("[1, 2]"), shown("on-failure"), shown("2s")],
            ["5", "true", "[1, 2]", "\"on-failure\"", "\"2s\""]
        );
    }

    #[test]
    fn a_service_is_dumped_as_the_line_that_makes_it() {
        let one = One { name: "shop".into(), whose: Whose::default() };
        let line = command_line(&one, SHOP, "shop", Path::new("x")).unwrap();
        let expected = match keepwell_os::SYSTEM {
            System::Unix => {
                r#"keepwell service add shop --set 'restart="always"' --set 'env.PORT="80"' -- ./shop 'a b' '$x'"#
            }
            System::Windows => {
                r#"keepwell service add shop --set "restart=\"always\"" --set "env.PORT=\"80\"" -- ./shop "a b" $x"#
            }
        };
        assert_eq!(line.trim_end(), expected);
    }
}
