//! Methods side by side in the article's network: what each shows, held against the
//! links that the routers' own tables have.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::path::PathBuf;

use common::server_at;
use insession_lab::{Lab, program, truth};
use serde_json::Value;

/// Flows whose ways are the truth: none of six is missed by so many but once in 10⁴⁰
/// times.
const FLOWS: u16 = 512;

/// The links of the ways to the server, as `--truth` takes them.
fn truth_file(lab: &Lab, v6: bool) -> PathBuf {
    let destination = server_at(lab, v6, 80).parse().unwrap();
    let links = truth::links(lab, "client", destination, FLOWS).unwrap();
    // Three before the fork, two branches of three, three of three, three behind; in IPv6
    // a router answers from the interface that a packet came in by, so where branches
    // join it is several.
    let branches = 3 + 6 + 9 + 3;
    assert!(if v6 {
        links.len() > branches
    } else {
        links.len() == branches
    });
    let text: String = links
        .iter()
        .map(|(from, to)| format!("{from} {to}\n"))
        .collect();
    let path = lab.folder().join("truth.txt");
    fs::write(&path, text).unwrap();
    path
}

/// `insession compare --json` at the client.
fn compare(lab: &Lab, arguments: &[&str]) -> Value {
    let arguments = [&["compare", "--json", "-n", "-w", "150ms"], arguments].concat();
    let run = program::run(lab, "client", &arguments).unwrap();
    assert_eq!(run.code, Some(0), "{}", run.errors);
    let comparison: Value = serde_json::from_str(&run.output).unwrap();
    assert_eq!(comparison["schema"], "insession.compare/1");
    comparison
}

fn figures<'a>(comparison: &'a Value, method: &str) -> &'a Value {
    let methods = comparison["methods"].as_array().unwrap();
    methods.iter().find(|it| it["method"] == method).unwrap()
}

fn count(figures: &Value, key: &str) -> u64 {
    figures[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key} in {figures}"))
}

/// In a session nothing is missing and nothing invented.
fn assert_all_of_it(figures: &Value, runs: u64) {
    for (key, value) in [
        ("runs", runs),
        ("failed", 0),
        ("reached", runs),
        ("hops", 13 * runs),
        ("hops_answered", 13 * runs),
        ("hops_missing", 0),
        ("links_false", 0),
        ("links_unconfirmed", 0),
        ("paths_in_a_run", 1),
        ("probes_lost", 0),
    ] {
        assert_eq!(count(figures, key), value, "{key} in {figures}");
    }
}

#[test]
fn in_session_shows_the_ways_as_they_are() {
    let lab = Lab::up("article").unwrap();
    for v6 in common::FAMILIES {
        let truth = truth_file(&lab, v6);
        let (truth, target) = (truth.to_str().unwrap(), server_at(&lab, v6, 80));
        let line = ["-m", "insession", "--truth", truth, &target];
        let comparison = compare(&lab, &[&["--runs", "8"], &line[..]].concat());
        let ours = figures(&comparison, "insession");
        assert_all_of_it(ours, 8);
        assert!(count(ours, "packets") >= count(ours, "probes"), "{ours}");
        // Eight flows hit one of four ways alone once in 4⁷ times.
        assert!(count(ours, "paths") >= 2, "{ours}");
        let kept = compare(&lab, &[&["--runs", "3", "--keep-flow"], &line[..]].concat());
        let ours = figures(&kept, "insession");
        assert_all_of_it(ours, 3);
        assert_eq!((count(ours, "paths"), count(ours, "links")), (1, 12));
    }
}

#[test]
fn the_others_show_what_the_article_says_of_them() {
    let lab = Lab::up("article").unwrap();
    for v6 in common::FAMILIES {
        let truth = truth_file(&lab, v6);
        let (truth, target) = (truth.to_str().unwrap(), server_at(&lab, v6, 80));
        let comparison = compare(&lab, &["--runs", "3", "-q", "6", "--truth", truth, &target]);
        let methods = comparison["methods"].as_array().unwrap();
        assert_eq!(methods.len(), 8);
        assert_all_of_it(figures(&comparison, "insession"), 3);
        // Behind the firewall at hop 7 there are six.
        for method in ["icmp", "udp", "paris-icmp", "paris-udp", "dublin"] {
            let other = figures(&comparison, method);
            assert_eq!(
                (count(other, "reached"), count(other, "hops_answered")),
                (0, 3 * 7),
                "{other}"
            );
            assert_eq!(count(other, "hops_missing"), 6, "{other}");
        }
        // Probes of one flow draw no line that is not there.
        for method in ["paris-icmp", "paris-udp", "paris-tcp", "dublin"] {
            let other = figures(&comparison, method);
            assert_eq!(count(other, "links_false"), 0, "{other}");
            assert_eq!(count(other, "paths_in_a_run"), 1, "{other}");
        }
        // Eighteen walks by either branch cross between them, but once in 2¹⁸ tests.
        for method in ["udp", "tcp"] {
            let other = figures(&comparison, method);
            assert!(count(other, "links_false") > 0, "{other}");
            assert!(count(other, "paths_in_a_run") > 1, "{other}");
        }
        // The firewall lets few of their SYNs pass.
        for method in ["tcp", "paris-tcp"] {
            let other = figures(&comparison, method);
            assert!(
                count(other, "hops_answered") < count(other, "hops"),
                "{other}"
            );
            assert!(count(other, "probes_lost") > 0, "{other}");
        }
    }
}

#[test]
fn pictures_and_records_are_written_and_read_again() {
    let lab = Lab::up("article").unwrap();
    let file = |name: &str| lab.folder().join(name).display().to_string();
    let target = server_at(&lab, false, 80);
    let (records, html, svg, png) = (
        file("r.jsonl"),
        file("c.html"),
        file("c.svg"),
        file("c.png"),
    );
    let written = compare(
        &lab,
        &[
            "-m",
            "insession",
            "--runs",
            "2",
            "-o",
            &records,
            "--html",
            &html,
            "--svg",
            &svg,
            "--png",
            &png,
            &target,
        ],
    );
    assert_eq!(fs::read_to_string(&records).unwrap().lines().count(), 2);
    assert!(fs::read_to_string(&html).unwrap().ends_with("</html>\n"));
    assert!(fs::read_to_string(&svg).unwrap().ends_with("</svg>\n"));
    assert!(fs::read(&png).unwrap().starts_with(b"\x89PNG\r\n"));
    let mut read = compare(&lab, &["--from", &records]);
    // Records do not have the packets that are no probes.
    let packets = written["methods"][0]["packets"].clone();
    assert_eq!(read["methods"][0]["packets"].take(), Value::Null);
    read["methods"][0]["packets"] = packets;
    assert_eq!(read, written);
}
