//! Results as they are read: JSON lines, plain or compressed, and Parquet of ours.

use std::io::{self, BufRead as _, Read as _};
use std::path::Path;

use super::exit::{self, Failure, tell};
use crate::report::output::parquet::{self, is_parquet};
use crate::report::{input, json, paths};
use crate::trace::Trace;

/// A record that was read.
pub struct Record<'a> {
    /// It.
    pub trace: &'a Trace,
    /// Its line, with its line end, where it came as one.
    pub line: Option<&'a [u8]>,
}

/// Lines that are no records: told by number, counted.
#[derive(Debug)]
pub struct Bad {
    strict: bool,
    count: u64,
}

/// Bad lines that are told one by one; the rest is counted.
const TOLD: u64 = 20;

impl Bad {
    /// None yet. The first is an error where that is asked for (`strict`).
    #[must_use]
    pub fn new(strict: bool) -> Self {
        Bad { strict, count: 0 }
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    fn add(&mut self, path: &Path, number: u64, why: &json::ReadError) -> Result<(), Failure> {
        self.count += 1;
        let place = format!("{}, line {number}", path.display());
        if self.strict {
            return Err(Failure::usage(format!(
                "{place}: {why}; mend the line, or leave --strict out"
            )));
        }
        if self.count <= TOLD {
            tell(format_args!("warning: {place}: {why}; left out"));
        }
        Ok(())
    }

    /// Tells how many there were, gives the exit code: 2 where there were some.
    #[must_use]
    pub fn end(&self) -> u8 {
        if self.count == 0 {
            return exit::OK;
        }
        tell(format_args!("warning: {} bad lines, left out", self.count));
        exit::USAGE
    }
}

/// Longer lines are no records: 255 hops of a thousand probes each are shorter.
const LONGEST: u64 = 128 << 20;

/// Reads a result to its end, or until `each` gives `false`. Memory: one record.
///
/// # Errors
/// When it cannot be read, and what `each` says.
pub fn read(
    path: &Path,
    bad: &mut Bad,
    each: &mut dyn FnMut(Record<'_>) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let failed = |error| unread(path, error);
    if path.as_os_str() != "-" && is_parquet(path).map_err(failed)? {
        let mut reader = parquet::Reader::open(path).map_err(failed)?;
        while let Some(trace) = reader.next().map_err(failed)? {
            let (trace, line) = (&trace, None);
            if !each(Record { trace, line })? {
                break;
            }
        }
        return Ok(());
    }
    let mut input = input::open(path).map_err(failed)?;
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let mut limited = input.by_ref().take(LONGEST);
        if limited.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok(());
        }
        number += 1;
        if line.len() as u64 == LONGEST && !line.ends_with(b"\n") {
            return Err(Failure::usage(format!(
                "{}, line {number}: longer than {LONGEST} octets; name JSON lines",
                path.display()
            )));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        match json::read(&line) {
            Ok(trace) => {
                let (trace, line) = (&trace, Some(&line[..]));
                if !each(Record { trace, line })? {
                    return Ok(());
                }
            }
            // What flows show together can be made again of their records.
            Err(json::ReadError::Schema(schema)) if schema.starts_with(paths::SCHEMA) => {}
            Err(why) => bad.add(path, number, &why)?,
        }
    }
}

/// Why a result cannot be read.
pub fn unread(path: &Path, error: io::Error) -> Failure {
    Failure::usage(format!(
        "{}: {error}; name a result of insession: JSON lines, or Parquet",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::testing::Folder;
    use crate::multipath::paths::merge;
    use crate::report::samples;

    #[test]
    fn merged_flows_are_passed_over_and_what_is_no_record_is_not() {
        let folder = Folder::new("results-merged");
        let path = folder.path("r.jsonl");
        let mut lines = Vec::new();
        for _ in 0..2 {
            json::append(&samples::contract(), &mut lines).unwrap();
        }
        let merged = merge(&[samples::contract(), samples::contract()], None).unwrap();
        paths::append(&merged, &mut lines).unwrap();
        lines.extend_from_slice(b"{\"schema\":\"insession.path/1\"}\n");
        std::fs::write(&path, lines).unwrap();
        let mut bad = Bad::new(false);
        let mut count = 0;
        read(&path, &mut bad, &mut |_| {
            count += 1;
            Ok(true)
        })
        .unwrap();
        assert_eq!((count, bad.count()), (2, 1));
    }
}
