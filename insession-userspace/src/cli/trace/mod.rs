//! `insession trace`.
pub mod arguments;
pub mod plan;
pub mod target;
use super::exit::Failure;
pub use arguments::Arguments;
/// Runs it.
///
/// # Errors
/// None yet.
pub fn run(arguments: &Arguments) -> Result<u8, Failure> {
    plan::Plan::new(arguments)?;
    Ok(0)
}
