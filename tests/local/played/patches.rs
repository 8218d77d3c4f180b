//! What becomes of an object by a patch, with the API server's record of who has set which label and annotation. No I/O.

use json_patch::PatchOperation;
use serde_json::{Map, Value, json};

/// Why a patch is not done.
pub(super) enum Refused {
    /// A test failed, or the patch cannot be applied.
    Invalid,
    Conflict,
}

/// What is missing is null to a test, as the API server takes it.
pub(super) fn json_patch(object: &mut Value, operations: &Value) -> Result<(), Refused> {
    let operations: json_patch::Patch = serde_json::from_value(operations.clone()).map_err(|_| Refused::Invalid)?;
    for operation in operations.0 {
        match &operation {
            PatchOperation::Test(test) if test.path.resolve(object).unwrap_or(&Value::Null) != &test.value => return Err(Refused::Invalid),
            PatchOperation::Test(_) => {}
            _ => json_patch::patch(object, std::slice::from_ref(&operation)).map_err(|_| Refused::Invalid)?,
        }
    }
    Ok(())
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
