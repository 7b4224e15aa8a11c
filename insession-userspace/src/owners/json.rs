//! JSON, a document or an object a line: exchanges as PeeringDB (`ix`, `ixlan`, `ixpfx`,
//! together or each in a file of its own) and CAIDA publish them, and objects with a
//! prefix or a name and an AS number, as others do. What is not known is passed over.

use std::io;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::collector::Collector;
use super::date::Dated;
use super::lines::Numbered;
use super::{Kind, asn};

/// Objects within objects, at most: serde_json reads no more either.
const DEEPEST: usize = 128;

/// Reads what stands there from the reader's line on; gives what most of it is.
///
/// # Errors
/// When the file cannot be read, or is one document that is none.
pub(super) fn read(
    reader: &mut Numbered<'_>,
    collector: &mut Collector,
) -> io::Result<Option<Kind>> {
    let mut seen = Seen::default();
    // A document may be written over many lines: the first is not whole then.
    let first = serde_json::from_slice::<Value>(&reader.line);
    if first.is_err_and(|error| error.is_eof()) {
        reader.rest()?;
        let document = serde_json::from_slice(&reader.line).map_err(io::Error::from)?;
        seen.walk(&document, Context::default(), collector);
        return Ok(seen.kind());
    }
    loop {
        let line = reader.line.trim_ascii();
        if !line.is_empty() && !line.starts_with(b"#") {
            match serde_json::from_slice(line) {
                Ok(value) => seen.walk(&value, Context::default(), collector),
                Err(error) => collector.bad(format_args!("line {}", reader.number), error),
            }
        }
        if !reader.next()? {
            return Ok(seen.kind());
        }
    }
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, Default)]
struct Context<'a> {
    /// The table of PeeringDB.
    table: &'a str,
    /// What the object around it is called.
    name: Option<&'a str>,
    depth: usize,
}

/// What was found so far.
#[derive(Debug, Default)]
struct Seen {
    routes: u64,
    holders: u64,
    exchanges: u64,
}

impl Seen {
    fn kind(&self) -> Option<Kind> {
        let kinds = [
            (self.routes, Kind::Origins),
            (self.holders, Kind::Names),
            (self.exchanges, Kind::Exchanges),
        ];
        let most = kinds.into_iter().max_by_key(|(count, _)| *count);
        most.filter(|(count, _)| *count > 0).map(|(_, kind)| kind)
    }

    fn walk(&mut self, value: &Value, context: Context<'_>, collector: &mut Collector) {
        if context.depth > DEEPEST {
            return;
        }
        let depth = context.depth + 1;
        match value {
            Value::Array(all) => {
                for one in all {
                    self.walk(one, Context { depth, ..context }, collector);
                }
            }
            Value::Object(object) => {
                self.object(object, context, collector);
                let name = own_name(object).or(context.name);
                for (key, value) in object {
                    // Tables of a dump hold their rows in `data`.
                    let table = match key.as_str() {
                        "data" => context.table,
                        key => key,
                    };
                    // Prefixes of an exchange were taken with it.
                    if key != "prefixes" {
                        self.walk(value, Context { table, name, depth }, collector);
                    }
                }
            }
            _ => {}
        }
    }

    fn object(
        &mut self,
        object: &Map<String, Value>,
        context: Context<'_>,
        collector: &mut Collector,
    ) {
        if let Some(seconds) = object.get("generated").and_then(Value::as_f64)
            && context.table == "meta"
        {
            collector.date = Dated::content(seconds as u64);
        }
        let number = |key: &str| object.get(key).and_then(Value::as_u64);
        let name = own_name(object);
        // A port of a member of an exchange: neither its name nor its AS is the exchange's.
        if object.contains_key("net_id") {
            return;
        }
        if let (Some(id), Some(exchange)) = (number("id"), number("ix_id")) {
            // Buildings that an exchange is in have numbers of their own.
            if !object.contains_key("fac_id") {
                collector.lan_of(id, exchange);
            }
        } else if let (Some(id), Some(name)) = (number("id"), name)
            && (context.table == "ix" || object.contains_key("proto_unicast"))
        {
            self.exchanges += 1;
            collector.exchange_named(id, name);
        }
        let number_of = |key: &&str| match object.get(*key)? {
            Value::Number(number) => number.as_u64().and_then(|it| u32::try_from(it).ok()),
            Value::String(text) => asn(text),
            _ => None,
        };
        let origin = ["asn", "ASN", "autonomous_system_number", "origin"];
        let origin = origin.iter().find_map(number_of);
        let mut prefixes = Vec::new();
        for key in ["prefix", "prefixes", "cidr", "CIDR", "network", "subnet"] {
            if let Some(value) = object.get(key) {
                texts(value, &mut prefixes);
            }
        }
        for text in &prefixes {
            let Ok(prefix) = text.parse::<IpNet>() else {
                collector.bad(format_args!("{text:?}"), "no prefix");
                continue;
            };
            let prefix = prefix.trunc();
            match (origin, name.or(context.name), number("ixlan_id")) {
                (Some(origin), ..) => {
                    self.routes += 1;
                    collector.route(prefix, &[origin]);
                }
                (_, Some(name), _) => {
                    self.exchanges += 1;
                    collector.exchange(prefix, name);
                }
                (.., Some(lan)) => {
                    self.exchanges += 1;
                    collector.lan(prefix, lan);
                }
                _ => collector.bad(prefix, "a prefix with neither a name nor an AS number"),
            }
        }
        if let (Some(origin), Some(name), true) = (origin, name, prefixes.is_empty()) {
            self.holders += 1;
            collector.holder(origin, name);
        }
    }
}

/// What an object is called.
fn own_name(object: &Map<String, Value>) -> Option<&str> {
    let keys = ["name", "ix_name", "ixp", "as_name", "holder", "description"];
    let mut names = keys.iter().filter_map(|key| object.get(*key)?.as_str());
    names.find(|name| !name.trim().is_empty())
}

/// All texts of a value: one, a list, or lists by family.
fn texts<'a>(value: &'a Value, all: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => all.push(text),
        Value::Array(list) => all.extend(list.iter().filter_map(Value::as_str)),
        Value::Object(lists) => {
            for list in lists.values().filter_map(Value::as_array) {
                all.extend(list.iter().filter_map(Value::as_str));
            }
        }
        _ => {}
    }
}
