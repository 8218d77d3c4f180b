//! Puts what was measured where the documents have it: into the chapter of a page that is its own.

use std::path::Path;

use anyhow::Context;

/// Replaces what stands between the marks of this name; where there are none, they and a title go to the end of the page.
pub(super) fn replace(page: &Path, (name, title): (&str, &str), text: &str) -> anyhow::Result<()> {
    let (begin, end) = (format!("<!-- bench {name} -->"), format!("<!-- end of {name} -->"));
    let whole = std::fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))?;
    let parts = whole.split_once(&begin).and_then(|(before, rest)| rest.split_once(&end).map(|(_, after)| (before.to_owned(), after.to_owned())));
    let (before, after) = parts.unwrap_or_else(|| (format!("{}\n\n## {title}\n\n", whole.trim_end()), "\n".to_owned()));
    let text = text.trim();
    std::fs::write(page, format!("{before}{begin}\n\n{text}\n\n{end}{after}")).with_context(|| format!("cannot write {}", page.display()))
}
