//! Files into owners. What a file is shows in its first octets, never in its name.

use std::io::{self, BufRead, Cursor, Read as _};
use std::path::{Path, PathBuf};

use super::collector::Collector;
use super::date::Dated;
use super::{Kind, Owners, OwnersError, lines, mmdb, mrt};
use crate::report::input;

/// Octets that tell what a file is.
const HEAD: u64 = 512;
/// A larger MMDB is none: those that are sold are a tenth of it.
const LARGEST: u64 = 4 << 30;

/// A file to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// It.
    pub path: PathBuf,
    /// Somebody named it: then it has to be data. Others of a directory need not.
    pub is_named: bool,
}

/// Reads files. Gives the owners, and those files of a directory that hold no data.
///
/// # Errors
/// A file that cannot be read, or is named and holds no data.
pub fn load(sources: &[Source]) -> Result<(Owners, Vec<OwnersError>), OwnersError> {
    let mut collector = Collector::default();
    let mut others = Vec::new();
    for Source { path, is_named } in sources {
        collector.begin(path);
        match read(path, &mut collector) {
            Ok(kind) => {
                collector.date = collector.date.or_else(|| Dated::of_file(path));
                collector.end(path, kind);
            }
            Err(Trouble::NoData(why)) => {
                let error = error(
                    path,
                    why,
                    "name a pfx2as file, an MRT table dump, an MMDB, names of AS, or prefixes of exchanges",
                );
                if *is_named {
                    return Err(error);
                }
                others.push(error);
            }
            Err(Trouble::Io(cause)) => {
                let mend = match cause.kind() {
                    io::ErrorKind::NotFound => "check the path",
                    io::ErrorKind::PermissionDenied => "check who may read it",
                    _ => "check the file, and fetch it again where it is not whole",
                };
                return Err(error(path, &cause.to_string(), mend));
            }
        }
    }
    Ok((collector.finish(), others))
}

fn error(path: &Path, why: &str, mend: &str) -> OwnersError {
    OwnersError {
        file: path.display().to_string(),
        why: why.to_owned(),
        mend: mend.to_owned(),
    }
}

/// Why nothing was taken from a file.
enum Trouble {
    /// It could not be read to its end.
    Io(io::Error),
    /// It could, and is something else.
    NoData(&'static str),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Io(error)
    }
}

fn read(path: &Path, collector: &mut Collector) -> Result<Kind, Trouble> {
    let mut input = input::open(path)?;
    let mut head = Vec::new();
    input.by_ref().take(HEAD).read_to_end(&mut head)?;
    if head.is_empty() {
        return Err(Trouble::NoData("it is empty"));
    }
    let start = mrt::head(&head);
    // Text has no such octets, whatever its encoding.
    let is_binary = head.iter().any(|octet| *octet < b'\t');
    let mut input = Cursor::new(head).chain(input);
    match start {
        mrt::Head::Rib => {
            mrt::read(&mut input, collector)?;
            return match collector.counts.entries() {
                0 => Err(Trouble::NoData("a table dump without a route")),
                _ => Ok(Kind::Rib),
            };
        }
        mrt::Head::Other(what) if is_binary => {
            return Err(Trouble::NoData(what));
        }
        _ => {}
    }
    if is_binary {
        return read_binary(&mut input, collector);
    }
    let kind = lines::read(&mut input, collector)?;
    kind.ok_or(Trouble::NoData("no line or object of it is data"))
}

fn read_binary(input: &mut dyn BufRead, collector: &mut Collector) -> Result<Kind, Trouble> {
    let mut whole = Vec::new();
    input.take(LARGEST).read_to_end(&mut whole)?;
    if !mmdb::is_mmdb(&whole) {
        return Err(Trouble::NoData("it is of no kind that is known here"));
    }
    mmdb::read(&whole, collector)?;
    match collector.counts.entries() {
        0 => Err(Trouble::NoData("an MMDB without AS numbers")),
        _ => Ok(Kind::Mmdb),
    }
}
