//! Each folder of `scenarios/` is a configuration, a script and the timeline that comes of it. `KEEPWELL_BLESS=1` writes
//! the timelines anew; read the difference before you commit it. One whose name begins with `windows-` is read as on Windows.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use keepwell_config::{Context, Source, load};
use keepwell_core::Specs;
use keepwell_core::spec::System;
use keepwell_sim::scenario;

fn specs(file: &Path) -> Result<Specs, String> {
    let text = fs::read_to_string(file).map_err(|e| e.to_string())?;
    let name = file.file_name().map(Into::into).unwrap_or_default();
    let windows =
        file.parent().and_then(Path::file_name).is_some_and(|n| n.to_string_lossy().starts_with("windows-"));
    let system = if windows { System::Windows } else { System::Unix };
    let (base, state_dir) = ("/srv/case".into(), "/srv/case/.keepwell".into());
    let cx = Context { base, state_dir, system, ..Context::default() };
    match load(&[Source { path: name, text }], &cx) {
        Ok(config) => Ok(config.specs),
        Err(errors) => Err(format!("{}: {errors:?}", file.display())),
    }
}

fn play(script: &Path) -> datatest_stable::Result<()> {
    let folder = script.parent().ok_or("a script stands in a folder")?;
    let mut reloads = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            reloads.insert(name, specs(&path)?);
        }
    }
    let first = reloads.get("keepwell.toml").ok_or("keepwell.toml is missing")?.clone();
    let timeline = scenario::play(first, &fs::read_to_string(script)?, &reloads)?;
    let snap = folder.join("timeline.snap");
    if std::env::var_os("KEEPWELL_BLESS").is_some() {
        fs::write(&snap, &timeline)?;
    }
    let expected = fs::read_to_string(&snap).unwrap_or_default();
    if expected != timeline {
        let first = expected.lines().zip(timeline.lines()).find(|(a, b)| a != b);
        return Err(format!(
            "the timeline is another one, first at {first:?}; KEEPWELL_BLESS=1 writes it anew:\n{timeline}"
        )
        .into());
    }
    Ok(())
}

datatest_stable::harness! {
    { test = play, root = "../scenarios", pattern = r"/script\.txt$" },
}
