//! Waiting for a condition: asking again and again, with a deadline, and telling the last answer when it passes.
//!
//! Nothing in the harness or its tests sleeps for a guessed time; it waits here for what it needs.

use std::fmt::Display;
use std::time::Duration;

use anyhow::bail;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks until the answer is `Ok`. The error says what was waited for, how long, and the last answer.
pub(crate) async fn until<T, E, Answer>(what: &str, within: Duration, mut ask: impl FnMut() -> Answer) -> anyhow::Result<T>
where
    Answer: Future<Output = Result<T, E>>,
    E: Display,
{
    let mut last = "none".to_owned();
    let asking = async {
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(answer) => last = format!("{answer:#}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    // An answer that never comes does not outlast the deadline.
    match tokio::time::timeout(within, asking).await {
        Ok(answer) => Ok(answer),
        Err(_) => bail!("{what}: not after {} s; last answer: {last}", within.as_secs()),
    }
}
