//! How a time is packed where plain data becomes bytes: any time, as the seconds and nanoseconds since 1970.

use jiff::Timestamp;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[expect(clippy::ref_option, reason = "serde passes a field like this")]
pub(super) fn serialize<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| (time.as_second(), time.subsec_nanosecond())).serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let time = Option::<(i64, i32)>::deserialize(deserializer)?;
    time.map(|(seconds, nanoseconds)| Timestamp::new(seconds, nanoseconds)).transpose().map_err(D::Error::custom)
}
