//! A label selector as kubectl takes it, without < and >, and whether a group's labels match it. Plain data; it asks nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use kube::core::{Expression, Selector, SelectorExt};

/// What a label's key, its prefix, or its value has at most, by the API server's rules.
const LONGEST_NAME: usize = 63;
const LONGEST_PREFIX: usize = 253;
/// More is not written onto a Lease.
const LONGEST: usize = 512;
const FORM: &str = "must be a label selector such as shard=a, shard!=a, shard in (a,b), shard notin (a,b), shard or !shard, or several with commas between";

/// Which groups an operator keeps, by their labels.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupSelector {
    selector: Selector,
    keys: BTreeSet<String>,
}

impl GroupSelector {
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector.matches(labels)
    }

    /// Of these labels those that it asks for: what has to be kept of them.
    pub fn asked_for(&self, labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        labels.iter().filter(|(key, _)| self.keys.contains(*key)).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Whether it asks for no labels but those that this one asks for.
    pub fn asks_for_no_more_than(&self, other: &Self) -> bool {
        self.keys.is_subset(&other.keys)
    }
}

/// In the form that kubectl takes.
impl fmt::Display for GroupSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.selector.fmt(formatter)
    }
}

impl FromStr for GroupSelector {
    type Err = String;

    /// Fails with what is wrong and what is allowed.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("{FORM}; it has more than {LONGEST} bytes"));
        }
        let mut keys = BTreeSet::new();
        let mut selector = Selector::default();
        for requirement in requirements(text) {
            let (key, expression) = expression(requirement).map_err(|problem| format!("{FORM}; {problem}"))?;
            keys.insert(key);
            selector.extend(expression);
        }
        if keys.is_empty() { Err(format!("{FORM}; it is empty")) } else { Ok(Self { selector, keys }) }
    }
}

/// What stands between commas that stand in no parentheses.
fn requirements(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    let parts = text.split(move |letter| {
        inside = (inside || letter == '(') && letter != ')';
        letter == ',' && !inside
    });
    let whole = !text.trim().is_empty();
    parts.map(str::trim).filter(move |_| whole)
}

fn expression(text: &str) -> Result<(String, Expression), String> {
    let keyed = |key: &str, make: &dyn Fn(String) -> Result<Expression, String>| {
        let key = key.trim();
        if is_key(key) { Ok((key.to_owned(), make(key.to_owned())?)) } else { Err(format!("{key:?} is no label key")) }
    };
    if let Some((head, list)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let values = || list.split(',').map(value).collect::<Result<BTreeSet<_>, _>>();
        return match head.trim_end().rsplit_once(char::is_whitespace) {
            Some((key, "in")) => keyed(key, &|key| Ok(Expression::In(key, values()?))),
            Some((key, "notin")) => keyed(key, &|key| Ok(Expression::NotIn(key, values()?))),
            _ => Err(format!("{text:?} is none of these")),
        };
    }
    if let Some((key, text)) = text.split_once("!=") {
        return keyed(key, &|key| Ok(Expression::NotEqual(key, value(text)?)));
    }
    if let Some((key, text)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return keyed(key, &|key| Ok(Expression::Equal(key, value(text)?)));
    }
    match text.strip_prefix('!') {
        Some(key) => keyed(key, &|key| Ok(Expression::DoesNotExist(key))),
        None => keyed(text, &|key| Ok(Expression::Exists(key))),
    }
}

fn value(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || is_name(text) { Ok(text.to_owned()) } else { Err(format!("{text:?} is no label value")) }
}

fn is_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').unwrap_or(("example.com", key));
    let is_label = |label: &str| is_name(label) && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    is_name(name) && prefix.len() <= LONGEST_PREFIX && prefix.split('.').all(is_label)
}

fn is_name(name: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    name.len() <= LONGEST_NAME && ends(name.bytes().next()) && ends(name.bytes().last()) && name.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        selector.parse::<GroupSelector>().unwrap().matches(&labels)
    }

    #[test]
    fn a_selector_selects_what_kubectl_would() {
        for (selector, selects, others) in [
            ("shard=a", vec![("shard", "a")], vec![("shard", "b")]),
            ("shard==a", vec![("shard", "a")], vec![]),
            ("shard != a", vec![("shard", "b")], vec![("shard", "a")]),
            ("shard!=a", vec![], vec![("shard", "a")]),
            ("shard in (a, b)", vec![("shard", "b")], vec![("shard", "c")]),
            ("shard notin (a,b)", vec![], vec![("shard", "b")]),
            ("example.com/shard", vec![("example.com/shard", "")], vec![("shard", "")]),
            ("!shard", vec![], vec![("shard", "")]),
            ("shard in (a,b),tier=db,!old", vec![("shard", "a"), ("tier", "db")], vec![("shard", "a"), ("tier", "db"), ("old", "")]),
            ("shard=", vec![("shard", "")], vec![("shard", "a")]),
        ] {
            assert!(matches(selector, &selects), "{selector}");
            assert!(!matches(selector, &others), "{selector}");
            let parsed: GroupSelector = selector.parse().unwrap();
            assert_eq!(parsed.to_string().parse(), Ok(parsed), "{selector}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_with_what_is() {
        for text in [
            "", " ", ",", "a=b,", "=a", "a=b c", "a in b", "a in (b", "a notin", "a is (b)", "-a", "a/b/c", "A.b/c", "a=(b)", "!", "!!a", "a=b=c", "ä=b", "a>1",
        ] {
            let refused = text.parse::<GroupSelector>().unwrap_err();
            assert!(refused.starts_with("must be a label selector such as"), "{text:?}: {refused}");
        }
        assert!(format!("a={}", "x".repeat(64)).parse::<GroupSelector>().is_err());
        assert!(vec!["a"; 300].join(",").parse::<GroupSelector>().unwrap_err().ends_with("it has more than 512 bytes"));
    }

    #[test]
    fn no_more_is_kept_of_labels_than_it_asks_for() {
        let selector: GroupSelector = "shard=a,!old".parse().unwrap();
        let labels = ["shard", "team", "old"].map(|key| (key.to_owned(), "a".to_owned())).into();
        assert_eq!(selector.asked_for(&labels).into_keys().collect::<Vec<_>>(), ["old", "shard"]);
        let narrower: GroupSelector = "shard in (b)".parse().unwrap();
        assert!(narrower.asks_for_no_more_than(&selector) && !selector.asks_for_no_more_than(&narrower));
    }
}
