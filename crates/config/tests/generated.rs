//! What is made from the definitions is up to date: the schema, the reference, the starter and the example.

use std::fs;
use std::path::{Path, PathBuf};

use keepwell_config::{Context, Source, load, reference, schema, starter};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn loads(text: &str) {
    let cx = Context {
        base: "/srv".into(),
        state_dir: "/state".into(),
        env: [("TOKEN".to_owned(), "x".to_owned())].into(),
        ..Context::default()
    };
    let config = load(&[Source { path: "keepwell.toml".into(), text: text.to_owned() }], &cx)
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.warnings, []);
}

/// Compares, or writes when `UPDATE_GENERATED` is set.
fn up_to_date(path: &Path, now: &str) {
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(path, now).expect("writable");
    }
    let then = fs::read_to_string(path).unwrap_or_default();
    assert!(
        then == now,
        "{} is out of date: UPDATE_GENERATED=1 cargo test -p keepwell-config --test generated",
        path.display()
    );
}

#[test]
fn the_schema_is_what_the_reader_reads() {
    let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    up_to_date(&root().join("schemas/keepwell.schema.json"), &text);
}

#[test]
fn the_reference_in_the_docs_is_what_the_reader_reads() {
    let path = root().join("docs/configuration.md");
    let text = fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- keys: made by crates/config -->\n", "<!-- end of keys -->");
    let (before, rest) = text.split_once(begin).expect("the mark of the tables' begin");
    let (_, after) = rest.split_once(end).expect("the mark of the tables' end");
    up_to_date(&path, &format!("{before}{begin}\n{}{end}{after}", reference()));
}

#[test]
fn the_starter_loads_with_and_without_its_comments() {
    loads(starter());
    let bare = |line: &str| {
        let inner = line.strip_prefix("# ")?;
        (inner.starts_with('[') || inner.contains(" = ")).then(|| inner.to_owned())
    };
    let all: Vec<String> = starter().lines().map(|l| bare(l).unwrap_or_else(|| l.to_owned())).collect();
    assert!(all.iter().any(|l| l.starts_with("[services.worker]")));
    loads(&all.join("\n"));
}

#[test]
fn examples_in_the_docs_load() {
    let text = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let blocks: Vec<&str> = text.split("```toml\n").skip(1).filter_map(|b| b.split("```").next()).collect();
    let whole: Vec<&&str> = blocks.iter().filter(|b| b.contains("[services.")).collect();
    assert!(!whole.is_empty());
    whole.iter().for_each(|b| loads(b));
    // Shorter ones are keys of a service.
    for keys in blocks.iter().filter(|b| !b.contains("[services.")) {
        loads(&format!(
            "[services.db]\ncommand = \"x\"\n[services.migrate]\ncommand = \"x\"\nkind = \"oneshot\"\n[services.cache]\ncommand = \"x\"\n[services.web]\ncommand = \"x\"\n{keys}\n"
        ));
    }
}
