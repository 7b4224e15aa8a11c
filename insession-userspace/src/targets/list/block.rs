//! A stretch of a list in memory: what is permuted together. Its buffers are used
//! again for the next.

use std::net::IpAddr;

use super::super::entry::{Entry, Prefix};
use super::super::spec::{Host, TargetSpec};

/// Lines of a block at most: 3 MiB.
pub(super) const ENTRIES: usize = 65_536;
/// Bytes of text of a block at most, but for its last line's.
const TEXT: usize = 8 * 1024 * 1024;
/// Targets of a block at most. Prefixes have 2^32 each, so it never comes to that.
const TARGETS: u64 = 1 << 60;

/// Some lines of a list.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// Names as they were written and, of hosts, as they are looked up.
    text: String,
    entries: Vec<Kept>,
    total: u64,
}

/// A line, without its text.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// Its first target's number within the block.
    first: u64,
    what: What,
    /// Where its text begins.
    text: u32,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Prefix(Prefix),
    Address {
        address: IpAddr,
        port: Option<u16>,
        name: u16,
    },
    Host {
        port: Option<u16>,
        name: u16,
        host: u16,
    },
}

impl Block {
    /// Forgets all lines, keeps the room.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
        self.total = 0;
    }

    /// How many targets it has.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Whether no line is to be added any more.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= ENTRIES || self.text.len() >= TEXT || self.total >= TARGETS
    }

    /// Adds a line.
    pub(super) fn add(&mut self, entry: &Entry) {
        let text = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        let mut keep = |text: &str| {
            self.text.push_str(text);
            // Lines have a bounded length, names a smaller one.
            u16::try_from(text.len()).unwrap_or(u16::MAX)
        };
        let (what, count) = match entry {
            Entry::Prefix(prefix) => (What::Prefix(*prefix), prefix.count()),
            Entry::One(TargetSpec { name, host, port }) => {
                let (port, name) = (*port, keep(name));
                let what = match host {
                    Host::Address(address) => What::Address {
                        address: *address,
                        port,
                        name,
                    },
                    Host::Name(host) => What::Host {
                        port,
                        name,
                        host: keep(host),
                    },
                };
                (what, 1)
            }
        };
        self.entries.push(Kept {
            first: self.total,
            what,
            text,
        });
        self.total += count;
    }

    /// A target by its number within the block.
    pub(super) fn target(&self, nth: u64, seed: u64) -> Option<TargetSpec> {
        let behind = self.entries.partition_point(|entry| entry.first <= nth);
        let entry = self.entries.get(behind.checked_sub(1)?)?;
        let begin = usize::try_from(entry.text).ok()?;
        let text = |from: usize, length: u16| {
            let text = self.text.get(from..from + usize::from(length))?;
            Some(text.to_owned())
        };
        Some(match entry.what {
            What::Prefix(prefix) => prefix.target(nth - entry.first, seed),
            What::Address {
                address,
                port,
                name,
            } => TargetSpec {
                name: text(begin, name)?,
                host: Host::Address(address),
                port,
            },
            What::Host { port, name, host } => TargetSpec {
                name: text(begin, name)?,
                host: Host::Name(text(begin + usize::from(name), host)?),
                port,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::{Density, parse};
    use super::*;

    #[test]
    fn targets_come_out_as_they_went_in() {
        let texts = [
            "10.0.0.1",
            "bücher.example:80",
            "10.1.0.0/30",
            "[2001:db8::1]:443",
        ];
        let mut block = Block::default();
        for _ in 0..2 {
            block.clear();
            for text in texts {
                block.add(&parse(text, Density::default()).unwrap());
            }
            assert_eq!(block.total(), 7);
            let target = |nth| block.target(nth, 0).unwrap();
            let Ok(Entry::One(name)) = parse(texts[1], Density::default()) else {
                panic!("no name");
            };
            assert_eq!(target(0).name, "10.0.0.1");
            assert_eq!(target(1), name);
            assert_eq!(target(2).name, "10.1.0.0");
            assert_eq!(target(5).name, "10.1.0.3");
            assert_eq!(target(6).port, Some(443));
            // The last line's end is the block's.
            assert!(block.target(7, 0).is_none_or(|spec| spec == target(6)));
        }
    }

    #[test]
    fn a_line_takes_few_bytes() {
        assert!(size_of::<Kept>() <= 48, "{}", size_of::<Kept>());
    }
}
