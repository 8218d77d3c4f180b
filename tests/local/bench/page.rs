//! Puts what was measured where the documents have it: between two marks of a page, and in pictures beside it.

use std::path::Path;

use anyhow::Context;

/// Replaces what stands between the marks of this name.
pub(super) fn replace(page: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let (begin, end) = (format!("<!-- bench {name} -->"), format!("<!-- end of {name} -->"));
    let whole = std::fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))?;
    let parts = whole.split_once(&begin).and_then(|(before, rest)| rest.split_once(&end).map(|(_, after)| (before, after)));
    let (before, after) = parts.with_context(|| format!("{} has no {begin} … {end}", page.display()))?;
    let text = text.trim();
    std::fs::write(page, format!("{before}{begin}\n\n{text}\n\n{end}{after}")).with_context(|| format!("cannot write {}", page.display()))
}
