//! What is not to be traced: special ranges, and the user's own list.
//!
//! * The special-purpose ranges of IANA ([`registry`]) are left out by default.
//!   `--allow PREFIX` lets them in, whatever the length of the prefix: it is the
//!   user's word against a default. `--allow 0.0.0.0/0` lets in all of IPv4's.
//! * With `--interface` what that interface routes to is let in as well, when it
//!   routes only to special ranges: a lab, a private network. One with a default
//!   route, or with any route to an ordinary address, lets nothing in. That holds
//!   for `lo`, too: it leads nowhere but to loopback addresses.
//! * `--exclude FILE` is ZMap's blocklist: a prefix or address a line, `#` before a
//!   comment, bits beyond the length count for nothing. A line that is none of
//!   these ends the run before it begins: somebody asked to be left out by it.
//! * Between `--exclude` and `--allow`, both the user's word, the longer prefix
//!   says, and `--allow` where they are equally long. So `--allow 10.0.0.0/8` with
//!   `10.1.2.0/24` excluded spares that /24, and `--allow 10.1.2.3` traces one
//!   host in it all the same.
//! * Multicast, broadcast and the unspecified address nobody can allow: there is no
//!   TCP to them.
//!
//! An address that NAT64 translates (RFC 6052) is held to what holds for the IPv4
//! address in it as well.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use ipnet::IpNet;
use prefix_trie::joint::map::JointPrefixMap;
use prefix_trie::joint::set::JointPrefixSet;

use super::entry;
use super::list::files::{Files, Next};
use super::list::{BadLine, ListError};
use super::spec;
use crate::net::{NetError, destinations};

pub mod registry;

/// What is not to be traced.
#[derive(Debug, Default)]
pub struct Exclusions {
    listed: JointPrefixMap<IpNet, Place>,
    files: Vec<String>,
    allowed: JointPrefixSet<IpNet>,
    /// What an interface routes to that routes only there.
    here: Vec<IpNet>,
}

/// Where a prefix was listed.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Number in [`Exclusions::files`].
    file: u32,
    line: u64,
}

/// Why the exclusions could not be made out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExcludeError {
    /// A file that cannot be read.
    #[error("--exclude {0}")]
    File(#[from] ListError),
    /// A line of it that is no prefix.
    #[error("--exclude {0}")]
    Line(BadLine),
    /// The routes of an interface that cannot be read.
    #[error("{0}")]
    Routes(#[from] NetError),
}

impl Exclusions {
    /// From lists of prefixes, exceptions, and the interface that everything goes
    /// out through, where the user forces one.
    ///
    /// # Errors
    /// A list that is not one to its last line, or an interface whose routes cannot
    /// be read.
    pub fn new(
        files: &[PathBuf],
        allow: &[IpNet],
        interface: Option<&str>,
    ) -> Result<Self, ExcludeError> {
        let mut exclusions = Exclusions::default();
        for prefix in allow {
            let prefix = entry::net(prefix.addr(), prefix.prefix_len());
            exclusions.allowed.insert(prefix);
        }
        for file in files {
            exclusions.read(file)?;
        }
        if let Some(name) = interface {
            let routes = destinations(name)?;
            if routes.iter().all(|prefix| registry::is_special(*prefix)) {
                exclusions.here = routes;
            }
        }
        Ok(exclusions)
    }

    fn read(&mut self, file: &PathBuf) -> Result<(), ExcludeError> {
        let nth = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
        self.files.push(file.display().to_string());
        let mut files = Files::open(std::slice::from_ref(file))?;
        loop {
            let next = files.next(|name, line| {
                match line.text() {
                    Ok(None) => None,
                    Ok(Some(text)) => Some(prefix(text).map(|prefix| (prefix, line.number))),
                    Err(reason) => Some(Err(reason)),
                }
                .map(|line_or| line_or.map_err(|reason| BadLine::new(name, line, reason)))
            })?;
            match next {
                Next::Line(Ok((prefix, line))) => {
                    let place = Place { file: nth, line };
                    self.listed.entry(prefix).or_insert(place);
                }
                Next::Line(Err(line)) => return Err(ExcludeError::Line(line)),
                Next::Stalled => {}
                Next::End => return Ok(()),
            }
        }
    }

    /// Why an address is not to be traced, for its record; `None`: it may be.
    #[must_use]
    pub fn check(&self, address: IpAddr) -> Option<String> {
        let address = address.to_canonical();
        if let Some(reason) = spec::nobodys(address) {
            return Some(reason.to_owned());
        }
        let own = IpNet::from(address);
        let allowed = self.allowed.get_lpm(&own).map(|prefix| prefix.prefix_len());
        if let Some((prefix, place)) = self.listed.get_lpm(&own)
            && allowed.is_none_or(|allowed| allowed < prefix.prefix_len())
        {
            let file = usize::try_from(place.file)
                .ok()
                .and_then(|nth| self.files.get(nth));
            let file = file.map_or("", String::as_str);
            return Some(format!(
                "excluded by {file}:{} ({prefix}); trace it with --allow {address}",
                place.line
            ));
        }
        if allowed.is_some() {
            return None;
        }
        if let Some(special) = registry::special(address) {
            if self.here.iter().any(|prefix| prefix.contains(&address)) {
                return None;
            }
            return Some(format!(
                "special address: {}, {} ({}); if it is yours, allow it with --allow",
                special.name, special.prefix, special.source
            ));
        }
        self.check(IpAddr::V4(translated(address)?))
    }
}

/// A line of a blocklist.
fn prefix(text: &str) -> Result<IpNet, String> {
    let parsed = text.parse::<IpNet>();
    let parsed = parsed.or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    match parsed {
        Ok(prefix) => Ok(entry::net(prefix.addr(), prefix.prefix_len())),
        Err(_) => Err("no prefix; write 10.0.0.0/8, 2001:db8::/32 or an address".to_owned()),
    }
}

/// The IPv4 address that NAT64 makes of one (RFC 6052 §2.1, the well-known prefix).
fn translated(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V6(v6) => match v6.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(Ipv4Addr::from_bits(v6.to_bits() as u32)),
            _ => None,
        },
        IpAddr::V4(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testing::{Namespace, pair};
    use proptest::prelude::*;

    fn file(name: &str, text: &str) -> PathBuf {
        let name = format!("insession-exclude-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn with(name: &str, text: &str, allow: &[&str]) -> Exclusions {
        let allow: Vec<_> = allow.iter().map(|text| text.parse().unwrap()).collect();
        Exclusions::new(&[file(name, text)], &allow, None).unwrap()
    }

    fn check(exclusions: &Exclusions, address: &str) -> Option<String> {
        exclusions.check(address.parse().unwrap())
    }

    #[test]
    fn special_ranges_are_left_out_by_name() {
        let exclusions = Exclusions::default();
        assert_eq!(
            check(&exclusions, "10.1.2.3").unwrap(),
            "special address: private use, 10.0.0.0/8 (RFC 1918); if it is yours, allow it with --allow"
        );
        for address in ["8.8.8.8", "2001:4860:4860::8888", "64:ff9b::808:808"] {
            assert_eq!(check(&exclusions, address), None, "{address}");
        }
        for address in [
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2001:db8::1",
            "127.0.0.1",
        ] {
            assert!(check(&exclusions, address).is_some(), "{address}");
        }
    }

    #[test]
    fn a_blocklist_names_the_line() {
        let text = "# ours\n8.8.8.0/24\t# a comment\r\n\n2001:4860::1/32\n8.8.4.4\n8.8.8.0/25\n8.8.8.0/24\n";
        let exclusions = with("names", text, &["2001:4860:1::/48", "8.8.8.8/32"]);
        let path = file("names", text);
        assert_eq!(
            check(&exclusions, "8.8.8.200").unwrap(),
            format!(
                "excluded by {}:2 (8.8.8.0/24); trace it with --allow 8.8.8.200",
                path.display()
            )
        );
        for (address, place) in [
            ("8.8.8.1", Some(":6 (8.8.8.0/25)")),
            ("8.8.4.4", Some(":5 (8.8.4.4/32)")),
            ("2001:4860:2::1", Some(":4 (2001:4860::/32)")),
            ("64:ff9b::808:404", Some(":5 (8.8.4.4/32)")),
            ("8.8.8.8", None),
            ("8.8.4.5", None),
            ("2001:4860:1::1", None),
        ] {
            let found = check(&exclusions, address);
            let fits = match (&found, place) {
                (Some(found), Some(place)) => found.contains(place),
                (None, None) => true,
                _ => false,
            };
            assert!(fits, "{address}: {found:?}");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn allow_beats_the_registry_at_any_length_and_a_list_at_a_longer() {
        let text = "10.1.2.0/24\n198.18.0.0/15\n";
        let exclusions = with(
            "allow",
            text,
            &["10.0.0.0/8", "10.1.2.3/32", "198.18.0.0/15", "192.0.0.0/8"],
        );
        for (address, free) in [
            ("10.9.9.9", true),
            ("10.1.2.4", false),
            ("10.1.2.3", true),
            ("198.18.0.1", true),
            ("192.168.1.1", true),
            ("172.16.0.1", false),
        ] {
            assert_eq!(check(&exclusions, address).is_none(), free, "{address}");
        }
        let all = with("all", "", &["0.0.0.0/0", "::/0"]);
        for address in ["10.0.0.1", "127.0.0.1", "fe80::1", "240.0.0.1"] {
            assert_eq!(check(&all, address), None, "{address}");
        }
        for address in ["224.0.0.1", "255.255.255.255", "0.0.0.0", "::", "ff02::1"] {
            assert!(check(&all, address).is_some(), "{address}");
        }
    }

    #[test]
    fn a_list_that_is_none_ends_it() {
        for (text, line, reason) in [
            ("10.0.0.0/8\nexample.com\n", 2, "no prefix"),
            ("10.0.0.0/33", 1, "no prefix"),
            ("#\n\n10.0.0.0/8 11.0.0.0/8", 3, "no prefix"),
            ("caf\u{e9}", 1, "no prefix"),
            ("a\0", 1, "a zero byte"),
        ] {
            let path = file("none", text);
            let error = Exclusions::new(std::slice::from_ref(&path), &[], None).unwrap_err();
            let begin = format!("--exclude {}:{line}: ", path.display());
            let error = error.to_string();
            assert!(
                error.starts_with(&begin) && error.contains(reason),
                "{error}"
            );
            std::fs::remove_file(path).unwrap();
        }
        let error = Exclusions::new(&["/nowhere".into()], &[], None).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("--exclude /nowhere: No such file"),
            "{error}"
        );
    }

    #[test]
    fn an_interface_that_leads_only_to_special_ranges_lets_them_in() {
        let (near, _far) = pair();
        let exclusions = |near: &Namespace, name: &str| {
            let name = name.to_owned();
            near.run(move || Exclusions::new(&[], &[], Some(&name)))
                .unwrap()
        };
        near.ip("route add 10.0.0.0/8 via 198.18.1.2");
        let lab = exclusions(&near, "near0");
        for (address, free) in [
            ("198.18.1.2", true),
            ("10.200.0.1", true),
            ("fd00:1::2", true),
            ("192.168.0.1", false),
            ("198.18.2.1", false),
            ("127.0.0.1", false),
            ("224.0.0.1", false),
            ("8.8.8.8", true),
        ] {
            assert_eq!(check(&lab, address).is_none(), free, "{address}");
        }
        let lo = exclusions(&near, "lo");
        assert_eq!(check(&lo, "127.0.0.1"), None);
        assert!(check(&lo, "10.0.0.1").is_some());
        // One way out, be it for a few addresses, and it is no lab.
        near.ip("route add 8.8.8.0/24 via 198.18.1.2");
        assert!(check(&exclusions(&near, "near0"), "10.200.0.1").is_some());
        near.ip("route del 8.8.8.0/24");
        assert_eq!(check(&exclusions(&near, "near0"), "10.200.0.1"), None);
        near.ip("route add default via 198.18.1.2");
        assert!(check(&exclusions(&near, "near0"), "10.200.0.1").is_some());
        let error = near
            .run(|| Exclusions::new(&[], &[], Some("eth99")))
            .unwrap_err();
        assert!(error.to_string().contains("no such interface"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn the_longer_of_listed_and_allowed_says(
            listed in proptest::collection::vec((any::<u32>(), 0_u8..=12), 0..12),
            allowed in proptest::collection::vec((any::<u32>(), 0_u8..=12), 0..12),
            addresses in proptest::collection::vec(any::<u32>(), 20),
        ) {
            let prefixes = |of: Vec<(u32, u8)>| -> Vec<IpNet> {
                of.into_iter()
                    .map(|(bits, length)| entry::net(Ipv4Addr::from_bits(bits).into(), length))
                    .collect()
            };
            let (listed, allowed) = (prefixes(listed), prefixes(allowed));
            let text: String = listed.iter().map(|prefix| format!("{prefix}\n")).collect();
            let path = file("property", &text);
            let exclusions = Exclusions::new(std::slice::from_ref(&path), &allowed, None).unwrap();
            for address in addresses {
                let address = IpAddr::from(Ipv4Addr::from_bits(address));
                let longest = |of: &[IpNet]| {
                    of.iter().filter(|it| it.contains(&address)).map(IpNet::prefix_len).max()
                };
                let (listed, allowed) = (longest(&listed), longest(&allowed));
                let free = match (listed, allowed) {
                    _ if spec::nobodys(address).is_some() => false,
                    (Some(listed), Some(allowed)) => allowed >= listed,
                    (Some(_), None) => false,
                    (None, Some(_)) => true,
                    (None, None) => registry::special(address).is_none(),
                };
                prop_assert_eq!(exclusions.check(address).is_none(), free, "{}", address);
            }
            std::fs::remove_file(path).unwrap();
        }
    }
}
