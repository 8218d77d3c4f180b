//! What pages say in passing and a test can compare: links, reasons, keys.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::root;

/// Every page that users read.
fn pages() -> Vec<PathBuf> {
    let mut found: Vec<_> = ["README.md", "SECURITY.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|file| root().join(file)).to_vec();
    for folder in ["docs", "docs/examples"] {
        let entries = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        found.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    found
}

/// How a heading is linked to.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase().chars().filter(|letter| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter)).collect::<String>();
    kept.replace(' ', "-")
}

fn anchors(file: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#'))).map(anchor).collect()
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.starts_with("https://") {
                continue;
            }
            let (file, heading) = target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading)));
            let file = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(file.exists(), "{} links to {target}", page.display());
            assert!(heading.is_none_or(|heading| anchors(&file).contains(heading)), "{} links to {target}", page.display());
        }
    }
}

/// Whether a word looks like a reason: `LeaseConflict`.
fn is_reason(word: &str) -> bool {
    let capitals = word.chars().filter(char::is_ascii_uppercase).count();
    capitals > 1 && word.starts_with(|letter: char| letter.is_ascii_uppercase()) && word.chars().all(|letter| letter.is_ascii_alphabetic())
}

/// Those of a page that do.
fn reasons(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).filter(|word| is_reason(word)).map(str::to_owned).collect()
}

/// The source of what decides and tells.
fn code() -> String {
    let mut code = String::new();
    for folder in ["src/policy", "src/policy/plan", "src/operator"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            code += &std::fs::read_to_string(&path).unwrap_or_default();
        }
    }
    code
}

#[test]
fn every_reason_that_a_page_names_is_one_of_the_operators() {
    let code = code();
    let api = std::fs::read_to_string(root().join("crds/leadergroups.yaml")).unwrap();
    for page in ["README.md", "docs/reasons.md"] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        for reason in reasons(&text).into_iter().filter(|word| !["LeaderGroup", "NEXT", "DEPLOYMENT", "NAME"].contains(&&**word)) {
            let known = code.contains(&format!("\"{reason}\"")) || api.contains(&reason);
            assert!(known, "{page} names {reason}");
        }
    }
}

#[test]
fn the_page_of_reasons_has_each_of_them() {
    let page = std::fs::read_to_string(root().join("docs/reasons.md")).unwrap();
    let told = reasons(&page);
    // What a decision or an event says, and no kind of object, nor what others say.
    let mut files = vec![root().join("src/operator/report.rs")];
    files.extend(std::fs::read_dir(root().join("src/policy")).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()));
    let code: String = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let said: BTreeSet<&str> = code.split('"').filter(|word| is_reason(word) && !["RollingUpdate", "NoSchedule"].contains(word)).collect();
    let lacking: Vec<_> = said.into_iter().filter(|reason| !told.contains(*reason)).collect();
    assert!(lacking.is_empty(), "docs/reasons.md lacks {lacking:?}");
}

#[test]
fn the_tour_of_the_readme_is_the_sample() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let tour = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let sample = std::fs::read_to_string(root().join("config/samples/web.yaml")).unwrap();
    let objects = |text: &str| -> Vec<serde_json::Value> { text.split("---\n").map(|object| serde_saphyr::from_str(object).unwrap()).collect() };
    assert_eq!(objects(tour), objects(&sample));
}
