//! The application that the tests on real nodes let lead, and the client that asks it; one program, so that one image and
//! one build do. It must need nothing of its image but itself.
//!
//!     app serve                    answers on port 8080 who it is, and is told how to fail
//!     app ask ADDRESS:PORT FILE    asks that address without pause, and writes every answer and failure into the file

mod ask;
mod serve;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = match arguments[..] {
        ["serve"] => serve::run(),
        ["ask", address, file] => ask::run(address, file),
        _ => Err(anyhow::anyhow!("say: serve, or: ask ADDRESS:PORT FILE")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem:#}");
            ExitCode::FAILURE
        }
    }
}
