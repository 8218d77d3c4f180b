//! One group as the API server holds it, processes that all believe they may move its label, what is under way between them,
//! and everything that may happen next. Each step is atomic at the API server; everything else is of any age and in any order.

use super::action::Action;
use super::objects::{Group, Lease, Marks, Pod, Write};
use super::process::{Outcome, Process};
use super::rules::Rule;
use leadergroup::policy::write::{PodPurpose, Undone};
use std::hash::{DefaultHasher, Hash, Hasher};

/// What the API server holds.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Truth {
    pub(super) group: Option<Group>,
    pub(super) lease: Option<Lease>,
    pub(super) pods: Vec<Option<Pod>>,
}

/// What may go wrong or change, at a cost of one each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    Ready,
    Pods,
    Owners,
    Answers,
    /// Writes are refused.
    Refusals,
    /// What takes long is planned over.
    Delays,
    Crashes,
    Wipes,
    Leases,
    Backups,
    Groups,
    /// Each process has an opinion of its own about which nodes are lost.
    Nodes,
}

impl Fault {
    pub(super) const ALL: &'static [Self] = &[
        Self::Ready,
        Self::Pods,
        Self::Owners,
        Self::Answers,
        Self::Refusals,
        Self::Delays,
        Self::Crashes,
        Self::Wipes,
        Self::Leases,
        Self::Backups,
        Self::Groups,
    ];
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) truth: Truth,
    pub(super) processes: Vec<Process>,
    pub(super) flying: Vec<Write>,
    /// How many more things may go wrong or change, and which.
    pub(super) faults: u8,
    pub(super) kinds: &'static [Fault],
    /// Whether a process hears of everything or of nothing.
    pub(super) coarse: bool,
    /// How often the record may still be taken from the process that holds it: two could do so for ever.
    pub(super) takeovers: u8,
    pub(super) rule_off: Option<Rule>,
    pub(super) min_term: Option<i64>,
    /// The last leadership: its term, and the pod's uid.
    pub(super) last: Option<(i64, u32)>,
    pub(super) broken: Option<&'static str>,
    /// The Lease as a backup has it.
    pub(super) backup: Option<Lease>,
    pub(super) uids: u32,
    pub(super) versions: u32,
    pub(super) fences: u32,
}

impl World {
    pub(super) fn new(slots: usize, processes: usize, faults: u8, takeovers: u8, rule_off: Option<Rule>) -> Self {
        let pod = |slot: usize| Some(Pod { uid: u32::try_from(slot).unwrap() + 1, ready: true, member: true, marks: Marks::default() });
        let truth = Truth { group: Some(Group { uid: 1, version: 1, status: None }), lease: None, pods: (0..slots).map(pod).collect() };
        let processes = (0..processes).map(|number| Process::new(&truth, number, usize::from(number > 0))).collect();
        let uids = u32::try_from(slots).unwrap() + 1;
        Self {
            truth,
            processes,
            flying: Vec::new(),
            faults,
            kinds: Fault::ALL,
            coarse: false,
            takeovers,
            rule_off,
            min_term: None,
            last: None,
            broken: None,
            backup: None,
            uids,
            versions: 1,
            fences: 0,
        }
    }

    pub(super) fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        let may = |fault| self.faults > 0 && self.kinds.contains(&fault);
        for (number, process) in self.processes.iter().enumerate() {
            if process.stage.is_empty() {
                let behind: Vec<usize> = (0..2 + 2 * self.truth.pods.len()).filter(|part| process.is_behind(&self.truth, *part)).collect();
                let all = (1_u32 << behind.len()) - 1;
                for chosen in (0..=all).filter(|chosen| !self.coarse || *chosen == 0 || *chosen == all) {
                    let heard = behind.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 == 1).fold(0, |heard, (_, part)| heard | 1 << part);
                    actions.push(Action::Plan { process: number, heard });
                }
                if may(Fault::Crashes) && process.memory.held.is_some() {
                    actions.push(Action::Restart { process: number });
                }
            }
            for (write, _) in process.stage.iter().enumerate().filter(|(_, pending)| pending.outcome.is_none()) {
                if self.takes_over(number, process.stage[write].write) && self.takeovers == 0 {
                    continue;
                }
                actions.push(Action::Arrive { process: number, write });
                if may(Fault::Answers) && !matches!(process.stage[write].write, Write::List | Write::Prove { .. }) {
                    actions.push(Action::ArriveUnanswered { process: number, write });
                    actions.push(Action::Lose { process: number, write });
                }
                if may(Fault::Refusals) && !matches!(process.stage[write].write, Write::List | Write::Prove { .. }) {
                    actions.push(Action::Refuse { process: number, write });
                }
            }
        }
        for (number, process) in self.processes.iter().enumerate() {
            let unanswered = |pending: &super::process::Pending| pending.outcome.is_none();
            let reads = |pending: &super::process::Pending| unanswered(pending) && matches!(pending.write, Write::List | Write::Prove { .. });
            if may(Fault::Delays) && process.stage.iter().any(unanswered) && !process.stage.iter().any(reads) {
                actions.push(Action::Overtake { process: number });
            }
            for (write, (asked, _)) in process.late.iter().enumerate() {
                if !self.takes_over(number, *asked) || self.takeovers > 0 {
                    actions.push(Action::ArriveLate { process: number, write });
                }
            }
        }
        if may(Fault::Nodes) {
            let slots = 0..self.truth.pods.len();
            actions.extend((0..self.processes.len()).flat_map(|process| slots.clone().map(move |slot| Action::Suspect { process, slot })));
        }
        actions.extend((0..self.flying.len()).map(|write| Action::Land { write }));
        for (slot, pod) in self.truth.pods.iter().enumerate() {
            let Some(pod) = pod else {
                actions.extend(may(Fault::Pods).then_some(Action::MakePod { slot }));
                continue;
            };
            actions.extend(may(Fault::Ready).then_some(Action::TurnReady { slot }));
            actions.extend(may(Fault::Pods).then_some(Action::DeletePod { slot }));
            actions.extend(may(Fault::Owners).then_some(Action::Release { slot }));
            actions.extend((may(Fault::Wipes) && pod.marks.fence.is_some()).then_some(Action::Wipe { slot }));
        }
        actions.extend((may(Fault::Leases) && self.truth.lease.is_some()).then_some(Action::DeleteLease));
        actions.extend((may(Fault::Backups) && self.backup.is_some()).then_some(Action::RestoreLease));
        actions.extend(may(Fault::Groups).then_some(Action::RemakeGroup));
        actions
    }

    /// Whether this write of the process makes it hold the record, or is the first step to that.
    fn takes_over(&self, process: usize, write: Write) -> bool {
        let held = self.processes[process].memory.held.as_ref().map(|held| held.version);
        match write {
            Write::Create { .. } => true,
            Write::Update { version, .. } => held != Some(version.into()),
            Write::Status { names, .. } => names.is_some(),
            _ => false,
        }
    }

    /// The world after the first process has done all there is to do, undisturbed.
    pub(super) fn settled(mut self) -> Self {
        for _ in 0..40 {
            let first = |action: &Action| matches!(action, Action::Plan { process: 0, .. } | Action::Arrive { process: 0, .. });
            // Of the plans the one that has heard of everything.
            let Some(action) = self.actions().into_iter().rfind(first) else { break };
            self = self.after(action);
        }
        assert!(self.truth.pods.iter().flatten().any(|pod| pod.marks.leads), "somebody leads: {:?}", self.truth);
        self.backup = self.truth.lease;
        self
    }

    /// The leader is the third, the status has confirmed the second, and a backup has the Lease of the first.
    pub(super) fn third_leader(&mut self) {
        self.backup = self.truth.lease;
        let Truth { group, lease, pods } = &mut self.truth;
        if let Some(lease) = lease {
            (lease.term, lease.mark) = (3, 4);
        }
        group.iter_mut().filter_map(|group| group.status.as_mut()).for_each(|status| status.term = 2);
        pods.iter_mut().flatten().filter(|pod| pod.marks.leads).for_each(|pod| pod.marks.term = Some(3));
        self.last = self.last.map(|(_, uid)| (3, uid));
        for process in &mut self.processes {
            for part in 0..2 + self.truth.pods.len() {
                process.hear(&self.truth, part);
            }
        }
        self.tidy();
    }

    /// Nothing happens any more but what is under way, and one process that begins anew does all that is left to do.
    pub(super) fn come_to_rest(mut self) -> Result<(), String> {
        (self.faults, self.takeovers, self.coarse) = (0, u8::MAX, true);
        for process in &mut self.processes {
            self.flying.extend(process.late.drain(..).map(|(write, _)| write));
        }
        while !self.flying.is_empty() {
            self = self.after(Action::Land { write: 0 });
        }
        self.processes = vec![Process::new(&self.truth, 0, 0)];
        self.tidy();
        for _ in 0..100 {
            let pending = self.processes[0].stage.iter().position(|pending| pending.outcome.is_none());
            let action = pending.map_or_else(|| *self.actions().last().unwrap(), |write| Action::Arrive { process: 0, write });
            self = self.after(action);
            if let Some(broken) = self.broken {
                return Err(format!("{broken} at rest: {:?}", self.truth));
            }
            if matches!(action, Action::Plan { .. }) && self.processes[0].stage.is_empty() {
                let eligible = self.truth.group.is_some() && self.truth.pods.iter().flatten().any(|pod| pod.ready && pod.member);
                let leaders: Vec<_> = self.truth.pods.iter().flatten().filter(|pod| pod.marks.leads && pod.member).collect();
                let right = if eligible { leaders.len() == 1 && leaders[0].ready } else { leaders.len() <= 1 };
                return if right { Ok(()) } else { Err(format!("at rest: {:?}", self.truth)) };
            }
        }
        Err(format!("it does not come to rest: {:?}\n{:?}", self.truth, self.processes[0].stage))
    }

    /// The world after this has happened.
    pub(super) fn after(&self, action: Action) -> Self {
        let mut world = self.clone();
        world.happen(action);
        world.tidy();
        world
    }

    pub(super) fn happen(&mut self, action: Action) {
        match action {
            Action::Plan { process, heard } => self.plan(process, heard),
            Action::Arrive { process, write } => {
                let asked = self.processes[process].stage[write].write;
                let takes_over = self.takes_over(process, asked);
                let outcome = self.arrive(asked, Some(process));
                if takes_over && matches!(outcome, Outcome::Lease(_) | Outcome::Status(_)) {
                    self.takeovers = self.takeovers.saturating_sub(1);
                }
                self.answer(process, write, outcome);
            }
            Action::ArriveUnanswered { process, write } => {
                self.faults -= 1;
                self.arrive(self.processes[process].stage[write].write, None);
                self.answer(process, write, Outcome::Undone(Undone::Unknown));
            }
            Action::Lose { process, write } => {
                self.faults -= 1;
                let lost = self.processes[process].stage[write].write;
                self.flying.push(lost);
                let mut undone = Undone::Unknown;
                if self.rule_off == Some(Rule::BareNotFoundIsUnknown)
                    && let Write::Pod { slot, .. } = lost
                {
                    undone = Undone::Gone;
                    self.processes[process].see(slot, None);
                }
                self.answer(process, write, Outcome::Undone(undone));
            }
            Action::Refuse { process, write } => {
                self.faults -= 1;
                self.answer(process, write, Outcome::Undone(Undone::Refused));
            }
            Action::Overtake { process } => {
                self.faults -= 1;
                let left = self.processes[process].overtake(self.rule_off);
                self.flying.extend(left);
            }
            Action::ArriveLate { process, write } => {
                let (asked, _) = self.processes[process].late[write];
                let takes_over = self.takes_over(process, asked);
                let outcome = self.arrive(asked, Some(process));
                if takes_over && matches!(outcome, Outcome::Lease(_) | Outcome::Status(_)) {
                    self.takeovers = self.takeovers.saturating_sub(1);
                }
                self.processes[process].answered_late(write, outcome, self.rule_off);
            }
            Action::Land { write } => {
                let write = self.flying.remove(write);
                self.arrive(write, None);
            }
            Action::Restart { process } => {
                self.faults -= 1;
                let Self { processes, flying, .. } = self;
                let process = &mut processes[process];
                flying.extend(process.stage.drain(..).filter(|pending| pending.outcome.is_none()).map(|pending| pending.write));
                flying.extend(process.late.drain(..).map(|(write, _)| write));
                process.memory = leadergroup::policy::memory::Memory::new(&process.memory.token);
            }
            Action::Suspect { process, slot } => {
                self.faults -= 1;
                self.processes[process].suspects ^= 1 << slot;
            }
            Action::TurnReady { slot } => self.change(slot, |pod| pod.ready = !pod.ready),
            Action::Release { slot } => self.change(slot, |pod| pod.member = !pod.member),
            Action::Wipe { slot } => self.change(slot, |pod| pod.marks.fence = None),
            Action::DeletePod { slot } => {
                self.faults -= 1;
                self.truth.pods[slot] = None;
            }
            Action::MakePod { slot } => {
                self.faults -= 1;
                self.uids += 1;
                self.truth.pods[slot] = Some(Pod { uid: self.uids, ready: true, member: true, marks: Marks::default() });
            }
            Action::DeleteLease => {
                self.faults -= 1;
                self.truth.lease = None;
            }
            Action::RestoreLease => {
                self.faults -= 1;
                self.uids += 1;
                self.versions += 1;
                self.truth.lease = self.backup.take().map(|lease| Lease { uid: self.uids, version: self.versions, ..lease });
            }
            Action::RemakeGroup => {
                self.faults -= 1;
                self.uids += 1;
                self.versions += 1;
                self.truth.group = Some(Group { uid: self.uids, version: self.versions, status: None });
                // Another life, whose terms are its own. What the former owned is collected later, or never.
                self.last = None;
            }
        }
    }

    fn change(&mut self, slot: usize, change: impl FnOnce(&mut Pod)) {
        self.faults -= 1;
        if let Some(pod) = &mut self.truth.pods[slot] {
            change(pod);
        }
    }

    fn plan(&mut self, process: usize, heard: u16) {
        let Self { processes, truth, rule_off, fences, min_term, .. } = self;
        let process = &mut processes[process];
        for part in (0..16).filter(|part| heard >> part & 1 == 1) {
            process.hear(truth, part);
        }
        let repeat = *rule_off == Some(Rule::FencesNeverRepeat);
        process.plan(*rule_off, *min_term, |before| {
            *fences += 1;
            if repeat { before.map_or(1_000, |before| before + 1) } else { *fences }
        });
    }

    fn answer(&mut self, process: usize, write: usize, outcome: Outcome) {
        self.processes[process].stage[write].outcome = Some(outcome);
        self.processes[process].finish(self.rule_off);
    }

    /// Performs a write as the API server would; `process` gets the answer.
    fn arrive(&mut self, write: Write, process: Option<usize>) -> Outcome {
        self.versions += 1;
        let version = self.versions;
        let Self { truth, processes, rule_off, uids, .. } = self;
        let mut asker = process.map(|process| &mut processes[process]);
        let changed = Outcome::Undone(Undone::Changed);
        match write {
            Write::Pod { group, slot, uid, purpose, before, after } => {
                let there = truth.pods[slot].filter(|pod| pod.uid == uid);
                let compares = |pod: &Pod| pod.marks.leads == before.leads && (pod.marks.fence == before.fence || *rule_off == Some(Rule::CompareFence));
                let outcome = match there {
                    None => Outcome::Undone(Undone::Gone),
                    Some(pod) if !compares(&pod) => changed,
                    Some(pod) => {
                        truth.pods[slot] = Some(Pod { marks: after, ..pod });
                        Outcome::Written
                    }
                };
                if let Some(asker) = &mut asker {
                    asker.answered(slot, truth.pods[slot]);
                }
                if outcome == Outcome::Written && after.leads {
                    // What a group that is gone has sent is no leadership of the one that has its name now.
                    let of_this = purpose == PodPurpose::Label && group == self.truth.group.map(|group| group.uid);
                    self.note_leader(after.term.filter(|_| of_this), uid, of_this);
                }
                outcome
            }
            Write::Create { owner, holder, term, mark, .. } => {
                if truth.lease.is_some() {
                    return changed;
                }
                *uids += 1;
                let lease = Lease { uid: *uids, version, owner, holder, term, mark };
                truth.lease = Some(lease);
                Outcome::Lease(lease)
            }
            Write::Update { owner, version: before, holder, term, mark, .. } => {
                let outcome = match truth.lease {
                    None => Outcome::Undone(Undone::Gone),
                    Some(lease) if lease.version != before => changed,
                    Some(lease) => {
                        let written = Lease { version, owner, holder, term, mark, ..lease };
                        // An answer that shows the old mark would be believed by nobody.
                        let mark = if *rule_off == Some(Rule::MarkBeforeTerm) { lease.mark } else { mark };
                        truth.lease = Some(Lease { mark, ..written });
                        Outcome::Lease(written)
                    }
                };
                if let Some(asker) = &mut asker {
                    asker.view.lease = truth.lease;
                }
                outcome
            }
            Write::Prove { .. } | Write::List if asker.as_ref().is_some_and(|asker| asker.view.group.map(|it| it.uid) != truth.group.map(|it| it.uid)) => {
                // Another group has its name.
                Outcome::Undone(Undone::Refused)
            }
            Write::Prove { version } => {
                let now = truth.lease.map(|lease| lease.version);
                if let Some(asker) = &mut asker
                    && (asker.view.lease.is_some() || now.is_none())
                {
                    asker.view.lease = truth.lease;
                }
                match now {
                    None => Outcome::Undone(Undone::Gone),
                    Some(now) if now == version => Outcome::Written,
                    Some(_) => changed,
                }
            }
            Write::List => {
                let Some(asker) = asker else { return Outcome::Undone(Undone::Unknown) };
                let fresh = *rule_off != Some(Rule::ListIsFresh);
                let mut listed = [None; 4];
                for (slot, pod) in truth.pods.iter().enumerate() {
                    let pod = if fresh { *pod } else { asker.view.pods[slot].map(|(pod, _)| pod) };
                    let Some(pod) = pod.filter(|pod| pod.marks.fence.is_some() || pod.marks.leads) else { continue };
                    asker.see(slot, Some(pod));
                    listed[slot] = pod.marks.fence.map(|_| pod.uid);
                }
                if asker.view.group.map(|group| group.uid) == truth.group.map(|group| group.uid) {
                    asker.view.group = truth.group;
                }
                Outcome::Listed(listed)
            }
            Write::Status { uid, version: before, status, .. } => {
                let stale = |group: &Group| group.version != before && *rule_off != Some(Rule::StatusByVersion);
                let outcome = match truth.group.filter(|group| group.uid == uid) {
                    None => return Outcome::Undone(Undone::Refused),
                    Some(group) if stale(&group) => changed,
                    Some(group) => {
                        truth.group = Some(Group { version, status: Some(status), ..group });
                        Outcome::Status(version)
                    }
                };
                if let Some(asker) = &mut asker {
                    asker.view.group = truth.group;
                }
                outcome
            }
        }
    }

    /// A write has given a pod the label, or the leader another term.
    fn note_leader(&mut self, term: Option<i64>, uid: u32, of_this_group: bool) {
        if self.truth.pods.iter().flatten().filter(|pod| pod.marks.leads).count() > 1 {
            self.broken = Some("two pods carry the label");
        }
        if !of_this_group {
            return;
        }
        let Some(term) = term else { return self.broken = Some("a leader without a term") };
        if self.last.is_some_and(|last| term < last.0 || term == last.0 && uid != last.1) {
            self.broken.get_or_insert("a term that does not rise");
        }
        self.last = Some((term, uid));
    }

    /// What tells this world from others.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.truth, &self.flying, self.faults, self.takeovers, self.backup.is_some(), &self.last, self.broken, self.uids).hash(&mut hasher);
        for process in &self.processes {
            (&process.view, &process.stage, &process.late).hash(&mut hasher);
            let memory = &process.memory;
            (memory.term, &memory.named, &memory.sent, &memory.elected, &memory.group, memory.alive.0, process.began).hash(&mut hasher);
            if let Some(held) = &memory.held {
                (held.version, held.proven.0, &held.exposed, &held.unanswered, &held.recorded, held.reserved, held.made.is_some()).hash(&mut hasher);
                (&held.listing, &held.under_way, held.doubted).hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}
