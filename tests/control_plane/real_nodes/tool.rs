//! A program of the system that is run to its end, such as `ip` or `buildah`.

use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use tokio::io::AsyncWriteExt;

/// Gives what it printed; fails where it fails, with its complaint.
pub(super) async fn run(command: Command, input: &str) -> anyhow::Result<String> {
    let what = format!("{command:?}");
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("cannot start {what}"))?;
    let mut pipe = child.stdin.take().context("it has no standard input")?;
    let write = async move {
        // One that ends without reading all of it says why by itself.
        let _ = pipe.write_all(input.as_bytes()).await;
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), write);
    let output = output?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{what} ended with {}: {}", output.status, complaint.trim_end());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
