//! Lists as users have them, and as nobody should.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::spec::Host;
use super::*;

/// A folder of a test's own.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let nth = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("insession-list-{}-{nth}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn files<const N: usize>(files: [PathBuf; N]) -> ListOptions {
    ListOptions {
        files: files.to_vec(),
        ..ListOptions::default()
    }
}

fn words(words: &[&str]) -> ListOptions {
    ListOptions {
        words: words.iter().copied().map(str::to_owned).collect(),
        ..ListOptions::default()
    }
}

/// Targets in their order, bad lines, and how it ended.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    targets: Vec<(u64, String)>,
    bad: Vec<BadLine>,
    error: Option<String>,
}

impl Outcome {
    fn names(&self) -> Vec<&str> {
        self.targets.iter().map(|(_, name)| name.as_str()).collect()
    }

    fn sorted(&self) -> Vec<&str> {
        let mut names = self.names();
        names.sort_unstable();
        names
    }
}

fn all_but(options: &ListOptions, done: &dyn Fn(u64) -> bool) -> Outcome {
    let mut supply = Supply::open(options).unwrap();
    let mut outcome = Outcome::default();
    while let Some(item) = supply.next(done) {
        match item {
            Ok(Item::Target { position, spec }) => outcome.targets.push((position, spec.name)),
            Ok(Item::Bad(line)) => outcome.bad.push(line),
            Err(error) => {
                assert_eq!(outcome.error, None);
                outcome.error = Some(error.to_string());
            }
        }
    }
    outcome
}

fn all(options: &ListOptions) -> Outcome {
    all_but(options, &|_| false)
}

#[test]
fn what_a_disk_did_not_let_be_read_moves_no_target() {
    let folder = Folder::new();
    let good = folder.file("good", b"10.0.0.1\n10.0.0.2\n10.0.0.3\n");
    // A regular file whose first octet cannot be read (proc_pid_mem(5)).
    let bad = PathBuf::from("/proc/self/mem");
    let outcome = all(&files([good.clone(), bad]));
    assert!(
        outcome
            .error
            .unwrap()
            .starts_with("/proc/self/mem, line 1: ")
    );
    // The block would have been another if it could be read: no position in it holds.
    assert_eq!(outcome.targets, []);
    // What is damaged is so for ever, and positions before it hold.
    let torn = folder.file("torn", b"\x1f\x8b\x08");
    let outcome = all(&files([good, torn]));
    assert!(outcome.error.is_some());
    assert_eq!(outcome.targets.len(), 3);
}

const DIRTY: &[u8] = b"\xef\xbb\xbf# routers of ours\r\n\
10.0.0.1\r\
\n\
  10.0.0.2\t# with a comment\r\
10.0.0.1\r\n\
fe80::1%eth0\n\
b\xc3\xbccher.example:80\r\n\
b\xfccher.example\n\
https://www.example/\n\
10.0.0.0/33\n\
[2001:db8::1]:443\n\
1,google.com\n\
two fields\n\
::ffff:192.0.2.1\n\
nul\0byte\n\
10.9.0.0/31:8080\n\
\x1b]0;title\x07\n\
no-end.example";

#[test]
fn a_dirty_list_gives_targets_and_numbered_complaints() {
    let folder = Folder::new();
    let options = files([folder.file("dirty.txt", DIRTY)]);
    let outcome = all(&options);
    assert_eq!(outcome.error, None);
    assert_eq!(
        outcome.sorted(),
        [
            "10.0.0.1",
            "10.0.0.1",
            "10.0.0.2",
            "10.9.0.0:8080",
            "10.9.0.1:8080",
            "::ffff:192.0.2.1",
            "[2001:db8::1]:443",
            "bücher.example:80",
            "no-end.example",
        ]
    );
    assert!(outcome.targets.iter().map(|it| it.0).eq(0..9));
    let file = options.files[0].display().to_string();
    let bad: Vec<_> = outcome.bad.iter().map(ToString::to_string).collect();
    let expected = [
        (5, "\"fe80::1%eth0\": a zone cannot be part"),
        (7, "\"b\u{fffd}cher.example\": not UTF-8"),
        (8, "\"https://www.example/\": a URL is no target"),
        (9, "\"10.0.0.0/33\": \"33\" is no prefix length"),
        (11, "\"1,google.com\": a line of CSV"),
        (12, "\"two fields\": more than one field"),
        (14, "\"nul\\0byte\": a zero byte"),
        (16, "\"\\u{1b}]0;title\\u{7}\": a line of CSV"),
    ];
    assert_eq!(bad.len(), expected.len(), "{bad:#?}");
    for (line, (number, text)) in bad.iter().zip(expected) {
        let begin = format!("{file}:{number}: {text}");
        assert!(line.starts_with(&begin), "{line}\n{begin}");
    }
    let totals = count(&options).unwrap().unwrap();
    assert_eq!((totals.targets, totals.bad), (9, 8));
    assert_eq!(totals.first_bad.as_ref(), outcome.bad.first());
}

#[test]
fn words_come_before_files_and_files_in_their_order() {
    let folder = Folder::new();
    let one = folder.file("one", b"10.0.0.1\nbad line");
    let two = folder.file("two", b"bad line\n10.0.0.2");
    let options = ListOptions {
        words: vec!["10.0.0.3".into(), "10.0.0.0.".into(), String::new()],
        ..files([one.clone(), two.clone()])
    };
    let outcome = all(&options);
    assert_eq!(outcome.sorted(), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    let places: Vec<_> = outcome
        .bad
        .iter()
        .map(|bad| (bad.file.clone(), bad.line))
        .collect();
    let name = |path: &Path| path.display().to_string();
    assert_eq!(
        places,
        [
            (COMMAND_LINE.to_owned(), 2),
            (COMMAND_LINE.to_owned(), 3),
            (name(&one), 2),
            (name(&two), 1)
        ]
    );
}

#[test]
fn the_order_is_the_lists_and_the_seeds() {
    let folder = Folder::new();
    let text: String = (0..200_000_u32)
        .map(|nth| format!("{}\n", std::net::Ipv4Addr::from_bits(0x0a00_0000 + nth)))
        .collect();
    let path = folder.file("list", text.as_bytes());
    let mut options = files([path]);
    options.words = vec!["192.0.2.0/24".into()];
    options.seed = 1;
    let first = all(&options);
    assert_eq!(first.targets.len(), 200_256);
    assert!(first.targets.iter().map(|it| it.0).eq(0..200_256));
    assert_eq!(first, all(&options));
    let mut once: Vec<_> = first.names();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), 200_256);
    options.seed = 2;
    let second = all(&options);
    assert_eq!(first.sorted(), second.sorted());
    let same = first
        .names()
        .iter()
        .zip(second.names())
        .filter(|(a, b)| *a == b)
        .count();
    assert!(same < 50, "{same} at the same place");
    // The prefix's addresses are spread over their block.
    let early = first
        .targets
        .iter()
        .filter(|it| it.1.starts_with("192."))
        .map(|it| it.0);
    let early = early.filter(|position| *position < 32_768).count();
    assert!(
        (64..192).contains(&early),
        "{early} of 256 in the first half of the block"
    );
}

#[test]
fn what_is_done_is_left_out_and_nothing_else_changes() {
    let options = words(&["10.0.0.0/20", "www.example", "2001:db8::/120"]);
    let whole = all(&options);
    let some = all_but(&options, &|position| position % 3 != 0);
    let expected = whole.targets.iter().filter(|it| it.0 % 3 == 0);
    assert!(some.targets.iter().eq(expected));
    let begin = Instant::now();
    let none = all_but(&words(&["10.0.0.0/8", "www.example"]), &|_| true);
    assert_eq!(none, Outcome::default());
    // 16,777,217 positions; a tenth of a second where nothing else runs.
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn one_of_each_prefix_is_the_seeds_choice() {
    let options = ListOptions {
        per_prefix: Some(24),
        per_prefix6: Some(48),
        ..words(&["10.0.0.0/16", "10.1.0.0/28", "2001:db8::/40", "192.0.2.1"])
    };
    let outcome = all(&options);
    assert_eq!(outcome.targets.len(), 256 + 1 + 256 + 1);
    assert_eq!(outcome, all(&options));
    let other = all(&ListOptions {
        seed: 9,
        ..options.clone()
    });
    assert_ne!(outcome.sorted(), other.sorted());
    assert_eq!(count(&options).unwrap().unwrap().targets, 514);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

#[test]
fn compressed_lists_are_known_by_their_first_bytes() {
    let folder = Folder::new();
    let plain = all(&files([folder.file("plain", DIRTY)]));
    let (head, tail) = DIRTY.split_at(77);
    let skippable = [
        b"\x5e\x2a\x4d\x18\x03\0\0\0abc",
        &*zstd::encode_all(DIRTY, 3).unwrap(),
    ]
    .concat();
    for (name, bytes) in [
        ("one.txt", gzip(DIRTY)),
        ("two.gz", [gzip(head), gzip(tail)].concat()),
        ("three.gz", [gzip(b""), gzip(DIRTY), gzip(b"")].concat()),
        ("four", zstd::encode_all(DIRTY, 19).unwrap()),
        (
            "five.gz",
            [
                zstd::encode_all(head, 1).unwrap(),
                zstd::encode_all(tail, 1).unwrap(),
            ]
            .concat(),
        ),
        ("six", skippable),
    ] {
        let outcome = all(&files([folder.file(name, &bytes)]));
        assert_eq!(outcome.targets, plain.targets, "{name}");
        let places =
            |outcome: &Outcome| -> Vec<_> { outcome.bad.iter().map(|bad| bad.line).collect() };
        assert_eq!(places(&outcome), places(&plain), "{name}");
        assert_eq!(outcome.error, None, "{name}");
    }
}

#[test]
fn a_broken_stream_is_an_error_behind_what_was_whole() {
    let folder = Folder::new();
    let text: String = (0..50_000_u64)
        .map(|nth| format!("h{}.example\n", nth * 7919 % 50_000))
        .collect();
    let packed = [
        ("gzip", gzip(text.as_bytes())),
        ("zstd", zstd::encode_all(text.as_bytes(), 3).unwrap()),
    ];
    for (format, packed) in packed {
        let half = folder.file("half", &packed[..packed.len() / 2]);
        let outcome = all(&files([half.clone()]));
        let error = outcome.error.as_ref().unwrap();
        let at = format!(
            "{}, byte {} of the {format} stream, behind line ",
            half.display(),
            packed.len() / 2
        );
        assert!(error.starts_with(&at), "{error}");
        assert!(
            error.contains(": it ends too early; check the file with "),
            "{error}"
        );
        assert!(outcome.targets.len() > 1000, "{}", outcome.targets.len());
        assert!(outcome.bad.is_empty(), "{:?}", outcome.bad);
        assert!(count(&files([half])).unwrap().is_err());

        let mut turned = packed.clone();
        let middle = turned.len() / 2;
        turned[middle..middle + 8].copy_from_slice(&[0x5a; 8]);
        let outcome = all(&files([folder.file("turned", &turned)]));
        let error = outcome.error.unwrap_or_default();
        assert!(
            error.contains(&format!("of the {format} stream")),
            "{error}"
        );
    }
    let trailing = folder.file(
        "trailing",
        &[gzip(b"10.0.0.1\n"), b"more than a header is long".to_vec()].concat(),
    );
    let outcome = all(&files([trailing]));
    assert_eq!(outcome.names(), ["10.0.0.1"]);
    assert!(outcome.error.unwrap().contains("behind line 1: not whole"));
    for (bytes, format) in [(&b"\xfd7zXZ\0\0\x04"[..], "xz"), (b"BZh31AY&SY\0", "bzip2")] {
        let error = all(&files([folder.file("other", bytes)])).error.unwrap();
        let text = format!(
            "of the {format} stream, behind line 0: only gzip and zstd are unpacked here; unpack it first: {format} -dc"
        );
        assert!(error.contains(&text), "{error}");
    }
    // Not even enough to tell.
    assert_eq!(all(&files([folder.file("short", b"\x1f")])).bad.len(), 1);
    assert_eq!(all(&files([folder.file("empty", b"")])), Outcome::default());
}

#[test]
fn what_cannot_be_opened_is_named() {
    let folder = Folder::new();
    let nowhere = folder.0.join("nowhere");
    let open = |options| Supply::open(&options).unwrap_err().to_string();
    assert_eq!(
        open(files([nowhere.clone()])),
        format!(
            "{}: No such file or directory (os error 2); check the path",
            nowhere.display()
        )
    );
    assert!(open(files([folder.0.clone()])).ends_with(": a directory; name a file in it"));
    assert!(
        open(files(["-".into(), "-".into()])).starts_with("standard input: it was named twice")
    );
    assert!(count(&files([nowhere])).is_none_or(|totals| totals.is_err()));
    assert_eq!(count(&files(["-".into()])), None);
}

/// A named pipe.
fn fifo(folder: &Folder) -> PathBuf {
    let path = folder.0.join("fifo");
    let made = std::process::Command::new("mkfifo")
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    path
}

#[test]
fn a_slow_pipe_is_traced_as_it_comes() {
    let folder = Folder::new();
    let path = fifo(&folder);
    let options = files([path.clone()]);
    assert_eq!(count(&options), None);
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        let mut pipe = fs::File::create(path).unwrap();
        // "P" might be the begin of a compressed list; half a line is none.
        pipe.write_all(b"Pc.example\n10.0.0.1\n10.0.").unwrap();
        gone.recv().unwrap();
        pipe.write_all(b"0.2\nbad line\n10.0.0.3").unwrap();
    });
    let mut supply = Supply::open(&options).unwrap();
    let mut next = || match supply.next(&|_| false) {
        Some(Ok(Item::Target { position, spec })) => (position, spec.name),
        Some(Ok(Item::Bad(line))) => (u64::MAX, line.text),
        other => panic!("{other:?}"),
    };
    let mut early = [next(), next()];
    early.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(early.clone().map(|it| it.1), ["10.0.0.1", "Pc.example"]);
    // The writer waits for this: no more had come.
    go.send(()).unwrap();
    assert_eq!(next(), (u64::MAX, "bad line".to_owned()));
    let mut late = [next(), next()];
    late.sort();
    assert!(late.clone().map(|it| it.0) == [2, 3]);
    late.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(late.map(|it| it.1), ["10.0.0.2", "10.0.0.3"]);
    assert_eq!(supply.next(&|_| false), None);
    writer.join().unwrap();
}

#[test]
fn a_fast_pipe_is_one_block_and_may_be_compressed() {
    let folder = Folder::new();
    let path = fifo(&folder);
    let text: String = (0..30_000).map(|nth| format!("h{nth}.example\n")).collect();
    let regular = all(&files([folder.file("regular", text.as_bytes())]));
    for packed in [
        text.clone().into_bytes(),
        gzip(text.as_bytes()),
        zstd::encode_all(text.as_bytes(), 1).unwrap(),
    ] {
        let pipe = path.clone();
        let writer = std::thread::spawn(move || fs::write(pipe, packed).unwrap());
        let outcome = all(&files([path.clone()]));
        assert_eq!(outcome.targets.len(), 30_000);
        assert_eq!(outcome.sorted(), regular.sorted());
        assert_eq!(outcome.error, None);
        writer.join().unwrap();
    }
}

/// What lists are made of.
const PARTS: &[&[u8]] = &[
    b"10.0.0.1",
    b"\r",
    b"\n",
    b"\r\n",
    b" ",
    b"#",
    b"www.example",
    b"\0",
    b"\xff",
    b"/30",
    b":80",
    b"[",
    b"]",
    b"::1",
    b"%",
    b"\xef\xbb\xbf",
];

/// What a list should come to, by other code than its own: each line's number, and
/// what is left of it without blanks and comment.
fn oracle(bytes: &[u8]) -> BTreeMap<u64, Vec<u8>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut ends = Vec::with_capacity(bytes.len());
    for (nth, byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' if nth > 0 && bytes[nth - 1] == b'\r' => {}
            b'\r' | b'\n' => ends.push(b'\n'),
            byte => ends.push(*byte),
        }
    }
    let lines = ends.split(|byte| *byte == b'\n');
    let lines = lines.map(|line| line.split(|byte| *byte == b'#').next().unwrap().to_vec());
    let lines = (1..).zip(lines).filter(|(_, line)| {
        let text = String::from_utf8_lossy(line);
        !text.chars().all(|c| c.is_whitespace() || c == '\u{feff}')
    });
    lines.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn every_line_is_a_target_or_a_complaint_with_its_number(
        bytes: Vec<u8>,
        parts in proptest::collection::vec(proptest::sample::select(PARTS), 0..40),
    ) {
        let folder = Folder::new();
        for bytes in [bytes, parts.concat()] {
            if bytes.starts_with(b"\x1f\x8b") {
                continue;
            }
            let mut lines = oracle(&bytes);
            let outcome = all(&files([folder.file("list", &bytes)]));
            prop_assert_eq!(&outcome.error, &None);
            for bad in &outcome.bad {
                prop_assert!(lines.remove(&bad.line).is_some(), "{} of {:?}", bad, bytes);
            }
            // The rest are targets, one each but for prefixes.
            let text = |line: &Vec<u8>| String::from_utf8(line.clone()).unwrap();
            let expected: u64 = lines.values().map(text).map(|line| {
                let line = line.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
                match super::super::entry::parse(line, Density::default()).unwrap() {
                    Entry::One(_) => 1,
                    Entry::Prefix(prefix) => prefix.count(),
                }
            }).sum();
            prop_assert_eq!(outcome.targets.len() as u64, expected);
        }
    }
}

/// More targets than a list of ours has.
const MANY: usize = 10_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn damage_to_a_compressed_list_ends_it_or_does_not_show(at: prop::sample::Index, to: u8, cut: bool) {
        let folder = Folder::new();
        for packed in [gzip(DIRTY), zstd::encode_all(DIRTY, 3).unwrap()] {
            let mut damaged = packed.clone();
            let at = at.index(damaged.len());
            if cut {
                damaged.truncate(at);
            } else {
                damaged[at] = to;
            }
            // Whatever becomes of it: it ends, with an error once at most; unless a
            // prefix became one of a billion targets (`/33` may be `/3` now).
            let mut supply = Supply::open(&files([folder.file("damaged", &damaged)])).unwrap();
            let (mut targets, mut errors) = (0, 0);
            while let Some(item) = supply.next(&|_| false).filter(|_| targets < MANY) {
                targets += usize::from(matches!(item, Ok(Item::Target { .. })));
                errors += usize::from(item.is_err());
            }
            prop_assert!(errors <= 1);
            if damaged == packed {
                prop_assert_eq!(targets, 9);
            } else if cut && at > 4 {
                prop_assert_eq!(errors, 1);
            }
        }
    }
}

#[test]
fn a_short_prefix_comes_one_target_at_a_time() {
    let mut supply = Supply::open(&words(&["10.0.0.0/3"])).unwrap();
    for _ in 0..MANY {
        assert!(matches!(
            supply.next(&|_| false),
            Some(Ok(Item::Target { .. }))
        ));
    }
}

#[test]
fn names_are_looked_up_in_ascii_and_recorded_as_written() {
    let mut supply = Supply::open(&words(&["BÜCHER.example:80"])).unwrap();
    let Some(Ok(Item::Target { spec, .. })) = supply.next(&|_| false) else {
        panic!("no target");
    };
    assert_eq!(spec.name, "BÜCHER.example:80");
    assert_eq!(spec.host, Host::Name("xn--bcher-kva.example".to_owned()));
    assert_eq!(spec.port, Some(80));
}
