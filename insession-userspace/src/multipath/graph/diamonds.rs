//! Diamonds: from a node with several next hops to the first one that all ways from
//! there pass again, which is its immediate post-dominator in the graph of the flows
//! (Cooper, Harvey, Kennedy: A Simple, Fast Dominance Algorithm, 2001).
//!
//! In this analysis a run of silent hops stands for itself between its two ends, unless
//! another flow shows who is between these; and where links cannot be told apart, all
//! that may be are taken.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Graph, Node};
use crate::multipath::walk::Walk;

/// Ways that part and come together again.
#[derive(Clone, Debug, PartialEq)]
pub struct Diamond {
    /// Where they part.
    pub divergence: IpAddr,
    /// Where all are together again; `None`: the flows end apart.
    pub convergence: Option<IpAddr>,
    /// The most that stand side by side.
    pub width: usize,
    /// Hops from the divergence to the convergence, on the shortest and the longest
    /// way; where there is none, to the ends of the flows.
    pub length: (usize, usize),
    /// Between two TTLs some ways part and others come together.
    pub is_meshed: bool,
    /// Packets of one flow take several of its ways.
    pub is_per_packet: bool,
    /// Who is between, without its ends, by rising TTL.
    pub inside: Vec<IpAddr>,
    /// Runs of silent hops between.
    pub silent: usize,
    /// Links that were told, those to its ends with them.
    pub links: usize,
    /// The divergence of the smallest diamond that this one is inside of.
    pub within: Option<IpAddr>,
}

impl Diamond {
    /// Whether all its ways are of one length.
    #[must_use]
    pub fn is_symmetric(&self) -> bool {
        self.length.0 == self.length.1
    }
}

/// The flows' graph: known nodes by their numbers, then silent runs.
pub(super) struct Analysis {
    /// Each walk, by TTL: who may be there. Nobody: silent, but known from others.
    lines: Vec<Vec<Vec<usize>>>,
    next: Vec<BTreeSet<usize>>,
    known: usize,
}

/// A silent run: those before it, those behind it, its length, the place within.
type Run = (Vec<usize>, Vec<usize>, usize, usize);

impl Analysis {
    pub(super) fn of(walks: &[Walk], numbers: &BTreeMap<IpAddr, usize>, nodes: &[Node]) -> Self {
        let number = |walk: &Walk| -> Vec<Vec<usize>> {
            let who = |level: &crate::multipath::walk::Level| {
                let seen = level.seen.iter();
                let mut who: Vec<usize> = seen
                    .filter_map(|it| numbers.get(&it.from).copied())
                    .collect();
                who.sort_unstable();
                who
            };
            walk.levels.iter().map(who).collect()
        };
        let mut lines: Vec<Vec<Vec<usize>>> = walks.iter().map(number).collect();
        let known = nodes.len();
        let runs = number_silence(&mut lines, known);
        let mut next = vec![BTreeSet::new(); known + runs];
        for line in &lines {
            for pair in line.windows(2) {
                let [upper, lower] = pair else { continue };
                for from in upper {
                    let others = lower.iter().filter(|to| *to != from);
                    if let Some(next) = next.get_mut(*from) {
                        next.extend(others);
                    }
                }
            }
        }
        Analysis { lines, next, known }
    }

    /// All of them.
    pub(super) fn diamonds(&self, graph: &Graph) -> Vec<Diamond> {
        let convergences = post_dominators(&self.next);
        let address = |number: usize| graph.nodes.get(number).map(|node| node.address);
        let mut found = Vec::new();
        for (number, next) in self.next.iter().enumerate().take(self.known) {
            let (true, Some(divergence)) = (next.len() > 1, address(number)) else {
                continue;
            };
            let mut end = convergences.get(number).copied().flatten();
            // A silent run is no place where ways are known to be together.
            while let Some(silent) = end.filter(|end| *end >= self.known) {
                end = convergences.get(silent).copied().flatten();
            }
            let inside = self.inside(number, end);
            let shape = self.shape(number, end);
            let is_inside = |it: &usize| inside.contains(it);
            let links = graph.links.iter().filter(|((from, to), _)| {
                (*from == number || is_inside(from)) && (Some(*to) == end || is_inside(to))
            });
            let (mut count, mut is_per_packet) = (0, false);
            for (_, link) in links {
                count += 1;
                is_per_packet |= link.is_per_packet;
            }
            let is_mixed = |line: &&Vec<Vec<usize>>| {
                let mut levels = line.iter();
                levels.any(|level| {
                    level.len() > 1 && level.iter().all(|it| is_inside(it) || Some(*it) == end)
                })
            };
            let mut known: Vec<usize> = inside
                .iter()
                .copied()
                .filter(|it| *it < self.known)
                .collect();
            known.sort_unstable();
            found.push(Diamond {
                divergence,
                convergence: end.and_then(address),
                width: shape.width,
                length: shape.length,
                is_meshed: shape.is_meshed,
                is_per_packet: is_per_packet || self.lines.iter().any(|line| is_mixed(&line)),
                silent: inside.len() - known.len(),
                inside: known.into_iter().filter_map(address).collect(),
                links: count,
                within: None,
            });
        }
        nest(&mut found);
        found
    }

    /// All that can be passed from `begin` before `end`.
    fn inside(&self, begin: usize, end: Option<usize>) -> BTreeSet<usize> {
        let mut inside = BTreeSet::new();
        let mut open = vec![begin];
        while let Some(number) = open.pop() {
            let next = self.next.get(number).into_iter().flatten().copied();
            for number in next.filter(|it| Some(*it) != end && *it != begin) {
                if inside.insert(number) {
                    open.push(number);
                }
            }
        }
        inside
    }

    fn shape(&self, begin: usize, end: Option<usize>) -> Shape {
        let mut levels: Vec<BTreeSet<usize>> = Vec::new();
        let mut lengths: BTreeSet<usize> = BTreeSet::new();
        for line in &self.lines {
            let Some(at) = line.iter().rposition(|level| level.contains(&begin)) else {
                continue;
            };
            let mut reached = None;
            for (length, level) in (1..).zip(line.iter().skip(at + 1)) {
                if levels.len() < length {
                    levels.push(BTreeSet::new());
                }
                if let Some(side) = levels.get_mut(length - 1) {
                    side.extend(level);
                }
                if let Some(end) = end
                    && level.contains(&end)
                {
                    lengths.insert(length);
                    if level.len() == 1 {
                        reached = Some(length);
                        break;
                    }
                }
            }
            if reached.is_none() && end.is_none() {
                lengths.insert(line.len() - at - 1);
            }
        }
        let apart = |level: &&BTreeSet<usize>| level.iter().any(|it| Some(*it) != end);
        let width = levels.iter().filter(apart).map(BTreeSet::len).max();
        Shape {
            width: width.unwrap_or(1),
            length: (
                lengths.first().copied().unwrap_or(0),
                lengths.last().copied().unwrap_or(0),
            ),
            is_meshed: levels.windows(2).any(|pair| match pair {
                [upper, lower] => self.is_meshed(upper, lower),
                _ => false,
            }),
        }
    }

    /// Vermeulen et al., Multilevel MDA-Lite Paris Traceroute, IMC 2018, §2.
    fn is_meshed(&self, upper: &BTreeSet<usize>, lower: &BTreeSet<usize>) -> bool {
        if upper.len() < 2 || lower.len() < 2 {
            return false;
        }
        let next = |from: &usize| -> BTreeSet<usize> {
            let next = self.next.get(*from).into_iter().flatten();
            next.filter(|to| lower.contains(to)).copied().collect()
        };
        let parts = || upper.iter().any(|from| next(from).len() > 1);
        let joins = || {
            let before = |to: &usize| upper.iter().filter(|from| next(from).contains(to)).count();
            lower.iter().any(|to| before(to) > 1)
        };
        match upper.len().cmp(&lower.len()) {
            std::cmp::Ordering::Less => joins(),
            std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => parts(),
        }
    }
}

/// What a diamond looks like.
struct Shape {
    width: usize,
    length: (usize, usize),
    is_meshed: bool,
}

/// Numbers silent runs from `first` on and puts them into the lines; gives how many.
fn number_silence(lines: &mut [Vec<Vec<usize>>], first: usize) -> usize {
    let mut asked: BTreeSet<(usize, usize, usize)> = BTreeSet::new();
    for line in lines.iter() {
        for (begin, end) in silences(line) {
            if let ([before], [behind]) = (line[begin].as_slice(), line[end].as_slice()) {
                asked.insert((*before, *behind, end - begin));
            }
        }
    }
    let mut explained = BTreeSet::new();
    for line in lines.iter().filter(|_| !asked.is_empty()) {
        for (at, level) in line.iter().enumerate() {
            for (before, behind, length) in &asked {
                let run = line.get(at..=at + length).unwrap_or_default();
                let is_known = level.as_slice() == [*before]
                    && run.iter().all(|level| !level.is_empty())
                    && run.last().is_some_and(|last| last.as_slice() == [*behind]);
                if is_known {
                    explained.insert((*before, *behind, *length));
                }
            }
        }
    }
    let mut runs: BTreeMap<Run, usize> = BTreeMap::new();
    for line in lines {
        for (begin, end) in silences(line) {
            let ends = (line[begin].clone(), line[end].clone());
            if let ([before], [behind]) = (ends.0.as_slice(), ends.1.as_slice())
                && explained.contains(&(*before, *behind, end - begin))
            {
                continue;
            }
            for (place, level) in line[begin + 1..end].iter_mut().enumerate() {
                let key = (ends.0.clone(), ends.1.clone(), end - begin, place);
                let fresh = first + runs.len();
                level.push(*runs.entry(key).or_insert(fresh));
            }
        }
    }
    runs.len()
}

/// The silent runs of a line: the places before and behind each.
fn silences(line: &[Vec<usize>]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut before = None;
    for (at, level) in line.iter().enumerate() {
        if level.is_empty() {
            continue;
        }
        if let Some(before) = before.filter(|before| at - before > 1) {
            found.push((before, at));
        }
        before = Some(at);
    }
    found
}

/// For each node the first that all ways from it pass; `None` where they end apart.
fn post_dominators(next: &[BTreeSet<usize>]) -> Vec<Option<usize>> {
    let exit = next.len();
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); exit + 1];
    for (from, next) in next.iter().enumerate() {
        // Flows end where they are followed no further.
        let ends = next.is_empty().then_some(exit);
        for to in next.iter().copied().chain(ends) {
            if let Some(before) = before.get_mut(to) {
                before.push(from);
            }
        }
    }
    let order = postorder(exit, &before);
    let mut rank = vec![None; exit + 1];
    for (nth, node) in order.iter().enumerate() {
        if let Some(rank) = rank.get_mut(*node) {
            *rank = Some(nth);
        }
    }
    // By rank; the exit has the highest.
    let top = order.len().saturating_sub(1);
    let mut dominator: Vec<Option<usize>> = vec![None; order.len()];
    if let Some(last) = dominator.last_mut() {
        *last = Some(top);
    }
    let mut changed = true;
    while changed {
        changed = false;
        for (nth, node) in order.iter().enumerate().rev().skip(1) {
            let mut found = None;
            let behind = next.get(*node).filter(|next| !next.is_empty());
            let behind: Vec<usize> = match behind {
                Some(next) => next.iter().copied().collect(),
                None => vec![exit],
            };
            for to in behind {
                let Some(to) = rank.get(to).copied().flatten() else {
                    continue;
                };
                if dominator.get(to).copied().flatten().is_some() {
                    found = Some(found.map_or(to, |it| meet(&dominator, it, to)));
                }
            }
            if let (Some(found), Some(dominator)) = (found, dominator.get_mut(nth))
                && *dominator != Some(found)
            {
                *dominator = Some(found);
                changed = true;
            }
        }
    }
    (0..exit)
        .map(|node| {
            let nth = rank.get(node).copied().flatten()?;
            let found = dominator.get(nth).copied().flatten()?;
            order.get(found).copied().filter(|it| *it != exit)
        })
        .collect()
}

/// The nearest that dominates both.
fn meet(dominator: &[Option<usize>], mut one: usize, mut other: usize) -> usize {
    let up = |it: usize| dominator.get(it).copied().flatten();
    while one != other {
        let (low, high) = (one.min(other), one.max(other));
        match up(low) {
            Some(above) if above > low => (one, other) = (above, high),
            _ => return high,
        }
    }
    one
}

/// The nodes from which `exit` is reached, each after all that are reached from it.
fn postorder(exit: usize, before: &[Vec<usize>]) -> Vec<usize> {
    let mut order = Vec::new();
    let mut seen = vec![false; before.len()];
    let mut open = vec![(exit, 0)];
    if let Some(seen) = seen.get_mut(exit) {
        *seen = true;
    }
    while let Some((node, nth)) = open.pop() {
        let Some(node_before) = before.get(node).and_then(|all| all.get(nth)).copied() else {
            order.push(node);
            continue;
        };
        open.push((node, nth + 1));
        if let Some(seen) = seen.get_mut(node_before).filter(|seen| !**seen) {
            *seen = true;
            open.push((node_before, 0));
        }
    }
    order
}

/// Says which is inside which.
fn nest(diamonds: &mut [Diamond]) {
    let within: Vec<Option<IpAddr>> = diamonds
        .iter()
        .map(|diamond| {
            let around = diamonds
                .iter()
                .filter(|it| it.inside.contains(&diamond.divergence));
            let smallest = around
                .filter(|it| it.divergence != diamond.divergence)
                .min_by_key(|it| it.inside.len());
            smallest.map(|it| it.divergence)
        })
        .collect();
    for (diamond, within) in diamonds.iter_mut().zip(within) {
        diamond.within = within;
    }
}

#[cfg(test)]
mod tests {
    use crate::multipath::graph::tests::graph;
    use crate::multipath::walk::tests::letter;

    /// Diamonds as `from-to width lengths inside`, with marks behind.
    fn shown(ways: &[&str]) -> Vec<String> {
        let letters =
            |all: &[std::net::IpAddr]| -> String { all.iter().copied().map(letter).collect() };
        let found = graph(ways).diamonds;
        let show = |it: &super::Diamond| {
            let mut text = format!(
                "{}-{} {} {}-{} {}",
                letter(it.divergence),
                it.convergence.map_or('?', letter),
                it.width,
                it.length.0,
                it.length.1,
                letters(&it.inside)
            );
            if it.silent > 0 {
                text.push_str(&format!(" silent:{}", it.silent));
            }
            if it.is_meshed {
                text.push_str(" meshed");
            }
            if it.is_per_packet {
                text.push_str(" per-packet");
            }
            if let Some(within) = it.within {
                text.push_str(&format!(" in:{}", letter(within)));
            }
            text
        };
        found.iter().map(show).collect()
    }

    #[test]
    fn a_line_has_none() {
        assert_eq!(shown(&["a b T", "a b T"]), [""; 0]);
    }

    #[test]
    fn a_diamond_is_as_wide_as_what_stands_side_by_side() {
        assert_eq!(shown(&["a b e T", "a c e T", "a d e T"]), ["a-e 3 2-2 bcd"]);
        assert_eq!(shown(&["a T", "b T"]), ["S-T 2 2-2 ab"]);
    }

    #[test]
    fn branches_of_unequal_length() {
        assert_eq!(shown(&["a b e T", "a c d e T"]), ["a-e 2 2-3 bcd"]);
        // One of them is but a link.
        assert_eq!(shown(&["a b T", "a c b T"]), ["a-b 2 1-2 c"]);
    }

    #[test]
    fn diamonds_inside_of_one() {
        let ways = ["a b d f g T", "a b e f g T", "a c h i g T"];
        assert_eq!(shown(&ways), ["a-g 3 4-4 bcdehfi", "b-f 2 2-2 de in:a"]);
        // One behind the other are two.
        assert_eq!(
            shown(&["a b d e g T", "a c d f g T"]),
            ["a-d 2 2-2 bc", "d-g 2 2-2 ef"]
        );
    }

    #[test]
    fn ways_that_cross() {
        let ways = ["a b d f T", "a b e f T", "a c d f T", "a c e f T"];
        assert_eq!(
            shown(&ways),
            [
                "a-f 2 3-3 bcde meshed",
                "b-f 2 2-2 de in:a",
                "c-f 2 2-2 de in:a"
            ]
        );
    }

    #[test]
    fn silence_is_a_branch_unless_others_show_who_is_there() {
        assert_eq!(shown(&["a b d T", "a . d T"]), [""; 0]);
        assert_eq!(shown(&["a b d T", "a . . d T"]), ["a-d 2 2-3 b silent:2"]);
        assert_eq!(shown(&["a . d T", "a . d T"]), [""; 0]);
        assert_eq!(
            shown(&["a . d f T", "a . e f T"]),
            ["a-f 2 3-3 de silent:2"]
        );
    }

    #[test]
    fn flows_that_end_apart_do_not_converge() {
        assert_eq!(shown(&["a b d", "a c e"]), ["a-? 2 2-2 bcde"]);
        // One that ended on the way of others ends nothing.
        assert_eq!(shown(&["a b d T", "a c d T", "a b"]), ["a-d 2 2-2 bc"]);
    }

    #[test]
    fn packets_one_by_one() {
        let ways = ["aaa bcb ddd TTT", "aaa cbc ddd TTT"];
        assert_eq!(shown(&ways), ["a-d 2 2-2 bc per-packet"]);
        let ways = ["aaa bcb dbd TdT TTT"];
        assert_eq!(shown(&ways)[0].split(' ').next(), Some("a-T"));
    }

    #[test]
    fn loops_end() {
        let found = shown(&["a b c b c b", "a b d T"]);
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
