//! Who comes next, and how much is under way.

use super::*;

/// Enters with each of these and tells in which order they came through a gate with one place.
async fn order(gate: Gate, wanted: &[(&'static str, Urgency)]) -> Vec<String> {
    let gate = Arc::new(gate);
    let first = gate.enter(&"first".into(), Urgency::Moves).await;
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut tasks = Vec::new();
    for (who, urgency) in wanted.iter().copied() {
        let (gate, told) = (gate.clone(), told.clone());
        tasks.push(tokio::spawn(async move {
            let place = gate.enter(&who.into(), urgency).await;
            told.lock().unwrap().push(format!("{who} {urgency:?}"));
            tokio::task::yield_now().await;
            drop(place);
        }));
        tokio::task::yield_now().await;
    }
    drop(first);
    for task in tasks {
        task.await.unwrap();
    }
    Arc::into_inner(told).unwrap().into_inner().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_urgent_comes_first_and_nothing_waits_for_ever() {
    use Urgency::{CanWait, Finishes, Moves};
    let told = order(Gate::new(1), &[("a", CanWait), ("a", Moves), ("b", Finishes), ("a", Moves)]).await;
    assert_eq!(told, ["b Finishes", "a Moves", "a Moves", "a CanWait"]);
    let many: Vec<_> = std::iter::once(("a", CanWait)).chain((0..40).map(|_| ("b", Moves))).collect();
    let told = order(Gate::new(1), &many).await;
    let place = told.iter().position(|it| it == "a CanWait").unwrap();
    assert!(place < 9, "{place}");
}

#[tokio::test(start_paused = true)]
async fn whoever_has_the_least_under_way_comes_next() {
    let gate = Arc::new(Gate::new(3));
    let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(gate.enter(&a, Urgency::Moves).await);
    }
    let waiting: Vec<_> = [&a, &a, &a, &b]
        .into_iter()
        .map(|who| {
            let (gate, who) = (gate.clone(), who.clone());
            tokio::spawn(async move { gate.enter(&who, Urgency::Moves).await })
        })
        .collect();
    tokio::task::yield_now().await;
    held.pop();
    tokio::task::yield_now().await;
    assert!(waiting[3].is_finished() && !waiting[0].is_finished(), "one of b's before those of a");
}

#[tokio::test(start_paused = true)]
async fn what_can_wait_gives_way_for_a_moment_and_no_longer() {
    let gate = Arc::new(Gate::yielding(8));
    let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
    let urgent = gate.enter(&a, Urgency::Finishes).await;
    let other = gate.clone();
    let waits = tokio::spawn(async move { other.enter(&b, Urgency::CanWait).await });
    tokio::time::sleep(YIELD / 2).await;
    assert!(!waits.is_finished());
    tokio::time::sleep(YIELD).await;
    assert!(waits.is_finished(), "whatever hangs holds it up for a moment only");
    drop(urgent);
}

#[tokio::test(start_paused = true)]
async fn little_of_what_can_wait_is_under_way_while_much_comes_that_is_urgent() {
    let gate = Gate::yielding(32);
    let a: Arc<str> = "a".into();
    let fits = async || {
        let mut held = Vec::new();
        while let Ok(place) = tokio::time::timeout(Duration::from_millis(1), gate.enter(&a, Urgency::CanWait)).await {
            held.push(place);
        }
        held.len()
    };
    assert_eq!(fits().await, 24);
    for _ in 0..RUSH {
        drop(gate.enter(&a, Urgency::Moves).await);
    }
    assert_eq!(fits().await, 4, "also between two that are urgent");
    tokio::time::sleep(RUSH_FOR).await;
    assert_eq!(fits().await, 4);
    tokio::time::sleep(RUSH_FOR).await;
    assert_eq!(fits().await, 24, "it is over");
    let mut most = Vec::new();
    for _ in 0..100 {
        for _ in 0..RUSH {
            drop(gate.enter(&a, Urgency::Moves).await);
        }
        most.push(fits().await);
        tokio::time::sleep(RUSH_FOR).await;
    }
    let held = most.iter().take_while(|it| **it == 4).count();
    assert!((55..=60).contains(&held) && most[held..].iter().all(|it| *it == 24), "one that does not end is none after half a minute: {most:?}");
    tokio::time::sleep(RUSH_FOR * 4).await;
    for _ in 0..RUSH {
        drop(gate.enter(&a, Urgency::Moves).await);
    }
    assert_eq!(fits().await, 24, "nor does a pause make it another one");
    tokio::time::sleep(LONGEST_RUSH).await;
    let rushes = async || {
        for _ in 0..RUSH {
            drop(gate.enter(&a, Urgency::Moves).await);
        }
        fits().await
    };
    assert_eq!(rushes().await, 4);
    // Nor is there none for ever where one comes again and again.
    let mut most = Vec::new();
    for _ in 0..12 {
        tokio::time::sleep(LONGEST_RUSH / 3).await;
        most.push(rushes().await);
    }
    assert!((5..=7).contains(&most.iter().filter(|it| **it == 4).count()), "{most:?}");
}

#[tokio::test(start_paused = true)]
async fn fewer_are_under_way_where_the_server_says_that_it_is_too_much() {
    let gate = Gate::new(16);
    gate.is_too_much();
    let a: Arc<str> = "a".into();
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(gate.enter(&a, Urgency::Moves).await);
    }
    assert!(tokio::time::timeout(Duration::from_secs(1), gate.enter(&a, Urgency::Moves)).await.is_err());
    for _ in 0..40 {
        gate.is_well();
    }
    held.push(gate.enter(&a, Urgency::Moves).await);
}

#[tokio::test(start_paused = true)]
async fn a_gate_with_few_places_gets_no_more_by_being_told_that_it_is_too_much() {
    let gate = Gate::new(2);
    gate.is_too_much();
    let a: Arc<str> = "a".into();
    let _held = (gate.enter(&a, Urgency::Moves).await, gate.enter(&a, Urgency::Moves).await);
    assert!(tokio::time::timeout(Duration::from_secs(1), gate.enter(&a, Urgency::Moves)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn no_namespace_waits_for_ever_because_of_its_name_however_many_others_do() {
    let gate = Arc::new(Gate::new(4));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    for number in 0..60 {
        let (gate, stop) = (gate.clone(), stop.clone());
        tokio::spawn(async move {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _place = gate.enter(&format!("a{}", number / 2).into(), Urgency::Moves).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..5 {
        let entered = tokio::time::timeout(Duration::from_secs(2), gate.enter(&"z".into(), Urgency::Moves)).await;
        assert!(entered.is_ok(), "there are thirty before it, four at a time");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
}

#[tokio::test(start_paused = true)]
async fn what_can_wait_waits_for_ever_behind_no_number_of_urgent_ones() {
    for gate in [Gate::new(16), Gate::yielding(32)] {
        let gate = Arc::new(gate);
        for number in 0..60 {
            let gate = gate.clone();
            tokio::spawn(async move {
                loop {
                    let _place = gate.enter(&format!("a{}", number % 3).into(), Urgency::Moves).await;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let entered = tokio::time::timeout(Duration::from_secs(3), gate.enter(&"z".into(), Urgency::CanWait)).await;
        assert!(entered.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn what_moves_waits_for_ever_neither_behind_what_finishes_nor_behind_what_can_wait() {
    let gate = Arc::new(Gate::yielding(32));
    let endless = (0..48).map(|_| Urgency::Finishes).chain((0..40).map(|_| Urgency::CanWait));
    for (number, urgency) in endless.enumerate() {
        let gate = gate.clone();
        tokio::spawn(async move {
            loop {
                let _place = gate.enter(&format!("a{number}").into(), urgency).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(tokio::time::timeout(Duration::from_secs(1), gate.enter(&"z".into(), Urgency::Moves)).await.is_ok());
}

/// Whether one comes in among so many who enter again and again, each with its urgency, and are never done.
async fn comes_in(gate: Gate, endless: impl Iterator<Item = (String, Urgency)>, who: &str, urgency: Urgency) -> bool {
    let gate = Arc::new(gate);
    for (name, urgency) in endless {
        let gate = gate.clone();
        tokio::spawn(async move {
            loop {
                let _place = gate.enter(&name.as_str().into(), urgency).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    tokio::time::timeout(Duration::from_secs(4), gate.enter(&who.into(), urgency)).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn what_can_wait_comes_in_also_where_the_urgent_take_most_places_and_never_all() {
    for limit in [4, 5, 8, 16, 33, 64] {
        for gate in [Gate::new(limit), Gate::yielding(limit)] {
            let busy = (0..=limit - limit / 4).map(|number| (format!("a{number}"), Urgency::Finishes));
            assert!(comes_in(gate, busy, "z", Urgency::CanWait).await, "limit {limit}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_always_has_something_under_way_gets_its_less_urgent_place_too() {
    for limit in [2, 4, 16] {
        let own = (0..2).map(|_| ("a".to_owned(), Urgency::Finishes));
        let others = (0..4 * limit).map(|number| (format!("b{number}"), Urgency::Moves));
        assert!(comes_in(Gate::new(limit), own.chain(others), "a", Urgency::Moves).await, "limit {limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_wait_any_more_takes_no_turn_of_those_who_do() {
    let gate = Arc::new(Gate::new(1));
    let held = gate.enter(&"a".into(), Urgency::Moves).await;
    for _ in 0..2000 {
        assert!(futures::FutureExt::now_or_never(gate.enter(&"z".into(), Urgency::CanWait)).is_none());
    }
    for number in 0..20 {
        let gate = gate.clone();
        tokio::spawn(async move {
            loop {
                let _place = gate.enter(&format!("a{number}").into(), Urgency::Moves).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
    }
    tokio::task::yield_now().await;
    drop(held);
    assert!(tokio::time::timeout(Duration::from_secs(1), gate.enter(&"z".into(), Urgency::CanWait)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_that_do_not_wait_any_more_hold_up_nobody() {
    let gate = Gate::new(1);
    let a: Arc<str> = "a".into();
    let held = gate.enter(&a, Urgency::Moves).await;
    for _ in 0..100_000 {
        assert!(futures::FutureExt::now_or_never(gate.enter(&a, Urgency::Moves)).is_none());
    }
    drop(held);
    drop(gate.enter(&a, Urgency::Moves).await);
}

#[tokio::test(start_paused = true)]
async fn what_can_wait_leaves_places_to_what_cannot() {
    let gate = Gate::new(8);
    let a: Arc<str> = "a".into();
    let mut held = Vec::new();
    while let Ok(place) = tokio::time::timeout(Duration::from_millis(1), gate.enter(&a, Urgency::CanWait)).await {
        held.push(place);
    }
    assert_eq!(held.len(), 6);
    gate.enter(&a, Urgency::Finishes).await;
}

#[tokio::test(start_paused = true)]
async fn who_does_not_wait_any_more_takes_no_place() {
    let gate = Gate::new(1);
    let a: Arc<str> = "a".into();
    let held = gate.enter(&a, Urgency::Moves).await;
    assert!(tokio::time::timeout(Duration::from_millis(10), gate.enter(&a, Urgency::Moves)).await.is_err());
    drop(held);
    drop(gate.enter(&a, Urgency::CanWait).await);
}
