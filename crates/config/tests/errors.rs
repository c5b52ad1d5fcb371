//! The text of every error: each file of `tests/bad` gives one snapshot that a person can read.

use std::path::{MAIN_SEPARATOR_STR, Path, PathBuf};

use keepwell_config::{Context, Source, load};

fn context() -> Context {
    Context {
        base: "/srv/app".into(),
        state_dir: "/state".into(),
        env: [("HOME", "/home/kim")].map(|(a, b)| (a.into(), b.into())).into(),
        ..Context::default()
    }
}

fn source(path: &Path) -> Source {
    let name = PathBuf::from(path.file_name().expect("a file"));
    Source { path: name, text: std::fs::read_to_string(path).expect("readable") }
}

/// With what stands below the folders of the context as on every system; other backslashes stay.
fn with_slashes(text: &str) -> String {
    let words = text.split_inclusive(char::is_whitespace).map(|word| {
        let other = word.replace(MAIN_SEPARATOR_STR, "/");
        if other.starts_with("/srv/app") || other.starts_with("/state") { other } else { word.to_owned() }
    });
    words.collect()
}

#[test]
fn what_is_wrong_is_told_in_full() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 15);
    for file in files {
        let errors = load(&[source(&file)], &context()).expect_err(&file.display().to_string());
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = with_slashes(&errors.render(false, false));
        assert!(!text.contains("s3cret"), "{name} shows a secret:\n{text}");
        assert!(!text.contains('\x1b'), "{name} steers the terminal");
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(name, text);
        });
    }
}
