//! Whatever stands in a file: `load` answers, never panics, and says where.

use keepwell_config::{Config, Context, Diagnostics, Source, load};
use proptest::prelude::*;

const FULL: &str = include_str!("good/full.toml");

fn try_load(text: &str) -> Result<Config, Diagnostics> {
    let env = ["TOKEN", "PATH"].map(|n| (n.to_owned(), "/bin".to_owned())).into();
    let cx = Context { base: "/srv".into(), state_dir: "/state".into(), env, ..Context::default() };
    load(&[Source { path: "keepwell.toml".into(), text: text.to_owned() }], &cx)
}

#[test]
fn the_file_that_is_varied_is_good() {
    assert!(try_load(FULL).is_ok());
}

fn check(text: &str) -> Result<(), TestCaseError> {
    match try_load(text) {
        Ok(config) => {
            prop_assert!(config.services.keys().eq(config.specs.services.keys()));
            let _ = keepwell_config::diff(&config, &config);
        }
        Err(errors) => {
            prop_assert!(errors.errors() > 0);
            prop_assert!(!errors.render(false, false).is_empty());
            for d in &errors.0 {
                prop_assert!(
                    d.line >= 1 && d.line as usize <= text.split('\n').count(),
                    "line {} of {text:?}",
                    d.line
                );
                prop_assert!(d.column >= 1);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in "\\PC*") {
        check(&text)?;
    }

    #[test]
    fn text_that_looks_like_toml(text in "([a-z.\\[\\]{}='\", \n#$\\\\é0-9]|services|command|ready|env|\\$\\{)*") {
        check(&text)?;
    }

    #[test]
    fn a_good_file_with_something_cut_out_and_put_in(at in 0..FULL.len(), cut in 0..40_usize, put in "[a-z\\[\\]{}='\", \n${}\u{0}é-]{0,6}") {
        // The file is ASCII, so every byte is a boundary.
        let end = (at + cut).min(FULL.len());
        check(&format!("{}{put}{}", &FULL[..at], &FULL[end..]))?;
    }

    #[test]
    fn a_good_file_with_one_value_replaced(line in 0..FULL.lines().count(), value in "(-?[0-9]{1,25}|true|\"[^\"\\\\\\PC]*\"|\\[[0-9\", ]*\\]|\\{ [a-z]{1,9} = \"[a-z0-9$\\{\\}]*\" \\}|1979-05-27|[0-9]\\.[0-9]|inf)") {
        let mut lines: Vec<String> = FULL.lines().map(ToOwned::to_owned).collect();
        if let Some((key, _)) = lines[line].clone().split_once(" = ") {
            lines[line] = format!("{key} = {value}");
        }
        check(&lines.join("\n"))?;
    }

    #[test]
    fn any_string_as_any_text(value in any::<String>()) {
        let quoted = serde_json::to_string(&value).unwrap().replace("\\/", "/").replace('\u{7f}', "");
        for key in ["command", "cwd", "env_file", "ready.http", "ready.tcp", "ready.log", "ready.exec", "log.file", "env.A", "hooks.pre_start", "user", "umask", "restart.delay", "limits.memory", "limits.cpu", "restart.jitter"] {
            let command = if key == "command" { "" } else { "command = \"x\"\n" };
            check(&format!("[services.a]\n{command}{key} = {quoted}\n"))?;
        }
    }
}

/// The daemon's threads have 2 MiB of stack.
#[test]
fn depth_is_bounded() {
    let deep = |n: usize| {
        let texts = [
            format!("{}a = 1", "a.".repeat(n)),
            format!("a = {}", "[".repeat(n)),
            format!("a = {}", "{a=".repeat(n)),
            format!("[{}a]", "a.".repeat(n)),
            format!("services.a.command = '{}'", "${".repeat(n)),
        ];
        texts.iter().for_each(|t| drop(try_load(t)));
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(move || deep(200_000)).unwrap().join().unwrap();
}

#[test]
fn long_chains_are_walked_without_recursion() {
    let chain: String = (0..5_000)
        .map(|i| format!("[services.s{i}]\ncommand = \"x\"\ndepends_on = [\"s{}\"]\n", (i + 1) % 5_000))
        .collect();
    let errors = try_load(&chain).unwrap_err().render(false, false);
    assert!(errors.starts_with("error: services wait for each other: s0 → s1 → s2"), "{errors}");
    let vars: String = (0..5_000).map(|i| format!("V{i} = \"${{V{}}}\"\n", i + 1)).collect();
    let text = format!("[services.a]\ncommand = \"x\"\n[services.a.env]\n{vars}V5000 = \"end\"\n");
    assert!(try_load(&text).is_ok());
}
