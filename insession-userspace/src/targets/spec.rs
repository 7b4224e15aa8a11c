//! What a TARGET may be: host, address, host:port, `[v6]:port`, bare v6.
//!
//! A name beyond ASCII is looked up in its ASCII form (UTS #46); records have it as
//! it was written.

use std::net::{IpAddr, Ipv4Addr};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

/// A target as the user named it, taken apart but not resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetSpec {
    /// As it was written.
    pub name: String,
    /// The host.
    pub host: Host,
    /// The port, where one was written.
    pub port: Option<u16>,
}

/// The host of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address: nothing to look up.
    Address(IpAddr),
    /// A name, in ASCII.
    Name(String),
}

/// Takes a target apart.
///
/// # Errors
/// Why it is none, and how one is written; without the target itself, which
/// clap puts in front.
pub fn parse(text: &str) -> Result<TargetSpec, String> {
    let (host, port) = split(text)?;
    let host = match host.parse::<IpAddr>() {
        Ok(address) => Host::Address(usable(address)?),
        Err(_) if host.is_ascii() => Host::Name(host_name(host)?.to_owned()),
        Err(_) => Host::Name(in_ascii(host)?),
    };
    Ok(TargetSpec {
        name: text.to_owned(),
        host,
        port,
    })
}

/// Host and port, apart.
fn split(text: &str) -> Result<(&str, Option<u16>), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or("the bracket is not closed; write [2001:db8::1]:443")?;
        if !matches!(host.parse(), Ok(IpAddr::V6(_))) {
            return Err(v6_error(host));
        }
        return match rest.strip_prefix(':') {
            Some(number) => Ok((host, Some(port(number)?))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(format!(
                "{rest:?} behind the bracket; write [2001:db8::1]:443"
            )),
        };
    }
    match text.split_once(':') {
        None => Ok((text, None)),
        // Two colons are in no host name, and in every IPv6 address.
        Some((_, rest)) if rest.contains(':') => match text.parse() {
            Ok(IpAddr::V6(_)) => Ok((text, None)),
            _ => Err(v6_error(text)),
        },
        Some((host, number)) => Ok((host, Some(port(number)?))),
    }
}

fn v6_error(text: &str) -> String {
    if text.contains("://") {
        "a URL is no target; write host:port".to_owned()
    } else if text.contains('%') {
        "a zone cannot be part of the target; name the interface with -i".to_owned()
    } else {
        format!("{text:?} is no IPv6 address; write 2001:db8::1 or [2001:db8::1]:443")
    }
}

/// A port, 1 to 65535.
pub(super) fn port(text: &str) -> Result<u16, String> {
    if text.starts_with("//") {
        return Err("a URL is no target; write host:port".to_owned());
    }
    match text.parse::<u16>() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err(format!("{text:?} is no port; write 1 to 65535")),
    }
}

/// An address that a TCP connection can be opened to.
fn usable(address: IpAddr) -> Result<IpAddr, String> {
    // An IPv4-mapped address never stands on a wire (RFC 4291 §2.5.5.2).
    let address = address.to_canonical();
    match nobodys(address) {
        Some(reason) => Err(format!("{reason}; name one host")),
        None => Ok(address),
    }
}

/// Why no TCP connection can be opened to an address, whoever allows it.
pub(super) fn nobodys(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("the unspecified address is nobody's")
    } else if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Some("TCP has no multicast or broadcast")
    } else {
        None
    }
}

/// The ASCII form of a name beyond it (UTS #46, as browsers and curl have it:
/// letters are mapped to lower case, ideographic full stops are dots).
fn in_ascii(host: &str) -> Result<String, String> {
    let mapped = Uts46::new()
        .to_ascii(
            host.as_bytes(),
            AsciiDenyList::EMPTY,
            Hyphens::Allow,
            DnsLength::Ignore,
        )
        .map_err(|_| {
            "letters that no host name may have together (IDNA, UTS #46); write the name as its owner does, or in ASCII (xn--…)"
        })?;
    host_name(&mapped).map(str::to_owned)
}

/// A name that a resolver may be asked for.
fn host_name(host: &str) -> Result<&str, String> {
    let labels = host.strip_suffix('.').unwrap_or(host);
    if labels.is_empty() {
        return Err("the host is missing; write host, address or host:port".to_owned());
    }
    if labels.len() > 253 {
        return Err("longer than 253 bytes; no host name is (RFC 1035)".to_owned());
    }
    for label in labels.split('.') {
        if label.is_empty() || label.len() > 63 {
            return Err(format!(
                "the label {label:?} is empty or longer than 63 bytes; no host name has such (RFC 1035)"
            ));
        }
        // The underscore is no letter of a host name (RFC 952), but names with
        // one exist and resolve.
        if let Some(odd) = label
            .chars()
            .find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_'))
        {
            return Err(if odd == '/' {
                "a prefix or URL is no target; write host, address or host:port".to_owned()
            } else {
                format!("{odd:?} is in no host name; write host, address or host:port")
            });
        }
    }
    // RFC 1123 §2.1: the last label of a host name is never all digits, so
    // what looks like an address is meant as one.
    if labels
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err(
            "neither an IPv4 address nor a host name; write four numbers up to 255".to_owned(),
        );
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_target() {
        let address = |text: &str| Host::Address(text.parse().unwrap());
        let name = |text: &str| Host::Name(text.to_owned());
        for (text, host, port) in [
            ("www.example", name("www.example"), None),
            ("www.example.", name("www.example."), None),
            ("www.example:80", name("www.example"), Some(80)),
            ("localhost", name("localhost"), None),
            ("a_b.example", name("a_b.example"), None),
            ("bücher.example", name("xn--bcher-kva.example"), None),
            (
                "BÜCHER.example.:80",
                name("xn--bcher-kva.example."),
                Some(80),
            ),
            ("例え。テスト", name("xn--r8jz45g.xn--zckzah"), None),
            ("xn--bcher-kva.example", name("xn--bcher-kva.example"), None),
            (
                "_tcp.bücher.example",
                name("_tcp.xn--bcher-kva.example"),
                None,
            ),
            ("1.2.3.4.example", name("1.2.3.4.example"), None),
            ("10.0.9.2", address("10.0.9.2"), None),
            ("10.0.9.2:65535", address("10.0.9.2"), Some(65535)),
            ("2001:db8::1", address("2001:db8::1"), None),
            ("::1", address("::1"), None),
            ("2001:db8::1:443", address("2001:db8::1:443"), None),
            ("[2001:db8::1]", address("2001:db8::1"), None),
            ("[2001:db8::1]:443", address("2001:db8::1"), Some(443)),
            ("::ffff:10.0.9.2", address("10.0.9.2"), None),
        ] {
            let name = text.to_owned();
            assert_eq!(parse(text), Ok(TargetSpec { name, host, port }), "{text}");
        }
    }

    #[test]
    fn what_is_no_target_says_why_and_what_to_write() {
        for (text, reason) in [
            ("", "the host is missing"),
            (":80", "the host is missing"),
            (".", "the host is missing"),
            ("host:", "is no port"),
            ("host:0", "is no port"),
            ("host:65536", "is no port"),
            ("host:+80", "is no port"),
            ("host:http", "is no port"),
            ("[2001:db8::1", "the bracket is not closed"),
            ("[2001:db8::1]443", "behind the bracket"),
            ("[10.0.0.1]:443", "is no IPv6 address"),
            ("2001:db8::1::2", "is no IPv6 address"),
            ("fe80::1%eth0", "name the interface with -i"),
            ("https://www.example/", "a URL is no target"),
            ("www.example/", "a prefix or URL is no target"),
            ("10.0.0.0/8", "a prefix or URL is no target"),
            ("10.0.0.256", "neither an IPv4 address nor a host name"),
            ("10.0.0", "neither an IPv4 address nor a host name"),
            ("a..b", "the label \"\""),
            ("two words", "' ' is in no host name"),
            ("ex\u{fffd}ample", "no host name may have together"),
            ("bücher example", "' ' is in no host name"),
            // Mapped to "a/c" and to digits: no way around what holds in ASCII.
            ("\u{2100}.example", "a prefix or URL is no target"),
            (
                "\u{ff11}\u{ff10}.0.0.1",
                "neither an IPv4 address nor a host name",
            ),
            ("0.0.0.0", "the unspecified address"),
            ("::", "the unspecified address"),
            ("224.0.0.1", "no multicast"),
            ("ff02::1", "no multicast"),
            ("255.255.255.255", "no multicast or broadcast"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(parse(&"a".repeat(64)).is_err());
        assert!(parse(&vec!["a"; 128].join(".")).is_err());
    }
}
