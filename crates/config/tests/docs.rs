//! Every configuration that the documentation shows is one that keepwell takes.

use std::fs;
use std::path::{MAIN_SEPARATOR_STR, Path, PathBuf};

use keepwell_config::{Context, Source, System, load};

/// What makes a block an example of its own, and not a fragment.
const WHOLE: &str = "[services.";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file's name below the root, as on every system.
fn name_of(file: &Path) -> String {
    file.strip_prefix(root()).expect("below the root").display().to_string().replace(MAIN_SEPARATOR_STR, "/")
}

/// `name`: of the page; some are about Windows only.
fn context(name: &str) -> Context {
    let windows =
        ["docs/migrate-from-nssm.md", "docs/migrate-from-winsw.md"].iter().any(|p| name.starts_with(p));
    let env = [
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/home/anna"),
        ("TOKEN", "hidden"),
        ("KEEPWELL_SLACK", "https://hooks.example/hidden"),
    ];
    Context {
        base: "/srv/shop".into(),
        state_dir: "/srv/shop/.keepwell".into(),
        env: env.map(|(n, v)| (n.to_owned(), v.to_owned())).into(),
        system: if windows { System::Windows } else { System::Unix },
    }
}

/// The names in a folder, in a fixed order.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).expect("the folder is there");
    let mut paths: Vec<_> = found.map(|e| e.expect("the folder can be read").path()).collect();
    paths.sort();
    paths
}

/// The whole examples of a page, each with the line of its fence.
fn examples(page: &str) -> Vec<(usize, String)> {
    let mut found = vec![];
    let mut open: Option<(usize, String)> = None;
    for (at, line) in page.lines().enumerate() {
        match (&mut open, line.trim()) {
            (None, "```toml") => open = Some((at + 1, String::new())),
            (Some(_), "```") => found.extend(open.take()),
            (Some((_, text)), _) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, _) => {}
        }
    }
    assert!(open.is_none(), "a block of TOML is not closed");
    found.retain(|(_, text)| text.contains(WHOLE));
    found
}

/// Loads `text`, and adds to `wrong` what is wrong with it.
fn try_load(name: &str, text: &str, wrong: &mut String) {
    let source = Source { path: name.into(), text: text.to_owned() };
    match load(&[source], &context(name)) {
        Ok(config) if config.warnings.is_empty() => {}
        Ok(config) => *wrong += &format!("{name}: {:#?}\n", config.warnings),
        Err(e) => *wrong += &format!("{name}:\n{}\n", e.render(false, false)),
    }
}

#[test]
fn every_example_of_the_documentation_loads() {
    let mut pages = entries(&root().join("docs"));
    pages.retain(|p| p.extension().is_some_and(|e| e == "md"));
    pages.push(root().join("README.md"));
    let (mut wrong, mut tried) = (String::new(), 0);
    for page in pages {
        let name = name_of(&page);
        for (line, text) in examples(&fs::read_to_string(&page).unwrap()) {
            tried += 1;
            try_load(&format!("{name}:{line}"), &text, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(tried >= 10, "only {tried} examples were found");
}

#[test]
fn every_example_folder_loads() {
    let (mut wrong, mut tried) = (String::new(), 0);
    for folder in entries(&root().join("examples")) {
        let file = folder.join("keepwell.toml");
        let Ok(text) = fs::read_to_string(&file) else { continue };
        tried += 1;
        try_load(&name_of(&file), &text, &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(tried > 0, "there is no example");
}

/// Operators come by the sidebar of their problem: each of these pages shows at least one whole configuration.
#[test]
fn pages_for_operators_have_an_example() {
    for page in [
        "configuration",
        "containment",
        "dependencies",
        "escalation",
        "getting-started",
        "incidents",
        "logs",
        "operating",
        "readiness",
        "restart",
        "stopping",
        "surviving",
    ] {
        let text = fs::read_to_string(root().join(format!("docs/{page}.md"))).unwrap();
        assert!(!examples(&text).is_empty(), "docs/{page}.md has no whole example");
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut wrong = String::new();
    for page in entries(&root().join("docs")) {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            let Ok(text) = fs::read_to_string(&target) else {
                wrong += &format!("{}: {link}: there is no such file\n", page.display());
                continue;
            };
            if !heading.is_empty() && !text.lines().any(|l| l.starts_with('#') && anchor(l) == heading) {
                wrong += &format!("{}: {link}: there is no such heading\n", page.display());
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A heading's name in links, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
