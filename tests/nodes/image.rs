//! The image of the Dockerfile: what is in it, and what is not.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::pods::shared;
use super::product;
use super::table;

/// An unpacked archive of OCI's layout.
struct Image {
    folder: tempfile::TempDir,
    manifest: Value,
    config: Value,
}

impl Image {
    fn unpack(archive: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        tar(&["-xf", &archive.display().to_string(), "-C", &folder.path().display().to_string()]);
        let json = |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
        let blob = |digest: &Value| folder.path().join("blobs").join(digest["digest"].as_str().unwrap().replace(':', "/"));
        let index = json(&folder.path().join("index.json"));
        let manifest = json(&blob(&index["manifests"][0]));
        let config = json(&blob(&manifest["config"]));
        let root = folder.path().join("root");
        std::fs::create_dir(&root).unwrap();
        for layer in manifest["layers"].as_array().unwrap() {
            tar(&["-xf", &blob(layer).display().to_string(), "-C", &root.display().to_string()]);
        }
        Self { folder, manifest, config }
    }

    /// Every file, and how large it is.
    fn files(&self) -> Vec<(String, u64)> {
        let root = self.folder.path().join("root");
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    let name = entry.path().strip_prefix(&root).unwrap().display().to_string();
                    found.push((name, entry.metadata().unwrap().len()));
                }
            }
        }
        found.sort();
        found
    }
}

fn tar(arguments: &[&str]) {
    let output = Command::new("tar").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Whether a program of this system needs neither an interpreter nor a library: no segment of its file names one.
fn is_static(program: &[u8]) -> bool {
    const INTERPRETER: u32 = 3;
    assert_eq!(program[..5], *b"\x7fELF\x02", "no 64-bit ELF file");
    let word = |at: usize, size: usize| program[at..at + size].iter().rev().fold(0, |value: usize, byte| value << 8 | usize::from(*byte));
    let (start, size, count) = (word(0x20, 8), word(0x36, 2), word(0x38, 2));
    (0..count).all(|number| u32::try_from(word(start + number * size, 4)) != Ok(INTERPRETER))
}

/// The names of the [[bin]] sections.
fn programs() -> BTreeSet<String> {
    let manifest = std::fs::read_to_string(product::clone().join("Cargo.toml")).unwrap();
    let sections = manifest.split("[[bin]]\nname = \"").skip(1);
    sections.map(|section| section.split('"').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_image_holds_static_programs_for_a_user_without_rights_and_nothing_else() {
    let plane = shared().await;
    let archive = product::build(plane, "contents").await.unwrap();
    let image = Image::unpack(&archive);

    let files = image.files();
    let names: BTreeSet<String> = files.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, programs(), "no shell, no library, no file of a user");
    for name in &names {
        assert!(is_static(&std::fs::read(image.folder.path().join("root").join(name)).unwrap()), "{name} is not static");
    }

    let config = &image.config["config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/leadergroup-operator"]));
    for label in ["title", "description", "licenses", "source", "documentation", "version", "revision"] {
        let said = config["Labels"][format!("org.opencontainers.image.{label}")].as_str().unwrap_or_default();
        assert!(!said.is_empty(), "the label {label} is missing: {}", config["Labels"]);
    }

    let packed: u64 = image.manifest["layers"].as_array().unwrap().iter().filter_map(|layer| layer["size"].as_u64()).sum();
    let each: Vec<String> = files.iter().map(|(name, size)| format!("{name} {}", mebibytes(*size))).collect();
    let line = format!("The image: {} packed ({} as files).", mebibytes(packed), each.join(", "));
    println!("{line}");
    table::note(1, &line);
}

#[expect(clippy::cast_precision_loss, reason = "sizes of files, to a tenth")]
fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1024.0 / 1024.0)
}

#[tokio::test]
async fn nothing_in_the_image_can_be_run_but_its_programs() {
    let plane = shared().await;
    product::build(plane, "shell").await.unwrap();
    let image = product::image("shell");
    let namespace = plane.namespace("image").await;
    let pod = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shell", "namespace": namespace},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "shell", "image": image, "command": ["sh", "-c", "true"]}]},
    });
    plane.apply(&pod.to_string()).await.unwrap();
    let wait = ["wait", "pod/shell", "--namespace", &namespace, "--timeout=180s"];
    let failed = "--for=jsonpath={.status.containerStatuses[0].state.terminated.reason}=StartError";
    plane.kubectl(&[&wait[..], &[failed]].concat()).await.unwrap().succeeded().unwrap();
}
