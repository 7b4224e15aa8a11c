//! Network interfaces: what they are, what holds them, what sits on them.

use std::ffi::OsStr;

use super::NetError;
use super::ethtool::Ethtool;
use super::netlink::{Netlink, Refusal, Request, attributes, text, u16_at, u32_at};

/// What is known of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceInfo {
    /// Kernel's number.
    pub index: u32,
    /// Name.
    pub name: String,
    /// MAC address; `None` where link-layer addresses are of another kind.
    pub mac: Option<[u8; 6]>,
    /// Largest IP packet, octets.
    pub mtu: u32,
    /// Set up by the administrator.
    pub up: bool,
    /// A carrier is sensed.
    pub carrier: bool,
    /// The loopback interface.
    pub loopback: bool,
    /// No neighbour discovery is done on it (`NOARP`).
    pub no_arp: bool,
    /// Frames begin with an Ethernet header.
    pub ethernet: bool,
    /// Kind of a virtual interface (`veth`, `vlan`, `bond`, …).
    pub kind: Option<String>,
    /// The driver's name, where it says one.
    pub driver: Option<String>,
    /// Receive queues in use.
    pub rx_queues: u32,
    /// The XDP program attached, if any.
    pub xdp: Option<XdpAttachment>,
    /// Number of the bridge, bond or VRF it belongs to.
    pub master: Option<u32>,
    /// For a VLAN sub-interface: what it tags, and on what.
    pub vlan: Option<Vlan>,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpAttachment {
    /// `native`, `generic`, `offload`, or `several`.
    pub mode: &'static str,
    /// The program's number (`bpftool prog show id N`); `None` where several
    /// are attached.
    pub program: Option<u32>,
}

/// A VLAN sub-interface's tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// 12 bits.
    pub id: u16,
    /// The tag's EtherType: 0x8100 (802.1Q) or 0x88a8 (802.1ad).
    pub protocol: u16,
    /// Number of the interface that carries the tagged frames.
    pub parent: u32,
    /// The parent lives in another network namespace.
    pub parent_elsewhere: bool,
}

/// All interfaces of the calling thread's network namespace, by number.
///
/// # Errors
/// When the kernel does not answer.
pub fn interfaces() -> Result<Vec<InterfaceInfo>, NetError> {
    let mut netlink = Netlink::open(netlink_sys::protocols::NETLINK_ROUTE)
        .map_err(|error| NetError::refused("the list of interfaces", &error.into()))?;
    let mut found = Vec::new();
    netlink
        .exchange(
            Request::dump(libc::RTM_GETLINK, &[0; IFINFO]),
            |kind, body| {
                if kind == libc::RTM_NEWLINK {
                    found.extend(parse(body));
                }
            },
        )
        .map_err(|refusal| NetError::refused("the list of interfaces", &refusal))?;
    if let Ok(ethtool) = Ethtool::open() {
        for interface in &mut found {
            interface.complete(&ethtool);
        }
    }
    found.sort_by_key(|interface| interface.index);
    Ok(found)
}

/// The interface of this name, in the calling thread's network namespace.
///
/// # Errors
/// When there is none, or the kernel does not answer.
pub fn interface(name: &str) -> Result<InterfaceInfo, NetError> {
    let mut netlink = Netlink::open(netlink_sys::protocols::NETLINK_ROUTE)
        .map_err(|error| NetError::refused(format!("interface {name:?}"), &error.into()))?;
    let mut interface = by_name(&mut netlink, name)?;
    if let Ok(ethtool) = Ethtool::open() {
        interface.complete(&ethtool);
    }
    Ok(interface)
}

/// As [`interface`], without what only ethtool knows.
pub(super) fn by_name(netlink: &mut Netlink, name: &str) -> Result<InterfaceInfo, NetError> {
    // IFNAMSIZ counts the zero byte; the kernel calls longer names invalid.
    let valid = !name.is_empty() && name.len() < libc::IFNAMSIZ && !name.contains('\0');
    if !valid {
        return Err(NetError::no_interface(name));
    }
    let mut value = OsStr::new(name).as_encoded_bytes().to_vec();
    value.push(0);
    let request =
        Request::new(libc::RTM_GETLINK, 0, &[0; IFINFO]).attribute(libc::IFLA_IFNAME, &value);
    match netlink.ask(request) {
        Ok(answer) => answer
            .as_deref()
            .and_then(parse)
            .ok_or_else(|| NetError::no_interface(name)),
        Err(refusal) if refusal.errno() == libc::ENODEV => Err(NetError::no_interface(name)),
        Err(refusal) => Err(NetError::refused(format!("interface {name:?}"), &refusal)),
    }
}

/// The interface of this number, without what only ethtool knows.
pub(super) fn by_index(
    netlink: &mut Netlink,
    index: u32,
) -> Result<Option<InterfaceInfo>, Refusal> {
    let mut body = [0; IFINFO];
    if let Some(field) = body.get_mut(4..8) {
        field.copy_from_slice(&index.to_ne_bytes());
    }
    match netlink.ask(Request::new(libc::RTM_GETLINK, 0, &body)) {
        Ok(answer) => Ok(answer.as_deref().and_then(parse)),
        Err(refusal) if refusal.errno() == libc::ENODEV => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

/// `struct ifinfomsg`.
const IFINFO: usize = 16;
/// include/uapi/linux/if_arp.h.
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;
/// include/uapi/linux/if_link.h, in the nests of `IFLA_XDP` and of a VLAN's
/// `IFLA_INFO_DATA`.
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_PROTOCOL: u16 = 5;

/// Reads the body of an `RTM_NEWLINK`.
fn parse(body: &[u8]) -> Option<InterfaceInfo> {
    let link_type = u16_at(body, 2)?;
    let index = u32_at(body, 4)?;
    let flags = u32_at(body, 8)?;
    let has = |flag: i32| flags & flag.cast_unsigned() != 0;
    let mut info = InterfaceInfo {
        index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: has(libc::IFF_UP),
        carrier: has(libc::IFF_LOWER_UP),
        loopback: has(libc::IFF_LOOPBACK),
        no_arp: has(libc::IFF_NOARP),
        ethernet: matches!(link_type, ARPHRD_ETHER | ARPHRD_LOOPBACK),
        kind: None,
        driver: None,
        rx_queues: 1,
        xdp: None,
        master: None,
        vlan: None,
    };
    let (mut lower, mut lower_elsewhere, mut tag) = (None, false, None);
    for (kind, value) in attributes(body.get(IFINFO..)?) {
        match kind {
            libc::IFLA_IFNAME => info.name = text(value),
            libc::IFLA_ADDRESS => info.mac = value.try_into().ok(),
            libc::IFLA_MTU => info.mtu = u32_at(value, 0)?,
            libc::IFLA_NUM_RX_QUEUES => info.rx_queues = u32_at(value, 0)?,
            libc::IFLA_MASTER => info.master = u32_at(value, 0),
            libc::IFLA_LINK => lower = u32_at(value, 0),
            libc::IFLA_LINK_NETNSID => lower_elsewhere = true,
            libc::IFLA_XDP => info.xdp = xdp(value),
            libc::IFLA_LINKINFO => (info.kind, tag) = link_info(value),
            _ => {}
        }
    }
    if let (Some((id, protocol)), Some(parent)) = (tag, lower) {
        info.vlan = Some(Vlan {
            id,
            protocol,
            parent,
            parent_elsewhere: lower_elsewhere,
        });
    }
    Some(info)
}

fn xdp(nest: &[u8]) -> Option<XdpAttachment> {
    let (mut mode, mut program) = (None, None);
    for (kind, value) in attributes(nest) {
        match kind {
            // XDP_ATTACHED_DRV and so on.
            IFLA_XDP_ATTACHED => {
                mode = match value.first()? {
                    0 => None,
                    1 => Some("native"),
                    2 => Some("generic"),
                    3 => Some("offload"),
                    _ => Some("several"),
                }
            }
            IFLA_XDP_PROG_ID => program = u32_at(value, 0),
            _ => {}
        }
    }
    mode.map(|mode| XdpAttachment { mode, program })
}

/// The kind and, for a VLAN sub-interface, its id and protocol.
fn link_info(nest: &[u8]) -> (Option<String>, Option<(u16, u16)>) {
    let (mut name, mut data) = (None, None);
    for (kind, value) in attributes(nest) {
        match kind {
            libc::IFLA_INFO_KIND => name = Some(text(value)),
            libc::IFLA_INFO_DATA => data = Some(value),
            _ => {}
        }
    }
    let tag = match (name.as_deref(), data) {
        (Some("vlan"), Some(data)) => {
            let (mut id, mut protocol) = (None, 0x8100);
            for (kind, value) in attributes(data) {
                match kind {
                    IFLA_VLAN_ID => id = u16_at(value, 0),
                    // In network byte order, alone among these.
                    IFLA_VLAN_PROTOCOL => {
                        protocol = u16_at(value, 0).map_or(protocol, u16::from_be);
                    }
                    _ => {}
                }
            }
            id.map(|id| (id, protocol))
        }
        _ => None,
    };
    (name, tag)
}

impl InterfaceInfo {
    fn complete(&mut self, ethtool: &Ethtool) {
        self.driver = ethtool.driver(self.index);
        if let Some(queues) = ethtool.queues(self.index) {
            self.rx_queues = queues;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attributes on end, as netlink lays them out.
    pub(crate) fn nest(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, value) in attributes {
            bytes.extend_from_slice(&u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    fn link(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![0, 0];
        body.extend_from_slice(&ARPHRD_ETHER.to_ne_bytes());
        body.extend_from_slice(&7_u32.to_ne_bytes());
        body.extend_from_slice(&0x1_1043_u32.to_ne_bytes());
        body.extend_from_slice(&[0; 4]);
        body.extend(nest(attributes));
        body
    }

    /// As net/8021q/vlan_netlink.c `vlan_fill_info` and net/core/rtnetlink.c
    /// `rtnl_fill_ifinfo` lay it out; nests may or may not carry the flag.
    #[test]
    fn a_vlan_sub_interface_names_its_tag_and_its_parent() {
        let data = nest(&[
            (5, &[0x81, 0]),
            (1, &42_u16.to_ne_bytes()),
            (2, &[1, 0, 0, 0]),
        ]);
        let kind = nest(&[(1, b"vlan\0"), (2 | 0x8000, &data)]);
        let body = link(&[
            (libc::IFLA_IFNAME, b"eth0.42\0"),
            (libc::IFLA_MTU, &1496_u32.to_ne_bytes()),
            (libc::IFLA_LINK, &3_u32.to_ne_bytes()),
            (libc::IFLA_LINKINFO, &kind),
            (libc::IFLA_ADDRESS, &[2, 0, 0, 0, 0, 42]),
        ]);
        let info = parse(&body).unwrap();
        assert_eq!((info.index, info.name.as_str()), (7, "eth0.42"));
        assert_eq!(info.mac, Some([2, 0, 0, 0, 0, 42]));
        assert_eq!(info.mtu, 1496);
        assert!(info.up && info.carrier && info.ethernet && !info.no_arp);
        assert_eq!(info.kind.as_deref(), Some("vlan"));
        let expected = Vlan {
            id: 42,
            protocol: 0x8100,
            parent: 3,
            parent_elsewhere: false,
        };
        assert_eq!(info.vlan, Some(expected));
    }

    #[test]
    fn an_outer_tag_and_a_parent_elsewhere_are_told() {
        let data = nest(&[(5, &[0x88, 0xa8]), (1, &42_u16.to_ne_bytes())]);
        let kind = nest(&[(1, b"vlan\0"), (2, &data)]);
        let body = link(&[
            (libc::IFLA_LINK, &3_u32.to_ne_bytes()),
            (libc::IFLA_LINK_NETNSID, &0_u32.to_ne_bytes()),
            (libc::IFLA_LINKINFO, &kind),
        ]);
        let vlan = parse(&body).unwrap().vlan.unwrap();
        assert_eq!(vlan.protocol, 0x88a8);
        assert!(vlan.parent_elsewhere);
    }

    #[test]
    fn an_xdp_program_is_told_with_its_mode() {
        let with = |attached: u8, rest: &[(u16, &[u8])]| {
            let mode = [attached];
            let mut inner = vec![(IFLA_XDP_ATTACHED, &mode[..])];
            inner.extend_from_slice(rest);
            parse(&link(&[(libc::IFLA_XDP, &nest(&inner))]))
                .unwrap()
                .xdp
        };
        let id = 77_u32.to_ne_bytes();
        let attached = |mode, program| Some(XdpAttachment { mode, program });
        assert_eq!(with(0, &[]), None);
        assert_eq!(with(1, &[(5, &id), (4, &id)]), attached("native", Some(77)));
        assert_eq!(with(2, &[(4, &id)]), attached("generic", Some(77)));
        assert_eq!(with(4, &[(5, &id), (6, &id)]), attached("several", None));
    }

    #[test]
    fn other_link_layers_and_short_answers() {
        // ARPHRD_NONE (tun) with no address; an InfiniBand address of 20 bytes.
        let mut body = link(&[(libc::IFLA_ADDRESS, &[0; 20])]);
        body[2..4].copy_from_slice(&0xfffe_u16.to_ne_bytes());
        let info = parse(&body).unwrap();
        assert!(!info.ethernet);
        assert_eq!(info.mac, None);
        for length in 0..16 {
            assert_eq!(parse(&body[..length]), None);
        }
    }
}
