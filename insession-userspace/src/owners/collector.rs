//! What files say, gathered into tables.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Counts, File, Kind, Network, Owners, clean, date};

/// Bad lines of a file that are told one by one; all are counted.
const TOLD: usize = 5;

/// Gathers what files say.
#[derive(Debug, Default)]
pub(super) struct Collector {
    /// Of the file that is being read.
    pub(super) counts: Counts,
    pub(super) told: Vec<String>,
    pub(super) date: Option<date::Dated>,
    pub(super) title: Option<String>,
    name: String,
    file: u16,
    owners: Owners,
    origins: HashMap<(u16, Box<[u32]>), u32>,
    described: HashMap<Network, u32>,
    named: HashMap<(u16, Arc<str>), u32>,
    /// Peering LANs whose exchange stands elsewhere: prefix, and its number there.
    lans: Vec<(u16, IpNet, u64)>,
    /// The exchange of a LAN, by their numbers.
    exchange_of: HashMap<u64, u64>,
    exchanges: HashMap<u64, Arc<str>>,
}

impl Collector {
    /// A file is begun.
    pub(super) fn begin(&mut self, path: &Path) {
        self.counts = Counts::default();
        self.told = Vec::new();
        self.date = None;
        self.title = None;
        self.name = path.display().to_string();
        self.file = u16::try_from(self.owners.files.len()).unwrap_or(u16::MAX);
    }

    /// It is read.
    pub(super) fn end(&mut self, path: &Path, kind: Kind) {
        self.owners.files.push(File {
            path: path.to_owned(),
            kind,
            title: self.title.take(),
            counts: self.counts,
            date: self.date.take(),
            told: std::mem::take(&mut self.told),
        });
    }

    /// All files are read.
    pub(super) fn finish(mut self) -> Owners {
        for (file, prefix, lan) in std::mem::take(&mut self.lans) {
            // Of PeeringDB's numbers those of a LAN and its exchange are the same, but
            // where a file says otherwise.
            let exchange = self.exchange_of.get(&lan).copied().unwrap_or(lan);
            let name = match self.exchanges.get(&exchange) {
                Some(name) => Arc::clone(name),
                None => Arc::from(format!("ixlan {lan}")),
            };
            let number = self.exchange_number(file, name);
            self.owners.exchanges.insert(prefix, number);
        }
        let owners = &mut self.owners;
        owners.routes.settle();
        owners.networks.settle();
        owners.exchanges.settle();
        self.owners
    }

    /// A route and who originates it, the one that counts first.
    pub(super) fn route(&mut self, prefix: IpNet, origins: &[u32]) {
        // A default route says of no address whose it is, AS 0 that it is nobody's
        // (RFC 7607).
        let is_nobodys = origins.iter().all(|asn| *asn == 0);
        if prefix.prefix_len() == 0 || is_nobodys {
            self.counts.passed += 1;
            return;
        }
        self.count(prefix);
        self.counts.several += u64::from(origins.len() > 1);
        let key = (self.file, Box::from(origins));
        let number = match self.origins.get(&key) {
            Some(number) => *number,
            None => {
                let number = number(self.owners.origins.len());
                self.owners.origins.push(key.clone());
                self.origins.insert(key, number);
                number
            }
        };
        self.owners.routes.insert(prefix, number);
    }

    /// Numbers a record of an MMDB, which stands for many networks.
    pub(super) fn describe(&mut self, asn: Option<u32>, holder: Option<&str>) -> Option<u32> {
        let asn = asn.filter(|asn| *asn != 0);
        let holder = holder.map(clean).filter(|name| !name.is_empty());
        let holder: Option<Arc<str>> = holder.map(|name| Arc::from(&*name));
        if asn.is_none() && holder.is_none() {
            return None;
        }
        if let (Some(asn), Some(holder)) = (asn, &holder) {
            let known = self.owners.also.entry(asn);
            known.or_insert_with(|| Arc::clone(holder));
        }
        let key = Network {
            file: self.file,
            asn,
            holder,
        };
        if let Some(number) = self.described.get(&key) {
            return Some(*number);
        }
        let number = number(self.owners.described.len());
        self.owners.described.push(key.clone());
        self.described.insert(key, number);
        Some(number)
    }

    /// A network of an MMDB, by the number of its record.
    pub(super) fn network(&mut self, prefix: IpNet, record: Option<u32>) {
        match record {
            Some(record) if prefix.prefix_len() > 0 => {
                self.count(prefix);
                self.owners.networks.insert(prefix, record);
            }
            _ => self.counts.passed += 1,
        }
    }

    /// Who holds an AS.
    pub(super) fn holder(&mut self, asn: u32, name: &str) {
        let name = clean(name);
        if name.is_empty() {
            self.counts.passed += 1;
            return;
        }
        self.counts.holders += 1;
        let known = self.owners.holders.entry(asn);
        known.or_insert_with(|| Arc::from(&*name));
    }

    /// A peering LAN and the name of its exchange.
    pub(super) fn exchange(&mut self, prefix: IpNet, name: &str) {
        let name = clean(name);
        if prefix.prefix_len() == 0 || name.is_empty() {
            self.counts.passed += 1;
            return;
        }
        self.count(prefix);
        self.counts.lans += 1;
        let number = self.exchange_number(self.file, Arc::from(&*name));
        self.owners.exchanges.insert(prefix, number);
    }

    /// A peering LAN whose exchange may stand elsewhere.
    pub(super) fn lan(&mut self, prefix: IpNet, lan: u64) {
        if prefix.prefix_len() == 0 {
            self.counts.passed += 1;
            return;
        }
        self.count(prefix);
        self.counts.lans += 1;
        self.lans.push((self.file, prefix, lan));
    }

    /// Which exchange a LAN is of.
    pub(super) fn lan_of(&mut self, lan: u64, exchange: u64) {
        self.exchange_of.insert(lan, exchange);
    }

    /// What an exchange is called.
    pub(super) fn exchange_named(&mut self, exchange: u64, name: &str) {
        let name = clean(name);
        if !name.is_empty() {
            self.exchanges.insert(exchange, Arc::from(&*name));
        }
    }

    /// Something that could not be read, and where it stands in the file.
    pub(super) fn bad(&mut self, place: impl std::fmt::Display, why: impl std::fmt::Display) {
        self.counts.bad += 1;
        if self.told.len() < TOLD {
            self.told.push(format!("{}, {place}: {why}", self.name));
        }
    }

    fn count(&mut self, prefix: IpNet) {
        match prefix {
            IpNet::V4(_) => self.counts.v4 += 1,
            IpNet::V6(_) => self.counts.v6 += 1,
        }
    }

    fn exchange_number(&mut self, file: u16, name: Arc<str>) -> u32 {
        let key = (file, name);
        if let Some(number) = self.named.get(&key) {
            return *number;
        }
        let number = number(self.owners.named.len());
        self.owners.named.push(key.clone());
        self.named.insert(key, number);
        number
    }
}

/// No list has 2³² members that differ.
fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
