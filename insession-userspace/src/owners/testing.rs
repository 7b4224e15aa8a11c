//! Files of every kind, made by their specifications: RFC 6396 and RFC 8050, and the
//! MaxMind DB File Format Specification, version 2.0.

use ipnet::IpNet;

/// A path of a routing table's entry: segments, each a type and its AS numbers.
pub(crate) type Path<'a> = &'a [(u8, &'a [u32])];
/// AS_SET and AS_SEQUENCE (RFC 4271 §4.3).
pub(crate) const SET: u8 = 1;
pub(crate) const SEQUENCE: u8 = 2;

/// A route: the prefix, and the path that each peer has to it.
pub(crate) type Route<'a> = (&'a str, &'a [(u16, Path<'a>)]);

fn record(seconds: u32, kind: u16, subtype: u16, body: &[u8]) -> Vec<u8> {
    let mut out = seconds.to_be_bytes().to_vec();
    out.extend(kind.to_be_bytes());
    out.extend(subtype.to_be_bytes());
    out.extend((body.len() as u32).to_be_bytes());
    out.extend(body);
    out
}

/// A TABLE_DUMP_V2 of these peers and routes, with path identifiers where they are
/// asked for.
pub(crate) fn mrt(seconds: u32, peers: &[u32], routes: &[Route<'_>], ids: bool) -> Vec<u8> {
    let mut body = vec![192, 0, 2, 1, 0, 4];
    body.extend(b"test");
    body.extend((peers.len() as u16).to_be_bytes());
    for (nth, asn) in peers.iter().enumerate() {
        // By turns of IPv4 with two octets an AS, and of IPv6 with four.
        if nth % 2 == 0 && *asn < 1 << 16 {
            body.extend([0, 192, 0, 2, 7, 192, 0, 2, 7]);
            body.extend((*asn as u16).to_be_bytes());
        } else {
            body.extend([3, 192, 0, 2, 7]);
            body.extend([0x20; 16]);
            body.extend(asn.to_be_bytes());
        }
    }
    let mut out = record(seconds, 13, 1, &body);
    for (number, (prefix, entries)) in routes.iter().enumerate() {
        let prefix: IpNet = prefix.parse().unwrap();
        let mut body = (number as u32).to_be_bytes().to_vec();
        let length = prefix.prefix_len();
        body.push(length);
        let octets = match prefix.addr() {
            std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
            std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        body.extend(&octets[..usize::from(length).div_ceil(8)]);
        body.extend((entries.len() as u16).to_be_bytes());
        for (peer, path) in *entries {
            body.extend(peer.to_be_bytes());
            body.extend(seconds.to_be_bytes());
            if ids {
                body.extend(7_u32.to_be_bytes());
            }
            let mut value = Vec::new();
            for (kind, numbers) in *path {
                value.extend([*kind, numbers.len() as u8]);
                value.extend(numbers.iter().flat_map(|asn| asn.to_be_bytes()));
            }
            // ORIGIN, then AS_PATH with two octets of length.
            let mut attributes = vec![0x40, 1, 1, 0, 0x50, 2];
            attributes.extend((value.len() as u16).to_be_bytes());
            attributes.extend(value);
            body.extend((attributes.len() as u16).to_be_bytes());
            body.extend(attributes);
        }
        let subtype = match (prefix.addr().is_ipv4(), ids) {
            (true, false) => 2,
            (false, false) => 4,
            (true, true) => 8,
            (false, true) => 10,
        };
        out.extend(record(seconds, 13, subtype, &body));
    }
    out
}

/// A value of an MMDB.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(&'static str),
    Number(u32),
    Map(Vec<(&'static str, Value)>),
}

impl Value {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::Text(text) => {
                control(2, text.len(), out);
                out.extend(text.bytes());
            }
            Value::Number(number) => {
                let octets = number.to_be_bytes();
                let from = (number.leading_zeros() / 8) as usize;
                control(6, octets.len() - from, out);
                out.extend(&octets[from..]);
            }
            Value::Map(pairs) => {
                control(7, pairs.len(), out);
                for (key, value) in pairs {
                    Value::Text(key).write(out);
                    value.write(out);
                }
            }
        }
    }
}

/// A type and a size, as a control octet.
fn control(kind: u8, size: usize, out: &mut Vec<u8>) {
    match size {
        0..29 => out.push(kind << 5 | size as u8),
        _ => out.extend([kind << 5 | 29, (size - 29) as u8]),
    }
}

#[derive(Clone, Copy)]
enum Slot {
    Empty,
    Node(usize),
    Data(usize),
}

/// An MMDB of networks that do not overlap; `v6`: IPv4 lies at `::/96` in it.
pub(crate) fn mmdb(epoch: u32, v6: bool, networks: &[(&str, Value)]) -> Vec<u8> {
    let mut nodes = vec![[Slot::Empty; 2]];
    let mut data = Vec::new();
    for (prefix, value) in networks {
        let prefix: IpNet = prefix.parse().unwrap();
        let (bits, length) = match prefix {
            IpNet::V4(v4) if v6 => (u128::from(v4.addr().to_bits()), 96 + v4.prefix_len()),
            IpNet::V4(v4) => (u128::from(v4.addr().to_bits()) << 96, v4.prefix_len()),
            IpNet::V6(v6) => (v6.addr().to_bits(), v6.prefix_len()),
        };
        let mut at = 0;
        for nth in 0..length {
            let side = (bits >> (127 - nth) & 1) as usize;
            if nth + 1 == length {
                nodes[at][side] = Slot::Data(data.len());
                continue;
            }
            at = match nodes[at][side] {
                Slot::Node(next) => next,
                _ => {
                    nodes.push([Slot::Empty; 2]);
                    nodes[at][side] = Slot::Node(nodes.len() - 1);
                    nodes.len() - 1
                }
            };
        }
        value.write(&mut data);
    }
    let mut out = Vec::new();
    for slot in nodes.iter().flatten() {
        let number = match slot {
            Slot::Empty => nodes.len(),
            Slot::Node(node) => *node,
            Slot::Data(offset) => nodes.len() + 16 + offset,
        };
        out.extend(&(number as u32).to_be_bytes()[1..]);
    }
    out.extend([0; 16]);
    out.extend(data);
    out.extend(b"\xab\xcd\xefMaxMind.com");
    control(7, 9, &mut out);
    let number = |key: &'static str, kind: [u8; 2], value: u32, out: &mut Vec<u8>| {
        Value::Text(key).write(out);
        // Four octets each; uint64 is an extended type.
        out.extend(kind.iter().filter(|octet| **octet != 0));
        out.extend(value.to_be_bytes());
    };
    // A uint16 has two octets, those are written as such.
    let short = |key: &'static str, value: u8, out: &mut Vec<u8>| {
        Value::Text(key).write(out);
        out.extend([5 << 5 | 1, value]);
    };
    short("binary_format_major_version", 2, &mut out);
    Value::Text("binary_format_minor_version").write(&mut out);
    out.push(5 << 5);
    number("build_epoch", [4, 2], epoch, &mut out);
    Value::Text("database_type").write(&mut out);
    Value::Text("Test-ASN").write(&mut out);
    Value::Text("description").write(&mut out);
    Value::Map(vec![("en", Value::Text("made by a test"))]).write(&mut out);
    short("ip_version", if v6 { 6 } else { 4 }, &mut out);
    Value::Text("languages").write(&mut out);
    // An empty array: an extended type, too.
    out.extend([0, 4]);
    number("node_count", [6 << 5 | 4, 0], nodes.len() as u32, &mut out);
    short("record_size", 24, &mut out);
    out
}
