//! Examples of the documentation, so that what is tried is what is shown.

use std::fs;
use std::path::Path;

/// The block of `docs/PAGE.md` whose text holds this.
#[track_caller]
pub fn block(page: &str, holds: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../docs/{page}.md"));
    let text = fs::read_to_string(&file).expect("the page is there");
    // Between fences: text, block, text, block, …
    let mut blocks = text.split("```").skip(1).step_by(2).filter_map(|b| b.split_once('\n'));
    let found = blocks.find(|(_, block)| block.contains(holds));
    found.unwrap_or_else(|| panic!("no block of {} holds `{holds}`", file.display())).1.to_owned()
}
