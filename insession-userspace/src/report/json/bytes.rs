//! What JSON is made of, written straight into bytes: serde_json, which looks at every
//! octet of every field's name, took as long for a record as its whole trace took the
//! engine. Names and the contract's words are known to need no escaping; text from
//! outside that may need it goes through serde_json.

use std::io;
use std::net::IpAddr;

use crate::time::Duration;
use crate::trace::write_address;

pub(in crate::report) fn comma(nth: usize, out: &mut Vec<u8>) {
    if nth > 0 {
        out.push(b',');
    }
}

/// Text from outside, which may need escaping, or `null`.
///
/// # Errors
/// What serde_json says; memory takes everything.
pub(in crate::report) fn text(text: Option<&str>, out: &mut Vec<u8>) -> io::Result<()> {
    let Some(text) = text else {
        out.extend_from_slice(b"null");
        return Ok(());
    };
    // An address as a target, and nearly every name. All are looked at: that goes by
    // many at once.
    let odd = |octet: u8| !(b' '..=b'~').contains(&octet) || matches!(octet, b'"' | b'\\');
    if !text.bytes().fold(false, |any, octet| any | odd(octet)) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return Ok(());
    }
    Ok(serde_json::to_writer(out, text)?)
}

/// A word of the contract's.
pub(in crate::report) fn word(word: &'static str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
}

/// `true` or `false`.
pub(in crate::report) fn boolean(value: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

pub(in crate::report) fn number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

pub(in crate::report) fn optional(value: Option<impl Into<u64>>, out: &mut Vec<u8>) {
    match value {
        Some(value) => number(value.into(), out),
        None => out.extend_from_slice(b"null"),
    }
}

pub(in crate::report) fn address(address: IpAddr, out: &mut Vec<u8>) {
    out.push(b'"');
    write_address(address, out);
    out.push(b'"');
}

pub(in crate::report) fn optional_address(value: Option<IpAddr>, out: &mut Vec<u8>) {
    match value {
        Some(value) => address(value, out),
        None => out.extend_from_slice(b"null"),
    }
}

/// Microseconds with as many digits behind the point as there are, at least one:
/// exact, and below 2⁵⁰ ns (13 days) the shortest decimal of the same `f64` too.
pub(in crate::report) fn micros(span: Duration, out: &mut Vec<u8>) {
    let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    // From the end: a u64 has 20 digits, and there is a point.
    let mut text = [b'0'; 24];
    let [a, b, c] = thousandths((nanos % 1_000) as u16);
    text[20..].copy_from_slice(&[b'.', a, b, c]);
    let end = match (b, c) {
        (b'0', b'0') => 22,
        (_, b'0') => 23,
        _ => 24,
    };
    let mut begin = 20;
    let mut whole = nanos / 1_000;
    while whole >= 1_000 {
        begin -= 3;
        text[begin..begin + 3].copy_from_slice(&thousandths((whole % 1_000) as u16));
        whole /= 1_000;
    }
    text[begin - 3..begin].copy_from_slice(&thousandths(whole as u16));
    begin -= match whole {
        100.. => 3,
        10.. => 2,
        _ => 1,
    };
    out.extend_from_slice(&text[begin..end]);
}

/// The three digits of a number below a thousand.
fn thousandths(number: u16) -> [u8; 3] {
    let [hundreds, rest] = [number / 100, number % 100];
    [hundreds, rest / 10, rest % 10].map(|digit| b'0' + digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The oracle is serde_json.
        #[test]
        fn values_are_what_serde_json_writes(
            nanos in prop_oneof![0..1u64 << 50, 0..2_000_000u64, (0..1u64 << 40).prop_map(|it| it * 1_000)],
            octets in any::<[u8; 4]>(),
            v6 in any::<[u8; 16]>(),
            words in prop_oneof!["[a-z0-9.-]{0,30}", "[ -~]{0,8}", ".{0,8}"],
        ) {
            let mut out = Vec::new();
            text(Some(&words), &mut out).unwrap();
            prop_assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&words).unwrap());
            let mut out = Vec::new();
            micros(Duration::from_nanos(nanos), &mut out);
            let expected = serde_json::to_string(&(nanos as f64 / 1_000.0)).unwrap();
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
            for ip in [IpAddr::from(octets), IpAddr::from(v6)] {
                let mut out = Vec::new();
                address(ip, &mut out);
                let expected = serde_json::to_string(&ip).unwrap();
                prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
            }
        }
    }
}
