//! What is looked at before what failed is ended.

use std::time::Duration;

use crate::config::Evidence;
use crate::element::evidence::{EvidenceTable, RawEvidence};
use crate::element::healing::RawHealing;
use crate::read::{Located, Reader};

use super::not_zero;

/// A look takes milliseconds; a host that takes longer has other troubles.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The time that the end waits for it, if it does, and what it is.
pub(crate) fn evidence(r: &mut Reader<'_>, raw: Option<&RawHealing>) -> (Option<Duration>, Evidence) {
    let mut evidence = Evidence::default();
    let raw: &EvidenceTable = match raw.and_then(|raw| raw.evidence.as_ref()) {
        None => return (Some(TIMEOUT), evidence),
        Some(Located { value: RawEvidence::Off, .. }) => return (None, evidence),
        Some(Located { value: RawEvidence::Of(table), .. }) => table,
    };
    let number = |n: i64| usize::try_from(n).unwrap_or(usize::MAX);
    if let Some(timeout) = raw.timeout.as_ref().filter(|t| t.value.0.is_zero()) {
        not_zero(r, timeout.at, "timeout", "healing.evidence");
    }
    if let Some(lines) = &raw.lines {
        evidence.lines = number(lines.value.0);
    }
    if let Some(size) = &raw.size {
        evidence.size = usize::try_from(size.value.0).unwrap_or(usize::MAX);
    }
    if let Some(keep) = &raw.keep {
        evidence.keep = number(keep.value.0);
    }
    if let Some(size) = &raw.keep_size {
        evidence.keep_bytes = size.value.0;
    }
    evidence.stacks = raw.stacks.as_ref().is_some_and(|s| s.value);
    evidence.dump = raw.dump.as_ref().is_some_and(|d| d.value);
    (Some(raw.timeout.as_ref().map_or(TIMEOUT, |t| t.value.0)), evidence)
}
