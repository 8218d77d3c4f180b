//! What comes through the sieve, and what does not.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::operator::kept::ROOT;

fn sieved(text: &str) -> Value {
    let left = Sieve::of(ROOT).pass(text.as_bytes());
    serde_json::from_slice(&left).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&left)))
}

#[test]
fn what_is_kept_is_as_it_was_and_everything_else_is_gone() {
    let lease = r#" {"kind":"Lease", "metadata": {"name":"web","managedFields":[{"manager":"x","time":"9999-12-31T23:59:59.999999Z"}],
        "annotations":{"a/b":"c","leadergroup.io/term":"7"},"selfLink":[1,{"a":"]}\""}]},
        "spec":{"holderIdentity":"\u00fc\ud83d\ude00\n","leaseTransitions":-3,"x":null,"renewTime":null}}"#;
    assert_eq!(
        sieved(lease),
        json!({
            "kind": "Lease", "size": lease.len() - 1,
            "metadata": { "name": "web", "managedFields": [{ "manager": "x" }], "annotations": { "leadergroup.io/term": "7" } },
            "spec": { "holderIdentity": "ü😀\n", "leaseTransitions": -3, "renewTime": null },
        })
    );
}

#[test]
fn lists_events_and_errors_are_thinned_like_what_they_contain() {
    let pod = json!({ "metadata": { "name": "web-1", "selfLink": "x" }, "spec": { "containers": [{ "env": [{ "value": "secret" }] }], "nodeName": "n" } });
    let thin = |object: &Value| (object["metadata"].clone(), object["spec"].clone());
    let kept = (json!({ "name": "web-1" }), json!({ "nodeName": "n" }));
    let list = sieved(&json!({ "kind": "PodList", "metadata": { "resourceVersion": "9", "continue": "c" }, "items": [pod, pod] }).to_string());
    assert_eq!(list["items"].as_array().unwrap().iter().map(thin).collect::<Vec<_>>(), [kept.clone(), kept.clone()]);
    assert_eq!(list["metadata"], json!({ "resourceVersion": "9", "continue": "c" }));
    let events = format!("{}\n{}\n", json!({ "type": "ADDED", "object": pod }), json!({ "type": "ERROR", "object": { "kind": "Status", "code": 410 } }));
    let left = String::from_utf8(Sieve::of(ROOT).pass(events.as_bytes())).unwrap();
    let events: Vec<Value> = left.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&events[0]["type"], thin(&events[0]["object"])), (&json!("ADDED"), kept));
    assert_eq!(events[1]["object"]["code"], 410);
    let error =
        r#"{"kind":"Status","status":"Failure","message":"no","reason":"Invalid","code":422,"details":{"name":"web","kind":"pods","causes":[{"reason":"x"}]}}"#;
    let mut expected: Value = serde_json::from_str(error).unwrap();
    expected["size"] = json!(error.len());
    assert_eq!(sieved(error), expected);
}

#[test]
fn what_is_cut_says_so_and_stays_unlike_others_and_is_cut_between_characters() {
    let holder = |text: &str| sieved(&format!(r#"{{"spec":{{"holderIdentity":"{text}"}}}}"#))["spec"]["holderIdentity"].as_str().unwrap().to_owned();
    for unit in ["a", "ü", "\\u003c", "\\ud83d\\ude00", "\\\"", "\\\\"] {
        for before in ["", "x", "xy", "xyz"] {
            let long = before.to_owned() + &unit.repeat(200_000);
            let (one, other) = (holder(&format!("{long}1")), holder(&format!("{long}2")));
            assert!(one.len() < 8 << 10 && one.contains('…') && one != other, "{unit}");
            assert_eq!(holder(&format!("{long}1")), one);
        }
    }
    assert_eq!(holder("web_1"), "web_1");
}

#[test]
fn a_map_that_is_full_is_marked_and_keeps_what_the_operator_has_set() {
    let many = (0..40_000).fold(String::new(), |many, number| many + &format!(r#""a{number:05}":"value","#));
    let pod = sieved(&format!(r#"{{"metadata":{{"labels":{{{many}"leadergroup.io/fence.web":"f.1","role":"leader"}},"uid":"u"}}}}"#));
    let labels = &pod["metadata"]["labels"];
    assert!(labels.to_string().len() < 16 << 10);
    assert_eq!((&labels["leadergroup.io/fence.web"], labels.get("role"), labels.get("")), (&json!("f.1"), None, Some(&Value::Null)));
    assert_eq!(pod["metadata"]["uid"], "u");
    let owners: String = vec![r#"{"uid":"u"}"#; 100_000].join(",");
    let pod = sieved(&format!(r#"{{"metadata":{{"ownerReferences":[{owners}]}}}}"#));
    let owners = pod["metadata"]["ownerReferences"].as_array().unwrap();
    assert!(owners.len() < 4000 && owners.last() == Some(&Value::Null));
}

#[test]
fn what_rusts_reader_would_choke_on_does_not_come_through() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    for odd in [&*deep, "1e400", "-1E999", &"9".repeat(5000)] {
        for field in ["election", "deploymentRef", "holderIdentity", "selector", "deployment", "template"] {
            assert!(sieved(&format!(r#"{{"spec":{{"{field}":{odd}}}}}"#)).is_object());
        }
    }
}

#[test]
fn what_is_no_json_is_not_kept_and_does_not_hide_what_follows() {
    let mut sieve = Sieve::of(ROOT);
    let garbage = "<html>".repeat(100_000) + "\n" + r#"{"kind":"Pod"}"# + "\n";
    let left = String::from_utf8(sieve.pass(garbage.as_bytes())).unwrap();
    let lines: Vec<_> = left.lines().collect();
    assert!(lines[0].len() < 10 && serde_json::from_str::<Value>(lines[0]).is_err());
    assert_eq!(lines[1], r#"{"kind":"Pod","size":14}"#);
}

#[test]
fn a_long_text_is_cut_to_the_same_however_it_came_in_pieces() {
    let long = "0123456789\\\"é".repeat(500);
    let text = json!({ "kind": "Lease", "spec": { "holderIdentity": long } }).to_string();
    let whole = Sieve::of(ROOT).pass(text.as_bytes());
    assert!(whole.len() < 5000 && String::from_utf8_lossy(&whole).contains('…'), "{} bytes", whole.len());
    for size in [1, 2, 3, 7, 8, 9, 63, 64, 1000] {
        let mut sieve = Sieve::of(ROOT);
        let pieces: Vec<u8> = text.as_bytes().chunks(size).flat_map(|piece| sieve.pass(piece)).collect();
        assert_eq!(String::from_utf8_lossy(&pieces), String::from_utf8_lossy(&whole), "pieces of {size}");
    }
}

#[test]
fn a_string_ends_where_it_does_whatever_it_says_and_however_it_came_whether_it_is_cut_or_left_out() {
    let odd = (0..1024_u32).map(|number| (0..5).map(|digit| ["\\", "\"", "<", "u"][(number >> (2 * digit) & 3) as usize]).collect::<String>());
    for text in odd {
        let long = "<".repeat(4000) + &text;
        let lease = json!({ "apiVersion": text, "metadata": { "selfLink": text, "name": "web" }, "spec": { "holderIdentity": long, "leaseTransitions": 7 } });
        let lease = lease.to_string().replace('<', "\\u003c");
        let whole = sieved(&lease);
        assert_eq!((&whole["metadata"]["name"], &whole["spec"]["leaseTransitions"]), (&json!("web"), &json!(7)), "{text}");
        for size in [1, 2, 3, 5, lease.len() - 20] {
            let mut sieve = Sieve::of(ROOT);
            let pieces: Vec<u8> = lease.as_bytes().chunks(size).flat_map(|piece| sieve.pass(piece)).collect();
            assert_eq!(serde_json::from_slice::<Value>(&pieces).unwrap(), whole, "{text} in pieces of {size}");
        }
    }
}

fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), any::<i64>().prop_map(Value::from), ".{0,20}".prop_map(Value::from)];
    let names = prop::sample::select(vec!["metadata", "spec", "status", "labels", "items", "object", "selector", "conditions", "name", "template", "other"]);
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..6).prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn however_an_answer_is_cut_into_pieces_the_same_is_left(value in json_values(), size in 1..17_usize) {
        let text = value.to_string();
        let whole = Sieve::of(ROOT).pass(text.as_bytes());
        let mut sieve = Sieve::of(ROOT);
        let pieces: Vec<u8> = text.as_bytes().chunks(size).flat_map(|piece| sieve.pass(piece)).collect();
        prop_assert_eq!(&pieces, &whole);
        if value.is_object() {
            prop_assert!(serde_json::from_slice::<Value>(&whole).is_ok());
        }
    }

    #[test]
    fn whatever_arrives_nothing_panics_and_little_is_kept(bytes in prop::collection::vec(any::<u8>(), 0..2000), text in r#"[{}\[\]",:\\a1\n ]{0,300}"#) {
        let mut sieve = Sieve::of(ROOT);
        let left = sieve.pass(&bytes).len() + sieve.pass(text.as_bytes()).len();
        prop_assert!(left <= 2 * (bytes.len() + text.len()) + 200 * text.len());
    }
}
