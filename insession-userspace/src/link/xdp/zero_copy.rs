//! Where zero-copy is safe to choose unasked.
//!
//! An allow-list, because binding with zero-copy succeeds on drivers that then
//! corrupt memory (ice), stall (ixgbe, ENA, stmmac) or send nothing before the
//! socket is closed. A driver that is absent here gets copy mode under
//! [`ZeroCopy::Auto`](super::ZeroCopy::Auto); [`ZeroCopy::On`](super::ZeroCopy::On)
//! is for those who know better.

/// A driver, the kernel from which on it is trusted, and why.
const TRUSTED: &[(&str, (u32, u32))] = &[
    // In production elsewhere, from these kernels on; not tried by us.
    ("mlx5_core", (6, 1)),
    ("i40e", (5, 19)),
    // Received, sent and gave back every frame on 7.3, also across a killed
    // owner; 6.12 refuses the transmit half (EOPNOTSUPP), as does any device
    // without VIRTIO_F_ACCESS_PLATFORM (EINVAL): then it is copy mode.
    ("virtio_net", (7, 3)),
    // As virtio_net on 7.3, and across a link that went down and up.
    ("igb", (7, 3)),
];

/// Whether zero-copy may be chosen unasked.
pub(super) fn is_trusted(driver: Option<&str>, kernel: (u32, u32)) -> bool {
    TRUSTED
        .iter()
        .any(|&(name, since)| driver == Some(name) && kernel >= since)
}

/// Major and minor number of the running kernel; (0, 0) when it does not say.
pub(super) fn kernel() -> (u32, u32) {
    // SAFETY: plain data, for which zero is a value.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: writes inside `names`.
    if unsafe { libc::uname(&mut names) } != 0 {
        return (0, 0);
    }
    let release: Vec<u8> = names
        .release
        .iter()
        .take_while(|&&c| c != 0)
        .map(|&c| c as u8)
        .collect();
    version(&String::from_utf8_lossy(&release)).unwrap_or((0, 0))
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("5.9"), Some((5, 9)));
        assert_eq!(version("7.3-rc1"), Some((7, 3)));
        assert_eq!(version("unknown"), None);
        assert!(kernel() > (4, 0));
    }

    #[test]
    fn only_proven_drivers_are_trusted() {
        assert!(is_trusted(Some("mlx5_core"), (6, 1)));
        assert!(!is_trusted(Some("mlx5_core"), (5, 19)));
        assert!(is_trusted(Some("i40e"), (6, 0)));
        assert!(!is_trusted(Some("virtio_net"), (6, 12)));
        for corrupting_or_stalling in ["ice", "ixgbe", "ena", "stmmac", "veth"] {
            assert!(!is_trusted(Some(corrupting_or_stalling), (9, 0)));
        }
        assert!(!is_trusted(None, (9, 0)));
    }
}
