//! Rules of this repository that no other tool checks.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::counts::Counts;
use crate::{command, paths};

/// A file longer than this is two files.
const LONGEST: usize = 700;

/// Checks every tracked file; a failure names all that is wrong.
pub fn run() -> Result<Counts> {
    let mut wrong = Vec::new();
    let files = tracked()?;
    for file in &files {
        let path = paths::root().join(file);
        // Deleted, but not yet committed so.
        let Ok(bytes) = fs::read(&path) else { continue };
        let Ok(text) = String::from_utf8(bytes) else {
            wrong.push(format!(
                "{}: binary files are not kept here",
                file.display()
            ));
            continue;
        };
        check(file, &text, &mut wrong);
    }
    if !wrong.is_empty() {
        bail!(
            "{} things are untidy:\n  {}",
            wrong.len(),
            wrong.join("\n  ")
        );
    }
    Ok(Counts::ONE)
}

/// What git tracks, or would if it were added.
fn tracked() -> Result<Vec<PathBuf>> {
    let list = command::output(
        "git",
        &["ls-files", "--cached", "--others", "--exclude-standard"],
    )
    .context("git ls-files: fails; is this a clone?")?;
    Ok(list.lines().map(PathBuf::from).collect())
}

fn check(file: &Path, text: &str, wrong: &mut Vec<String>) {
    let name = file.display();
    if text.lines().any(|line| line.ends_with([' ', '\t'])) {
        wrong.push(format!("{name}: white space at the end of a line"));
    }
    if !text.is_empty() && !text.ends_with('\n') {
        wrong.push(format!("{name}: no newline at its end"));
    }
    if file.extension().is_some_and(|extension| extension == "rs") {
        if !text.starts_with("//!") {
            wrong.push(format!("{name}: does not begin with `//!`, what it is for"));
        }
        let lines = text.lines().count();
        if lines > LONGEST {
            wrong.push(format!(
                "{name}: {lines} lines; more than {LONGEST} are two files"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use std::path::Path;

    #[test]
    fn each_rule_can_fail() {
        let wrong = |text: &str| {
            let mut wrong = Vec::new();
            check(Path::new("a.rs"), text, &mut wrong);
            wrong.len()
        };
        assert_eq!(wrong("//! Fine.\n"), 0);
        assert_eq!(wrong("fn main() {}\n"), 1);
        assert_eq!(wrong("//! Fine. \n"), 1);
        assert_eq!(wrong("//! Fine."), 1);
        assert_eq!(wrong(&"//! Long.\n".repeat(701)), 1);
    }
}
