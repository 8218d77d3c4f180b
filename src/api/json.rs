//! A part of an object that is passed on as it is and hardly ever looked into, kept as text: as a tree a pod template takes
//! ten times the memory, and every group has one.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// JSON as text. It is always valid.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Json(Box<str>);

impl Json {
    /// How many bytes the text has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text as a tree.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        Self(value.to_string().into())
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Self::from(&value))
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_on_is_what_was_written() {
        let written = r#"{"spec":{"containers":[{"name":"web","ports":[{"containerPort":80}]}],"hostNetwork":false}}"#;
        let json: Json = serde_json::from_str(written).unwrap();
        assert_eq!(json.value(), serde_json::from_str::<Value>(written).unwrap());
        assert_eq!(serde_json::to_value(&json).unwrap(), json.value());
    }
}
