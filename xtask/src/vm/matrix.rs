//! Which virtual machines there are, and what has to be found in each.

use super::kernel::Role;

/// An emulated network card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Card {
    /// virtio-net with VIRTIO_F_ACCESS_PLATFORM: its rings have a DMA device,
    /// which zero-copy needs (Linux drivers/net/virtio_net.c).
    VirtioPlatform,
    /// virtio-net as it is by default.
    Virtio,
    /// Intel 82576, of QEMU 8 and later.
    Igb,
    /// None: for what lays its own veth pairs.
    None,
}

impl Card {
    /// Modules to load, without those that they depend on.
    pub fn modules(self) -> &'static [&'static str] {
        match self {
            Card::VirtioPlatform | Card::Virtio => &["virtio_pci", "virtio_net", "veth"],
            Card::Igb => &["igb", "veth"],
            Card::None => &["veth"],
        }
    }

    /// QEMU's arguments for two of them on one wire.
    pub fn arguments(self) -> Vec<String> {
        let mut words = vec!["-nic".to_owned(), "none".to_owned()];
        let cards = if self == Card::None { 0 } else { 2 };
        for number in 0..cards {
            words.push("-netdev".into());
            words.push(format!("hubport,id=wire{number},hubid=0"));
            if self == Card::Igb {
                // Two on the root bus would take the same place for their
                // virtual functions.
                words.push("-device".into());
                words.push(format!(
                    "pcie-root-port,id=port{number},chassis={number},slot={number}"
                ));
            }
            let device = match self {
                Card::VirtioPlatform => "virtio-net-pci,disable-legacy=on,iommu_platform=on".into(),
                Card::Virtio | Card::None => "virtio-net-pci,disable-legacy=on".into(),
                Card::Igb => format!("igb,bus=port{number}"),
            };
            words.push("-device".into());
            words.push(format!("{device},netdev=wire{number},romfile="));
        }
        words
    }

    /// The oldest QEMU that has it.
    pub fn since(self) -> u32 {
        match self {
            Card::VirtioPlatform | Card::Virtio | Card::None => 7,
            Card::Igb => 8,
        }
    }
}

/// A fact's name and the value that it must have.
pub type Fact = (&'static str, &'static str);

/// One virtual machine.
#[derive(Debug)]
pub struct Cell {
    /// For `--only`, and the table.
    pub name: &'static str,
    /// Its kernel.
    pub kernel: Role,
    /// Its card.
    pub card: Card,
    /// What it has to state, in this order.
    pub facts: &'static [Fact],
}

/// Zero-copy taken unasked, and when asked for.
const fn zero_copy(driver: &'static str) -> [Fact; 8] {
    [
        ("driver", driver),
        ("auto", "native zero-copy"),
        ("on", "native zero-copy"),
        ("off", "native copy"),
        ("ipv6", "native zero-copy"),
        ("many", "250 paths, native zero-copy"),
        ("killed", "native zero-copy, again native zero-copy"),
        ("left", "nothing"),
    ]
}

/// Copies; what asks for zero-copy is refused.
const fn copy(driver: &'static str, refused: &'static str) -> [Fact; 8] {
    [
        ("driver", driver),
        ("auto", "native copy"),
        ("on", refused),
        ("off", "native copy"),
        ("ipv6", "native copy"),
        ("many", "250 paths, native copy"),
        ("killed", "native copy, again native copy"),
        ("left", "nothing"),
    ]
}

/// The link's tests, on veth; a machine of their own, for they take their time.
const LINK: &[Fact] = &[("link_xdp", "ok")];
/// The XDP program's tests, by BPF_PROG_TEST_RUN.
const PROGRAM: &[Fact] = &[("xdp_program", "ok")];

/// Test binaries, each a fact of the cell it runs in.
pub const SUITES: [&str; 2] = ["link_xdp", "xdp_program"];

/// All of them.
pub const CELLS: &[Cell] = &[
    Cell {
        name: "virtio-newest",
        kernel: Role::Newest,
        card: Card::VirtioPlatform,
        facts: &zero_copy("virtio_net"),
    },
    Cell {
        name: "virtio-no-platform",
        kernel: Role::Newest,
        card: Card::Virtio,
        facts: &copy("virtio_net", "refused by EINVAL, exit 4"),
    },
    Cell {
        name: "igb-newest",
        kernel: Role::Newest,
        card: Card::Igb,
        facts: &zero_copy("igb"),
    },
    Cell {
        name: "virtio-6.12",
        kernel: Role::V6_12,
        card: Card::VirtioPlatform,
        facts: &copy("virtio_net", "refused by EOPNOTSUPP, exit 4"),
    },
    Cell {
        name: "virtio-6.1",
        kernel: Role::V6_1,
        card: Card::VirtioPlatform,
        facts: &copy("virtio_net", "refused by EOPNOTSUPP, exit 4"),
    },
    Cell {
        name: "link-newest",
        kernel: Role::Newest,
        card: Card::None,
        facts: LINK,
    },
    Cell {
        name: "program-newest",
        kernel: Role::Newest,
        card: Card::None,
        facts: PROGRAM,
    },
    Cell {
        name: "link-6.12",
        kernel: Role::V6_12,
        card: Card::None,
        facts: LINK,
    },
    Cell {
        name: "program-6.12",
        kernel: Role::V6_12,
        card: Card::None,
        facts: PROGRAM,
    },
    Cell {
        name: "link-6.1",
        kernel: Role::V6_1,
        card: Card::None,
        facts: LINK,
    },
    Cell {
        name: "program-6.1",
        kernel: Role::V6_1,
        card: Card::None,
        facts: PROGRAM,
    },
];
