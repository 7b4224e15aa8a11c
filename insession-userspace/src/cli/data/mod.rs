//! `insession data`: which files say whose addresses are, of which date, and what they
//! say.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use super::exit::{self, Failure};
use crate::owners::date::Evidence;
use crate::owners::{File, Owners};
use crate::report::civil::Rfc3339;

pub mod files;

/// Tell which files say whose addresses are, of which date
///
/// The files that -A of trace and run takes: those named, else those of
/// $INSESSION_DATA_DIR, else of ~/.local/share/insession, else of
/// /usr/share/insession. Nothing is fetched.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status:
  0    as it should be; data may be old
  2    usage, bad input, no data, or bad lines in them")]
pub struct Arguments {
    /// Files, or directories of them: pfx2as, MRT table dump, MMDB, names of AS, prefixes
    /// of exchanges [default: those of the data directory]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Say whose these addresses are
    #[arg(short, long, value_name = "ADDRESS", num_args = 1..)]
    lookup: Vec<IpAddr>,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

/// A file, as JSON writes it.
#[derive(Debug, Serialize)]
struct FileRecord<'a> {
    file: &'a Path,
    kind: &'static str,
    title: Option<&'a str>,
    prefixes_v4: u64,
    prefixes_v6: u64,
    several_origins: u64,
    holders: u64,
    ixp_prefixes: u64,
    passed_over: u64,
    bad_lines: u64,
    date: Option<String>,
    date_by: Option<&'static str>,
    age_days: Option<u64>,
    old: bool,
}

/// An address, as JSON writes it.
#[derive(Debug, Serialize)]
struct AddressRecord {
    address: IpAddr,
    asn: Option<u32>,
    holder: Option<String>,
    prefix: Option<String>,
    ixp: Option<String>,
    origins: Vec<u32>,
    origin_file: Option<PathBuf>,
    ixp_file: Option<PathBuf>,
}

/// The whole report, as JSON writes it.
#[derive(Debug, Serialize)]
struct Report<'a> {
    schema: &'static str,
    files: Vec<FileRecord<'a>>,
    lookups: Vec<AddressRecord>,
}

/// Runs it; gives the exit code.
///
/// # Errors
/// When there are no data, or they cannot be read.
pub fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let owners = files::load(&arguments.files, &files::directories())?;
    let report = Report {
        schema: "insession.data/1",
        files: file_records(owners.files(), SystemTime::now()),
        lookups: arguments
            .lookup
            .iter()
            .map(|address| look_up(&owners, *address))
            .collect(),
    };
    let text = match arguments.json {
        true => {
            let line = serde_json::to_string(&report);
            line.map_err(|error| Failure::failed(format!("the report: {error}; report it")))? + "\n"
        }
        false => text(&report),
    };
    let code = super::print_whole(Ok(text.into_bytes()))?;
    let is_bad = report.files.iter().any(|file| file.bad_lines > 0);
    Ok(if is_bad { exit::USAGE } else { code })
}

fn file_records(files: &[File], now: SystemTime) -> Vec<FileRecord<'_>> {
    files.iter().map(|file| file_record(file, now)).collect()
}

fn file_record(file: &File, now: SystemTime) -> FileRecord<'_> {
    let (counts, date) = (&file.counts, file.date);
    FileRecord {
        file: &file.path,
        kind: file.kind.as_str(),
        title: file.title.as_deref(),
        prefixes_v4: counts.v4,
        prefixes_v6: counts.v6,
        several_origins: counts.several,
        holders: counts.holders,
        ixp_prefixes: counts.lans,
        passed_over: counts.passed,
        bad_lines: counts.bad,
        date: date.map(|date| Rfc3339(date.when).to_string()),
        date_by: date.map(|date| date.by.as_str()),
        age_days: date.map(|date| date.age(now).as_secs() / 86_400),
        old: date.is_some_and(|date| date.is_old(now)),
    }
}

fn look_up(owners: &Owners, address: IpAddr) -> AddressRecord {
    let found = owners.find(address);
    let owner = found.owner.as_deref().cloned().unwrap_or_default();
    AddressRecord {
        address,
        asn: owner.asn,
        holder: owner.holder,
        prefix: owner.prefix,
        ixp: owner.ixp,
        origins: found.origins,
        origin_file: found.origin_file,
        ixp_file: found.exchange_file,
    }
}

/// The report in lines.
fn text(report: &Report<'_>) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    for file in &report.files {
        let title = file.title.map_or_else(String::new, |it| format!(" ({it})"));
        let _ = writeln!(text, "{}: {}{title}", file.file.display(), file.kind);
        let _ = writeln!(text, "  {}", date(file));
        let _ = writeln!(text, "  {}", counts(file));
    }
    for found in &report.lookups {
        let _ = writeln!(text, "{}: {}", found.address, whose(found));
        let others: Vec<String> = found
            .origins
            .iter()
            .skip(1)
            .map(|it| format!("AS{it}"))
            .collect();
        if !others.is_empty() {
            let _ = writeln!(text, "  also announced by {}", others.join(", "));
        }
        for (what, file) in [("AS", &found.origin_file), ("exchange", &found.ixp_file)] {
            if let Some(file) = file {
                let _ = writeln!(text, "  {what} by {}", file.display());
            }
        }
    }
    text
}

fn date(file: &FileRecord<'_>) -> String {
    let (Some(date), Some(by), Some(days)) = (&file.date, file.date_by, file.age_days) else {
        return "of no known date".to_owned();
    };
    let by = match by {
        by if by == Evidence::Content.as_str() => "as it says itself",
        by if by == Evidence::Name.as_str() => "by its name",
        _ => "when it was last written: the data may be older",
    };
    let old = if file.old {
        ": old, fetch a newer one"
    } else {
        ""
    };
    let day = date.get(..10).unwrap_or(date);
    format!("of {day} ({by}), {days} days old{old}")
}

fn counts(file: &FileRecord<'_>) -> String {
    let all = [
        (file.prefixes_v4, "prefixes of IPv4"),
        (file.prefixes_v6, "prefixes of IPv6"),
        (file.ixp_prefixes, "of them of exchanges"),
        (file.several_origins, "of them by several AS"),
        (file.holders, "AS with their holders"),
        (file.passed_over, "of no use here"),
        (file.bad_lines, "bad lines"),
    ];
    let some = all.iter().filter(|(count, _)| *count > 0);
    let some: Vec<String> = some
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    some.join(", ")
}

fn whose(found: &AddressRecord) -> String {
    let asn = found.asn.map(|asn| format!("AS{asn}"));
    let ixp = found.ixp.as_ref().map(|name| format!("IXP {name}"));
    let all = [&asn, &found.holder, &found.prefix, &ixp];
    let all: Vec<&str> = all.into_iter().flatten().map(String::as_str).collect();
    match all.is_empty() {
        true => "nothing is known".to_owned(),
        false => all.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::testing::Folder;
    use std::time::{Duration, UNIX_EPOCH};

    fn report(owners: &Owners, lookup: &[&str], days: u64) -> String {
        // 2026-01-02.
        let now = UNIX_EPOCH + Duration::from_secs(1_767_312_000 + days * 86_400);
        let lookups = lookup.iter().map(|it| look_up(owners, it.parse().unwrap()));
        text(&Report {
            schema: "insession.data/1",
            files: file_records(owners.files(), now),
            lookups: lookups.collect(),
        })
    }

    #[test]
    fn files_dates_and_addresses_line_by_line() {
        let folder = Folder::new("data-report");
        let (routes, lans) = (folder.path("rv-20260102.txt"), folder.path("lans.json"));
        let lines =
            "192.0.2.0\t24\t64500_64501\n2001:db8::\t32\t64500\n0.0.0.0\t0\t1\n64500|EXAMPLE\nx\n";
        std::fs::write(&routes, lines).unwrap();
        let document = r#"{"meta":{"generated":1767312000},"ixpfx":[{"prefix":"192.0.2.0/25","name":"Example-IX"}]}"#;
        std::fs::write(&lans, document).unwrap();
        let owners = files::load(&[routes.clone(), lans.clone()], &[]).unwrap();
        let (routes, lans) = (routes.display(), lans.display());
        let expected = format!(
            "\
{routes}: pfx2as
  of 2026-01-02 (by its name), 90 days old
  1 prefixes of IPv4, 1 prefixes of IPv6, 1 of them by several AS, 1 AS with their holders, 1 of no use here, 1 bad lines
{lans}: ixp-prefixes
  of 2026-01-02 (as it says itself), 90 days old
  1 prefixes of IPv4, 1 of them of exchanges
192.0.2.1: AS64500, EXAMPLE, 192.0.2.0/24, IXP Example-IX
  also announced by AS64501
  AS by {routes}
  exchange by {lans}
10.0.0.1: nothing is known
"
        );
        assert_eq!(report(&owners, &["192.0.2.1", "10.0.0.1"], 90), expected);
        let old = report(&owners, &[], 91);
        assert!(
            old.contains("91 days old: old, fetch a newer one\n"),
            "{old}"
        );
    }
}
