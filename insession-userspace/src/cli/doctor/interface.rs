//! Interfaces and ports: what there is, what is attached, what can be had.

use libbpf_rs::query::ProgInfoIter;

use super::Check;
use crate::link::LinkError;
use crate::link::xdp::{XdpLink, XdpOptions};
use crate::net::{self, InterfaceInfo, ports};
use crate::trace::LinkInfo;

/// All checks of interfaces (or of the one that was named) and of ports.
pub(super) fn checks(named: Option<&str>) -> Vec<Check> {
    let mut checks = vec![of_ports()];
    match named {
        Some(name) => match net::interface(name) {
            Ok(interface) => {
                checks.extend(of_interface(&interface, true));
                checks.push(tried(&interface, open(&interface)));
            }
            Err(error) => checks.push(Check::fail(error.what, error.reason, error.mend)),
        },
        None => match net::interfaces() {
            Ok(all) => checks.extend(of_all(&all)),
            Err(error) => checks.push(Check::fail(error.what, error.reason, error.mend)),
        },
    }
    checks
}

fn of_all(all: &[InterfaceInfo]) -> Vec<Check> {
    let usable = |it: &&InterfaceInfo| it.ethernet && !it.loopback;
    let mut checks: Vec<Check> = all
        .iter()
        .filter(usable)
        .flat_map(|interface| of_interface(interface, false))
        .collect();
    if !all.iter().filter(usable).any(|interface| interface.up) {
        checks.push(Check::fail(
            "interfaces",
            "no Ethernet interface is up, loopback aside",
            "`ip link set NAME up`",
        ));
    }
    checks
}

/// What is read of one interface. What keeps a named one from tracing is a
/// failure; of the others, somebody may well not want to trace there.
fn of_interface(interface: &InterfaceInfo, named: bool) -> Vec<Check> {
    let name = &interface.name;
    let bad = if named { Check::fail } else { Check::warn };
    let check = format!("interface {name}");
    let driver = interface.driver.as_deref().unwrap_or("not told");
    let found = format!(
        "driver {driver}, {} receive queue{}, MTU {}",
        interface.rx_queues,
        if interface.rx_queues == 1 { "" } else { "s" },
        interface.mtu,
    );
    let mut checks = vec![if !interface.ethernet {
        bad(
            check,
            format!("{found}, without Ethernet headers"),
            "choose another".to_owned(),
        )
    } else if !interface.up && !named {
        Check::ok(check, format!("{found}, down"))
    } else if !interface.up {
        bad(
            check,
            format!("{found}, down"),
            format!("`ip link set {name} up`"),
        )
    } else if !interface.carrier {
        bad(
            check,
            format!("{found}, up, no carrier"),
            "plug the cable in, or set the other end up".to_owned(),
        )
    } else {
        Check::ok(check, format!("{found}, up"))
    }];
    let check = format!("XDP on {name}");
    checks.push(match &interface.xdp {
        None => Check::ok(check, "no program is attached"),
        Some(attached) => {
            let program = match attached.program {
                Some(id) => program(id),
                None => "several programs are".to_owned(),
            };
            bad(
                check,
                format!("{program} attached in {} mode", attached.mode),
                format!(
                    "detach it (`ip link set dev {name} xdp off`, `bpftool link`), or use --link packet"
                ),
            )
        }
    });
    checks
}

/// A program by its number, with its name where the kernel lets us ask.
fn program(id: u32) -> String {
    let found = ProgInfoIter::default().find(|program| program.id == id);
    named_program(
        id,
        found.map(|program| program.name.to_string_lossy().into_owned()),
    )
}

fn named_program(id: u32, name: Option<String>) -> String {
    match name {
        Some(name) if !name.is_empty() => format!("program {name} (id {id}) is"),
        _ => format!("program id {id} is"),
    }
}

/// Opens the link and closes it again.
fn open(interface: &InterfaceInfo) -> Result<LinkInfo, LinkError> {
    use crate::link::Link as _;
    let options = XdpOptions {
        ports: ports::default_range().unwrap_or(61_000..=65_535),
        ..XdpOptions::default()
    };
    let interface = net::Interface {
        index: interface.index,
        name: interface.name.clone(),
    };
    XdpLink::open(&interface, &options).map(|link| link.info())
}

fn tried(interface: &InterfaceInfo, opened: Result<LinkInfo, LinkError>) -> Check {
    let check = format!("XDP link on {}", interface.name);
    let link = match opened {
        Ok(link) => link,
        Err(error) => {
            return Check::fail(
                check,
                error.to_string(),
                "or use --link packet, where the kernel owns the connections",
            );
        }
    };
    let mode = link.mode.unwrap_or("unknown");
    let copy = if link.zero_copy { "zero-copy" } else { "copy" };
    let found = format!("opened: {mode} mode, {copy}");
    if mode == "generic" {
        return Check::warn(
            check,
            found,
            "the driver has no native XDP, or refuses it for this MTU; tracing is slower",
        );
    }
    Check::ok(check, found)
}

fn of_ports() -> Check {
    const WHAT: &str = "source ports";
    let range = match ports::default_range() {
        Ok(range) => range,
        Err(error) => {
            return Check::fail(
                WHAT,
                format!("{}: {}", error.what, error.reason),
                error.mend,
            );
        }
    };
    let found = format!(
        "{}-{}, {} ports beside the kernel's own",
        range.start(),
        range.end(),
        range.len()
    );
    match ports::held() {
        Ok(held) => Check::ok(
            WHAT,
            format!("{found}, {} held by sockets", held.count_in(range)),
        ),
        Err(error) => Check::warn(
            WHAT,
            format!("{found}; {}: {}", error.what, error.reason),
            error.mend,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Status;
    use crate::net::XdpAttachment;

    fn interface() -> InterfaceInfo {
        InterfaceInfo {
            index: 2,
            name: "eth0".to_owned(),
            mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            up: true,
            carrier: true,
            loopback: false,
            no_arp: false,
            ethernet: true,
            kind: None,
            driver: Some("virtio_net".to_owned()),
            rx_queues: 2,
            xdp: None,
            master: None,
            vlan: None,
        }
    }

    #[test]
    fn an_interface_is_fine_or_says_what_is_not() {
        let fine = of_interface(&interface(), true);
        assert_eq!(
            fine[0].to_string(),
            "ok    interface eth0: driver virtio_net, 2 receive queues, MTU 1500, up"
        );
        assert_eq!(
            fine[1].to_string(),
            "ok    XDP on eth0: no program is attached"
        );
        let status = |change: fn(&mut InterfaceInfo), named| {
            let mut changed = interface();
            change(&mut changed);
            let checks = of_interface(&changed, named);
            (checks[0].status, checks[1].status)
        };
        use Status::{Fail, Ok, Warn};
        assert_eq!(status(|it| it.up = false, true), (Fail, Ok));
        assert_eq!(status(|it| it.up = false, false), (Ok, Ok));
        assert_eq!(status(|it| it.carrier = false, true), (Fail, Ok));
        assert_eq!(status(|it| it.ethernet = false, true), (Fail, Ok));
        let occupied: fn(&mut InterfaceInfo) = |it| {
            it.xdp = Some(XdpAttachment {
                mode: "native",
                program: None,
            });
        };
        assert_eq!(status(occupied, true), (Ok, Fail));
        assert_eq!(status(occupied, false), (Ok, Warn));
    }

    #[test]
    fn a_machine_without_an_interface_fails() {
        let mut down = interface();
        down.up = false;
        let mut loopback = interface();
        loopback.loopback = true;
        let checks = of_all(&[loopback, down]);
        assert_eq!(checks.last().unwrap().status, Status::Fail);
        assert!(checks.iter().all(|check| check.check != "interface lo"));
        let fine = of_all(&[interface()]);
        assert!(fine.iter().all(|check| check.status == Status::Ok));
    }

    #[test]
    fn programs_are_named_where_the_kernel_tells() {
        assert_eq!(
            named_program(7, Some("lb".to_owned())),
            "program lb (id 7) is"
        );
        assert_eq!(named_program(7, None), "program id 7 is");
        assert_eq!(named_program(7, Some(String::new())), "program id 7 is");
    }

    #[test]
    fn a_trial_says_what_was_got() {
        let link = |mode| LinkInfo {
            kind: "xdp",
            mode: Some(mode),
            zero_copy: false,
            interface: "eth0".to_owned(),
        };
        let native = tried(&interface(), Ok(link("native")));
        assert_eq!(
            native.to_string(),
            "ok    XDP link on eth0: opened: native mode, copy"
        );
        assert_eq!(
            tried(&interface(), Ok(link("generic"))).status,
            Status::Warn
        );
        let refused = tried(&interface(), Err(LinkError::Down("eth0".to_owned())));
        assert_eq!(refused.status, Status::Fail);
    }
}
