//! The labels of a pod, packed: of most pods of a large group the keys that a plan asks for are not there, and that is seen without
//! looking through them.

use serde::{Deserialize, Serialize, Serializer};

use crate::names;

/// A pod's labels in one allocation: keys and values never contain a line break or an equals sign.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(from = "Box<str>")]
pub struct Labels {
    text: Box<str>,
    /// The traces of all keys.
    traces: u64,
}

/// Bits that a key has in common with few others; [`IS_FENCE`] beside them.
fn traces(key: &str) -> u64 {
    let last = key.bytes().last().unwrap_or_default();
    let fence = if key.starts_with(names::FENCE_PREFIX) { IS_FENCE } else { 0 };
    1 << ((key.len() * 5 + usize::from(last)) % 63) | fence
}

/// Some key is a fence's.
const IS_FENCE: u64 = 1 << 63;

/// A label's key that many pods are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub(super) key: &'a str,
    traces: u64,
}

impl Wanted<'_> {
    /// Whether a key that has left these traces may be the one.
    pub(super) fn may_be_among(&self, all: u64) -> bool {
        all & self.traces == self.traces
    }
}

impl<'a> From<&'a str> for Wanted<'a> {
    fn from(key: &'a str) -> Self {
        Self { key, traces: traces(key) }
    }
}

impl Labels {
    /// The traces of all keys: those of a key that is there are among them.
    pub(super) fn traces(&self) -> u64 {
        self.traces
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        if !Wanted::from(key).may_be_among(self.traces) {
            return None;
        }
        // Found as a whole first: of some pods there are thousands of labels.
        let at = self.text.match_indices(key).map(|(at, _)| at).find(|at| {
            let begins = *at == 0 || self.text.as_bytes()[at - 1] == b'\n';
            begins && self.text.as_bytes().get(at + key.len()) == Some(&b'=')
        })?;
        self.text[at + key.len() + 1..].lines().next().or(Some(""))
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name)
    }

    /// The keys of fences.
    pub fn fences(&self) -> impl Iterator<Item = &str> {
        let any = self.traces & IS_FENCE != 0;
        any.then(|| self.keys().filter(|key| key.starts_with(names::FENCE_PREFIX))).into_iter().flatten()
    }

    /// Each as `key=value`.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }

    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// As they are packed.
impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl From<Box<str>> for Labels {
    fn from(text: Box<str>) -> Self {
        let mut labels = Self { text, traces: 0 };
        labels.traces = labels.keys().fold(0, |all, key| all | traces(key));
        labels
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Self {
        let mut text = String::new();
        for (key, value) in labels {
            text.push_str(key.as_ref());
            text.push('=');
            text.push_str(value.as_ref());
            text.push('\n');
        }
        Box::<str>::from(text).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_labels_are_found_by_their_whole_key() {
        let labels: Labels = [("app", "web"), ("role", "leader"), ("empty", "")].into_iter().collect();
        assert_eq!(labels.get("role"), Some("leader"));
        assert_eq!(labels.get("empty"), Some(""));
        assert_eq!(labels.get("rol"), None);
        assert_eq!(labels.get("leader"), None);
        assert_eq!(labels.fences().count(), 0);
    }

    #[test]
    fn no_label_is_missed_and_none_is_made_up_whatever_traces_the_keys_share() {
        let name = |number: u32| format!("{}{}", "k".repeat(1 + number as usize % 60), number);
        let labels: Labels = (0..200).map(|number| (name(number), number.to_string())).collect();
        for number in 0..400 {
            let wanted = (number < 200).then(|| number.to_string());
            assert_eq!(labels.get(&name(number)), wanted.as_deref());
        }
        let fenced: Labels = [("app", "web"), ("leadergroup.io/fence.web", "f.1")].into_iter().collect();
        assert_eq!(fenced.fences().collect::<Vec<_>>(), ["leadergroup.io/fence.web"]);
        assert_eq!((fenced.get("leadergroup.io/fence.web"), fenced.get("leadergroup.io/fence.wef")), (Some("f.1"), None));
    }
}
