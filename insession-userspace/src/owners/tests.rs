//! Files of every kind, read: what they say, and what is wrong with them.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use proptest::prelude::*;

use super::date::Evidence;
use super::load::Source;
use super::testing::{Route, SEQUENCE, SET, Value, mmdb, mrt};
use super::*;
use crate::campaign::testing::Folder;
use crate::report::samples;

fn sources(paths: &[PathBuf]) -> Vec<Source> {
    let named = |path: &PathBuf| Source {
        path: path.clone(),
        is_named: true,
    };
    paths.iter().map(named).collect()
}

/// Owners by files of these contents, in this order.
fn owners(name: &str, files: &[(&str, &[u8])]) -> Owners {
    let folder = Folder::new(name);
    let write = |(name, octets): &(&str, &[u8])| {
        fs::write(folder.path(name), octets).unwrap();
        folder.path(name)
    };
    let paths: Vec<PathBuf> = files.iter().map(write).collect();
    load(&sources(&paths)).unwrap().0
}

/// Why there are none.
fn refused(name: &str, octets: &[u8]) -> String {
    let folder = Folder::new(name);
    let path = folder.path("f");
    fs::write(&path, octets).unwrap();
    let error = load(&sources(std::slice::from_ref(&path))).unwrap_err();
    let said = error.to_string();
    let rest = said.strip_prefix(&format!("{}: ", path.display()));
    rest.unwrap_or_else(|| panic!("{said}")).to_owned()
}

/// AS number, prefix, holder and exchange of an address, in short.
fn said(owners: &Owners, address: &str) -> String {
    let Some(owner) = owners.of(address.parse().unwrap()) else {
        return "nothing".to_owned();
    };
    let asn = owner
        .asn
        .map_or_else(|| "-".to_owned(), |asn| asn.to_string());
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    format!(
        "{asn} {} {} {}",
        text(&owner.prefix),
        text(&owner.holder),
        text(&owner.ixp)
    )
}

const PFX2AS: &[u8] =
    b"192.0.2.0\t24\t64500\n192.0.2.128\t25\t64501_64502\n2001:db8::\t32\t64500,7\n";

/// The same as [`PFX2AS`], with another for its majority.
const ROUTES: [Route<'static>; 3] = [
    (
        "192.0.2.0/24",
        &[
            (0, &[(SEQUENCE, &[3356, 64500])]),
            (1, &[(SEQUENCE, &[65001]), (SEQUENCE, &[64500])]),
        ],
    ),
    (
        "192.0.2.128/25",
        &[
            (0, &[(SEQUENCE, &[1, 64502])]),
            (1, &[(SEQUENCE, &[2, 64501])]),
            (2, &[(3, &[65002]), (SEQUENCE, &[3, 64501, 64501])]),
        ],
    ),
    (
        "2001:db8::/32",
        &[
            // The peer's own, and an aggregate.
            (0, &[]),
            (1, &[(SEQUENCE, &[64500])]),
            (2, &[(SEQUENCE, &[9]), (SET, &[64500, 7])]),
        ],
    ),
];

fn number(asn: u32, name: &'static str) -> Value {
    Value::Map(vec![
        ("autonomous_system_number", Value::Number(asn)),
        ("autonomous_system_organization", Value::Text(name)),
    ])
}

#[test]
fn text_and_table_dumps_say_the_same() {
    let peers = [64500, 2, 4_200_000_000];
    let dumps = [false, true].map(|ids| mrt(1_767_323_045, &peers, &ROUTES, ids));
    for file in [PFX2AS, &dumps[0], &dumps[1]] {
        let owners = owners("owners-same", &[("f", file)]);
        for (address, expected) in [
            ("192.0.2.1", "64500 192.0.2.0/24 - -"),
            ("192.0.2.200", "64501 192.0.2.128/25 - -"),
            ("::ffff:192.0.2.1", "64500 192.0.2.0/24 - -"),
            ("2001:db8:7::1", "64500 2001:db8::/32 - -"),
            ("192.0.3.1", "nothing"),
            ("2001:db9::1", "nothing"),
        ] {
            assert_eq!(said(&owners, address), expected, "{address}");
        }
        let found = owners.find("192.0.2.200".parse().unwrap());
        assert_eq!(found.origins, [64501, 64502]);
        let counts = owners.files()[0].counts;
        assert_eq!(
            (counts.v4, counts.v6, counts.several, counts.bad),
            (2, 1, 2, 0)
        );
    }
    let dump = owners("owners-date", &[("rib.20200101.gz", &dumps[0])]);
    let file = &dump.files()[0];
    assert_eq!(file.kind, Kind::Rib);
    // What the file says beats its name.
    let date = file.date.unwrap();
    assert_eq!(
        (date.day().as_str(), date.by),
        ("2026-01-02", Evidence::Content)
    );
    let text = owners("owners-date", &[("rv2-20200101.pfx2as", PFX2AS)]);
    let date = text.files()[0].date.unwrap();
    assert_eq!(
        (date.day().as_str(), date.by),
        ("2020-01-01", Evidence::Name)
    );
    let text = owners("owners-date", &[("pfx2as", PFX2AS)]);
    assert_eq!(text.files()[0].date.unwrap().by, Evidence::Modified);
}

#[test]
fn files_are_unpacked_whatever_they_are_called() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(PFX2AS).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(PFX2AS).unwrap();
    for (name, packed) in [
        ("a.gz", gzip.finish().unwrap()),
        ("a", bzip2.finish().unwrap()),
        ("a.txt", zstd::encode_all(PFX2AS, 1).unwrap()),
    ] {
        let owners = owners("owners-packed", &[(name, &packed)]);
        assert_eq!(said(&owners, "192.0.2.1"), "64500 192.0.2.0/24 - -");
        let said = refused("owners-torn", &packed[..packed.len() / 2]);
        assert!(said.contains("fetch it again"), "{name}: {said}");
    }
}

#[test]
fn an_mmdb_says_whose_networks_are() {
    let networks = [
        ("192.0.2.0/25", number(64500, "Example Net")),
        ("192.0.2.128/25", number(64500, "Example Net")),
        (
            "198.51.100.0/24",
            Value::Map(vec![
                // As IPinfo writes it.
                ("asn", Value::Text("AS64511")),
                ("as_name", Value::Text("Other \u{1b}[31mNet")),
                ("name", Value::Number(7)),
            ]),
        ),
        (
            "203.0.113.0/24",
            Value::Map(vec![("country", Value::Text("ZZ"))]),
        ),
    ];
    let mut both = networks.to_vec();
    both.push(("2001:db8::/32", number(64501, "Sixth")));
    for file in [
        mmdb(1_767_323_045, false, &networks),
        mmdb(1_767_323_045, true, &both),
    ] {
        let owners = owners("owners-mmdb", &[("f", &file)]);
        for (address, expected) in [
            ("192.0.2.1", "64500 192.0.2.0/25 Example Net -"),
            ("192.0.2.129", "64500 192.0.2.128/25 Example Net -"),
            ("198.51.100.9", "64511 198.51.100.0/24 Other [31mNet -"),
            ("203.0.113.1", "nothing"),
        ] {
            assert_eq!(said(&owners, address), expected, "{address}");
        }
        let info = &owners.files()[0];
        assert_eq!(
            (info.kind, info.title.as_deref()),
            (Kind::Mmdb, Some("Test-ASN"))
        );
        assert_eq!(info.date.unwrap().day(), "2026-01-02");
        assert_eq!((info.counts.v4, info.counts.passed), (3, 1));
    }
    let owners = owners("owners-mmdb", &[("f", &mmdb(1, true, &both))]);
    assert_eq!(said(&owners, "2001:db8::1"), "64501 2001:db8::/32 Sixth -");
    let other = mmdb(1, false, &networks[3..]);
    assert!(refused("owners-country", &other).starts_with("an MMDB without AS numbers; "));
}

#[test]
fn files_complete_one_another() {
    let database = mmdb(
        1,
        true,
        &[
            ("192.0.2.0/24", number(64511, "By MMDB")),
            ("198.51.100.0/24", number(64502, "Two by MMDB")),
            ("203.0.113.0/24", number(64500, "Zero by MMDB")),
        ],
    );
    let names = b"# of 2026\n64500 ZERO - Example, ZZ\nAS64501|ONE\n";
    let lans = b"prefix,name\n198.51.100.0/25,\"Example-IX, East\"\n";
    let owners = owners(
        "owners-join",
        &[
            ("first", PFX2AS),
            ("second", b"192.0.2.0/24 64999\n192.0.2.64/26 64998\n"),
            ("mmdb", &database),
            ("names", names),
            ("lans", lans),
        ],
    );
    for (address, expected) in [
        // Of equal prefixes the first file's.
        ("192.0.2.1", "64500 192.0.2.0/24 ZERO - Example, ZZ -"),
        // The longest, whichever file it is from.
        ("192.0.2.65", "64998 192.0.2.64/26 - -"),
        ("192.0.2.200", "64501 192.0.2.128/25 ONE -"),
        // No route: the MMDB, which names whom no list names.
        (
            "198.51.100.1",
            "64502 198.51.100.0/24 Two by MMDB Example-IX, East",
        ),
        ("198.51.100.200", "64502 198.51.100.0/24 Two by MMDB -"),
        ("203.0.113.1", "64500 203.0.113.0/24 ZERO - Example, ZZ -"),
    ] {
        assert_eq!(said(&owners, address), expected, "{address}");
    }
    let kinds: Vec<Kind> = owners.files().iter().map(|file| file.kind).collect();
    let expected = [
        Kind::Origins,
        Kind::Origins,
        Kind::Mmdb,
        Kind::Names,
        Kind::Exchanges,
    ];
    assert_eq!(kinds, expected);
    let found = owners.find("198.51.100.1".parse().unwrap());
    assert_eq!(found.origins, [64502]);
    assert!(found.origin_file.unwrap().ends_with("mmdb"));
    assert!(found.exchange_file.unwrap().ends_with("lans"));
}

#[test]
fn one_prefix_is_one_owner() {
    let owners = owners("owners-one", &[("f", PFX2AS)]);
    let of = |text: &str| owners.of(text.parse().unwrap()).unwrap();
    assert!(Arc::ptr_eq(&of("192.0.2.1"), &of("192.0.2.2")));
    assert!(!Arc::ptr_eq(&of("192.0.2.1"), &of("192.0.2.129")));
    let mut trace = samples::four_hops();
    let routers = ["192.0.2.1", "192.0.2.129", "", "10.0.0.1"];
    for (hop, address) in trace.hops.iter_mut().zip(routers) {
        for reply in hop.probes.iter_mut().filter_map(|it| it.reply.as_mut()) {
            reply.from = address.parse().unwrap();
            // Of an earlier time.
            reply.owner = Some(Arc::default());
        }
    }
    owners.fill(&mut trace);
    let asns = |hop: usize| -> Vec<Option<u32>> {
        let probes = trace.hops[hop].probes.iter();
        let reply = |owner: &Option<Arc<Owner>>| owner.as_ref().and_then(|it| it.asn);
        probes
            .filter_map(|it| Some(reply(&it.reply.as_ref()?.owner)))
            .collect()
    };
    assert_eq!(asns(0), [Some(64500); 3]);
    assert_eq!(asns(1), [Some(64501); 3]);
    assert_eq!(asns(3), [None; 3]);
}

#[test]
fn exchanges_as_others_publish_them() {
    let dump = br#"{"meta": {"generated": 1767323045.25},
      "ix": {"data": [{"id": 26, "name": "Example-IX", "proto_unicast": true}]},
      "ixlan": {"data": [{"id": 27, "ix_id": 26, "name": ""}]},
      "ixfac": {"data": [{"id": 27, "ix_id": 99, "fac_id": 3, "name": "A building"}]},
      "net": {"data": [{"id": 1, "asn": 64500, "name": "Example Net"}]},
      "netixlan": {"data": [{"id": 2, "net_id": 1, "asn": 64501, "name": "Example-IX", "ix_id": 26}]},
      "ixpfx": {"data": [{"id": 1, "ixlan_id": 27, "protocol": "IPv4", "prefix": "192.0.2.0/25"},
                         {"id": 2, "ixlan_id": 77, "protocol": "IPv6", "prefix": "2001:db8:7::/64"},
                         {"id": 3, "ixlan_id": 77, "protocol": "IPv6", "prefix": "2001:db8:7::/640"}]}}"#;
    let found = owners("owners-peeringdb", &[("f", dump), ("g", PFX2AS)]);
    assert_eq!(
        said(&found, "192.0.2.1"),
        "64500 192.0.2.0/24 Example Net Example-IX"
    );
    assert_eq!(
        said(&found, "2001:db8:7::9"),
        "64500 2001:db8::/32 Example Net ixlan 77"
    );
    let file = &found.files()[0];
    assert_eq!(
        (file.kind, file.date.unwrap().day().as_str()),
        (Kind::Exchanges, "2026-01-02")
    );
    assert_eq!(
        (file.counts.lans, file.counts.holders, file.counts.bad),
        (2, 1, 1)
    );

    // The tables as they come one by one: numbers of a LAN and its exchange are the same.
    let lans =
        br#"{"data":[{"id":1,"ixlan_id":26,"protocol":"IPv4","prefix":"192.0.2.0/25"}],"meta":{}}"#;
    let names =
        br#"{"data":[{"id":26,"org_id":2,"name":"Example-IX","proto_unicast":true}],"meta":{}}"#;
    let found = owners("owners-tables", &[("lans", lans), ("names", names)]);
    assert_eq!(said(&found, "192.0.2.1"), "- - - Example-IX");

    // Each exchange with what it has.
    let deep = br#"{"data":[{"id":4,"name":"Deep-IX","ixlan_set":[{"id":5,"name":"",
        "ixpfx_set":[{"prefix":"192.0.2.0/25"}]}]}]}"#;
    assert_eq!(
        said(&owners("owners-deep", &[("f", deep)]), "192.0.2.1"),
        "- - - Deep-IX"
    );

    let caida = b"# {\"date\":\"2026\"}\n{\"name\":\"One-IX\",\"prefixes\":{\"ipv4\":[\"192.0.2.0/25\"],\"ipv6\":[\"2001:db8::/64\"]}}\nno json\n{\"name\":\"Two-IX\",\"prefixes\":{\"ipv4\":[\"192.0.2.128/25\"],\"ipv6\":[]}}\n";
    let found = owners("owners-caida", &[("ixs_202601.jsonl", caida)]);
    assert_eq!(said(&found, "192.0.2.1"), "- - - One-IX");
    assert_eq!(said(&found, "2001:db8::9"), "- - - One-IX");
    assert_eq!(said(&found, "192.0.2.200"), "- - - Two-IX");
    let file = &found.files()[0];
    assert!(
        file.told[0].contains("ixs_202601.jsonl, line 3: "),
        "{:?}",
        file.told
    );
    assert_eq!(file.date.unwrap().day(), "2026-01-01");

    let table = b"{\"CIDR\":\"192.0.2.0/24\",\"ASN\":64500,\"Hits\":9}\n";
    assert_eq!(
        said(&owners("owners-table", &[("f", table)]), "192.0.2.1"),
        "64500 192.0.2.0/24 - -"
    );
}

#[test]
fn organisations_hold_their_numbers() {
    let text = b"# name: AS Org\n# format:org_id|changed|org_name|country|source\nEX-ZZ|20260101|Example Organisation|ZZ|RIPE\nNO-ZZ|20260101||ZZ|RIPE\n# format:aut|changed|aut_name|org_id|opaque_id|source\n64500|20260101|EXAMPLE|EX-ZZ|x|RIPE\n64501|20260101|OWN|NO-ZZ|x|RIPE\nx|1|2|3\n64502\n";
    let owners = owners(
        "owners-org",
        &[("20260101.as-org2info.txt", text), ("g", PFX2AS)],
    );
    assert_eq!(
        said(&owners, "192.0.2.1"),
        "64500 192.0.2.0/24 Example Organisation -"
    );
    assert_eq!(said(&owners, "192.0.2.200"), "64501 192.0.2.128/25 OWN -");
    let file = &owners.files()[0];
    assert_eq!(
        (file.kind, file.counts.holders, file.counts.bad),
        (Kind::Names, 2, 2)
    );
}

#[test]
fn bad_lines_are_named_and_counted_and_the_rest_goes_on() {
    let mut text =
        b"prefix length origin\n\n# a comment\n192.0.2.0\t24\t64500\nnonsense\n".to_vec();
    text.extend(b"0.0.0.0\t0\t64501\n198.51.100.0\t24\t0\n");
    for _ in 0..10 {
        text.extend(b"192.0.2.0\t99\t64500\n");
    }
    text.extend(vec![b'x'; 70_000]);
    text.extend(b"\n198.51.100.0\t24\t64501");
    let owners = owners("owners-bad", &[("f", &text)]);
    let file = &owners.files()[0];
    assert_eq!(
        (file.counts.v4, file.counts.passed, file.counts.bad),
        (2, 2, 12)
    );
    assert_eq!(file.told.len(), 5);
    assert!(
        file.told[0].ends_with("/f, line 5: neither a prefix nor an AS number"),
        "{:?}",
        file.told
    );
    assert!(
        file.told[1].ends_with("/f, line 8: no such prefix length"),
        "{:?}",
        file.told
    );
    assert_eq!(said(&owners, "198.51.100.1"), "64501 198.51.100.0/24 - -");
    assert_eq!(said(&owners, "8.8.8.8"), "nothing");
}

#[test]
fn what_is_no_data_is_named() {
    for (octets, reason) in [
        (&b""[..], "it is empty; name a pfx2as file"),
        (b"# nothing\n", "no line or object of it is data; name"),
        (b"hello\n", "no line or object of it is data; name"),
        (
            b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0",
            "it is of no kind that is known here; name",
        ),
        (b"{\"a\":", "EOF while parsing"),
    ] {
        let said = refused("owners-none", octets);
        assert!(said.starts_with(reason), "{said}");
    }
    // Updates, and the type before this one.
    let update = [&[0, 0, 0, 1, 0, 16, 0, 4, 0, 0, 0, 40][..], &[0; 40]].concat();
    assert!(refused("owners-updates", &update).starts_with("MRT with updates; "));
    let old = [&[0, 0, 0, 1, 0, 12, 0, 1, 0, 0, 0, 40][..], &[0; 40]].concat();
    assert!(refused("owners-dump", &old).starts_with("MRT of the old type TABLE_DUMP; "));

    let folder = Folder::new("owners-others");
    let (readme, data) = (folder.path("README"), folder.path("pfx2as"));
    fs::write(&readme, "hello\n").unwrap();
    fs::write(&data, PFX2AS).unwrap();
    let mut sources = sources(&[readme, data]);
    assert!(load(&sources).is_err());
    sources[0].is_named = false;
    let (owners, others) = load(&sources).unwrap();
    assert_eq!((owners.files().len(), others.len()), (1, 1));
    sources[1].path = folder.path("nosuch");
    let error = load(&sources).unwrap_err().to_string();
    assert!(error.ends_with("; check the path"), "{error}");
}

#[test]
fn a_dump_that_is_cut_off_is_an_error() {
    let whole = mrt(1, &[64500, 2, 3], &ROUTES, false);
    let folder = Folder::new("owners-cut");
    let path = folder.path("f");
    let mut ends = 0;
    for length in 60..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        match load(&sources(std::slice::from_ref(&path))) {
            Err(error) => assert!(
                error.why.contains("ends within record") || length < 100,
                "{error}"
            ),
            // At the end of a record.
            Ok(_) => ends += 1,
        }
    }
    assert_eq!(ends, 2);
    // A record that is whole, but whose entry is not.
    let mut torn = mrt(1, &[64500], &ROUTES[..2], false);
    let at = torn.len() - 30;
    torn[at..].fill(0xff);
    fs::write(&path, &torn).unwrap();
    let (owners, _) = load(&sources(std::slice::from_ref(&path))).unwrap();
    let file = &owners.files()[0];
    assert_eq!((file.counts.v4, file.counts.bad), (1, 1));
    assert!(
        file.told[0].ends_with("/f, record 3: not whole"),
        "{:?}",
        file.told
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_file_is_a_panic(
        which in 0..3_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        end in any::<prop::sample::Index>(),
    ) {
        let mut octets = match which {
            0 => mrt(1, &[64500, 2, 3], &ROUTES, false),
            1 => mmdb(1, true, &[("192.0.2.0/24", number(64500, "Example"))]),
            _ => PFX2AS.to_vec(),
        };
        for (at, octet) in changes {
            let at = at.index(octets.len());
            octets[at] = octet;
        }
        let folder = Folder::new("owners-any");
        let path = folder.path("f");
        for length in [octets.len(), end.index(octets.len())] {
            fs::write(&path, &octets[..length]).unwrap();
            if let Ok((owners, _)) = load(&sources(std::slice::from_ref(&path))) {
                let _ = owners.find("192.0.2.1".parse().unwrap());
            }
        }
    }

    #[test]
    fn names_are_fit_to_be_shown(name in "\\PC{0,300}|[ -~\\t\\n\\x1b]{0,300}") {
        let shown = clean(&name);
        prop_assert!(!shown.chars().any(char::is_control));
        prop_assert!(shown.chars().count() <= LONGEST);
        let once = shown.into_owned();
        prop_assert_eq!(&clean(&once), &once);
    }
}
