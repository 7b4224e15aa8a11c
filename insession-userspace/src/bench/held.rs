//! Sessions held: how many can be open at once, and what each costs in memory.
//!
//! Destinations that complete the handshake and answer nothing after it, probes
//! that reach only them, and a long wait: every session stays open. Memory is the
//! process's resident set, before the link is opened and when no more sessions are
//! opened; the kernel's maps are not in it and are told apart, as the kernel
//! itself reports them (`memlock` of /proc/self/fdinfo).

use std::fs;
use std::time::Duration;

use serde::Serialize;

use super::trial::{self, Options};
use super::{BenchError, Figure, Ground, Settings};
use crate::session::SessionOptions;

/// Sessions that are to be open at once, unless told otherwise.
pub const WANTED: usize = 200_000;

/// What is held.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Held {
    /// The link.
    pub link: String,
    /// How many were asked for: no more is opened.
    pub wanted: usize,
    /// How many were open at once, when nearly all were or time was up.
    pub sessions: Figure,
    /// Resident memory a session, octets: what came with the link is in it.
    pub octets: Figure,
    /// The kernel's maps, octets, sized for all that were asked for.
    pub map_octets: u64,
    /// Seconds until they were all open, or until time was up.
    pub seconds: Figure,
}

/// Opens `wanted` sessions and holds them. The destinations of `ground` are to be
/// mute, and no farther than 64 hops.
///
/// # Errors
/// As [`trial::run`].
pub fn measure(
    ground: &Ground,
    base: &Options<'_>,
    wanted: usize,
    settings: &Settings<'_>,
) -> Result<Held, BenchError> {
    let options = Options {
        sessions: wanted,
        targets: Some(wanted as u64),
        session: SessionOptions {
            first_ttl: 64,
            max_ttl: 64,
            probes: 1,
            probe_timeout: Duration::from_secs(600),
            handshake_timeout: Duration::from_secs(60),
            ..base.session.clone()
        },
        // Enough for a slow machine; it ends when all are open.
        duration: Duration::from_secs(30).max(settings.duration),
        until_held: true,
        grace: Duration::ZERO,
        check: None,
        ..base.clone()
    };
    let mut trials = Vec::new();
    for round in 1..=settings.rounds {
        settings.step(&format!("held, round {round}: {wanted} sessions"))?;
        trials.push(trial::run(ground, &options, settings)?);
    }
    let of = |value: &dyn Fn(&trial::Trial) -> f64| Figure::new(trials.iter().map(value));
    Ok(Held {
        link: trials
            .last()
            .map(|trial| trial.link.clone())
            .unwrap_or_default(),
        wanted,
        sessions: of(&|trial| trial.held.established as f64),
        octets: of(&|trial| trial.held.octets as f64 / trial.held.established as f64),
        map_octets: trials
            .iter()
            .map(|trial| trial.held.map_octets)
            .max()
            .unwrap_or(0),
        seconds: of(&|trial| trial.seconds),
    })
}

/// Octets of all BPF maps that this process has open, each once.
#[must_use]
pub fn map_octets() -> u64 {
    let Ok(entries) = fs::read_dir("/proc/self/fdinfo") else {
        return 0;
    };
    let mut maps: Vec<(u64, u64)> = entries
        .flatten()
        .filter_map(|entry| parse_map(&fs::read_to_string(entry.path()).ok()?))
        .collect();
    maps.sort_unstable();
    maps.dedup();
    maps.iter().map(|(_, octets)| octets).sum()
}

/// A map's number and octets.
fn parse_map(info: &str) -> Option<(u64, u64)> {
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().parse().ok()
    };
    field("map_type").and(Some((field("map_id")?, field("memlock")?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_told_from_other_descriptors() {
        let info = "pos:\t0\nmap_type:\t1\nkey_size:\t16\nmemlock:\t4096\nmap_id:\t7\nfrozen:\t0\n";
        assert_eq!(parse_map(info), Some((7, 4096)));
        assert_eq!(parse_map("pos:\t0\nprog_type:\t6\nmemlock:\t4096\n"), None);
    }
}
