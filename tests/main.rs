//! All tests of the project but those beside the code, in one binary.

mod layering;
mod manifests;
