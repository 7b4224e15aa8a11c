//! Many flows to one target: every router and every link that the kernels say there
//! is, and no other; packets balanced one by one and a route that changed, told apart.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use common::{FAMILIES, SOON, server, server_at, trace};
use insession_lab::paths::{Diamond, Paths, Truth};
use insession_lab::record::Record;
use insession_lab::{Lab, program};

/// A next hop is missed once in some ten thousand runs.
const SURE: [&str; 3] = ["--mda", "--mda-confidence", "0.9999"];

/// Traces the server by many flows.
fn many(lab: &Lab, v6: bool, options: &[&str]) -> (Vec<Record>, Paths) {
    let target = server(lab, v6);
    let run = program::trace(lab, &[&["-p", "80"], options, &[&target]].concat()).unwrap();
    assert_eq!(run.code, Some(0), "{}", run.errors);
    Paths::of_one(&run.output).unwrap()
}

/// What was told is what the kernels say of these flows: no node and no link is
/// missing, none is false. Gives the number of ways there are.
fn assert_true(lab: &Lab, records: &[Record], paths: &Paths) -> usize {
    let truth = Truth::of(lab, records).unwrap();
    assert_eq!(paths.addresses(), truth.nodes);
    assert_eq!(paths.ends(), truth.links);
    assert_eq!(paths.unclear_ttls, [0; 0]);
    assert_eq!((paths.flows, paths.failed), (records.len(), 0));
    let flows: usize = paths.paths.iter().map(|path| path.flows).sum();
    assert_eq!(flows, records.len());
    for path in &paths.paths {
        assert!(path.complete && path.loss == Some(0.0), "{path:?}");
        assert!(path.rtt_us.is_some() && path.source_ports.len() == path.flows);
    }
    let ports: BTreeSet<_> = records.iter().map(|record| record.source_port).collect();
    assert_eq!(
        ports.len(),
        records.len(),
        "each flow has a port of its own"
    );
    truth.ways.len()
}

fn assert_sure(paths: &Paths) {
    let mda = paths.mda.as_ref().unwrap();
    assert!(mda.complete && mda.stopped.is_none(), "{mda:?}");
    for diamond in &paths.diamonds {
        assert!(diamond.missed <= 1.001e-4, "{diamond:?}");
    }
}

/// Width, shortest and longest way, meshed, inside of another.
fn shape(diamond: &Diamond) -> (usize, usize, usize, bool, bool) {
    (
        diamond.width,
        diamond.min_length,
        diamond.max_length,
        diamond.meshed,
        diamond.within.is_some(),
    )
}

#[test]
fn a_diamond_of_two_and_one_of_sixteen() {
    let lab = Lab::up("wide").unwrap();
    let (records, paths) = many(&lab, false, &SURE);
    assert_true(&lab, &records, &paths);
    assert_sure(&paths);
    let shapes: Vec<_> = paths.diamonds.iter().map(shape).collect();
    assert_eq!(shapes, [(2, 2, 2, false, false), (16, 2, 2, false, false)]);
    assert_eq!((paths.diamonds[0].links, paths.diamonds[1].links), (4, 32));
    let rounds = paths.mda.unwrap().rounds;
    assert!(rounds <= 10, "{rounds} rounds");
}

#[test]
fn branches_of_unequal_length() {
    let lab = Lab::up("diamond").unwrap();
    for v6 in FAMILIES {
        let (records, paths) = many(&lab, v6, &SURE);
        let ways = assert_true(&lab, &records, &paths);
        assert_sure(&paths);
        assert_eq!((ways, paths.paths.len()), (4, 4));
        let outer = &paths.diamonds[0];
        assert_eq!((outer.width, outer.symmetric), (4, false));
        if v6 {
            // An IPv6 router answers from the interface that a packet came in by: the
            // one where the branches meet has four addresses.
            continue;
        }
        assert_eq!((outer.min_length, outer.max_length), (2, 3));
        assert_eq!((outer.nodes.len(), outer.links), (5, 9));
    }
}

#[test]
fn a_diamond_inside_of_one() {
    let lab = Lab::up("nested").unwrap();
    let (records, paths) = many(&lab, false, &SURE);
    assert_eq!(assert_true(&lab, &records, &paths), 3);
    assert_sure(&paths);
    let shapes: Vec<_> = paths.diamonds.iter().map(shape).collect();
    assert_eq!(shapes, [(3, 4, 4, false, false), (2, 2, 2, false, true)]);
}

#[test]
fn branches_that_cross() {
    let lab = Lab::up("meshed").unwrap();
    let (records, paths) = many(&lab, false, &SURE);
    assert_eq!(assert_true(&lab, &records, &paths), 4);
    assert_sure(&paths);
    // All four links between the two TTLs, not only the four routers.
    assert_eq!(shape(&paths.diamonds[0]), (2, 3, 3, true, false));
    assert_eq!(paths.diamonds[0].links, 8);
}

#[test]
fn branches_of_unequal_weight() {
    let lab = Lab::up("uneven").unwrap();
    let (records, paths) = many(&lab, false, &["--flows", "96"]);
    // 96 flows miss the branch of an eighth once in (8/7)⁹⁶ = 370,000 runs.
    assert_eq!(assert_true(&lab, &records, &paths), 3);
    assert!(paths.mda.is_none() && records.len() == 96);
    assert_eq!(shape(&paths.diamonds[0]), (3, 2, 2, false, false));
    // The most come first: five eighths of them by the third.
    let first = &paths.paths[0];
    assert_eq!(first.hops[2].from, [IpAddr::from([10, 0, 12, 2])]);
    assert!((40..=80).contains(&first.flows), "{}", first.flows);
}

#[test]
fn the_rule_ends_where_no_more_flows_are_allowed() {
    let lab = Lab::up("wide").unwrap();
    let (records, paths) = many(&lab, false, &["--mda", "--flows-max", "20"]);
    let mda = paths.mda.clone().unwrap();
    assert_eq!((records.len(), mda.complete), (20, false));
    assert_eq!(mda.stopped.as_deref(), Some("flows-max"));
    assert_true(&lab, &records, &paths);
}

#[test]
fn several_targets_have_their_flows_each() {
    let lab = Lab::up("diamond").unwrap();
    let targets = lab.topology().addresses("server", false, 5);
    let names: Vec<String> = targets.iter().map(IpAddr::to_string).collect();
    let mut arguments = vec!["-p", "80", "--flows", "4"];
    arguments.extend(names.iter().map(String::as_str));
    let run = program::trace(&lab, &arguments).unwrap();
    assert_eq!(run.code, Some(0), "{}", run.errors);
    for name in &names {
        let own = format!("\"target\":\"{name}\"");
        let lines = run.output.lines().filter(|line| line.contains(&own));
        let output = lines.collect::<Vec<_>>().join("\n");
        let (records, paths) = Paths::of_one(&output).unwrap();
        assert_eq!(records.len(), 4);
        assert_true(&lab, &records, &paths);
    }
}

#[test]
fn as_text_they_are_drawn() {
    let lab = Lab::up("diamond").unwrap();
    let target = server(&lab, false);
    let arguments = ["trace", "-n", "-p", "80", "--mda", &target];
    let run = program::run(&lab, "client", &arguments).unwrap();
    assert_eq!(run.code, Some(0), "{}", run.errors);
    for words in ["4 wide, 2 to 3 long, asymmetric", " 3 ┬ 10.0.10.2", "MDA"] {
        assert!(run.output.contains(words), "{words}: {}", run.output);
    }
}

#[test]
fn packets_balanced_one_by_one_are_told() {
    for order in ["inc", "random"] {
        let lab = Lab::up_with("balanced", |topology| {
            let split = topology.nodes.get_mut("split").unwrap();
            let ruleset = split.nft.as_mut().unwrap();
            *ruleset = ruleset.replace("numgen inc", &format!("numgen {order}"));
        })
        .unwrap();
        for v6 in FAMILIES {
            // All of twelve go one way once in 2,048 runs, and there and back twice.
            let record = trace(&lab, &["-q", "24", &server_at(&lab, v6, 80)]);
            let found = record.balancing.iter().find(|it| it.ttl == 3).unwrap();
            assert_eq!(found.kind, "per-packet", "{found:?}");
            assert!(found.at_us.is_empty() && found.p > 0.05);
            let routers: BTreeSet<IpAddr> = found.routers.iter().copied().collect();
            let expected: [IpAddr; 2] = match v6 {
                true => ["fd00:a::2".parse().unwrap(), "fd00:b::2".parse().unwrap()],
                false => ["10.0.10.2".parse().unwrap(), "10.0.11.2".parse().unwrap()],
            };
            assert_eq!(routers, BTreeSet::from(expected));
        }
        if order == "inc" {
            // Eight flows in step with it may each get but one of its turns.
            continue;
        }
        let (_, paths) = many(&lab, false, &["--flows", "8", "-q", "4"]);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let (split, join) = (address("10.0.2.2"), address("10.0.20.2"));
        let (a, b) = (address("10.0.10.2"), address("10.0.11.2"));
        let links = [(split, a), (split, b), (a, join), (b, join)];
        assert!(
            paths.ends().is_superset(&BTreeSet::from(links)),
            "{paths:#?}"
        );
        assert_eq!(paths.links.len(), 7, "{paths:#?}");
        let [diamond] = paths.diamonds.as_slice() else {
            panic!("not one diamond: {paths:#?}");
        };
        assert!(diamond.per_packet);
        assert_eq!((diamond.width, diamond.convergence), (2, Some(join)));
    }
}

/// Packets that came to the branch that is taken first.
fn received(lab: &Lab) -> u64 {
    let table = lab.run("a", "cat", &["/proc/net/dev"], "").unwrap();
    let mut lines = table.lines();
    let counters = lines.find_map(|line| line.trim_start().strip_prefix("split:"));
    let mut fields = counters.unwrap().split_whitespace();
    fields.nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_route_that_changes_meanwhile_is_told_apart() {
    let lab = Lab::up_with("balanced", |topology| {
        // The route that is first taken is that by the other branch.
        topology.nodes.get_mut("split").unwrap().nft = None;
    })
    .unwrap();
    let target = server_at(&lab, false, 80);
    let arguments = ["trace", "--json", "-q", "16", "--rate", "20", &target];
    let before = received(&lab);
    let running = program::start(&lab, "client", &arguments).unwrap();
    // At such a rate the TTLs are probed one after the other. The branch sees the
    // handshake, and then, a twentieth of a second apart, the probes of TTL 3.
    let begun = Instant::now();
    while received(&lab) < before + 8 {
        assert!(begun.elapsed() < SOON, "no probes");
        thread::sleep(Duration::from_millis(5));
    }
    let change = ["rule", "add", "lookup", "100", "pref", "10"];
    lab.run("split", "ip", &change, "").unwrap();
    let run = running.finish(program::LIMIT).unwrap();
    assert_eq!(run.code, Some(0), "{}", run.errors);
    let record = run.record().unwrap();
    let found = record.balancing.iter().find(|it| it.ttl == 3).unwrap();
    assert_eq!(found.kind, "route-change", "{record:#?}");
    let routers: [IpAddr; 2] = ["10.0.10.2".parse().unwrap(), "10.0.11.2".parse().unwrap()];
    assert_eq!(found.routers, routers);
    assert_eq!((found.at_us.len(), found.moments), (1, 1));
    assert!(found.at_us[0] > 0.0 && found.at_us[0] < record.duration_us);
}

#[test]
fn a_campaign_has_the_flows_of_each_target_together() {
    let lab = Lab::up("diamond").unwrap();
    let addresses = lab.topology().addresses("server", false, 3);
    let names: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let results = lab.folder().join("flows.jsonl");
    let (results, campaign) = (results.to_str().unwrap(), lab.folder().join("campaign"));
    let options = [
        "run",
        "-p",
        "80",
        "--allow",
        "10.0.0.0/8",
        "--output",
        results,
    ];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let campaign = ["--campaign", campaign.to_str().unwrap()];
    for how in [&["--flows", "5"][..], &["--mda"]] {
        let kept: &[&str] = if how.len() > 1 { &campaign } else { &[] };
        let arguments = [&options[..], how, kept, &names].concat();
        let run = program::run(&lab, "client", &arguments).unwrap();
        assert_eq!(run.code, Some(0), "{}", run.errors);
        let text = std::fs::read_to_string(results).unwrap();
        for name in &names {
            let own = format!("\"target\":\"{name}\"");
            let lines = text.lines().filter(|line| line.contains(&own));
            let output = lines.collect::<Vec<_>>().join("\n");
            let (records, paths) = Paths::of_one(&output).unwrap();
            assert_true(&lab, &records, &paths);
            match &paths.mda {
                None => assert_eq!(records.len(), 5),
                Some(mda) => assert!(mda.complete && records.len() >= 6, "{mda:?}"),
            }
        }
        assert!(run.errors.contains("3 done"), "{}", run.errors);
    }
    // Of what flows show together a summary has nothing: it is of the records.
    let arguments = ["summary", "--json", results];
    let run = program::run(&lab, "client", &arguments).unwrap();
    assert_eq!((run.code, run.errors.as_str()), (Some(0), ""));
}

#[test]
fn datagrams_of_one_flow_show_the_paths_as_well() {
    let lab = Lab::up("diamond").unwrap();
    let target = server(&lab, false);
    let arguments = ["--method", "paris-udp", "--flows", "40", &target];
    let run = program::trace(&lab, &arguments).unwrap();
    assert_eq!(run.code, Some(0), "{}", run.errors);
    let (records, paths) = Paths::of_one(&run.output).unwrap();
    assert_eq!((records.len(), paths.paths.len()), (40, 4), "{paths:#?}");
    assert!(paths.paths.iter().all(|path| path.complete));
    assert_eq!((paths.diamonds.len(), paths.diamonds[0].width), (1, 4));
    assert!(!paths.diamonds[0].symmetric);
}
