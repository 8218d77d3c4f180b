//! What a process uses of memory and of the processors, as the kernel tells.

use std::time::Duration;

use anyhow::Context;

use crate::control_plane::Process;

/// In KiB.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) now: u64,
    pub(crate) peak: u64,
}

pub(crate) fn memory(process: &Process) -> anyhow::Result<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).context("the process has ended")?;
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name} in /proc"))?;
        anyhow::Ok(line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?)
    };
    Ok(Memory { now: value("VmRSS")?, peak: value("VmHWM")? })
}

/// For how long its threads have run, those that have ended not counted.
pub(crate) fn processor_time(process: &Process) -> anyhow::Result<Duration> {
    let mut nanoseconds = 0;
    for thread in std::fs::read_dir(format!("/proc/{}/task", process.pid())).context("the process has ended")? {
        let Ok(text) = std::fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        nanoseconds += text.split(' ').next().and_then(|run| run.parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(Duration::from_nanos(nanoseconds))
}
