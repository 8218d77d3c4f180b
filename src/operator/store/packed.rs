//! Objects as bytes. Most of what the store keeps is looked at seldom, and takes a third of the room that way. Nothing is lost of it, and
//! nobody outside of the store can tell.

use std::sync::{Arc, LazyLock};

use lz4_flex::block::{compress_prepend_size_with_dict, decompress_size_prepended_with_dict};
use memchr::memmem;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::LeaderGroup;
use crate::policy::observation::{Deployment, Lease, Outline, Pod, ReplicaSet};

/// How objects of a kind become bytes, and are read from these again.
#[derive(Debug)]
pub struct Packing<T> {
    pack: fn(&T) -> Box<[u8]>,
    unpack: fn(&[u8]) -> T,
}

impl<T: Serialize + DeserializeOwned> Packing<T> {
    /// Of plain data: field by field. Every text in it stands in the bytes as it is.
    pub const PLAIN: Self = Self {
        pack: |object| postcard::to_allocvec(object).expect("plain data in memory has lengths").into(),
        unpack: |bytes| postcard::from_bytes(bytes).expect("what this has packed"),
    };
}

impl Packing<LeaderGroup> {
    /// Of a group: its JSON, without what most groups have in common. Of its times whole seconds, as the API server keeps them.
    pub const GROUP: Self = Self {
        pack: |group| {
            let json = serde_json::to_vec(group).expect("it came as JSON");
            compress_prepend_size_with_dict(&json, COMMON.as_bytes()).into()
        },
        unpack: |bytes| {
            let json = decompress_size_prepended_with_dict(bytes, COMMON.as_bytes()).expect("what this has packed");
            serde_json::from_slice(&json).expect("what this has packed")
        },
    };
}

/// What most groups have in common, as their JSON has it. It may be anything: the better it is the less each takes.
static COMMON: LazyLock<String> = LazyLock::new(|| include_str!("common.json").lines().map(str::trim).collect());

/// How a kind is kept.
pub trait Packed: Sized {
    /// `None`: as it is.
    const PACKING: Option<Packing<Self>> = None;
    /// What is looked at without unpacking the object.
    type Outline: std::fmt::Debug;
    fn outline(&self) -> Self::Outline;
    /// Whether unpacking it takes long, so that it is kept as it is.
    fn is_large(&self) -> bool {
        false
    }
}

/// A pod of more bytes of labels is kept as it is: whoever may label pods could have all of them unpacked again and again.
const LARGE_LABELS: usize = 2 << 10;

macro_rules! without_outline {
    ($($kind:ty: $packing:expr;)*) => { $(
        impl Packed for $kind {
            const PACKING: Option<Packing<Self>> = $packing;
            type Outline = ();
            fn outline(&self) {}
        }
    )* };
}
without_outline! {
    Deployment: None;
    ReplicaSet: None;
    Lease: Some(Packing::PLAIN);
}

impl Packed for Pod {
    const PACKING: Option<Packing<Self>> = Some(Packing::PLAIN);
    type Outline = ();
    fn outline(&self) {}
    fn is_large(&self) -> bool {
        self.labels.bytes() > LARGE_LABELS
    }
}

impl Packed for LeaderGroup {
    const PACKING: Option<Packing<Self>> = Some(Packing::GROUP);
    type Outline = Arc<Outline>;
    fn outline(&self) -> Arc<Outline> {
        Arc::new(self.into())
    }
}

/// An object with what others look at, which is at hand.
#[derive(Debug)]
pub(super) struct Entry<T: Packed> {
    pub(super) outline: T::Outline,
    kept: Kept<T>,
}

#[derive(Debug)]
enum Kept<T> {
    Whole(Arc<T>),
    Packed(Box<[u8]>),
}

impl<T: Packed> Entry<T> {
    pub(super) fn new(object: Arc<T>) -> Self {
        let outline = object.outline();
        let kept = match T::PACKING {
            Some(Packing { pack, .. }) if !object.is_large() => Kept::Packed(pack(&object)),
            _ => Kept::Whole(object),
        };
        Self { outline, kept }
    }

    pub(super) fn get(&self) -> Arc<T> {
        match (&self.kept, T::PACKING) {
            (Kept::Whole(object), _) => object.clone(),
            (Kept::Packed(bytes), Some(Packing { unpack, .. })) => Arc::new(unpack(bytes)),
            (Kept::Packed(_), None) => unreachable!("only what can be unpacked is packed"),
        }
    }

    /// Another version takes its place; what was whole stays so.
    pub(super) fn replace(&mut self, object: Arc<T>) {
        match self.kept {
            Kept::Whole(_) => *self = Self { outline: object.outline(), kept: Kept::Whole(object) },
            Kept::Packed(_) => *self = Self::new(object),
        }
    }

    /// From now on it is kept as it is, because it stands where it is looked at often.
    pub(super) fn make_whole(&mut self) -> Arc<T> {
        let object = self.get();
        self.kept = Kept::Whole(object.clone());
        object
    }

    /// Whether this text may stand anywhere in it. Found without unpacking it.
    pub(super) fn may_mention(&self, text: &str) -> bool {
        match &self.kept {
            Kept::Whole(_) => true,
            Kept::Packed(bytes) => memmem::find(bytes, text.as_bytes()).is_some(),
        }
    }
}

#[cfg(test)]
impl<T> Packing<T> {
    /// What comes out of so many bytes.
    pub fn there_and_back(&self, object: &T) -> (usize, T) {
        let bytes = (self.pack)(object);
        (bytes.len(), (self.unpack)(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_packed_object_holds_is_found_in_it_and_what_it_does_not_hold_is_not() {
        let pod = Pod { node: Some("node-7".into()), labels: [("leadergroup.io/fence.web", "f.1")].into_iter().collect(), ..Pod::default() };
        let entry = Entry::new(Arc::new(pod));
        assert!(entry.may_mention("node-7") && entry.may_mention("leadergroup.io/fence.web"));
        assert!(!entry.may_mention("node-8") && !entry.may_mention("leadergroup.io/fence.api"));
    }

    #[test]
    fn what_was_made_whole_stays_so_whatever_takes_its_place() {
        let pod = |resource_version| Arc::new(Pod { resource_version, ..Pod::default() });
        let mut entry = Entry::new(pod(1));
        assert!(!Arc::ptr_eq(&entry.get(), &entry.get()), "it is unpacked each time");
        let whole = entry.make_whole();
        assert!(Arc::ptr_eq(&whole, &entry.get()));
        let next = pod(2);
        entry.replace(next.clone());
        assert!(Arc::ptr_eq(&next, &entry.get()));
    }
}
