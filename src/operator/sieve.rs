//! Thins the API server's answers while they arrive: what is not [`kept`](super::kept) is not even buffered, so that an answer
//! takes no more memory than what is read of it, however large its objects are. What comes out of well-formed JSON is
//! well-formed, nowhere deep, and has no number that Rust's reader would choke on. It knows bytes, and no kinds.
//!
//! A string that is cut ends in `…` and a hash of what was cut off: two that differ stay different. Where members of a map are
//! left out because it is full, it gets the member `"": null`; a list gets the element `null`. Every object of an answer is told how
//! many bytes it had, as its field `size`.

use std::hash::{DefaultHasher, Hasher};

use super::kept::Keep;
use crate::names;

/// No kept field has a longer name.
const LONGEST_KEY: usize = 512;
const LONGEST_TOKEN: usize = 32;
/// Kept values are nested no deeper: Rust's reader goes to 128.
const DEEPEST: usize = 48;
/// How much more than it may have a full map takes of what the operator itself has set; and as much again of fences, which nothing else
/// may push out.
const RESERVE: usize = 4 << 10;
const OWN: &[u8] = b"leadergroup.io/";
const FENCE: &[u8] = names::FENCE_PREFIX.as_bytes();

/// The state between two chunks of an answer.
#[derive(Debug)]
pub(super) struct Sieve {
    /// What is kept of an object, a list or an event.
    root: Keep,
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
    /// A hash of what was cut off: the same however that came in pieces.
    cut: Option<DefaultHasher>,
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

impl Sieve {
    pub(super) fn of(root: Keep) -> Self {
        Self { root, state: State::Between, stack: Vec::new(), taken: 0, given: 0, out: Vec::new() }
    }

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
                *self = Self { out: std::mem::take(&mut self.out), ..Self::of(self.root) };
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
        let root = self.root;
        let frame = self.stack.last_mut()?;
        let keep = match if let Keep::Root = frame.keep { root } else { frame.keep } {
            Keep::Fields(fields, _) => fields.iter().find(|(name, _)| name.as_bytes() == key).map(|(_, keep)| *keep)?,
            other => other,
        };
        let reserve = match key {
            _ if key.starts_with(FENCE) => 2 * RESERVE,
            _ if key.starts_with(OWN) => RESERVE,
            _ => 0,
        };
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
            if self.escape != Escape::No {
                self.take_escape(*byte, out);
                rest = after;
                continue;
            }
            // What lies between two characters that mean something is taken at once; of what is cut off only its end means anything.
            let plain = if self.cut.is_some() { end_of_text(rest, false) } else { memchr::memchr2(b'"', b'\\', rest) };
            let (run, after) = rest.split_at(plain.unwrap_or(rest.len()));
            if !run.is_empty() {
                self.take(run, out);
                self.half = false;
            }
            rest = after;
            match rest {
                [b'"', after @ ..] => {
                    if let Some(hash) = &self.cut {
                        out.extend_from_slice(format!("…{:016x}", hash.finish()).as_bytes());
                    }
                    out.push(b'"');
                    return (after, true);
                }
                [byte, after @ ..] => {
                    self.take_escape(*byte, out);
                    rest = after;
                }
                [] if self.cut.is_some() && escapes(run, false) => self.escape = Escape::Begun,
                [] => {}
            }
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
        self.cut.get_or_insert_default().write(bytes);
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
            let end = if self.in_text { end_of_text(rest, self.escaped) } else { rest.iter().position(|byte| b"\"{}[]".contains(byte)) };
            let (before, after) = rest.split_at(end.unwrap_or(rest.len()));
            let Some((byte, after)) = after.split_first() else {
                self.bytes = self.bytes.saturating_add(before.len());
                self.escaped = self.in_text && escapes(before, self.escaped);
                return (&[], false);
            };
            self.bytes = self.bytes.saturating_add(before.len() + 1);
            self.escaped = false;
            rest = after;
            match byte {
                b'"' => self.in_text = !self.in_text,
                b'{' | b'[' => self.depth += 1,
                _ => self.depth = self.depth.saturating_sub(1),
            }
            if self.depth == 0 && !self.in_text {
                return (rest, true);
            }
        }
        (rest, false)
    }
}

/// Where a string ends, of whose inside this is the next part: at the first quotation mark that is not escaped. Go escapes what web
/// pages could take for markup, so that whoever fills a string with that makes six bytes of each: none of them is looked at by itself.
fn end_of_text(inside: &[u8], escaped: bool) -> Option<usize> {
    memchr::memchr_iter(b'"', inside).find(|at| !escapes(&inside[..*at], escaped))
}

/// Whether what follows this part of a string's inside is escaped. `escaped`: what this begins with is.
fn escapes(inside: &[u8], escaped: bool) -> bool {
    let backslashes = inside.iter().rev().take_while(|byte| **byte == b'\\').count();
    (backslashes % 2 == 1) != (escaped && backslashes == inside.len())
}

#[cfg(test)]
mod tests;
