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

#[cfg(test)]
mod tests {
    use super::*;

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
