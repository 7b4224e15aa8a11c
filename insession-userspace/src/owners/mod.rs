//! Whose an address is: AS number, holder, announced prefix and exchange, out of files
//! of this host. Nothing is asked of the network.
//!
//! ```text
//! files ─▶ load ─▶ lines · json · mrt · mmdb ─▶ Collector ─▶ Owners ─▶ Arc<Owner> a reply
//!           by content, not by name            (tables)
//! ```
//!
//! Three tables are asked. *Routes* say which AS announces an address; where none covers
//! it, the *networks* of an MMDB do. *Exchanges* say on whose peering LAN it lies: that
//! is a mark of its own, since such a LAN is announced by whomever it pleases. Between
//! files the longest prefix counts, and of equal prefixes that of the file named first.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;

use crate::trace::{Owner, Trace};
use table::{Covering, Table};

mod collector;
pub mod date;
mod json;
mod lines;
pub mod load;
mod mmdb;
mod mrt;
pub mod table;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use load::load;

/// What a file is, by what stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Prefixes and who originates them, a line each.
    Origins,
    /// A routing table of a collector (RFC 6396).
    Rib,
    /// A MaxMind DB.
    Mmdb,
    /// AS numbers and who holds them.
    Names,
    /// Peering LANs of exchanges.
    Exchanges,
}

impl Kind {
    /// A word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Origins => "pfx2as",
            Kind::Rib => "mrt-rib",
            Kind::Mmdb => "mmdb",
            Kind::Names => "as-names",
            Kind::Exchanges => "ixp-prefixes",
        }
    }
}

/// What was taken from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// It.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// How it calls itself: the type of an MMDB.
    pub title: Option<String>,
    /// What was taken from it.
    pub counts: Counts,
    /// When its data are from.
    pub date: Option<date::Dated>,
    /// The first lines that were none, `FILE, line N: WHY`.
    pub told: Vec<String>,
}

/// Entries of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Prefixes with an AS number, or of exchanges: of IPv4.
    pub v4: u64,
    /// And of IPv6.
    pub v6: u64,
    /// Prefixes that several AS originate.
    pub several: u64,
    /// AS numbers with a holder.
    pub holders: u64,
    /// Prefixes of peering LANs, which are in `v4` and `v6`, too.
    pub lans: u64,
    /// Default routes, AS 0 and records of other kinds: of no use here.
    pub passed: u64,
    /// Lines or records that could not be read.
    pub bad: u64,
}

impl Counts {
    /// All that is of use.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.v4 + self.v6 + self.holders
    }
}

/// Why there are no owners to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {why}; {mend}")]
pub struct OwnersError {
    /// The file.
    pub file: String,
    /// What is wrong with it.
    pub why: String,
    /// What helps.
    pub mend: String,
}

/// What the files say of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The sum of it.
    pub owner: Option<Arc<Owner>>,
    /// All AS that announce it, the most seen first: one but where it is announced by
    /// several, or by an aggregate's set.
    pub origins: Vec<u32>,
    /// The file that the AS number is from.
    pub origin_file: Option<PathBuf>,
    /// The file that the exchange is from.
    pub exchange_file: Option<PathBuf>,
}

/// A network of an MMDB.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Network {
    file: u16,
    asn: Option<u32>,
    holder: Option<Arc<str>>,
}

/// Whose addresses are.
#[derive(Debug, Default)]
pub struct Owners {
    files: Vec<File>,
    routes: Table,
    networks: Table,
    exchanges: Table,
    /// Who originates routes: the file, and the AS.
    origins: Vec<(u16, Box<[u32]>)>,
    described: Vec<Network>,
    named: Vec<(u16, Arc<str>)>,
    holders: HashMap<u32, Arc<str>>,
    /// What an MMDB calls them, where no list does.
    also: HashMap<u32, Arc<str>>,
    /// By the numbers of route, network and exchange.
    made: Mutex<HashMap<[Option<u32>; 3], Arc<Owner>>>,
}

impl Owners {
    /// The files that all of it is from.
    #[must_use]
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// Whose an address is; `None` where no file says anything of it. One and the same
    /// for all addresses of a prefix; only the first of them costs memory.
    #[must_use]
    pub fn of(&self, address: IpAddr) -> Option<Arc<Owner>> {
        let address = address.to_canonical();
        let [route, network, exchange] = self.covering(address);
        let key = [route, network, exchange].map(|found| found.map(|it| it.number));
        if key == [None; 3] {
            return None;
        }
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = made
            .entry(key)
            .or_insert_with(|| Arc::new(self.describe(address, route, network, exchange)));
        Some(Arc::clone(owner))
    }

    /// All that the files say of an address.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Found {
        let [route, network, exchange] = self.covering(address.to_canonical());
        let path = |file: u16| self.files.get(usize::from(file)).map(|it| it.path.clone());
        let mut found = Found {
            owner: self.of(address),
            ..Found::default()
        };
        if let Some((file, origins)) = route.and_then(|it| self.origins.get(it.value as usize)) {
            found.origins = origins.to_vec();
            found.origin_file = path(*file);
        }
        if let Some(network) = network.and_then(|it| self.described.get(it.value as usize)) {
            found.origins = network.asn.into_iter().collect();
            found.origin_file = path(network.file);
        }
        if let Some((file, _)) = exchange.and_then(|it| self.named.get(it.value as usize)) {
            found.exchange_file = path(*file);
        }
        found
    }

    /// Says of every reply of a trace whose the address is that sent it.
    pub fn fill(&self, trace: &mut Trace) {
        let probes = trace.hops.iter_mut().flat_map(|hop| &mut hop.probes);
        // Most probes of a hop are answered by one router.
        let mut last = None;
        for reply in probes.filter_map(|probe| probe.reply.as_mut()) {
            let owner = match last.take() {
                Some((from, owner)) if from == reply.from => owner,
                _ => self.of(reply.from),
            };
            reply.owner.clone_from(&owner);
            last = Some((reply.from, owner));
        }
    }

    /// The route, or else the network, and the exchange.
    fn covering(&self, address: IpAddr) -> [Option<Covering>; 3] {
        let route = self.routes.find(address);
        let network = match route {
            Some(_) => None,
            None => self.networks.find(address),
        };
        [route, network, self.exchanges.find(address)]
    }

    fn describe(
        &self,
        address: IpAddr,
        route: Option<Covering>,
        network: Option<Covering>,
        exchange: Option<Covering>,
    ) -> Owner {
        let origin = route.and_then(|it| self.origins.get(it.value as usize)?.1.first());
        let network = network.and_then(|it| Some((it, self.described.get(it.value as usize)?)));
        let asn = origin.copied().or(network.and_then(|(_, it)| it.asn));
        let named = |list: &HashMap<u32, Arc<str>>| list.get(&asn?).cloned();
        let holder = named(&self.holders)
            .or_else(|| network?.1.holder.clone())
            .or_else(|| named(&self.also));
        let covering = route.or(network.map(|(it, _)| it));
        let exchange = exchange.and_then(|it| self.named.get(it.value as usize));
        Owner {
            asn,
            holder: holder.map(|name| name.to_string()),
            prefix: covering.and_then(|it| {
                let prefix = IpNet::new(address, it.length).ok()?;
                Some(prefix.trunc().to_string())
            }),
            ixp: exchange.map(|(_, name)| name.to_string()),
        }
    }
}

/// The longest name that is kept, characters.
const LONGEST: usize = 200;

/// A name that may be shown: without control characters, white space as single spaces.
fn clean(name: &str) -> Cow<'_, str> {
    let name = name.trim();
    let is_clean = name.len() <= LONGEST
        && !name.contains("  ")
        && name
            .chars()
            .all(|one| one == ' ' || !(one.is_whitespace() || one.is_control()));
    if is_clean {
        return Cow::Borrowed(name);
    }
    let spaced = name.split(|one: char| one.is_whitespace() || one.is_control());
    let words: Vec<&str> = spaced.filter(|word| !word.is_empty()).collect();
    let mut kept: String = words.join(" ").chars().take(LONGEST).collect();
    kept.truncate(kept.trim_end().len());
    Cow::Owned(kept)
}

/// An AS number: `64500`, `AS64500`, or in two halves (RFC 5396, asdot) `1.10`.
fn asn(text: &str) -> Option<u32> {
    let digits = match text.get(..2) {
        Some(letters) if letters.eq_ignore_ascii_case("as") => &text[2..],
        _ => text,
    };
    let number = |text: &str| -> Option<u32> {
        // `parse` takes a sign, too.
        text.bytes()
            .all(|it| it.is_ascii_digit())
            .then(|| text.parse().ok())?
    };
    match digits.split_once('.') {
        Some((high, low)) => {
            let [high, low] = [number(high)?, number(low)?];
            (high < 1 << 16 && low < 1 << 16).then_some(high << 16 | low)
        }
        None => number(digits),
    }
}
