//! How many tests a step ran, and how they ended.

/// What a step counted.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
    /// Tests that were skipped.
    pub skipped: u64,
}

impl Counts {
    /// A step that is one check, passed.
    pub const ONE: Counts = Counts {
        passed: 1,
        failed: 0,
        skipped: 0,
    };
}
