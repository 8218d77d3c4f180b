//! Reads an object field by field. What cannot be read is unknown, and its name is noted, never its content: one odd field must
//! not cost an object, nor one odd object a list. Null and absent are the same, as for Go.

use std::cell::RefCell;
use std::fmt;

use jiff::Timestamp;
use serde_json::Value;

use crate::names;

/// Times that can be added to and written back. Go's decoder takes others, too.
const YEARS: std::ops::RangeInclusive<i16> = 1..=9000;
/// No more names of fields are noted.
const MOST_NOTED: usize = 8;

/// The fields of one object that could not be read.
#[derive(Debug, Default)]
pub(super) struct Unread(RefCell<Vec<String>>);

impl Unread {
    fn note(&self, field: String) {
        let mut noted = self.0.borrow_mut();
        if noted.len() < MOST_NOTED && !noted.contains(&field) {
            noted.push(field);
        }
    }

    pub(super) fn into_names(self) -> Vec<String> {
        self.0.into_inner()
    }
}

/// A field, or a whole object.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    value: &'a Value,
    path: Path,
    unread: &'a Unread,
}

/// The names that lead to a field.
#[derive(Clone, Copy, Default)]
struct Path([&'static str; 5]);

impl Path {
    fn to(self, name: &'static str) -> Self {
        let mut path = self;
        if let Some(end) = path.0.iter_mut().find(|name| name.is_empty()) {
            *end = name;
        }
        path
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.into_iter().filter(|name| !name.is_empty()).collect();
        formatter.write_str(&names.join("."))
    }
}

impl<'a> Part<'a> {
    pub(super) fn of(value: &'a Value, unread: &'a Unread) -> Self {
        Self { value, path: Path::default(), unread }
    }

    /// A field of an object. What is no object has none.
    pub(super) fn field(&self, name: &'static str) -> Self {
        let value = match self.value {
            Value::Object(fields) => fields.get(name).unwrap_or(&Value::Null),
            Value::Null => &Value::Null,
            _ => {
                self.is_unread();
                &Value::Null
            }
        };
        Self { value, path: self.path.to(name), unread: self.unread }
    }

    pub(super) fn is_unread(&self) {
        self.unread.note(self.path.to_string());
    }

    pub(super) fn is_there(&self) -> bool {
        !self.value.is_null()
    }

    /// It as it is.
    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    fn read<T>(&self, read: impl FnOnce(&'a Value) -> Option<T>) -> Option<T> {
        if !self.is_there() {
            return None;
        }
        let value = read(self.value);
        if value.is_none() {
            self.is_unread();
        }
        value
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        self.read(Value::as_str)
    }

    /// A text of no more than so many characters.
    pub(super) fn short(&self, longest: usize) -> Option<Box<str>> {
        self.text().map(|text| names::shortened(text, longest).into())
    }

    pub(super) fn number<N: TryFrom<i64>>(&self) -> Option<N> {
        self.read(|value| value.as_i64().and_then(|number| N::try_from(number).ok()))
    }

    pub(super) fn flag(&self) -> bool {
        self.read(Value::as_bool).unwrap_or_default()
    }

    pub(super) fn time(&self) -> Option<Timestamp> {
        self.read(|value| {
            let time = value.as_str()?.parse::<Timestamp>().ok()?;
            YEARS.contains(&time.to_zoned(jiff::tz::TimeZone::UTC).year()).then_some(time)
        })
    }

    /// The objects of a list.
    pub(super) fn items(&self) -> impl Iterator<Item = Part<'a>> + use<'a> {
        let list = *self;
        let items = list.read(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        items.iter().filter_map(move |value| {
            if value.is_object() {
                return Some(Self { value, ..list });
            }
            list.is_unread();
            None
        })
    }

    /// Whether nothing in it was left out because it was full (`sieve`).
    pub(super) fn is_whole(&self) -> bool {
        fn whole(value: &Value) -> bool {
            match value {
                Value::Array(items) => items.iter().all(|item| !item.is_null() && whole(item)),
                Value::Object(map) => !map.contains_key("") && map.values().all(whole),
                _ => true,
            }
        }
        whole(self.value)
    }

    /// The names of an object's fields.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.read(Value::as_object).into_iter().flat_map(|map| map.keys().map(String::as_str))
    }

    /// The members of a map of texts, and whether these are all.
    pub(super) fn texts(&self) -> (Vec<(&'a str, &'a str)>, bool) {
        let Some(map) = self.read(Value::as_object) else { return (Vec::new(), !self.is_there()) };
        let texts: Vec<_> = map.iter().filter_map(|(key, value)| value.as_str().map(|value| (&**key, value))).collect();
        let all = texts.len() == map.len();
        if !all {
            self.is_unread();
        }
        (texts, all)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_read_is_unknown_and_named() {
        let unread = Unread::default();
        let object = json!({ "a": { "text": 1, "number": i64::from(i32::MAX) + 1, "time": "9999-12-31T23:59:59.999999Z", "none": null }, "b": "no object" });
        let root = Part::of(&object, &unread);
        let (a, b) = (root.field("a"), root.field("b"));
        assert_eq!(a.field("text").text(), None);
        assert_eq!(a.field("number").number::<i32>(), None);
        assert_eq!(a.field("number").number::<i64>(), Some(2_147_483_648));
        assert_eq!(a.field("time").time(), None);
        assert!(!a.field("none").is_there() && !a.field("none").flag());
        assert_eq!(b.field("c").field("d").text(), None);
        assert_eq!(unread.into_names(), ["a.text", "a.number", "a.time", "b"]);
    }

    #[test]
    fn times_that_go_takes_and_nobody_can_reckon_with_are_unknown() {
        for odd in
            ["9999-12-31T23:59:59.999999Z", "9999-12-30T00:00:00Z", "10000-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "-000001-01-01T00:00:00Z", "today", ""]
        {
            let (value, unread) = (json!(odd), Unread::default());
            assert_eq!(Part::of(&value, &unread).time(), None, "{odd}");
        }
        let (value, unread) = (json!("2026-01-02T03:04:05.000006Z"), Unread::default());
        assert!(Part::of(&value, &unread).time().is_some());
    }
}
