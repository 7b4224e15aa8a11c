//! Which addresses are one router, as a file has it: JSON lines `insession.aliases/1`.

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::net::IpAddr;

use serde::Deserialize;

/// The contract that is read.
const SCHEMA: &str = "insession.aliases/1";

/// Addresses that are said to be one router's.
#[derive(Deserialize)]
struct Record {
    schema: String,
    addresses: Vec<IpAddr>,
    confidence: f64,
}

/// Sets of addresses, joined where they overlap.
#[derive(Clone, Debug, Default)]
pub struct Aliases {
    numbers: HashMap<IpAddr, u32>,
    /// The set that a set was joined to; itself where it was not.
    joined: Vec<u32>,
}

/// A line that is no record: its number, and why.
pub type BadLine = (u64, String);

impl Aliases {
    /// Reads a file, and takes the sets that are at least so sure. Lines that are none
    /// are left out and given back.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(mut input: impl BufRead, confidence: f64) -> io::Result<(Aliases, Vec<BadLine>)> {
        let (mut aliases, mut bad) = (Aliases::default(), Vec::new());
        let mut line = Vec::new();
        let mut number = 0;
        loop {
            line.clear();
            if input.read_until(b'\n', &mut line)? == 0 {
                return Ok((aliases, bad));
            }
            number += 1;
            if line.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice::<Record>(&line) {
                Err(error) => bad.push((number, error.to_string())),
                Ok(record) if record.schema != SCHEMA => {
                    bad.push((number, format!("schema {:?}: not {SCHEMA}", record.schema)));
                }
                Ok(record) if !(0.0..=1.0).contains(&record.confidence) => {
                    let value = record.confidence;
                    bad.push((number, format!("confidence {value}: not from 0 to 1")));
                }
                Ok(record) if record.confidence >= confidence => aliases.join(&record.addresses),
                Ok(_) => {}
            }
        }
    }

    /// These addresses are one router's.
    fn join(&mut self, addresses: &[IpAddr]) {
        let mut first = None;
        for address in addresses {
            let fresh = self.joined.len() as u32;
            let set = *self.numbers.entry(*address).or_insert(fresh);
            if set == fresh {
                self.joined.push(fresh);
            }
            let set = self.find(set);
            // The older of two sets takes in the other.
            let (older, newer) = first.map_or((set, set), |it: u32| (it.min(set), it.max(set)));
            if let Some(to) = self.joined.get_mut(newer as usize) {
                *to = older;
            }
            first = Some(older);
        }
    }

    fn find(&self, mut set: u32) -> u32 {
        while let Some(to) = self.joined.get(set as usize).filter(|to| **to != set) {
            set = *to;
        }
        set
    }

    /// The number of the router that an address is of, where that is known.
    #[must_use]
    pub fn router(&self, address: IpAddr) -> Option<u32> {
        self.numbers.get(&address).map(|set| self.find(*set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(addresses: &[&str], confidence: f64) -> String {
        let addresses = serde_json::to_string(addresses).unwrap();
        format!(
            "{{\"schema\":\"{SCHEMA}\",\"addresses\":{addresses},\"confidence\":{confidence},\"reason\":\"midar\"}}\n"
        )
    }

    fn router(aliases: &Aliases, address: &str) -> Option<u32> {
        aliases.router(address.parse().unwrap())
    }

    #[test]
    fn sets_that_overlap_are_one_if_they_are_sure_enough() {
        let file = [
            line(&["10.0.0.1", "10.0.1.1"], 0.95),
            line(&["10.0.2.1", "2001:db8::1"], 1.0),
            line(&["10.0.3.1", "10.0.4.1"], 0.9),
            line(&["10.0.4.1", "10.0.2.1", "10.0.1.1"], 0.9),
            line(&["10.0.5.1", "10.0.0.1"], 0.89),
        ]
        .concat();
        let (aliases, bad) = Aliases::read(file.as_bytes(), 0.9).unwrap();
        assert_eq!(bad, []);
        let one = router(&aliases, "10.0.0.1").unwrap();
        for other in [
            "10.0.1.1",
            "10.0.2.1",
            "2001:db8::1",
            "10.0.3.1",
            "10.0.4.1",
        ] {
            assert_eq!(router(&aliases, other), Some(one), "{other}");
        }
        assert_eq!(router(&aliases, "10.0.5.1"), None);
        let (sure, _) = Aliases::read(file.as_bytes(), 0.95).unwrap();
        assert_ne!(router(&sure, "10.0.0.1"), router(&sure, "10.0.2.1"));
    }

    #[test]
    fn bad_lines_are_named_and_the_others_taken() {
        let file = format!(
            "{}\n\n{{}}\n{}{}{}",
            "no JSON",
            line(&["10.0.0.1"], 0.95).replace("aliases/1", "aliases/2"),
            line(&["10.0.0.1"], 1.5),
            line(&["10.0.0.1", "10.0.0.2"], 0.95)
        );
        let (aliases, bad) = Aliases::read(file.as_bytes(), 0.9).unwrap();
        let lines: Vec<_> = bad.iter().map(|it| it.0).collect();
        assert_eq!(lines, [1, 3, 4, 5]);
        assert!(bad[2].1.contains("not insession.aliases/1"), "{bad:?}");
        assert!(bad[3].1.contains("confidence 1.5"), "{bad:?}");
        assert!(router(&aliases, "10.0.0.2").is_some());
    }
}
