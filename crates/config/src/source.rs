//! Reading the files. Together with `env_file` (in `resolve`) the only IO of this crate.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::diagnostic::{Diagnostic, Diagnostics};

/// One file's text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Source {
    /// As messages show it.
    pub path: PathBuf,
    /// What it holds.
    pub text: String,
}

/// A configuration is written by people; what is larger is a mistake, such as a log file, and must not fill the memory.
pub const MAX_FILE: u64 = 16 << 20;

/// Reads the main file, then `keepwell.d/*.toml` beside it in the order of names.
///
/// # Errors
/// One finding for each file that is missing, unreadable, too large or no UTF-8.
pub fn read_sources(file: &Path) -> Result<Vec<Source>, Diagnostics> {
    let mut errors = Diagnostics::default();
    let mut sources = vec![];
    let mut take = |path: &Path| match read(path) {
        Ok(text) => sources.push(Source { path: path.to_path_buf(), text }),
        Err(d) => errors.0.push(d),
    };
    take(file);
    match fragments(file) {
        Ok(paths) => paths.iter().for_each(|p| take(p)),
        Err(d) => errors.0.push(d),
    }
    if errors.0.is_empty() { Ok(sources) } else { Err(errors) }
}

fn fragments(file: &Path) -> Result<Vec<PathBuf>, Diagnostic> {
    let folder = file.parent().unwrap_or(Path::new("")).join("keepwell.d");
    let failed = |e: &std::io::Error| {
        Diagnostic::error(
            "unreadable-file",
            format!("{} cannot be listed: {}", folder.display(), words(&folder, e)),
        )
        .in_file(&folder)
        .help("keepwell reads keepwell.d/*.toml beside the configuration file; make the folder readable")
    };
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(failed(&e)),
    };
    let mut paths = vec![];
    for entry in entries {
        let name = entry.map_err(|e| failed(&e))?.file_name();
        // Editors leave `.web.toml.swp` and the like; a name with a leading dot is never ours.
        let shown = name.to_string_lossy();
        if shown.ends_with(".toml") && !shown.starts_with('.') {
            paths.push(folder.join(name));
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<String, Diagnostic> {
    let bytes = match slurp(path) {
        Ok(bytes) => bytes,
        Err(e) => {
            let d = Diagnostic::error(
                "unreadable-file",
                format!("{} cannot be read: {}", path.display(), words(path, &e)),
            )
            .in_file(path);
            let absent = e.kind() == ErrorKind::NotFound;
            return Err(if absent { d.help("keepwell init writes a commented starter file") } else { d });
        }
    };
    if bytes.len() as u64 > MAX_FILE {
        let message = format!("{} is larger than {} MiB", path.display(), MAX_FILE >> 20);
        return Err(Diagnostic::error("file-too-large", message).in_file(path));
    }
    String::from_utf8(bytes).map(|t| t.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(t)).map_err(
        |e| {
            let bytes = e.as_bytes();
            let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
            let good = &bytes[..e.utf8_error().valid_up_to()];
            let line = good.iter().filter(|b| **b == b'\n').count() + 1;
            let what =
                if utf16 { "UTF-16, not UTF-8".to_owned() } else { format!("not UTF-8 in line {line}") };
            let mut d = Diagnostic::error("not-utf8", format!("{} is {what}", path.display()))
                .in_file(path)
                .help("save the file as UTF-8");
            d.line = u32::try_from(if utf16 { 0 } else { line }).unwrap_or(u32::MAX);
            d
        },
    )
}

fn slurp(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![];
    fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Why the file at `path` could not be read, without the number that `std` appends.
pub(crate) fn words(path: &Path, e: &std::io::Error) -> String {
    let known = [
        (ErrorKind::NotFound, "there is no such file"),
        // Windows denies to open a folder as a file.
        (ErrorKind::PermissionDenied, if path.is_dir() { "it is a folder" } else { "permission denied" }),
        (ErrorKind::IsADirectory, "it is a folder"),
    ];
    if let Some((_, text)) = known.iter().find(|(kind, _)| *kind == e.kind()) {
        return (*text).to_owned();
    }
    let text = e.to_string();
    let cut = text.find(" (os error").unwrap_or(text.len());
    text[..cut].trim_end_matches('.').to_lowercase()
}
