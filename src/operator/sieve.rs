//! Thins the API server's answers while they arrive: what is not [`kept`](super::kept) is not even buffered, so that an answer
//! takes no more memory than what is read of it, however large its objects are. What comes out of well-formed JSON is
//! well-formed, nowhere deep, and has no number that Rust's reader would choke on. It knows bytes, and no kinds.
//!
//! A string that is cut ends in `…` and a hash of what was cut off: two that differ stay different. Where members of a map are
//! left out because it is full, it gets the member `"": null`; a list gets the element `null`. Every object of an answer is told how
//! many bytes it had, as its field `size`.

use super::kept::{Keep, ROOT};

/// No kept field has a longer name.
const LONGEST_KEY: usize = 512;
const LONGEST_TOKEN: usize = 32;
/// Kept values are nested no deeper: Rust's reader goes to 128.
const DEEPEST: usize = 48;
/// How much more than it may have a full map takes of what the operator itself has set.
const RESERVE: usize = 4 << 10;
const OWN: &[u8] = b"leadergroup.io/";

/// The state between two chunks of an answer.
#[derive(Debug)]
pub(super) struct Sieve {
    state: State,
    stack: Vec<Frame>,
    /// Bytes that were taken in so far, and given out.
    taken: usize,
    given: usize,
    out: Vec<u8>,
}

/// A container that is kept.
#[derive(Clone, Copy, Debug)]
struct Frame {
    is_list: bool,
    keep: Keep,
    /// What `taken` was when it began.
    from: usize,
    /// What `given` may be when a further member begins.
    until: usize,
    empty: bool,
    /// Something was left out because it was full.
    full: bool,
}

#[derive(Debug)]
enum State {
    /// Before a value, between members, or between answers.
    Between,
    Key {
        key: Vec<u8>,
        escaped: bool,
    },
    Colon {
        key: Vec<u8>,
    },
    Value(Option<Keep>),
    Text(Text),
    Token {
        token: Vec<u8>,
        keep: Option<Keep>,
    },
    Skip(Skip),
    /// It is no JSON. Nothing is kept until the next line.
    Broken,
}

/// A string that is kept up to its limit.
#[derive(Debug)]
struct Text {
    left: usize,
    /// How many bytes of an escape follow; the first one tells.
    escape: Escape,
    /// The first half of a pair of `\u` escapes has been kept.
    half: bool,
    /// A hash of what was cut off.
    cut: Option<u64>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Escape {
    No,
    Begun,
    Hex { seen: u8, value: u16 },
}

/// A value that is not kept.
#[derive(Debug)]
struct Skip {
    depth: usize,
    in_text: bool,
    escaped: bool,
    bytes: usize,
    /// Its size is given out in its place.
    told: bool,
}

impl Default for Sieve {
    fn default() -> Self {
        Self { state: State::Between, stack: Vec::new(), taken: 0, given: 0, out: Vec::new() }
    }
}

impl Sieve {
    /// What is left of the next bytes of an answer.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut rest = bytes;
        while let [byte, after @ ..] = rest {
            let before = rest.len();
            rest = match &mut self.state {
                State::Text(text) => {
                    let (had, out) = (self.out.len(), &mut self.out);
                    let (rest, ended) = text.pass(rest, out);
                    self.given += self.out.len() - had;
                    if ended {
                        self.end_of_value();
                    }
                    rest
                }
                State::Skip(skip) => {
                    let (rest, ended) = skip.pass(rest);
                    if ended {
                        if let Some(size) = skip.told.then_some(skip.bytes) {
                            self.put(size.to_string().as_bytes());
                        }
                        self.end_of_value();
                    }
                    rest
                }
                State::Token { token, .. } if byte.is_ascii_alphanumeric() || b"+-.".contains(byte) => {
                    // One byte more than there may be tells that it is too long.
                    if token.len() <= LONGEST_TOKEN {
                        token.push(*byte);
                    }
                    after
                }
                State::Token { .. } => {
                    self.end_of_token();
                    // This byte is what follows it.
                    rest
                }
                _ => {
                    self.step(*byte);
                    after
                }
            };
            self.taken += before - rest.len();
        }
        std::mem::take(&mut self.out)
    }

    fn put(&mut self, bytes: &[u8]) {
        self.given += bytes.len();
        self.out.extend_from_slice(bytes);
    }

    /// One byte of what is neither a string's, a number's nor a skipped value's inside.
    fn step(&mut self, byte: u8) {
        match &mut self.state {
            State::Broken if byte == b'\n' => {
                self.put(b"\n");
                *self = Self { out: std::mem::take(&mut self.out), ..Self::default() };
            }
            State::Broken => {}
            State::Key { key, escaped } => {
                if byte == b'"' && !*escaped {
                    self.state = State::Colon { key: std::mem::take(key) };
                } else {
                    *escaped = byte == b'\\' && !*escaped;
                    if key.len() <= LONGEST_KEY {
                        key.push(byte);
                    }
                }
            }
            _ if byte.is_ascii_whitespace() => {
                if byte == b'\n' && self.stack.is_empty() && matches!(self.state, State::Between) {
                    self.put(b"\n");
                    (self.taken, self.given) = (0, 0);
                }
            }
            State::Colon { key } if byte == b':' => {
                let key = std::mem::take(key);
                let keep = self.begin_member(&key);
                self.state = State::Value(keep);
            }
            State::Value(keep) => {
                let keep = *keep;
                self.begin_value(byte, keep);
            }
            State::Between => match (self.stack.last(), byte) {
                (None, _) => self.begin_value(byte, Some(Keep::Root)),
                (Some(_), b',') => {}
                (Some(Frame { is_list: false, .. }), b'"') => self.state = State::Key { key: Vec::new(), escaped: false },
                (Some(Frame { is_list: false, .. }), b'}') | (Some(Frame { is_list: true, .. }), b']') => self.end_of_container(),
                (Some(Frame { is_list: true, .. }), _) => {
                    let keep = self.begin_element();
                    self.begin_value(byte, keep);
                }
                _ => self.broken(),
            },
            _ => self.broken(),
        }
    }

    /// What is kept of the value of this key; if anything is, the key has been given out.
    fn begin_member(&mut self, key: &[u8]) -> Option<Keep> {
        let given = self.given;
        let frame = self.stack.last_mut()?;
        let keep = match if let Keep::Root = frame.keep { ROOT } else { frame.keep } {
            Keep::Fields(fields, _) => fields.iter().find(|(name, _)| name.as_bytes() == key).map(|(_, keep)| *keep)?,
            other => other,
        };
        let reserve = if key.starts_with(OWN) { RESERVE } else { 0 };
        if key.len() > LONGEST_KEY || given >= frame.until.saturating_add(reserve) {
            frame.full = true;
            return None;
        }
        let comma = !std::mem::replace(&mut frame.empty, false);
        if comma {
            self.put(b",");
        }
        self.put(b"\"");
        self.put(key);
        self.put(b"\":");
        Some(keep)
    }

    fn begin_element(&mut self) -> Option<Keep> {
        let given = self.given;
        let frame = self.stack.last_mut()?;
        if given >= frame.until {
            frame.full = true;
            return None;
        }
        let keep = frame.keep;
        if !std::mem::replace(&mut frame.empty, false) {
            self.put(b",");
        }
        Some(keep)
    }

    fn begin_value(&mut self, byte: u8, keep: Option<Keep>) {
        self.state = match (keep, byte) {
            (None | Some(Keep::Size), b'{' | b'[' | b'"') => State::Skip(Skip::begin(byte, keep.is_some())),
            (Some(_), b'{' | b'[') if self.stack.len() >= DEEPEST => {
                self.put(b"null");
                State::Skip(Skip::begin(byte, false))
            }
            (Some(keep), b'{' | b'[') => {
                let until = match keep {
                    Keep::Fields(_, bytes) | Keep::Whole(bytes) => self.given.saturating_add(bytes),
                    Keep::Size | Keep::Root => usize::MAX,
                };
                let outer = self.stack.last().map_or(usize::MAX, |frame| frame.until);
                self.stack.push(Frame { is_list: byte == b'[', keep, from: self.taken, until: until.min(outer), empty: true, full: false });
                self.put(&[byte]);
                State::Between
            }
            (Some(keep), b'"') => {
                self.put(b"\"");
                let left = if let Keep::Whole(bytes) = keep { bytes } else { LONGEST_KEY };
                State::Text(Text { left, escape: Escape::No, half: false, cut: None })
            }
            (keep, b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => State::Token { token: vec![byte], keep },
            _ => return self.broken(),
        };
    }

    fn end_of_token(&mut self) {
        let State::Token { token, keep } = std::mem::replace(&mut self.state, State::Between) else { return };
        match keep {
            None => {}
            Some(Keep::Size) => self.put(token.len().to_string().as_bytes()),
            Some(_) => {
                // A number with an exponent may be none that a float can hold, and no field has one.
                let is_number = token[0] == b'-' || token[0].is_ascii_digit();
                let odd = token.len() > LONGEST_TOKEN || is_number && token.iter().any(|byte| matches!(byte, b'e' | b'E'));
                self.put(if odd { b"null" } else { &token });
            }
        }
        self.end_of_value();
    }

    fn end_of_value(&mut self) {
        self.state = State::Between;
    }

    fn end_of_container(&mut self) {
        let Some(frame) = self.stack.pop() else { return };
        let comma: &[u8] = if frame.empty { b"" } else { b"," };
        if frame.full {
            self.put(comma);
            self.put(if frame.is_list { b"null" } else { b"\"\":null" });
        } else if matches!(frame.keep, Keep::Root) && !frame.is_list {
            self.put(comma);
            let size = self.taken.saturating_sub(frame.from) + 1;
            self.put(format!("\"size\":{size}").as_bytes());
        }
        self.put(if frame.is_list { b"]" } else { b"}" });
        self.end_of_value();
    }

    /// Whoever reads it must notice.
    fn broken(&mut self) {
        self.put(b"?");
        self.stack.clear();
        self.state = State::Broken;
    }
}

impl Text {
    /// Takes bytes of the string up to its end: what is left, and whether it has ended.
    fn pass<'a>(&mut self, mut rest: &'a [u8], out: &mut Vec<u8>) -> (&'a [u8], bool) {
        while let [byte, after @ ..] = rest {
            if self.escape == Escape::No {
                // What lies between two characters that mean something is taken at once.
                let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(rest.len());
                if plain > 0 {
                    let (run, after) = rest.split_at(plain);
                    self.take(run, out);
                    self.half = false;
                    rest = after;
                    continue;
                }
                if *byte == b'"' {
                    if let Some(hash) = self.cut {
                        out.extend_from_slice(format!("…{hash:016x}").as_bytes());
                    }
                    out.push(b'"');
                    return (after, true);
                }
            }
            self.take_escape(*byte, out);
            rest = after;
        }
        (rest, false)
    }

    /// A run without escapes.
    fn take(&mut self, run: &[u8], out: &mut Vec<u8>) {
        if self.cut.is_none() && run.len() <= self.left {
            self.left -= run.len();
            out.extend_from_slice(run);
            return;
        }
        let kept = if self.cut.is_some() {
            0
        } else {
            // Not within a character; what began in an earlier chunk is completed.
            (self.left..run.len()).find(|at| run[*at] & 0xC0 != 0x80).unwrap_or(run.len())
        };
        out.extend_from_slice(&run[..kept]);
        self.left = self.left.saturating_sub(kept);
        if kept < run.len() {
            self.drop(&run[kept..]);
        }
    }

    fn take_escape(&mut self, byte: u8, out: &mut Vec<u8>) {
        if self.escape == Escape::No && self.left == 0 && !self.half {
            self.drop(&[]);
        }
        if self.cut.is_some() {
            self.drop(&[byte]);
        } else {
            out.push(byte);
            self.left = self.left.saturating_sub(1);
        }
        self.escape = match self.escape {
            Escape::No => Escape::Begun,
            Escape::Begun if byte == b'u' => Escape::Hex { seen: 0, value: 0 },
            Escape::Begun => {
                self.half = false;
                Escape::No
            }
            Escape::Hex { seen, value } => {
                let digit = char::from(byte).to_digit(16).and_then(|digit| u16::try_from(digit).ok()).unwrap_or_default();
                let value = value.wrapping_shl(4) | digit;
                if seen < 3 {
                    Escape::Hex { seen: seen + 1, value }
                } else {
                    self.half = (0xD800..0xDC00).contains(&value) && self.cut.is_none();
                    Escape::No
                }
            }
        };
    }

    fn drop(&mut self, bytes: &[u8]) {
        let hash = self.cut.unwrap_or(0xcbf2_9ce4_8422_2325);
        self.cut = Some(bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)));
    }
}

impl Skip {
    /// `byte` is the first one of the value.
    fn begin(byte: u8, told: bool) -> Self {
        let in_text = byte == b'"';
        Self { depth: usize::from(!in_text), in_text, escaped: false, bytes: 1, told }
    }

    /// Takes bytes of the value up to its end: what is left, and whether it has ended.
    fn pass<'a>(&mut self, mut rest: &'a [u8]) -> (&'a [u8], bool) {
        while !rest.is_empty() {
            let ends = |byte: &u8| if self.in_text { matches!(byte, b'"' | b'\\') } else { matches!(byte, b'"' | b'{' | b'}' | b'[' | b']') };
            let plain = if self.escaped { 0 } else { rest.iter().position(ends).unwrap_or(rest.len()) };
            self.bytes = self.bytes.saturating_add(plain + 1);
            let [byte, after @ ..] = &rest[plain..] else {
                self.bytes -= 1;
                return (&[], false);
            };
            rest = after;
            if self.escaped {
                self.escaped = false;
                continue;
            }
            match byte {
                b'\\' => self.escaped = true,
                b'"' => self.in_text = !self.in_text,
                b'{' | b'[' => self.depth += 1,
                _ => self.depth = self.depth.saturating_sub(1),
            }
            if self.depth == 0 && !self.in_text && !self.escaped {
                return (rest, true);
            }
        }
        (rest, false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn sieved(text: &str) -> Value {
        let left = Sieve::default().pass(text.as_bytes());
        serde_json::from_slice(&left).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&left)))
    }

    #[test]
    fn what_is_kept_is_as_it_was_and_everything_else_is_gone() {
        let lease = r#" {"kind":"Lease", "metadata": {"name":"web","managedFields":[{"manager":"x","time":"9999-12-31T23:59:59.999999Z"}],
            "annotations":{"a/b":"c","leadergroup.io/term":"7"},"selfLink":[1,{"a":"]}\""}]},
            "spec":{"holderIdentity":"\u00fc\ud83d\ude00\n","leaseTransitions":-3,"x":null,"renewTime":null}}"#;
        assert_eq!(
            sieved(lease),
            json!({
                "kind": "Lease", "size": lease.len() - 1,
                "metadata": { "name": "web", "managedFields": [{ "manager": "x" }], "annotations": { "leadergroup.io/term": "7" } },
                "spec": { "holderIdentity": "ü😀\n", "leaseTransitions": -3, "renewTime": null },
            })
        );
    }

    #[test]
    fn lists_events_and_errors_are_thinned_like_what_they_contain() {
        let pod = json!({ "metadata": { "name": "web-1", "selfLink": "x" }, "spec": { "containers": [{ "env": [{ "value": "secret" }] }], "nodeName": "n" } });
        let thin = |object: &Value| (object["metadata"].clone(), object["spec"].clone());
        let kept = (json!({ "name": "web-1" }), json!({ "nodeName": "n" }));
        let list = sieved(&json!({ "kind": "PodList", "metadata": { "resourceVersion": "9", "continue": "c" }, "items": [pod, pod] }).to_string());
        assert_eq!(list["items"].as_array().unwrap().iter().map(thin).collect::<Vec<_>>(), [kept.clone(), kept.clone()]);
        assert_eq!(list["metadata"], json!({ "resourceVersion": "9", "continue": "c" }));
        let events = format!("{}\n{}\n", json!({ "type": "ADDED", "object": pod }), json!({ "type": "ERROR", "object": { "kind": "Status", "code": 410 } }));
        let left = String::from_utf8(Sieve::default().pass(events.as_bytes())).unwrap();
        let events: Vec<Value> = left.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&events[0]["type"], thin(&events[0]["object"])), (&json!("ADDED"), kept));
        assert_eq!(events[1]["object"]["code"], 410);
        let error = r#"{"kind":"Status","status":"Failure","message":"no","reason":"Invalid","code":422,"details":{"name":"web","kind":"pods","causes":[{"reason":"x"}]}}"#;
        let mut expected: Value = serde_json::from_str(error).unwrap();
        expected["size"] = json!(error.len());
        assert_eq!(sieved(error), expected);
    }

    #[test]
    fn what_is_cut_says_so_and_stays_unlike_others_and_is_cut_between_characters() {
        let holder = |text: &str| sieved(&format!(r#"{{"spec":{{"holderIdentity":"{text}"}}}}"#))["spec"]["holderIdentity"].as_str().unwrap().to_owned();
        for unit in ["a", "ü", "\\u003c", "\\ud83d\\ude00", "\\\"", "\\\\"] {
            for before in ["", "x", "xy", "xyz"] {
                let long = before.to_owned() + &unit.repeat(200_000);
                let (one, other) = (holder(&format!("{long}1")), holder(&format!("{long}2")));
                assert!(one.len() < 8 << 10 && one.contains('…') && one != other, "{unit}");
                assert_eq!(holder(&format!("{long}1")), one);
            }
        }
        assert_eq!(holder("web_1"), "web_1");
    }

    #[test]
    fn a_map_that_is_full_is_marked_and_keeps_what_the_operator_has_set() {
        let many = (0..40_000).fold(String::new(), |many, number| many + &format!(r#""a{number:05}":"value","#));
        let pod = sieved(&format!(r#"{{"metadata":{{"labels":{{{many}"leadergroup.io/fence.web":"f.1","role":"leader"}},"uid":"u"}}}}"#));
        let labels = &pod["metadata"]["labels"];
        assert!(labels.to_string().len() < 40 << 10);
        assert_eq!((&labels["leadergroup.io/fence.web"], labels.get("role"), labels.get("")), (&json!("f.1"), None, Some(&Value::Null)));
        assert_eq!(pod["metadata"]["uid"], "u");
        let owners: String = vec![r#"{"uid":"u"}"#; 100_000].join(",");
        let pod = sieved(&format!(r#"{{"metadata":{{"ownerReferences":[{owners}]}}}}"#));
        let owners = pod["metadata"]["ownerReferences"].as_array().unwrap();
        assert!(owners.len() < 4000 && owners.last() == Some(&Value::Null));
    }

    #[test]
    fn what_rusts_reader_would_choke_on_does_not_come_through() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        for odd in [&*deep, "1e400", "-1E999", &"9".repeat(5000)] {
            for field in ["election", "deploymentRef", "holderIdentity", "selector", "deployment", "template"] {
                assert!(sieved(&format!(r#"{{"spec":{{"{field}":{odd}}}}}"#)).is_object());
            }
        }
    }

    #[test]
    fn what_is_no_json_is_not_kept_and_does_not_hide_what_follows() {
        let mut sieve = Sieve::default();
        let garbage = "<html>".repeat(100_000) + "\n" + r#"{"kind":"Pod"}"# + "\n";
        let left = String::from_utf8(sieve.pass(garbage.as_bytes())).unwrap();
        let lines: Vec<_> = left.lines().collect();
        assert!(lines[0].len() < 10 && serde_json::from_str::<Value>(lines[0]).is_err());
        assert_eq!(lines[1], r#"{"kind":"Pod","size":14}"#);
    }

    fn json_values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), any::<i64>().prop_map(Value::from), ".{0,20}".prop_map(Value::from)];
        let names =
            prop::sample::select(vec!["metadata", "spec", "status", "labels", "items", "object", "selector", "conditions", "name", "template", "other"]);
        leaf.prop_recursive(6, 64, 8, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((names.clone(), inner), 0..6)
                    .prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn however_an_answer_is_cut_into_pieces_the_same_is_left(value in json_values(), size in 1..17_usize) {
            let text = value.to_string();
            let whole = Sieve::default().pass(text.as_bytes());
            let mut sieve = Sieve::default();
            let pieces: Vec<u8> = text.as_bytes().chunks(size).flat_map(|piece| sieve.pass(piece)).collect();
            prop_assert_eq!(&pieces, &whole);
            if value.is_object() {
                prop_assert!(serde_json::from_slice::<Value>(&whole).is_ok());
            }
        }

        #[test]
        fn whatever_arrives_nothing_panics_and_little_is_kept(bytes in prop::collection::vec(any::<u8>(), 0..2000), text in r#"[{}\[\]",:\\a1\n ]{0,300}"#) {
            let mut sieve = Sieve::default();
            let left = sieve.pass(&bytes).len() + sieve.pass(text.as_bytes()).len();
            prop_assert!(left <= 2 * (bytes.len() + text.len()) + 200 * text.len());
        }
    }
}
