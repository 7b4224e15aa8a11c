//! What probes of `sidecar` hide in.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::Target;
use crate::session::{Flow, SessionOptions, http_request};

/// A conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conversation {
    /// A connection of our own to each target, and a HEAD of `/` in it, with the
    /// target's name as host.
    Http,
    /// The same with these octets as request.
    Request(Arc<[u8]>),
    /// A connection that is there, and somebody else's.
    Adopted(Adopted),
}

/// A running connection of this host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// Its ends.
    pub flow: Flow,
    /// Octets that this host has sent in it, and that were acknowledged.
    pub sent: u64,
}

impl Conversation {
    /// The connection that is adopted, where one is.
    #[must_use]
    pub fn adopted(&self) -> Option<&Adopted> {
        match self {
            Conversation::Adopted(adopted) => Some(adopted),
            Conversation::Http | Conversation::Request(_) => None,
        }
    }

    /// What is said to a target.
    pub(super) fn request(&self, options: &SessionOptions, target: &Target) -> Vec<u8> {
        match self {
            Conversation::Request(octets) => octets.to_vec(),
            Conversation::Http | Conversation::Adopted(_) => {
                let host = host(target);
                http_request(options, &host, AGENT)
            }
        }
    }
}

/// Who asks. A comment says why (RFC 9110 §10.1.5).
const AGENT: &str = concat!(
    "insession/",
    env!("CARGO_PKG_VERSION"),
    " (traceroute inside this connection)"
);

/// The target as a request names it (RFC 9110 §7.2): with its port, where that is not
/// the usual one.
fn host(target: &Target) -> String {
    let address = SocketAddr::new(target.address, target.port);
    // As it was written: the port may stand behind it.
    let name = target.name.as_str();
    let bare = name
        .strip_suffix(&format!(":{}", target.port))
        .unwrap_or(name);
    let is_address = name.parse::<IpAddr>().is_ok() || name.parse::<SocketAddr>().is_ok();
    let named = !bare.is_empty() && !is_address;
    match (named, target.port) {
        (true, 80) => bare.to_owned(),
        (true, port) => format!("{bare}:{port}"),
        (false, 80) if target.address.is_ipv4() => target.address.to_string(),
        (false, 80) => format!("[{}]", target.address),
        (false, _) => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_named_as_requests_have_them() {
        for (name, address, port, expected) in [
            ("www.example", "192.0.2.1", 80, "www.example"),
            ("www.example", "192.0.2.1", 8080, "www.example:8080"),
            ("www.example:8080", "192.0.2.1", 8080, "www.example:8080"),
            ("www.example:80", "192.0.2.1", 80, "www.example"),
            ("192.0.2.1:80", "192.0.2.1", 80, "192.0.2.1"),
            ("[2001:db8::1]:81", "2001:db8::1", 81, "[2001:db8::1]:81"),
            ("192.0.2.1", "192.0.2.1", 80, "192.0.2.1"),
            ("192.0.2.1", "192.0.2.1", 443, "192.0.2.1:443"),
            ("2001:db8::1", "2001:db8::1", 80, "[2001:db8::1]"),
            ("2001:db8::1", "2001:db8::1", 81, "[2001:db8::1]:81"),
        ] {
            let target = Target {
                index: 0,
                name: name.into(),
                address: address.parse().unwrap(),
                port,
            };
            assert_eq!(host(&target), expected);
        }
    }
}
