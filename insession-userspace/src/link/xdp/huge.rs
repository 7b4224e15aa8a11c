//! Huge pages: how many are free, and why there are none.

use std::io;

use super::umem::CHUNK;
use crate::link::LinkError;

/// Octets of a huge page.
pub(super) const PAGE: usize = 2 << 20;

/// How many huge pages so many frames take.
pub(super) fn pages(chunks: u32) -> usize {
    (chunks as usize * CHUNK).div_ceil(PAGE)
}

/// How many huge pages of 2 MiB the kernel reports as free.
pub(super) fn free() -> u64 {
    std::fs::read_to_string("/proc/meminfo").map_or(0, |meminfo| free_in(&meminfo))
}

/// The counts of /proc/meminfo are of the default size, which may be another.
fn free_in(meminfo: &str) -> u64 {
    let field = |name: &str| {
        let value = meminfo
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.split_whitespace().next()?.parse::<u64>().ok()
    };
    match field("Hugepagesize") {
        Some(2048) => {
            // Some of the free ones may be promised to others.
            let reserved = field("HugePages_Rsvd").unwrap_or(0);
            field("HugePages_Free")
                .unwrap_or(0)
                .saturating_sub(reserved)
        }
        _ => 0,
    }
}

/// The error for frames that do not get their huge pages.
pub(super) fn refused(what: String, chunks: u32, source: io::Error) -> LinkError {
    let (wanted, free) = (pages(chunks), free());
    match source.raw_os_error() {
        Some(libc::ENOMEM) => LinkError::Unsupported {
            what,
            reason: format!("{wanted} free pages of 2 MiB are needed, the kernel reports {free}"),
            mend: format!(
                "set more aside (`sysctl vm.nr_hugepages`, {wanted} for every queue), or do without"
            ),
        },
        Some(libc::EINVAL | libc::ENOSYS) => LinkError::Unsupported {
            what,
            reason: "the kernel has no huge pages of 2 MiB (CONFIG_HUGETLBFS)".into(),
            mend: "do without".into(),
        },
        _ => LinkError::System { what, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       8040332 kB
HugePages_Total:      20
HugePages_Free:       12
HugePages_Rsvd:        3
HugePages_Surp:        0
Hugepagesize:       2048 kB
Hugetlb:           40960 kB
";

    #[test]
    fn free_pages_are_those_that_nobody_was_promised() {
        assert_eq!(free_in(MEMINFO), 9);
        let gigantic = MEMINFO.replace("2048 kB", "1048576 kB");
        assert_eq!(free_in(&gigantic), 0, "of another size");
        assert_eq!(free_in("MemTotal: 8 kB\n"), 0, "no huge pages at all");
    }

    #[test]
    fn frames_take_whole_pages() {
        assert_eq!([1, 1024, 1025].map(pages), [1, 1, 2]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = |number| refused("frames".into(), 1025, io::Error::from_raw_os_error(number));
        let said = error(libc::ENOMEM).to_string();
        assert!(
            said.starts_with("frames: 2 free pages of 2 MiB are needed"),
            "{said}"
        );
        assert!(said.contains("vm.nr_hugepages"), "{said}");
        assert!(error(libc::EINVAL).to_string().contains("CONFIG_HUGETLBFS"));
    }
}
