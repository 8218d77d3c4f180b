//! Argo CD's health script of docs/argocd.md, run in the Lua that Argo CD has, on groups as the API server has them.

use mlua::{Lua, LuaOptions, StdLib, Table};
use serde_json::Value;

use super::arena::{self, Arena};

/// The script, from the page that users copy it from.
fn script() -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/argocd.md")).unwrap();
    let manifest = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let manifest: Value = serde_saphyr::from_str(manifest).unwrap();
    manifest["data"]["resource.customizations.health.leadergroup.io_LeaderGroup"].as_str().unwrap().to_owned()
}

fn to_lua(lua: &Lua, value: &Value) -> mlua::Value {
    match value {
        Value::Null => mlua::Value::Nil,
        Value::Bool(is) => mlua::Value::Boolean(*is),
        // Lua 5.1 has no other numbers.
        Value::Number(number) => mlua::Value::Number(number.as_f64().unwrap()),
        Value::String(text) => mlua::Value::String(lua.create_string(text).unwrap()),
        Value::Array(items) => mlua::Value::Table(lua.create_sequence_from(items.iter().map(|item| to_lua(lua, item))).unwrap()),
        Value::Object(fields) => mlua::Value::Table(lua.create_table_from(fields.iter().map(|(name, value)| (name.as_str(), to_lua(lua, value)))).unwrap()),
    }
}

/// What the script says of this object: with no library but that of tables, as Argo CD runs it.
fn health(object: &Value) -> (String, String) {
    let lua = Lua::new_with(StdLib::TABLE, LuaOptions::default()).unwrap();
    lua.globals().set("obj", to_lua(&lua, object)).unwrap();
    let said: Table = lua.load(script()).eval().unwrap();
    (said.get("status").unwrap(), said.get("message").unwrap())
}

impl Arena {
    async fn object(&self, group: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", "leadergroup", group, "-o", "json"]).await).unwrap()
    }

    /// Waits until the script says this of the group, in these words; the object as it was then.
    async fn until_health(&self, group: &str, status: &str, words: &str) -> Value {
        self.until(&format!("{group} is {status}: {words}"), async || {
            let object = self.object(group).await;
            let (said, why) = health(&object);
            if said == status && why.contains(words) { Ok(object) } else { Err(format!("{said}: {why}")) }
        })
        .await
    }
}

#[tokio::test]
async fn the_health_script_for_argo_cd_says_how_a_group_is() {
    let mut arena = Arena::without_operator("argocd").await;
    arena.apply(&arena::web(0)).await;
    arena.until_health("web", "Progressing", "not seen this version").await;
    arena.start_operator();
    arena.until_health("web", "Suspended", "NoPods: ").await;
    arena.kubectl(&["scale", "leadergroup/web", "--replicas=3"]).await;
    let leader = arena.leader("web").await;
    let mut healthy = arena.until_health("web", "Healthy", "LeaderElected: ").await;

    healthy["metadata"]["generation"] = serde_json::json!(healthy["metadata"]["generation"].as_i64().unwrap() + 1);
    assert_eq!(health(&healthy).0, "Progressing", "what the status says is of an earlier version");

    arena.change(serde_json::json!({ "suspend": true })).await;
    arena.until_health("web", "Suspended", "elections are suspended").await;
    arena.set_ready(&leader, false).await;
    arena.until_health("web", "Suspended", "no ready pod leads").await;
    arena.change(serde_json::json!({ "suspend": false })).await;
    arena.leader_other_than("web", &leader).await;
    arena.until_health("web", "Progressing", "RolloutInProgress: ").await;
    arena.set_ready(&leader, true).await;
    arena.until_health("web", "Healthy", "LeaderElected: ").await;

    // Another group on the same Deployment is for a person to sort out.
    arena.apply(&arena::reference("other", "web")).await;
    arena.until_health("other", "Degraded", "OverlappingGroups: ").await;
    arena.finish().await;
}
