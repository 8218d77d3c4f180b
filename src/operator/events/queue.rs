//! Which event is published next: those of one group in their order, and of each namespace few at once, so that a webhook that is slow
//! for a namespace's events delays no other's. It publishes nothing, and knows no time.
//!
//! An event that takes long gives its place among all back, and makes its namespace a slow one, whose events have places of their own
//! until one is quick again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::Event;

/// So many wait at most, of all namespaces.
const WAITING: usize = 1024;
/// So many quick ones are under way at once: what else is asked of the API server is wanted sooner.
const AT_ONCE: usize = 4;
/// The same of slow ones.
const SLOW_AT_ONCE: usize = 8;
/// The same of one namespace.
const OF_A_NAMESPACE: usize = 2;
/// Of so many namespaces that have nothing to publish it is remembered that they are slow.
const REMEMBERED: usize = 256;

/// An event, on one object.
pub(super) struct Told {
    pub(super) event: Event,
    pub(super) regarding: ObjectReference,
    pub(super) namespace: Arc<str>,
    /// Whose events it stands among.
    pub(super) group: Arc<str>,
}

/// The place of an event that is under way.
#[derive(Debug)]
pub(super) struct Place {
    namespace: Arc<str>,
    group: Arc<str>,
    is_slow: bool,
}

#[derive(Default)]
pub(super) struct Queue {
    lanes: BTreeMap<Arc<str>, Lane>,
    waiting: usize,
    quick: usize,
    slow: usize,
    turns: u64,
}

/// What there is of one namespace.
#[derive(Default)]
struct Lane {
    waiting: VecDeque<Told>,
    /// The groups of which one is.
    under_way: Vec<Arc<str>>,
    is_slow: bool,
    /// When one of these was last begun with, or the first of them came: whoever has waited longer has the lower number.
    turn: u64,
}

impl Lane {
    /// Where the next one waits of a group of which none is under way.
    fn next(&self) -> Option<usize> {
        if self.under_way.len() >= OF_A_NAMESPACE {
            return None;
        }
        self.waiting.iter().position(|told| !self.under_way.contains(&told.group))
    }
}

impl Queue {
    /// Whether all can wait that do: else the namespace of which the most waited has lost its oldest.
    pub(super) fn push(&mut self, told: Told) -> bool {
        self.turns += 1;
        let turn = self.turns;
        let lane = self.lanes.entry(told.namespace.clone()).or_default();
        if lane.waiting.is_empty() && lane.under_way.is_empty() {
            lane.turn = turn;
        }
        lane.waiting.push_back(told);
        self.waiting += 1;
        if self.waiting <= WAITING {
            return true;
        }
        if let Some(longest) = self.lanes.values_mut().max_by_key(|lane| lane.waiting.len()) {
            longest.waiting.pop_front();
            self.waiting -= 1;
        }
        false
    }

    /// The next one that may begin.
    pub(super) fn next(&mut self) -> Option<(Told, Place)> {
        let (quick, slow) = (self.quick < AT_ONCE, self.slow < SLOW_AT_ONCE);
        if !quick && !slow {
            return None;
        }
        let has_place = |lane: &Lane| if lane.is_slow { slow } else { quick };
        let may_begin = self.lanes.values_mut().filter(|lane| has_place(lane)).filter_map(|lane| Some((lane.next()?, lane)));
        let (at, lane) = may_begin.min_by_key(|(_, lane)| lane.turn)?;
        let told = lane.waiting.remove(at)?;
        self.turns += 1;
        lane.turn = self.turns;
        lane.under_way.push(told.group.clone());
        self.waiting -= 1;
        *(if lane.is_slow { &mut self.slow } else { &mut self.quick }) += 1;
        let place = Place { namespace: told.namespace.clone(), group: told.group.clone(), is_slow: lane.is_slow };
        Some((told, place))
    }

    /// One takes long.
    pub(super) fn takes_long(&mut self, place: &mut Place) {
        if let Some(lane) = self.lanes.get_mut(&place.namespace) {
            lane.is_slow = true;
        }
        if !place.is_slow && self.slow < SLOW_AT_ONCE {
            place.is_slow = true;
            self.quick -= 1;
            self.slow += 1;
        }
    }

    /// One has ended, `quickly` or not.
    pub(super) fn ended(&mut self, place: &Place, quickly: bool) {
        *(if place.is_slow { &mut self.slow } else { &mut self.quick }) -= 1;
        if let Some(lane) = self.lanes.get_mut(&place.namespace) {
            if let Some(at) = lane.under_way.iter().position(|group| *group == place.group) {
                lane.under_way.swap_remove(at);
            }
            lane.is_slow = !quickly;
        }
        let at_rest = |lane: &Lane| lane.waiting.is_empty() && lane.under_way.is_empty();
        let mut remembered = 0;
        self.lanes.retain(|_, lane| {
            remembered += usize::from(lane.is_slow && at_rest(lane));
            !at_rest(lane) || lane.is_slow && remembered <= REMEMBERED
        });
    }
}
