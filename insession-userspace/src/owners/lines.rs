//! Lines of text, each known by what it looks like:
//!
//! ```text
//! 192.0.2.0<TAB>24<TAB>64500          a route: CAIDA's pfx2as; a_b: several AS, a,b: a set
//! 192.0.2.0/24 64500                  the same, with or without the holder behind it
//! 192.0.2.0<TAB>192.0.2.255<TAB>64500<TAB>ZZ<TAB>EXAMPLE    a range, as iptoasn.com has it;
//!                                     DB-IP's have commas and no country
//! 64500|EXAMPLE                       the holder of an AS (space, tab, |, comma)
//! 203.0.113.0/24,Example-IX           a peering LAN
//! ```
//!
//! Lines that begin with `#` are comments, but for the `# format:` of CAIDA's
//! as-org2info, which says what the columns behind it are.

use std::collections::HashMap;
use std::io::{self, BufRead, Read as _};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use super::collector::Collector;
use super::{Kind, asn, json};

/// Longer lines are none, but for JSON, which may be one line however long.
const LONGEST: usize = 1 << 16;
/// What is read as one line at all, octets.
const LIMIT: u64 = 512 << 20;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Line<'a> {
    Route {
        prefixes: Vec<IpNet>,
        origins: Vec<u32>,
        holder: Option<&'a str>,
    },
    Holder(u32, &'a str),
    Exchange(IpNet, &'a str),
}

/// Reads lines to the end; gives what most of them are, `None` where none is any.
///
/// # Errors
/// When the file cannot be read, or is JSON that is none.
pub(super) fn read(input: &mut dyn BufRead, collector: &mut Collector) -> io::Result<Option<Kind>> {
    let mut reader = Numbered::new(input);
    let mut organisations = None::<Organisations>;
    let (mut routes, mut exchanges) = (0_u64, 0_u64);
    let mut is_first = true;
    while reader.next()? {
        let octets = reader.line.trim_ascii();
        if octets.is_empty() {
            continue;
        }
        if let Some(comment) = octets.strip_prefix(b"#") {
            let comment = String::from_utf8_lossy(comment);
            if let Some(columns) = comment.trim().strip_prefix("format:") {
                organisations
                    .get_or_insert_default()
                    .set_columns(columns.trim());
            }
            continue;
        }
        let begins = std::mem::take(&mut is_first);
        if begins && matches!(octets.first(), Some(b'{' | b'[')) {
            return json::read(&mut reader, collector);
        }
        let place = format_args!("line {}", reader.number);
        if octets.len() > LONGEST {
            collector.bad(place, format_args!("longer than {LONGEST} octets"));
            continue;
        }
        // Names of holders come in all kinds of encodings.
        let text = String::from_utf8_lossy(octets);
        if let Some(organisations) = &mut organisations {
            if let Err(why) = organisations.add(&text) {
                collector.bad(place, why);
            }
            continue;
        }
        match line(&text) {
            Ok(Line::Route {
                prefixes,
                origins,
                holder,
            }) => {
                routes += 1;
                for prefix in prefixes {
                    collector.route(prefix, &origins);
                }
                if let (Some(holder), [asn]) = (holder, &origins[..])
                    && *asn != 0
                {
                    let counts = collector.counts;
                    collector.holder(*asn, holder);
                    // It stands there once a route.
                    collector.counts = counts;
                }
            }
            Ok(Line::Holder(asn, name)) => collector.holder(asn, name),
            Ok(Line::Exchange(prefix, name)) => {
                exchanges += 1;
                collector.exchange(prefix, name);
            }
            // A heading.
            Err(_) if begins && !text.bytes().any(|it| it.is_ascii_digit()) => {}
            Err(why) => collector.bad(place, why),
        }
    }
    if let Some(organisations) = organisations {
        organisations.finish(collector);
    }
    let holders = collector.counts.holders;
    let kinds = [
        (routes, Kind::Origins),
        (holders, Kind::Names),
        (exchanges, Kind::Exchanges),
    ];
    let most = kinds.into_iter().max_by_key(|(count, _)| *count);
    Ok(most.filter(|(count, _)| *count > 0).map(|(_, kind)| kind))
}

/// Lines and their numbers.
pub(super) struct Numbered<'a> {
    input: &'a mut dyn BufRead,
    /// The line, with its line end.
    pub(super) line: Vec<u8>,
    /// Its number, from 1.
    pub(super) number: u64,
}

impl<'a> Numbered<'a> {
    fn new(input: &'a mut dyn BufRead) -> Self {
        Numbered {
            input,
            line: Vec::new(),
            number: 0,
        }
    }

    /// Goes on to the next line, if there is one.
    pub(super) fn next(&mut self) -> io::Result<bool> {
        self.line.clear();
        self.number += 1;
        let mut limited = (&mut *self.input).take(LIMIT);
        Ok(limited.read_until(b'\n', &mut self.line)? > 0)
    }

    /// Reads all there is behind the line onto it.
    pub(super) fn rest(&mut self) -> io::Result<()> {
        (&mut *self.input).take(LIMIT).read_to_end(&mut self.line)?;
        Ok(())
    }
}

/// What stands between fields.
fn is_between(one: char) -> bool {
    matches!(one, '\t' | ' ' | '|' | ',' | ';')
}

/// The first field, and what stands behind it.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    match text.split_once(is_between) {
        Some((first, rest)) => (unquoted(first), rest.trim_matches(is_between)),
        None => (unquoted(text), ""),
    }
}

/// A field of CSV without its quotes.
fn unquoted(text: &str) -> &str {
    let inner = text.trim().strip_prefix('"');
    inner
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text.trim())
}

fn line(text: &str) -> Result<Line<'_>, &'static str> {
    let (first, rest) = split(text);
    if let Ok(prefix) = first.parse::<IpNet>() {
        return behind_prefix(prefix.trunc(), rest);
    }
    if let Ok(address) = first.parse::<IpAddr>() {
        let (second, rest) = split(rest);
        if let Ok(length) = second.parse::<u8>() {
            let prefix = IpNet::new(address, length).map_err(|_| "no such prefix length")?;
            return behind_prefix(prefix.trunc(), rest);
        }
        if let Ok(last) = second.parse::<IpAddr>() {
            return range(address, last, rest);
        }
        return Err("an address without a prefix length");
    }
    match asn(first) {
        Some(_) if rest.is_empty() => Err("an AS number without a name"),
        Some(asn) => Ok(Line::Holder(asn, unquoted(rest))),
        None => Err("neither a prefix nor an AS number"),
    }
}

/// Behind a prefix stands who originates it, or what the exchange is called.
fn behind_prefix(prefix: IpNet, rest: &str) -> Result<Line<'_>, &'static str> {
    let route = |origins, holder| Line::Route {
        prefixes: vec![prefix],
        origins,
        holder,
    };
    if let Some(origins) = origins(rest) {
        return Ok(route(origins, None));
    }
    let (first, name) = split(rest);
    match origins(first) {
        Some(origins) => Ok(route(origins, Some(unquoted(name)))),
        None if rest.is_empty() => Err("a prefix with nothing behind it"),
        None => Ok(Line::Exchange(prefix, unquoted(rest))),
    }
}

/// AS numbers: `a_b` are several origins, the most seen first; `a,b` is the set of an
/// aggregate.
fn origins(text: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for one in text.split(['_', ',']) {
        let one = asn(one.trim_matches(['{', '}', '"', ' ']))?;
        if !all.contains(&one) {
            all.push(one);
        }
    }
    Some(all)
}

/// A range of addresses, its AS number, country (not everybody has that) and holder.
fn range(first: IpAddr, last: IpAddr, rest: &str) -> Result<Line<'_>, &'static str> {
    let prefixes: Vec<IpNet> = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
            Ipv4Subnets::new(first, last, 0).map(IpNet::from).collect()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
            Ipv6Subnets::new(first, last, 0).map(IpNet::from).collect()
        }
        _ => return Err("a range that ends before it begins"),
    };
    let (number, rest) = split(rest);
    let (country, behind) = split(rest);
    let is_country = country == "None"
        || (country.len() == 2 && country.bytes().all(|it| it.is_ascii_uppercase()));
    let name = if is_country { behind } else { rest };
    Ok(Line::Route {
        prefixes,
        origins: vec![asn(number).ok_or("a range without an AS number")?],
        holder: Some(unquoted(name)).filter(|name| !name.is_empty()),
    })
}

/// CAIDA's as-org2info: organisations, and which AS are theirs, in two tables.
#[derive(Debug, Default)]
struct Organisations {
    columns: Vec<String>,
    names: HashMap<String, String>,
    /// AS number, its own name, whose it is.
    members: Vec<(u32, String, String)>,
}

impl Organisations {
    fn set_columns(&mut self, columns: &str) {
        self.columns = columns.split('|').map(|it| it.trim().to_owned()).collect();
    }

    fn add(&mut self, text: &str) -> Result<(), &'static str> {
        let fields: Vec<&str> = text.split('|').collect();
        let field = |name: &str| {
            let at = self.columns.iter().position(|column| column == name)?;
            fields.get(at).map(|it| it.trim())
        };
        let id = field("org_id").ok_or("fewer columns than the heading has")?;
        if let Some(number) = field("aut") {
            let number = asn(number).ok_or("no AS number")?;
            let name = field("aut_name").unwrap_or_default();
            self.members.push((number, name.to_owned(), id.to_owned()));
        } else if let Some(name) = field("org_name") {
            self.names.insert(id.to_owned(), name.to_owned());
        }
        Ok(())
    }

    fn finish(self, collector: &mut Collector) {
        for (asn, own, id) in &self.members {
            let name = self.names.get(id).filter(|name| !name.is_empty());
            collector.holder(*asn, name.unwrap_or(own));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(prefixes: &[&str], origins: &[u32], holder: Option<&'static str>) -> Line<'static> {
        Line::Route {
            prefixes: prefixes.iter().map(|it| it.parse().unwrap()).collect(),
            origins: origins.to_vec(),
            holder,
        }
    }

    #[test]
    fn a_line_is_known_by_its_look() {
        let lan = |text: &str, name| Line::Exchange(text.parse().unwrap(), name);
        for (text, expected) in [
            (
                "192.0.2.0\t24\t64500",
                route(&["192.0.2.0/24"], &[64500], None),
            ),
            (
                "2001:db8::\t32\t64500_64501",
                route(&["2001:db8::/32"], &[64500, 64501], None),
            ),
            (
                "192.0.2.0\t24\t64500,64501_7",
                route(&["192.0.2.0/24"], &[64500, 64501, 7], None),
            ),
            (
                "192.0.2.0/24 {64500,64501}",
                route(&["192.0.2.0/24"], &[64500, 64501], None),
            ),
            (
                "192.0.2.9/24,AS64500",
                route(&["192.0.2.0/24"], &[64500], None),
            ),
            (
                "192.0.2.0/24,64500,\"Example, Inc.\"",
                route(&["192.0.2.0/24"], &[64500], Some("Example, Inc.")),
            ),
            (
                "192.0.2.0\t192.0.2.191\t64500\tZZ\tEXAMPLE NET",
                route(
                    &["192.0.2.0/25", "192.0.2.128/26"],
                    &[64500],
                    Some("EXAMPLE NET"),
                ),
            ),
            (
                "2001:db8::\t2001:db8:ffff:ffff:ffff:ffff:ffff:ffff\t1.10\tNone\t",
                { route(&["2001:db8::/32"], &[65_546], None) },
            ),
            (
                "192.0.2.0,192.0.2.255,64500,\"Example, Inc.\"",
                route(&["192.0.2.0/24"], &[64500], Some("Example, Inc.")),
            ),
            ("64500|EXAMPLE", Line::Holder(64500, "EXAMPLE")),
            (
                "AS64500\tExample Net, ZZ",
                Line::Holder(64500, "Example Net, ZZ"),
            ),
            (
                "64500,\"Example, Inc.\"",
                Line::Holder(64500, "Example, Inc."),
            ),
            (
                "1 LVLT - Example, ZZ",
                Line::Holder(1, "LVLT - Example, ZZ"),
            ),
            (
                "203.0.113.0/24,Example-IX 1",
                lan("203.0.113.0/24", "Example-IX 1"),
            ),
            ("\"203.0.113.0/24\";\"IX\"", lan("203.0.113.0/24", "IX")),
            ("2001:db8:7::/64|IX", lan("2001:db8:7::/64", "IX")),
        ] {
            assert_eq!(line(text), Ok(expected), "{text}");
        }
        for (text, reason) in [
            ("192.0.2.0\t33\t64500", "no such prefix length"),
            ("192.0.2.0", "an address without"),
            ("192.0.2.0/24", "nothing behind it"),
            (
                "192.0.2.9\t192.0.2.1\t64500\tZZ\tX",
                "ends before it begins",
            ),
            (
                "192.0.2.0\t2001:db8::\t64500\tZZ\tX",
                "ends before it begins",
            ),
            ("192.0.2.0\t192.0.2.9\tx\tZZ\tX", "without an AS number"),
            ("64500", "without a name"),
            ("4294967296|X", "neither"),
            ("+1|X", "neither"),
            ("hello world", "neither"),
            ("\u{e9}", "neither"),
        ] {
            let said = line(text).unwrap_err();
            assert!(said.contains(reason), "{text}: {said}");
        }
    }
}
