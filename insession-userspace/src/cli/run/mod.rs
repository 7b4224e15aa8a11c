//! `insession run`: a list of targets in, results in files out.

pub mod arguments;

pub use arguments::Arguments;

use super::exit::Failure;

/// Runs it; gives the exit code.
///
/// # Errors
/// When it could not begin, or no link could be opened.
pub fn run(_arguments: &Arguments) -> Result<u8, Failure> {
    Err(Failure::usage("run: not built yet"))
}
