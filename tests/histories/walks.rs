//! Random histories of larger worlds.
