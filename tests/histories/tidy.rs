//! Worlds that differ in nothing but history are one: what cannot matter any more is left out, and the rest is named anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use leadergroup::elector::clock::Instant;

use super::objects::{Marks, Write};
use super::process::{Outcome, Pending, Process};
use super::world::World;

impl World {
    /// Takes what cannot matter any more out of the world, and gives the rest names in the order in which it is found: so
    /// worlds that differ in nothing but history are the same.
    pub(super) fn tidy(&mut self) {
        let repeat = self.rule_off.is_some();
        let truth = &self.truth;
        self.flying.retain(|write| match write {
            Write::List | Write::Prove { .. } => false,
            Write::Pod { slot, uid, before, .. } => {
                let there = truth.pods[*slot].filter(|pod| pod.uid == *uid);
                there.is_some_and(|pod| repeat || before.fence.is_none() || before.fence == pod.marks.fence)
            }
            Write::Update { version, .. } => truth.lease.is_some_and(|lease| lease.version == *version),
            Write::Status { uid, version, .. } => truth.group.is_some_and(|group| group.uid == *uid && (repeat || group.version == *version)),
            Write::Create { .. } => true,
        });
        if !repeat {
            self.rename_fences();
        }
        self.rename_versions();
        for process in &mut self.processes {
            // Only the order matters of what was read, when the record and the group were proven, and when the stage began.
            let Process { view, memory, stage, late, clock, began, suspects: _ } = process;
            let nanos = |moment: Instant| u64::try_from(moment.0.as_nanos()).unwrap();
            let at = |moment: u64| Instant(Duration::from_nanos(moment));
            let proven = memory.held.as_ref().map(|held| nanos(held.proven));
            let begun = Some(*began).filter(|_| !stage.is_empty());
            let began_late = late.iter().map(|(_, began)| *began);
            let moments: BTreeSet<u64> = proven.into_iter().chain(begun).chain(began_late).chain([nanos(memory.alive)]).collect();
            let before = |moment: u64| u64::try_from(moments.iter().filter(|other| **other < moment).count()).unwrap();
            let threshold = |moment: u64| 2 * before(moment) + 2;
            for (_, read) in view.pods.iter_mut().flatten() {
                *read = 2 * before(*read + 1) + 1;
            }
            if let Some(held) = &mut memory.held {
                held.proven = at(threshold(nanos(held.proven)));
            }
            memory.alive = at(threshold(nanos(memory.alive)));
            *began = begun.map_or(0, threshold);
            for (_, began) in late.iter_mut() {
                *began = threshold(*began);
            }
            *clock = 2 * u64::try_from(moments.len()).unwrap() + 4;
        }
    }

    fn rename_fences(&mut self) {
        let mut names = BTreeMap::new();
        let mut rename = |marks: &mut Marks| {
            if let Some(fence) = &mut marks.fence {
                let next = u32::try_from(names.len()).unwrap() + 1;
                *fence = *names.entry(*fence).or_insert(next);
            }
        };
        self.truth.pods.iter_mut().flatten().for_each(|pod| rename(&mut pod.marks));
        for process in &mut self.processes {
            process.view.pods.iter_mut().flatten().for_each(|(pod, _)| rename(&mut pod.marks));
            for Pending { write, .. } in &mut process.stage {
                if let Write::Pod { before, after, .. } = write {
                    rename(before);
                    rename(after);
                }
            }
        }
        for write in &mut self.flying {
            if let Write::Pod { before, after, .. } = write {
                rename(before);
                rename(after);
            }
        }
        self.fences = u32::try_from(names.len()).unwrap();
    }

    fn rename_versions(&mut self) {
        let mut versions = BTreeMap::new();
        self.each_version(&mut |version| {
            versions.insert(*version, 0);
        });
        for (number, renamed) in versions.values_mut().enumerate() {
            *renamed = u32::try_from(number).unwrap() + 1;
        }
        self.versions = u32::try_from(versions.len()).unwrap();
        self.each_version(&mut |version| *version = versions[version]);
    }

    fn each_version(&mut self, each: &mut impl FnMut(&mut u32)) {
        fn of_write(write: &mut Write, each: &mut impl FnMut(&mut u32)) {
            match write {
                Write::Prove { version } | Write::Update { version, .. } => each(version),
                Write::Status { version, names, .. } => {
                    each(version);
                    if let Some((_, _, Some(lease))) = names {
                        each(lease);
                    }
                }
                Write::List | Write::Create { .. } | Write::Pod { .. } => {}
            }
        }
        self.truth.lease.iter_mut().for_each(|lease| each(&mut lease.version));
        self.truth.group.iter_mut().for_each(|group| each(&mut group.version));
        for process in &mut self.processes {
            process.view.lease.iter_mut().for_each(|lease| each(&mut lease.version));
            process.view.group.iter_mut().for_each(|group| each(&mut group.version));
            process.late.iter_mut().for_each(|(write, _)| of_write(write, each));
            for Pending { write, outcome } in &mut process.stage {
                of_write(write, each);
                match outcome {
                    Some(Outcome::Lease(lease)) => each(&mut lease.version),
                    Some(Outcome::Status(version)) => each(version),
                    _ => {}
                }
            }
            if let Some(lease) = process.memory.named.as_mut().and_then(|named| named.lease.as_mut()) {
                let mut version = u32::try_from(*lease).unwrap();
                each(&mut version);
                *lease = version.into();
            }
            if let Some(held) = &mut process.memory.held {
                let mut version = held.version.try_into().unwrap();
                each(&mut version);
                held.version = version.into();
                if let Some(made) = &mut held.made {
                    std::sync::Arc::make_mut(made).resource_version = version.into();
                }
            }
        }
        self.flying.iter_mut().for_each(|write| of_write(write, each));
    }
}
