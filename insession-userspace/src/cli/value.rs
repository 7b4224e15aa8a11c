//! Values of options: durations, rates, port ranges, DSCP. Each error names the
//! reason and how to write it instead; clap puts the option and the input in front.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

/// The longest duration that makes sense for a trace: no timer of one waits an hour.
const LONGEST: Duration = Duration::from_secs(3600);

/// `500ms`, `2s`, `1.5s`, `250us`, `1m`; a bare number is seconds, as in `traceroute -w`.
///
/// # Errors
/// Why it is no duration, and how one is written.
pub fn duration(text: &str) -> Result<Duration, String> {
    const MEND: &str = "write 500ms or 2s";
    let (number, unit) = split_unit(text);
    let number = decimal(number).ok_or_else(|| format!("not a duration; {MEND}"))?;
    let seconds = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        other => return Err(format!("no such unit of time: {other:?}; {MEND}")),
    };
    let span = Duration::try_from_secs_f64(number * seconds)
        .map_err(|_| format!("out of range; {MEND}"))?;
    if span.is_zero() {
        return Err(format!("zero would wait for nothing; {MEND}"));
    }
    if span > LONGEST {
        return Err(format!("longer than an hour; {MEND}"));
    }
    Ok(span)
}

/// Packets a second: `500`, `10k`, `2.5k`, `1M`.
///
/// # Errors
/// Why it is no rate, and how one is written.
pub fn rate(text: &str) -> Result<f64, String> {
    const MEND: &str = "write packets a second, as 500, 10k or 1M";
    let (number, unit) = split_unit(text);
    let number = decimal(number).ok_or_else(|| format!("not a rate; {MEND}"))?;
    let factor = match unit {
        "" => 1.0,
        "k" | "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        other => return Err(format!("no such unit of rate: {other:?}; {MEND}")),
    };
    let rate = number * factor;
    // Below a packet an hour a run would never end; above 10^12 is no NIC.
    if !(1.0 / 3600.0..=1e12).contains(&rate) {
        return Err(format!("out of range; {MEND}"));
    }
    Ok(rate)
}

/// `A-B`, both included, or one port.
///
/// # Errors
/// Why it is no range, and how one is written.
pub fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    const MEND: &str = "write A-B with 1 <= A <= B <= 65535, as 61000-65535";
    let port = |text: &str| match text.parse::<u16>() {
        Ok(0) => Err(format!("port 0 is no port; {MEND}")),
        Ok(port) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err(format!("{text:?} is no port; {MEND}")),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(format!("it ends before it begins; {MEND}"));
    }
    Ok(first..=last)
}

/// `10.0.0.0/8`, `2001:db8::/32`, or one address.
///
/// # Errors
/// Why it is no prefix, and how one is written.
pub fn prefix(text: &str) -> Result<IpNet, String> {
    const MEND: &str = "write 10.0.0.0/8, 2001:db8::/32 or an address";
    let prefix = match text.parse::<IpNet>() {
        Ok(prefix) => prefix,
        Err(_) => match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => return Err(format!("not a prefix; {MEND}")),
        },
    };
    if prefix.addr() != prefix.network() {
        return Err(format!(
            "bits beyond the length are set; write {}",
            prefix.trunc()
        ));
    }
    Ok(prefix)
}

/// A number from 0 to 63 (decimal or `0x..`), or a name: `cs0`-`cs7`,
/// `af11`-`af43`, `ef`, `va`, `le`, `be`, `df`.
///
/// # Errors
/// Why it is no DSCP, and how one is written.
pub fn dscp(text: &str) -> Result<u8, String> {
    const MEND: &str = "write 0 to 63, or a name as cs1, af41, ef";
    let lower = text.to_ascii_lowercase();
    let number = match lower.as_str() {
        // RFC 2474 §4.1 default forwarding.
        "be" | "df" => Some(0),
        // RFC 8622 lower effort.
        "le" => Some(1),
        // RFC 3246 expedited forwarding; RFC 5865 voice-admit.
        "ef" => Some(46),
        "va" => Some(44),
        name => class_selector(name).or_else(|| assured_forwarding(name)),
    };
    if let Some(number) = number {
        return Ok(number);
    }
    let parsed = match lower.strip_prefix("0x") {
        Some(hex) => u8::from_str_radix(hex, 16),
        None => lower.parse(),
    };
    match parsed {
        Ok(number @ 0..=63) => Ok(number),
        Ok(number) => Err(format!("{number} does not fit in 6 bits; {MEND}")),
        Err(_) => Err(format!("no such DSCP; {MEND}")),
    }
}

/// RFC 2474 §4.2.2: class *n* is *n* in the upper three bits.
fn class_selector(name: &str) -> Option<u8> {
    match name.strip_prefix("cs")?.as_bytes() {
        [class @ b'0'..=b'7'] => Some((class - b'0') << 3),
        _ => None,
    }
}

/// RFC 2597 §6: class 1–4 in the upper three bits, drop precedence 1–3 below.
fn assured_forwarding(name: &str) -> Option<u8> {
    match name.strip_prefix("af")?.as_bytes() {
        [class @ b'1'..=b'4', drop @ b'1'..=b'3'] => Some((class - b'0') << 3 | (drop - b'0') << 1),
        _ => None,
    }
}

/// The leading digits and point, and what follows them.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    text.split_at(end)
}

/// A non-negative decimal; nothing of what else `f64` parses (`inf`, `1e9`, signs).
fn decimal(text: &str) -> Option<f64> {
    if !text.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_exactly() {
        for (text, micros) in [
            ("500ms", 500_000),
            ("2s", 2_000_000),
            ("1.5s", 1_500_000),
            ("250us", 250),
            ("0.5ms", 500),
            ("3", 3_000_000),
            ("1m", 60_000_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for text in [
            "", "s", "-1s", "0", "0ms", "2h", "1e3", "1.2.3s", "2 s", "61m", ".", "inf",
        ] {
            let error = duration(text).expect_err(text);
            assert!(error.ends_with("; write 500ms or 2s"), "{text}: {error}");
        }
    }

    #[test]
    fn prefixes_have_no_bits_beyond_their_length() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.1", "10.0.0.1/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(prefix(text).map(|it| it.to_string()), Ok(expected.into()));
        }
        for text in ["", "10", "10.0.0.0/33", "10.0.0.0/", "host/8", "10.0.0.1/8"] {
            assert!(prefix(text).is_err(), "{text}");
        }
        assert!(
            prefix("10.1.0.0/8")
                .unwrap_err()
                .ends_with("write 10.0.0.0/8")
        );
    }

    #[test]
    fn rates_are_packets_a_second() {
        for (text, expected) in [
            ("500", 500.0),
            ("10k", 1e4),
            ("10K", 1e4),
            ("2.5k", 2500.0),
            ("1M", 1e6),
            ("0.5", 0.5),
        ] {
            assert_eq!(rate(text), Ok(expected), "{text}");
        }
        for text in ["", "k", "0", "-5", "10m", "10kk", "10 k", "nan", "9999999G"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn port_ranges_are_inclusive() {
        assert_eq!(ports("61000-65535"), Ok(61000..=65535));
        assert_eq!(ports("1-1"), Ok(1..=1));
        assert_eq!(ports("50000"), Ok(50000..=50000));
        for text in [
            "", "-", "0-10", "10-5", "1-65536", "a-b", "1-2-3", "+1-2", "1:2",
        ] {
            let error = ports(text).expect_err(text);
            assert!(error.contains("; write A-B"), "{text}: {error}");
        }
    }

    #[test]
    fn dscp_by_number_and_by_name() {
        for (text, expected) in [
            ("0", 0),
            ("63", 63),
            ("0x2e", 46),
            ("cs1", 8),
            ("CS7", 56),
            ("af11", 10),
            ("af41", 34),
            ("af43", 38),
            ("ef", 46),
            ("va", 44),
            ("le", 1),
            ("be", 0),
        ] {
            assert_eq!(dscp(text), Ok(expected), "{text}");
        }
        for text in [
            "", "64", "256", "-1", "cs8", "cs", "af14", "af51", "af1", "best",
        ] {
            assert!(dscp(text).is_err(), "{text}");
        }
    }
}
