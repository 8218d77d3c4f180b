//! A lock that is one object of the API: how it is read, written and watched, whatever the form of the record in it.

use std::hash::{BuildHasher, RandomState};
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};

use super::object::{Change, Object, Place, set, text};
use super::{Lock, LockError, Record, Sighting, Snapshot};
use crate::elector::origin::{Origin, PROCESS_ANNOTATION};

/// Where in an object its record is, and how it is written there. What else the object holds stays.
pub trait Form: Send + Sync + 'static {
    /// See [`Lock::resolution`].
    const RESOLUTION: Duration;

    /// The record, and its text.
    fn read(object: &Object) -> Result<(Record, String), LockError>;

    fn write(object: &mut Object, record: &Record) -> Result<(), LockError>;
}

/// A lock on one object.
pub struct SingleLock<F> {
    place: Place,
    form: PhantomData<F>,
}

impl<F: Form> SingleLock<F> {
    pub(super) fn at(place: Place) -> Self {
        Self { place, form: PhantomData }
    }
}

fn read<F: Form>(object: Object) -> Result<Snapshot, LockError> {
    let (mut record, raw) = F::read(&object)?;
    let origin = text(&object.annotations(), PROCESS_ANNOTATION).zip(record.leadership().filter(|_| is_fine::<F>()));
    let origin = origin.and_then(|(text, of)| Origin::from_annotation(&text, of));
    record.origin = origin.map(Arc::new);
    let (version, uid) = (object.version(), object.uid());
    Ok(Snapshot::new(record, imprint(raw), version, object).with_uid(uid.as_deref()))
}

/// Whether one renewal can be told from another by its time. Where it can't, nobody says where a leader runs.
fn is_fine<F: Form>() -> bool {
    F::RESOLUTION.is_zero()
}

/// In one write with the record, and of the record as it is stored: another's goes.
fn write<F: Form>(object: &mut Object, record: &Record) -> Result<(), LockError> {
    F::write(object, record)?;
    let stored = F::read(object)?.0;
    let origin = record.origin.as_ref().zip(stored.leadership().filter(|_| is_fine::<F>())).and_then(|(origin, of)| origin.to_annotation(of));
    let mut annotations = object.annotations();
    match origin {
        Some(origin) => set(&mut annotations, PROCESS_ANNOTATION, &origin)?,
        None if annotations.remove(PROCESS_ANNOTATION).is_some() => {}
        None => return Ok(()),
    }
    object.set_annotations(&annotations)
}

impl<F: Form> Lock for SingleLock<F> {
    fn get(&self) -> BoxFuture<'_, Result<Option<Snapshot>, LockError>> {
        async { self.place.get().await?.map(read::<F>).transpose() }.boxed()
    }

    fn create(&self, record: Record) -> BoxFuture<'_, Result<Snapshot, LockError>> {
        async move {
            let mut object = self.place.blank()?;
            write::<F>(&mut object, &record)?;
            read::<F>(self.place.create(object).await?)
        }
        .boxed()
    }

    fn update(&self, seen: Snapshot, record: Record) -> BoxFuture<'_, Result<Snapshot, LockError>> {
        async move {
            let mut object = self.place.object(&seen)?.clone();
            write::<F>(&mut object, &record)?;
            read::<F>(self.place.replace(object).await?)
        }
        .boxed()
    }

    fn record_event(&self, event: String) -> BoxFuture<'_, ()> {
        async move { self.place.record_event(&event).await }.boxed()
    }

    fn identity(&self) -> &str {
        &self.place.options.identity
    }

    fn describe(&self) -> String {
        self.place.describe()
    }

    fn watch(&self) -> Option<BoxStream<'static, Result<Sighting, LockError>>> {
        let sightings = self.place.watch().map(|change| match change? {
            Change::Is(object) => read::<F>(object).map(Sighting::Seen),
            Change::Gone => Ok(Sighting::Gone),
        });
        Some(sightings.boxed())
    }

    fn resolution(&self) -> Duration {
        F::RESOLUTION
    }
}

/// What tells one stored record from another: its text, or what this process makes of one that is long.
fn imprint(text: String) -> String {
    const LONG: usize = 4096;
    static KEYS: OnceLock<[RandomState; 2]> = OnceLock::new();
    if text.len() <= LONG {
        return text;
    }
    let [first, second] = KEYS.get_or_init(Default::default);
    format!("{} bytes, {:x} {:x}", text.len(), first.hash_one(&text), second.hash_one(&text))
}
