//! What becomes of an object by a patch, with the API server's record of who has set which label and annotation. No I/O.

use serde_json::{Map, Value, json};

/// Why a patch is not done.
pub(super) enum Refused {
    /// A test failed, or the patch cannot be applied.
    Invalid,
    Conflict,
}

pub(super) fn json_patch(object: &mut Value, patch: &Value) -> Result<(), Refused> {
    for operation in patch.as_array().ok_or(Refused::Invalid)? {
        let path = operation["path"].as_str().ok_or(Refused::Invalid)?;
        match operation["op"].as_str() {
            // What is missing is null, as the API server takes it.
            Some("test") if object.pointer(path).unwrap_or(&Value::Null) != &operation["value"] => return Err(Refused::Invalid),
            Some("test") => {}
            Some("add" | "replace") => *place(object, path)? = operation["value"].clone(),
            Some("remove") => {
                let (parent, name) = split(path)?;
                let parent = object.pointer_mut(parent).and_then(Value::as_object_mut).ok_or(Refused::Invalid)?;
                parent.remove(&name).ok_or(Refused::Invalid)?;
            }
            _ => return Err(Refused::Invalid),
        }
    }
    Ok(())
}

/// The place of a member whose parent is there.
fn place<'a>(object: &'a mut Value, path: &str) -> Result<&'a mut Value, Refused> {
    let (parent, name) = split(path)?;
    let parent = object.pointer_mut(parent).and_then(Value::as_object_mut).ok_or(Refused::Invalid)?;
    Ok(parent.entry(name).or_insert(Value::Null))
}

/// The parent's path, and the member's name.
fn split(path: &str) -> Result<(&str, String), Refused> {
    let (parent, name) = path.rsplit_once('/').ok_or(Refused::Invalid)?;
    Ok((parent, name.replace("~1", "/").replace("~0", "~")))
}

/// RFC 7396.
pub(super) fn merge_patch(object: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    let Value::Object(object) = object else { return };
    for (name, value) in fields {
        if value.is_null() {
            object.remove(name);
        } else {
            merge_patch(object.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Notes who has set what has become another label or annotation.
pub(super) fn record(object: &mut Value, before: &Value, manager: &str) {
    for field in ["labels", "annotations"] {
        let empty = Map::new();
        let of = |object: &Value| object["metadata"][field].as_object().cloned().unwrap_or_default();
        let (now, then) = (of(object), before["metadata"][field].as_object().unwrap_or(&empty));
        let changed: Vec<_> = now.iter().filter(|(key, value)| then.get(*key) != Some(*value)).map(|(key, _)| format!("f:{key}")).collect();
        let gone = then.keys().filter(|key| !now.contains_key(*key)).map(|key| format!("f:{key}"));
        let moved: Vec<_> = gone.chain(changed.iter().cloned()).collect();
        if moved.is_empty() {
            continue;
        }
        let managers = object["metadata"]["managedFields"].as_array_mut();
        let Some(managers) = managers else { continue };
        let name = format!("f:{field}");
        for entry in managers.iter_mut() {
            if let Some(set) = entry["fieldsV1"]["f:metadata"].get_mut(&name).and_then(Value::as_object_mut) {
                set.retain(|key, _| !moved.contains(key));
            }
        }
        if changed.is_empty() {
            continue;
        }
        let is = |entry: &Value| entry["manager"] == manager && entry["operation"] == "Update";
        let at = managers.iter().position(is).unwrap_or_else(|| {
            managers.push(json!({ "manager": manager, "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": { "f:metadata": {} } }));
            managers.len() - 1
        });
        for key in changed {
            managers[at]["fieldsV1"]["f:metadata"][&name][key] = json!({});
        }
    }
}
