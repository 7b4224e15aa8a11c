//! A MaxMind DB with AS numbers: GeoLite2-ASN, GeoIP2-ISP, DB-IP's ASN, IPinfo's.

use std::collections::HashMap;
use std::io;

use ipnet::IpNet;
use maxminddb::{MaxMindDbError, Reader, WithinOptions};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::asn;
use super::collector::Collector;
use super::date::Dated;

/// In front of the metadata, at the file's end.
const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";
/// How far from the end that may be.
const METADATA: usize = 128 << 10;

/// Whether a whole file is one.
pub(super) fn is_mmdb(octets: &[u8]) -> bool {
    let end = octets.get(octets.len().saturating_sub(METADATA)..);
    end.is_some_and(|end| end.windows(MARKER.len()).any(|it| it == MARKER))
}

/// What a record says of an AS, whoever made it.
#[derive(Deserialize)]
struct Record<'a> {
    autonomous_system_number: Option<u32>,
    #[serde(borrow)]
    autonomous_system_organization: Option<Loose<'a>>,
    #[serde(borrow)]
    asn: Option<Loose<'a>>,
    #[serde(borrow)]
    as_name: Option<Loose<'a>>,
    #[serde(borrow)]
    name: Option<Loose<'a>>,
}

/// A value that may be of any type.
#[derive(Deserialize)]
#[serde(untagged)]
enum Loose<'a> {
    Text(&'a str),
    Number(u32),
    Other(IgnoredAny),
}

impl<'a> Loose<'a> {
    fn text(&self) -> Option<&'a str> {
        match self {
            Loose::Text(text) => Some(text),
            Loose::Number(_) | Loose::Other(_) => None,
        }
    }

    fn asn(&self) -> Option<u32> {
        match self {
            Loose::Text(text) => asn(text),
            Loose::Number(number) => Some(*number),
            Loose::Other(_) => None,
        }
    }
}

/// Takes all networks of a file.
///
/// # Errors
/// When it is damaged.
pub(super) fn read(octets: &[u8], collector: &mut Collector) -> io::Result<()> {
    let reader = Reader::from_source(octets).map_err(trouble)?;
    let metadata = reader.metadata();
    collector.title = Some(super::clean(&metadata.database_type).into_owned());
    collector.date = Dated::content(metadata.build_epoch);
    // Many networks have one record.
    let mut records = HashMap::new();
    for found in reader.networks(WithinOptions::default()).map_err(trouble)? {
        let found = found.map_err(trouble)?;
        let network = found.network().map_err(trouble)?;
        let prefix = IpNet::new(network.ip(), network.prefix()).map_err(io::Error::other)?;
        let Some(offset) = found.offset() else {
            continue;
        };
        let record = match records.get(&offset) {
            Some(record) => *record,
            None => {
                let record = match found.decode::<Record<'_>>() {
                    Ok(record) => record.and_then(|it| describe(&it, collector)),
                    Err(error) => {
                        collector.bad(format_args!("network {prefix}"), error);
                        None
                    }
                };
                records.insert(offset, record);
                record
            }
        };
        collector.network(prefix, record);
    }
    Ok(())
}

fn describe(record: &Record<'_>, collector: &mut Collector) -> Option<u32> {
    let number = record.asn.as_ref().and_then(Loose::asn);
    let number = record.autonomous_system_number.or(number)?;
    let names = [
        &record.autonomous_system_organization,
        &record.as_name,
        &record.name,
    ];
    let name = names.into_iter().flatten().find_map(Loose::text);
    collector.describe(Some(number), name)
}

fn trouble(error: MaxMindDbError) -> io::Error {
    match error {
        MaxMindDbError::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}
