//! Memory does not grow with the list: counted, by an allocator of this test's own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use insession::targets::list::{self, Item, ListOptions, Supply};

/// Counts what is allocated and not freed, and the most there was.
struct Counting;

static LIVE: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

fn count(bytes: usize) {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
}

// SAFETY: the system's allocator does it all; counting changes nothing of that.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps what `GlobalAlloc` asks of it, which is what
        // `System` asks.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let bytes = i64::try_from(layout.size()).unwrap_or(i64::MAX);
        LIVE.fetch_sub(bytes, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a list took: the most memory at once, and allocations a target.
struct Cost {
    targets: u64,
    bad: u64,
    peak: i64,
    each: f64,
}

/// Takes all of a list but what is done.
fn take(options: &ListOptions, done: &dyn Fn(u64) -> bool) -> Cost {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed);
    let mut supply = Supply::open(options).expect("a list");
    let (mut targets, mut bad) = (0, 0);
    while let Some(item) = supply.next(done) {
        match item.expect("a list that is whole") {
            Item::Target { .. } => targets += 1,
            Item::Bad(_) => bad += 1,
        }
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
    Cost {
        targets,
        bad,
        peak: PEAK.load(Ordering::Relaxed) - before,
        each: allocations as f64 / targets as f64,
    }
}

fn write(path: &Path, lines: u32) -> std::io::Result<PathBuf> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for nth in 0..lines {
        match nth % 8 {
            0 => writeln!(file, "host-{nth}.backbone.example:80"),
            1 => writeln!(file, "2001:db8::{:x}:{:x}", nth >> 16, nth & 0xffff),
            2 => writeln!(file, "not a target {nth}"),
            _ => writeln!(file, "{}", Ipv4Addr::from_bits(nth.wrapping_mul(97))),
        }?;
    }
    file.flush()?;
    Ok(path.to_owned())
}

/// One test, since the counts are the process's.
#[test]
fn memory_does_not_grow_with_the_list() {
    const MOST: i64 = 12 << 20;
    let folder = std::env::temp_dir().join(format!("insession-lists-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let lists = [200_000, 1_000_000].map(|lines| {
        let path = write(&folder.join(lines.to_string()), lines).unwrap();
        let options = ListOptions {
            files: vec![path],
            ..ListOptions::default()
        };
        (lines, options)
    });
    let [short, long] = lists.clone().map(|(lines, options)| {
        let cost = take(&options, &|_| false);
        println!(
            "{lines} lines: {} bytes, {:.2} allocations a target",
            cost.peak, cost.each
        );
        assert_eq!(cost.targets + cost.bad, u64::from(lines));
        assert_eq!(cost.bad, u64::from(lines / 8));
        cost
    });
    assert!(long.peak < MOST, "{} bytes", long.peak);
    let grown = long.peak - short.peak;
    assert!(
        grown < 64 << 10,
        "{grown} bytes more for five times the lines"
    );
    // A name each, that of a host twice; and what bad lines say.
    assert!(long.each < 4.0, "{} allocations a target", long.each);

    // A million lines, sixteen million addresses among them: each sixteenth taken.
    let (_, mut options) = lists.into_iter().last().unwrap();
    options.words = vec!["10.0.0.0/8".to_owned()];
    let mixed = take(&options, &|position| position % 16 != 0);
    println!("and a /8: {} bytes", mixed.peak);
    assert_eq!(mixed.targets, (16_777_216_u64 + 875_000).div_ceil(16));
    assert!(mixed.peak < MOST, "{} bytes", mixed.peak);

    // Counting keeps nothing at all.
    PEAK.store(LIVE.load(Ordering::Relaxed), Ordering::Relaxed);
    let before = LIVE.load(Ordering::Relaxed);
    let totals = list::count(&options).unwrap().unwrap();
    assert_eq!((totals.targets, totals.bad), (17_652_216, 125_000));
    let peak = PEAK.load(Ordering::Relaxed) - before;
    assert!(peak < 1 << 20, "{peak} bytes to count");
    std::fs::remove_dir_all(folder).unwrap();
}
