//! What the demo says: headings, commands with what they printed, and times. In colour only on a terminal that wants it.

use std::fmt::Display;
use std::io::IsTerminal;

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "31";

#[derive(Clone, Copy)]
pub(super) struct Terminal {
    colour: bool,
}

impl Terminal {
    pub(super) fn new(no_colour: bool) -> Self {
        Self { colour: !no_colour && std::io::stdout().is_terminal() }
    }

    /// Begins a part of the story.
    pub(super) fn heading(self, sentence: impl Display) {
        println!("\n{}", self.paint(BOLD, sentence));
    }

    #[expect(clippy::unused_self, reason = "said by the terminal, as all the rest")]
    pub(super) fn note(self, sentence: impl Display) {
        println!("  {sentence}");
    }

    /// What a user would type.
    pub(super) fn command(self, arguments: &[&str]) {
        let quoted: Vec<_> = arguments.iter().map(|argument| quote(argument)).collect();
        println!("  {} {}", self.paint(DIM, "$"), quoted.join(" "));
    }

    /// What it printed.
    #[expect(clippy::unused_self, reason = "said by the terminal, as all the rest")]
    pub(super) fn output(self, text: &str) {
        for line in text.trim_end().lines() {
            println!("    {}", line.trim_end());
        }
    }

    /// What was seen so long after what the step does.
    pub(super) fn moment(self, milliseconds: f64, what: impl Display) {
        println!("    {}  {what}", self.paint(GREEN, format!("{milliseconds:>+9.1} ms")));
    }

    pub(super) fn failure(self, text: impl Display) {
        println!("\n{} {text}", self.paint(RED, "The demo failed:"));
    }

    fn paint(self, code: &str, text: impl Display) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }
}

/// An argument as a shell takes it.
fn quote(argument: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=:,@%+".contains(letter);
    if argument.chars().all(plain) { argument.to_owned() } else { format!("'{}'", argument.replace('\'', r"'\''")) }
}
