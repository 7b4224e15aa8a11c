//! What a survey found: JSON lines (`insession.aliases/1`), evidence, text.

use core::fmt::Write as _;
use core::net::IpAddr;

use serde::Serialize;

use super::Kind;
use super::evidence::Pair;
use super::series::Class;
use super::sets::Set;

/// The schema of a line.
pub const SCHEMA: &str = "insession.aliases/1";
/// That of a line of evidence.
pub const EVIDENCE_SCHEMA: &str = "insession.aliases-evidence/1";

/// What was seen of an address.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// It.
    pub address: IpAddr,
    /// What makes its identifications, by [`Kind::index`].
    pub classes: [Class; 3],
    /// Answers in all.
    pub answered: u32,
}

/// All that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    /// Each address that was asked, in the order of the list.
    pub seen: Vec<Seen>,
    /// Pairs for or against which there is evidence of their own.
    pub pairs: Vec<Pair>,
    /// One a router.
    pub sets: Vec<Set>,
    /// Numbers of the pairs whose evidence is contradicted.
    pub contradicted: Vec<usize>,
    /// Pairs of counters that were compared.
    pub compared: f64,
    /// Probes that were sent.
    pub sent: u64,
    /// It came to its end.
    pub complete: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    addresses: &'a [IpAddr],
    confidence: f64,
    reason: String,
    pairs: Vec<PairLine>,
}

#[derive(Serialize)]
struct PairLine {
    one: IpAddr,
    other: IpAddr,
    method: &'static str,
    confidence: f64,
    reason: String,
}

#[derive(Serialize)]
struct SeenLine {
    schema: &'static str,
    address: IpAddr,
    answers: u32,
    icmp: &'static str,
    udp: &'static str,
    tcp: &'static str,
}

#[derive(Serialize)]
struct EvidenceLine {
    schema: &'static str,
    alias: Option<bool>,
    contradicted: bool,
    #[serde(flatten)]
    pair: PairLine,
}

impl From<&Pair> for PairLine {
    fn from(pair: &Pair) -> Self {
        PairLine {
            one: pair.one,
            other: pair.other,
            method: pair.method(),
            confidence: rounded(pair.confidence()),
            reason: pair.reason(),
        }
    }
}

/// To six digits, and never up to certainty.
fn rounded(confidence: f64) -> f64 {
    (confidence * 1e6).floor() / 1e6
}

impl Findings {
    fn pairs_of(&self, set: &Set) -> impl Iterator<Item = &Pair> {
        set.pairs.iter().filter_map(|nth| self.pairs.get(*nth))
    }

    /// Why a set is one, in a line.
    fn reason(&self, set: &Set) -> String {
        let count = |method| {
            let of = self.pairs_of(set).filter(|pair| pair.method() == method);
            of.count()
        };
        let told = [
            ("counter", "a common counter"),
            ("source", "the source address of errors"),
            ("named", "interfaces that the router names"),
        ];
        let told = told.into_iter().filter_map(|(method, words)| {
            let pairs = count(method);
            let plural = if pairs == 1 { "pair" } else { "pairs" };
            (pairs > 0).then(|| format!("{words} ({pairs} {plural})"))
        });
        told.collect::<Vec<_>>().join(", ")
    }

    /// A line a set.
    ///
    /// # Errors
    /// None that is known.
    pub fn lines(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut out = Vec::new();
        for set in &self.sets {
            let line = Line {
                schema: SCHEMA,
                addresses: &set.addresses,
                confidence: rounded(set.confidence),
                reason: self.reason(set),
                pairs: self.pairs_of(set).map(PairLine::from).collect(),
            };
            serde_json::to_writer(&mut out, &line)?;
            out.push(b'\n');
        }
        Ok(out)
    }

    /// A line an address, and a line a pair that was looked at by itself, whatever came
    /// of it.
    ///
    /// # Errors
    /// None that is known.
    pub fn evidence(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut out = Vec::new();
        for seen in &self.seen {
            let word = |kind: Kind| seen.classes[kind.index()].word();
            let line = SeenLine {
                schema: EVIDENCE_SCHEMA,
                address: seen.address,
                answers: seen.answered,
                icmp: word(Kind::Echo),
                udp: word(Kind::Datagram),
                tcp: word(Kind::Segment),
            };
            serde_json::to_writer(&mut out, &line)?;
            out.push(b'\n');
        }
        for (nth, pair) in self.pairs.iter().enumerate() {
            let alias = match self.sets.iter().any(|set| set.pairs.contains(&nth)) {
                true => Some(true),
                false => pair.is_against().then_some(false),
            };
            let line = EvidenceLine {
                schema: EVIDENCE_SCHEMA,
                alias,
                contradicted: self.contradicted.contains(&nth),
                pair: pair.into(),
            };
            serde_json::to_writer(&mut out, &line)?;
            out.push(b'\n');
        }
        Ok(out)
    }

    /// A table.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string fails of nothing.
        let mut line = |text: core::fmt::Arguments<'_>| {
            let _ = out.write_fmt(text);
            out.push('\n');
        };
        let together: usize = self.sets.iter().map(|set| set.addresses.len()).sum();
        line(format_args!(
            "{} addresses: {together} of them on {} routers with several, {} answered nothing",
            self.seen.len(),
            self.sets.len(),
            self.seen.iter().filter(|seen| seen.answered == 0).count(),
        ));
        for kind in Kind::ALL {
            let word = |class: &Class| class.word();
            let of = |wanted: &str| {
                let seen = self.seen.iter();
                seen.filter(|seen| word(&seen.classes[kind.index()]) == wanted)
                    .count()
            };
            let counts = ["counter", "zero", "constant", "echoed", "random", "silent"]
                .map(|wanted| format!("{wanted} {}", of(wanted)));
            line(format_args!("{:<5}{}", kind.word(), counts.join(", ")));
        }
        line(format_args!(
            "{} pairs of counters compared, {} probes",
            self.compared, self.sent
        ));
        if !self.contradicted.is_empty() {
            let many = self.contradicted.len();
            line(format_args!("{many} pairs contradicted, left out"));
        }
        for (nth, set) in self.sets.iter().enumerate() {
            line(format_args!(""));
            let confidence = rounded(set.confidence);
            let reason = self.reason(set);
            line(format_args!(
                "router {}  confidence {confidence:.4}  {reason}",
                nth + 1
            ));
            for address in &set.addresses {
                line(format_args!("  {address}"));
            }
        }
        out
    }
}
