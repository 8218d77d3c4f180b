//! Objects as bytes. Most of what the store keeps is looked at seldom, and takes a third of the room that way. Nothing is lost of it, and
//! nobody outside of the store can tell.

use std::sync::{Arc, LazyLock};

use lz4_flex::block::{compress_prepend_size_with_dict, decompress_size_prepended_with_dict};
use memchr::memmem::Finder;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::LeaderGroup;
use crate::policy::observation::{Deployment, Lease, Outline, Pod, ReplicaSet};

/// How objects of a kind become bytes, and are read from these again.
#[derive(Clone, Copy, Debug)]
pub struct Packing<T> {
    pack: fn(&T) -> Option<Box<[u8]>>,
    unpack: fn(&[u8]) -> Option<T>,
}

impl<T: Serialize + DeserializeOwned> Packing<T> {
    /// Of plain data: field by field. Every text in it stands in the bytes as it is.
    pub const PLAIN: Self = Self { pack: |object| postcard::to_allocvec(object).ok().map(Into::into), unpack: |bytes| postcard::from_bytes(bytes).ok() };
}

impl Packing<LeaderGroup> {
    /// Of a group: its JSON, without what most groups have in common. Of its times whole seconds, as the API server keeps them.
    pub const GROUP: Self = Self {
        pack: |group| {
            let json = serde_json::to_vec(group).ok()?;
            Some(compress_prepend_size_with_dict(&json, COMMON.as_bytes()).into())
        },
        unpack: |bytes| {
            let json = decompress_size_prepended_with_dict(bytes, COMMON.as_bytes()).ok()?;
            serde_json::from_slice(&json).ok()
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
    /// Packs it, unless it does not come out again: what others write may have a form that can be read and not be written, as some times.
    pub(super) fn new(object: Arc<T>) -> Self {
        if let Some(Packing { pack, unpack }) = T::PACKING.filter(|_| !object.is_large())
            && let Some(bytes) = pack(&object)
            && let Some(again) = unpack(&bytes)
        {
            // Of what is kept: its times may be cut.
            return Self { outline: again.outline(), kept: Kept::Packed(bytes) };
        }
        Self { outline: object.outline(), kept: Kept::Whole(object) }
    }

    pub(super) fn get(&self) -> Arc<T> {
        match &self.kept {
            Kept::Whole(object) => object.clone(),
            Kept::Packed(bytes) => {
                let unpacked = T::PACKING.and_then(|packing| (packing.unpack)(bytes));
                Arc::new(unpacked.expect("the same bytes were unpacked when they were packed"))
            }
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
    pub(super) fn may_mention(&self, text: &Finder<'_>) -> bool {
        match &self.kept {
            Kept::Whole(_) => true,
            Kept::Packed(bytes) => text.find(bytes).is_some(),
        }
    }
}

/// How many bytes it is kept in, if it is packed, and what comes out of them.
#[cfg(test)]
pub fn there_and_back<T: Packed>(object: Arc<T>) -> (Option<usize>, Arc<T>) {
    let entry = Entry::new(object);
    let bytes = if let Kept::Packed(bytes) = &entry.kept { Some(bytes.len()) } else { None };
    (bytes, entry.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_packed_object_holds_is_found_in_it_and_what_it_does_not_hold_is_not() {
        let pod = Pod { node: Some("node-7".into()), labels: [("leadergroup.io/fence.web", "f.1")].into_iter().collect(), ..Pod::default() };
        let entry = Entry::new(Arc::new(pod));
        let mentions = |text| entry.may_mention(&Finder::new(text));
        assert!(mentions("node-7") && mentions("leadergroup.io/fence.web"));
        assert!(!mentions("node-8") && !mentions("leadergroup.io/fence.api"));
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
