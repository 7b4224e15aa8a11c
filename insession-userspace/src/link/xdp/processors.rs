//! Which processor the worker of a queue is to run on: the one that the queue's
//! interrupts go to, whose cache its frames are in; where that is not known, one
//! that no other worker has.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use crate::link::sys;

/// A processor for each of the first `queues` queues.
pub(super) fn of_queues(interface: &str, queues: usize) -> Vec<Option<usize>> {
    let allowed = sys::allowed_processors();
    let interrupts = fs::read_to_string("/proc/interrupts").unwrap_or_default();
    let ours = own_interrupts(interface);
    let near: Vec<Option<usize>> = (0..queues)
        .map(|queue| {
            let interrupt = interrupt_of(&interrupts, &ours, interface, queue)?;
            processor_of(interrupt)
        })
        .collect();
    spread(&near, &allowed)
}

/// The interrupts of the interface's device. A virtio device has them at its
/// parent.
fn own_interrupts(interface: &str) -> HashSet<u32> {
    let device = Path::new("/sys/class/net").join(interface).join("device");
    ["msi_irqs", "../msi_irqs"]
        .iter()
        .filter_map(|list| fs::read_dir(device.join(list)).ok())
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// The interrupt of a receive queue. Drivers name them as they like; what they
/// have in common is that the name ends with the queue's number, before an
/// address of the bus if there is one: `eth0-TxRx-3`, `virtio2-input.3`,
/// `mlx5_comp3@pci:0000:00:05.0`.
fn interrupt_of(
    interrupts: &str,
    ours: &HashSet<u32>,
    interface: &str,
    queue: usize,
) -> Option<u32> {
    interrupts.lines().find_map(|line| {
        let (number, rest) = line.trim_start().split_once(':')?;
        let number = number.parse().ok()?;
        let name = rest.split_whitespace().next_back()?;
        let name = name.split('@').next()?;
        let named = name.strip_prefix(interface);
        let named = named.is_some_and(|rest| rest.starts_with(|c: char| !c.is_alphanumeric()));
        if !ours.contains(&number) && !named {
            return None;
        }
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let nth: usize = name.get(stem.len()..)?.parse().ok()?;
        let stem = stem.to_ascii_lowercase();
        let sends = stem.contains("output") || stem.contains("tx") && !stem.contains("rx");
        (nth == queue && !sends).then_some(number)
    })
}

/// The first processor that an interrupt goes to.
fn processor_of(interrupt: u32) -> Option<usize> {
    ["effective_affinity_list", "smp_affinity_list"]
        .iter()
        .find_map(|file| {
            let list = fs::read_to_string(format!("/proc/irq/{interrupt}/{file}")).ok()?;
            first_of(&list)
        })
}

/// The first of a list as the kernel writes it: `0-3,8`.
fn first_of(list: &str) -> Option<usize> {
    list.trim().split([',', '-']).next()?.parse().ok()
}

/// The near processor where it is allowed and nobody's yet: all interrupts may go
/// to one. Otherwise the next of the allowed ones, again and again.
fn spread(near: &[Option<usize>], allowed: &[usize]) -> Vec<Option<usize>> {
    let mut taken = HashSet::new();
    let mut chosen: Vec<Option<usize>> = near
        .iter()
        .map(|near| near.filter(|near| allowed.contains(near) && taken.insert(*near)))
        .collect();
    let free: Vec<usize> = allowed
        .iter()
        .copied()
        .filter(|processor| !taken.contains(processor))
        .collect();
    let mut rest = free.iter().chain(allowed.iter().cycle()).copied();
    for processor in &mut chosen {
        if processor.is_none() {
            *processor = rest.next();
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERRUPTS: &str = "           CPU0       CPU1
  24:          0          0   PCI-MSI 65536-edge      virtio2-config
  25:        120          0   PCI-MSI 65537-edge      virtio2-input.0
  26:          3          0   PCI-MSI 65538-edge      virtio2-output.0
  27:          0        130   PCI-MSI 65539-edge      virtio2-input.1
  28:          0        130   PCI-MSI 65539-edge      virtio3-input.0
  30:          0         12   PCI-MSIX-0000:01:00.0    1-edge      eth7-TxRx-0
  31:          0         12   PCI-MSIX-0000:01:00.0    2-edge      eth7-TxRx-1
  32:          0         12   PCI-MSIX-0000:02:00.0    2-edge      mlx5_comp1@pci:0000:02:00.0
 NMI:          0          0   Non-maskable interrupts
";

    #[test]
    fn interrupts_are_found_by_device_or_name() {
        let ours = HashSet::from([24, 25, 26, 27]);
        let of = |ours: &HashSet<u32>, interface, queue| {
            interrupt_of(INTERRUPTS, ours, interface, queue)
        };
        assert_eq!(of(&ours, "eth0", 0), Some(25));
        assert_eq!(of(&ours, "eth0", 1), Some(27));
        assert_eq!(of(&ours, "eth0", 2), None);
        let none = HashSet::new();
        assert_eq!(of(&none, "eth7", 1), Some(31));
        assert_eq!(of(&none, "eth0", 0), None, "another device's");
        assert_eq!(of(&none, "eth", 1), None, "of a device with a longer name");
        assert_eq!(of(&HashSet::from([32]), "eth9", 1), Some(32));
    }

    #[test]
    fn lists_begin_with_a_processor() {
        assert_eq!(first_of("3\n"), Some(3));
        assert_eq!(first_of("2-5,9\n"), Some(2));
        assert_eq!(first_of("\n"), None);
    }

    #[test]
    fn nobody_shares_a_processor_before_all_are_in_use() {
        let all = [4, 5, 6];
        assert_eq!(spread(&[None; 2], &all), [Some(4), Some(5)]);
        assert_eq!(
            spread(&[Some(5), Some(5), None, Some(9)], &all),
            [Some(5), Some(4), Some(6), Some(4)]
        );
        assert_eq!(spread(&[Some(1)], &[]), [None]);
    }
}
