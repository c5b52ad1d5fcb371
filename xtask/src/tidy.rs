//! `cargo xtask tidy`: the project's rules that no lint knows.
//!
//! It reads text, not syntax: a rule here must be one that a line of text can show. What has an exception names it below,
//! with its reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Where our code lives.
const CODE: &[&str] = &["crates", "sim", "tests", "xtask", "fuzz"];

/// Where one may ask which system this is, and hold `unsafe`, each place with its reason.
const SYSTEM_PLACES: &[(&str, &str)] = &[
    ("crates/os/", "what it is for"),
    ("crates/service/", "runs under the service managers of its systems"),
    ("tests/e2e/src/sys.rs", "the tests look at processes with nothing of ours between"),
    ("tests/wine/src/bin/winchild/system.rs", "the helper of the tests has Windows' own habits"),
    ("crates/anchor/tests/", "tests with real processes of one system"),
    ("crates/anchor/toy/", "a daemon for those tests"),
    ("crates/daemon/src/log/tests/", "tests with real pipes, sockets and full disks of one system"),
];

/// A file longer than this does a second thing.
const LONGEST_FILE: usize = 700;

/// Files that may be longer, each with its reason.
const LONGER_FILES: &[(&str, &str)] =
    &[("crates/anchor/tests/real.rs", "one set of stories on one harness, each short")];

/// Who may depend on whom, of our own crates; what a crate needs for its tests only is not looked at.
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("keepwell-core", &[]),
    ("keepwell-sdk", &[]),
    ("keepwell-service", &[]),
    ("keepwell-config", &["keepwell-core"]),
    ("keepwell-os", &["keepwell-core"]),
    // Of the core, the anchor takes the type of its clock, which `os` speaks; it decides nothing.
    ("keepwell-anchor", &["keepwell-core", "keepwell-os", "keepwell-service", "keepwell-sdk"]),
    (
        "keepwell-daemon",
        &[
            "keepwell-core",
            "keepwell-config",
            "keepwell-os",
            "keepwell-anchor",
            "keepwell-service",
            "keepwell-sdk",
        ],
    ),
    (
        "keepwell",
        &[
            "keepwell-sdk",
            "keepwell-anchor",
            "keepwell-daemon",
            "keepwell-config",
            "keepwell-os",
            "keepwell-service",
        ],
    ),
    ("keepwell-sim", &["keepwell-core", "keepwell-config"]),
    ("keepwell-e2e", &["keepwell-sdk"]),
    ("keepwell-wine", &["keepwell-sdk"]),
    ("xtask", &[]),
];

/// A text that has no place in our code, and what to do instead.
struct Ban {
    text: &'static str,
    why: &'static str,
    /// Whether the places that touch the system may use it.
    system_may: bool,
}

// Each text is put together from two pieces so that this file does not hold it.
const BANS: &[Ban] = &[
    Ban { text: concat!("#[", "ignore"), why: "a test runs or goes", system_may: false },
    Ban { text: concat!("todo", "!("), why: "finish it before it is committed", system_may: false },
    Ban { text: concat!("unimplemented", "!("), why: "finish it before it is committed", system_may: false },
    Ban { text: concat!("dbg", "!("), why: "take it out", system_may: false },
    Ban { text: concat!("[", "allow("), why: "use #[expect(…, reason = …)]", system_may: false },
    Ban {
        text: concat!("unsafe", " {"),
        why: "only crates/os and crates/service hold unsafe code",
        system_may: true,
    },
    Ban {
        text: concat!("unsafe", " fn"),
        why: "only crates/os and crates/service hold unsafe code",
        system_may: true,
    },
    Ban {
        text: concat!("unsafe", " impl"),
        why: "only crates/os and crates/service hold unsafe code",
        system_may: true,
    },
    Ban { text: concat!("std::os", "::unix"), why: "systems differ inside crates/os only", system_may: true },
    Ban {
        text: concat!("std::os", "::linux"),
        why: "systems differ inside crates/os only",
        system_may: true,
    },
    Ban {
        text: concat!("std::os", "::windows"),
        why: "systems differ inside crates/os only",
        system_may: true,
    },
    Ban { text: concat!("tokio::net", "::Unix"), why: "use the wrappers of crates/os", system_may: true },
];

/// Checks every rule and fails with all that it found.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut found: Vec<String> = Vec::new();
    let mut files = Vec::new();
    for folder in CODE {
        collect(&root.join(folder), &mut files)?;
    }
    files.sort();
    for file in &files {
        let name = file.strip_prefix(root).unwrap_or(file).to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(file).with_context(|| format!("could not read {name}"))?;
        if name.ends_with(".rs") {
            found.extend(check_source(&name, &text));
        } else if name.ends_with("Cargo.toml") {
            found.extend(check_manifest(&name, &text));
        }
    }
    let mut pages = Vec::new();
    collect_pages(root, &mut pages)?;
    for page in &pages {
        found.extend(check_links(root, page)?);
    }
    if found.is_empty() {
        println!("{} sources and {} pages are tidy", files.len(), pages.len());
        return Ok(());
    }
    bail!("{} places are not tidy:\n  {}", found.len(), found.join("\n  "))
}

fn is_system(name: &str) -> bool {
    SYSTEM_PLACES.iter().any(|(place, _)| name.starts_with(place))
}

fn check_source(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let system = is_system(name);
    let length = text.lines().count();
    if length > LONGEST_FILE && !LONGER_FILES.iter().any(|(file, _)| *file == name) {
        found.push(format!("{name}: {length} lines; more than {LONGEST_FILE} is two things in one file"));
    }
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        let place = format!("{name}:{}", number + 1);
        for ban in BANS.iter().filter(|ban| line.contains(ban.text) && !(system && ban.system_may)) {
            found.push(format!("{place}: `{}`: {}", ban.text, ban.why));
        }
        if !system && asks_for_the_system(line) {
            found.push(format!("{place}: a `cfg` of the operating system belongs into crates/os"));
        }
    }
    found
}

/// Whether a line compiles one thing here and another there.
fn asks_for_the_system(line: &str) -> bool {
    let systems = ["target_os", "target_family", "unix", "windows"];
    ["cfg(", "cfg!(", "cfg_attr("].iter().any(|start| {
        line.split_once(start).is_some_and(|(_, rest)| {
            let condition = rest.split(']').next().unwrap_or(rest);
            condition.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| systems.contains(&word))
        })
    })
}

/// The directions of dependencies, and no dependency that exists on one system only outside crates/os.
fn check_manifest(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let package =
        text.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).unwrap_or_default();
    let directions: BTreeMap<&str, &[&str]> = DIRECTIONS.iter().copied().collect();
    let Some(may) = directions.get(package) else {
        return vec![format!("{name}: xtask/src/tidy.rs does not say what `{package}` may depend on")];
    };
    let mut section = "";
    for (number, line) in text.lines().enumerate() {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
            // What tests need may differ, since some of them are for one system.
            let ships = !section.ends_with("dev-dependencies");
            if section.starts_with("target.") && ships && !is_system(name) {
                found.push(format!("{name}:{}: systems differ inside crates/os only", number + 1));
            }
        }
        let ends = |c: char| !(c.is_alphanumeric() || c == '-' || c == '_');
        let dependency = line.split(ends).next().unwrap_or_default();
        if section == "dependencies" && directions.contains_key(dependency) && !may.contains(&dependency) {
            found.push(format!("{name}:{}: {package} must not depend on {dependency}", number + 1));
        }
    }
    found
}

/// Every relative link of a page leads to a file that is there.
fn check_links(root: &Path, page: &Path) -> Result<Vec<String>> {
    let name = page.strip_prefix(root).unwrap_or(page).display().to_string();
    let text = fs::read_to_string(page).with_context(|| format!("could not read {name}"))?;
    let folder = page.parent().unwrap_or(root);
    let mut found = Vec::new();
    let mut in_code = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for link in line.split("](").skip(1).filter_map(|rest| rest.split([')', '#', ' ']).next()) {
            let elsewhere = link.is_empty() || link.contains("://") || link.starts_with("mailto:");
            if !elsewhere && !folder.join(link).exists() {
                found.push(format!("{name}:{}: leads to `{link}`, which is not there", number + 1));
            }
        }
    }
    Ok(found)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    walk(folder, &mut |path| {
        if path.extension().is_some_and(|e| e == "rs") || path.file_name().is_some_and(|n| n == "Cargo.toml")
        {
            files.push(path.to_path_buf());
        }
    })
}

fn collect_pages(root: &Path, pages: &mut Vec<PathBuf>) -> Result<()> {
    walk(root, &mut |path| {
        if path.extension().is_some_and(|e| e == "md") {
            pages.push(path.to_path_buf());
        }
    })
}

/// Every file below a folder, but for what is built, hidden or a service's state.
fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "target" || name == "node_modules" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), visit)?;
        } else {
            visit(&entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_of_the_system_is_seen_and_others_are_not() {
        for line in [
            concat!("#[cf", "g(unix)]"),
            concat!("#[cf", "g(all(test, target_os = \"linux\"))]"),
            concat!("if cf", "g!(windows) {"),
            concat!("#[cf", "g_attr(windows, path = \"w.rs\")]"),
        ] {
            assert!(asks_for_the_system(line), "{line}");
        }
        for line in
            ["#[cfg(test)] mod unix_paths;", "let windows = list.windows(2);", "#[cfg(debug_assertions)]"]
        {
            assert!(!asks_for_the_system(line), "{line}");
        }
    }

    #[test]
    fn unsafe_code_is_found_outside_the_system_crates_only() {
        let line = concat!("unsafe", " { libc::fork() }");
        assert_eq!(check_source("crates/daemon/src/a.rs", line).len(), 1);
        assert_eq!(check_source("crates/os/src/a.rs", line), Vec::<String>::new());
        assert_eq!(check_source("crates/daemon/src/a.rs", &format!("// {line}")), Vec::<String>::new());
    }

    #[test]
    fn a_file_may_not_grow_without_end() {
        assert_eq!(check_source("sim/src/a.rs", &"\n".repeat(LONGEST_FILE)), Vec::<String>::new());
        assert_eq!(check_source("sim/src/a.rs", &"\n".repeat(LONGEST_FILE + 1)).len(), 1);
    }

    #[test]
    fn a_dependency_against_the_direction_is_named() {
        let manifest = "[package]\nname = \"keepwell-core\"\n[dependencies]\nkeepwell-os.workspace = true\n";
        let found = check_manifest("crates/core/Cargo.toml", manifest);
        assert_eq!(found, ["crates/core/Cargo.toml:4: keepwell-core must not depend on keepwell-os"]);
        let for_tests = manifest.replace("[dependencies]", "[dev-dependencies]");
        assert_eq!(check_manifest("crates/core/Cargo.toml", &for_tests), Vec::<String>::new());
    }

    #[test]
    fn a_link_to_nowhere_is_found() {
        let folder = std::env::temp_dir().join(format!("keepwell-tidy-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let page = folder.join("page.md");
        fs::write(
            &page,
            "[a](page.md#top) [b](gone.md) [c](https://example.org/x)\n```\n[d](also-gone.md)\n```\n",
        )
        .unwrap();
        let found = check_links(&folder, &page).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, ["page.md:1: leads to `gone.md`, which is not there"]);
    }
}
