//! All tests of the project but those beside the code, in one binary.

mod command_line;
#[allow(dead_code, reason = "the example uses the rest")]
mod control_plane;
mod decisions;
mod docs;
mod elector;
mod elector_program;
mod examples;
mod harness;
mod histories;
mod interop;
mod layering;
mod manifests;
mod operator;
