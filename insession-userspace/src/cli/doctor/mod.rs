//! `insession doctor`.
use super::exit::Failure;
/// Options.
#[derive(Debug, clap::Args)]
pub struct Arguments {}
/// Runs it.
///
/// # Errors
/// None yet.
pub fn run(_: &Arguments) -> Result<u8, Failure> {
    Ok(0)
}
