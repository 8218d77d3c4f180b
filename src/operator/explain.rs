//! Finds out beside everything else who has set a label: one question of a group at a time, when it is its namespace's turn. What happens
//! meanwhile waits for no answer; the answer wakes the group.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::Context;
use super::gate::Urgency;
use super::managers;
use crate::policy::memory::Memory;
use crate::policy::observation::Observation;
use crate::policy::target::{Round, Target};
use crate::policy::verdict;

/// A question under way, or answered. Dropping it gives it up.
#[derive(Debug)]
pub(super) struct Question {
    about: About,
    answer: Arc<OnceLock<String>>,
    _task: JoinSet<()>,
}

#[derive(Debug)]
enum About {
    /// A label on the pod with this uid that the operator has not set.
    Foreign(Box<str>),
    /// What changes back what is done again and again in this round.
    Undone(Target, Round),
}

impl Question {
    fn ask(context: &Arc<Context>, observation: &Observation, (pod, key): (&str, &str), about: About, wake: &Arc<Notify>) -> Self {
        let answer = Arc::<OnceLock<String>>::default();
        let (context, namespace, wake, place) = (context.clone(), observation.namespace.clone(), wake.clone(), answer.clone());
        let (pod, key) = (pod.to_owned(), key.to_owned());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let asking = managers::of_label(&context.executor.whole, &namespace, &pod, &key);
            let by = context.shares.take_turn(&namespace, "reads", Urgency::CanWait, asking).await;
            // Set once: this task is the only one that does.
            let _ = place.set(by);
            wake.notify_one();
        });
        Self { about, answer, _task: task }
    }
}

/// Takes in what was found out, or asks what is to be. Whether something was learned. `wake` is what the group's task sleeps on.
pub(super) fn explain(
    question: &mut Option<Box<Question>>,
    memory: &mut Memory,
    context: &Arc<Context>,
    observation: &Observation,
    wanted: &BTreeSet<Target>,
    wake: &Arc<Notify>,
) -> bool {
    if let Some(question) = question.take_if(|question| question.answer.get().is_some()) {
        let by = question.answer.get().cloned().unwrap_or_default();
        match question.about {
            About::Foreign(uid) => memory.foreign_by = Some((uid, by)),
            About::Undone(target, round) if memory.round(observation) == round => memory.progress.explain(&target, &by),
            About::Undone(..) => {}
        }
        return true;
    }
    if question.is_some() {
        return false;
    }
    let Some(group) = &observation.group else { return false };
    let key = &*group.spec.leader_label.key;
    let mut ask = |pod: &str, about| *question = Some(Box::new(Question::ask(context, observation, (pod, key), about, wake)));
    if let Some(pod) = verdict::with_foreign_value(observation)
        && memory.foreign_by.as_ref().is_none_or(|(uid, _)| *uid != pod.uid)
    {
        ask(&pod.name, About::Foreign(pod.uid.clone()));
        return false;
    }
    let round = memory.round(observation);
    let unexplained = memory.progress.unexplained(wanted, round, observation.moment).next().map(|(target, uid)| (target.clone(), uid.to_owned()));
    let Some((target, uid)) = unexplained else { return false };
    if let Some(pod) = observation.pod(&uid) {
        ask(&pod.name, About::Undone(target, round));
        return false;
    }
    memory.progress.explain(&target, "");
    true
}
