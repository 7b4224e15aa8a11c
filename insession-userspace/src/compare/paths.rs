//! Distinct paths. A silence may be any router: walks that differ nowhere where both
//! were answered are one path.

use serde::Serialize;

use super::walk::{Node, Walk};

/// A path, and how many walks went it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Path {
    /// Who answered by TTL, from 1, as far as any of its walks knows.
    pub nodes: Vec<Option<Node>>,
    /// Walks that fit it.
    pub walks: u64,
}

/// The paths of walks; walks without an answer are none. Those with the most answers
/// come first and take in what fits: "fits" is no equivalence, and this choice needs
/// few paths and is always the same one.
pub fn distinct<'a>(walks: impl Iterator<Item = &'a Walk>) -> Vec<Path> {
    let mut walks: Vec<&Walk> = walks.filter(|walk| !walk.is_empty()).collect();
    let answers = |walk: &Walk| walk.iter().flatten().count();
    walks.sort_by(|a, b| answers(b).cmp(&answers(a)).then_with(|| a.cmp(b)));
    let mut paths: Vec<Path> = Vec::new();
    for walk in walks {
        match paths.iter_mut().find(|path| fits(&path.nodes, walk)) {
            Some(path) => {
                path.walks += 1;
                merge(&mut path.nodes, walk);
            }
            None => paths.push(Path {
                nodes: walk.clone(),
                walks: 1,
            }),
        }
    }
    paths.sort_by(|a, b| b.walks.cmp(&a.walks).then_with(|| a.nodes.cmp(&b.nodes)));
    paths
}

fn fits(a: &[Option<Node>], b: &[Option<Node>]) -> bool {
    let alike = a.iter().zip(b).all(|pair| match pair {
        (Some(one), Some(other)) => one == other,
        _ => true,
    });
    let arrives =
        |walk: &[Option<Node>]| matches!(walk.last(), Some(Some(node)) if node.destination);
    // No way goes on behind the destination.
    let shorter = if a.len() < b.len() { a } else { b };
    alike && (a.len() == b.len() || !arrives(shorter))
}

fn merge(into: &mut Vec<Option<Node>>, walk: &[Option<Node>]) {
    if into.len() < walk.len() {
        into.resize(walk.len(), None);
    }
    for (place, node) in into.iter_mut().zip(walk) {
        *place = place.or(*node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::testing::Made;
    use crate::compare::walk::walks;
    use crate::trace::Method;

    fn paths(of: &[&str]) -> Vec<u64> {
        let walk = |letters: &&str| walks(&Made::new(Method::Icmp).path(letters).trace()).remove(0);
        let walks: Vec<Walk> = of.iter().map(walk).collect();
        distinct(walks.iter())
            .iter()
            .map(|path| path.walks)
            .collect()
    }

    #[test]
    fn silence_makes_no_path_of_its_own() {
        assert_eq!(paths(&["abc!", "a.c!", "..c!", "ab"]), [4]);
        assert_eq!(paths(&["a.c!", "ab"]), [2]);
    }

    #[test]
    fn another_router_or_another_length_does() {
        assert_eq!(paths(&["abc!", "abc!", "axc!"]), [2, 1]);
        assert_eq!(paths(&["abc!", "ab.d!"]), [1, 1]);
        assert_eq!(paths(&["ab!", "ab.!"]), [1, 1]);
    }

    #[test]
    fn the_fullest_walks_decide() {
        // a.c! fits both; it makes no third one.
        assert_eq!(paths(&["a.c!", "abc!", "axc!"]), [2, 1]);
        assert_eq!(paths(&[]), [0; 0]);
    }
}
