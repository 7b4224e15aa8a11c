//! The classic BPF filter on the AF_PACKET socket: it spares us the copies of
//! what is surely not ours. `SO_ATTACH_FILTER` needs no CAP_BPF.
//!
//! It lets through more than [`insession_common::steer`] takes, never less: the
//! decision is made there. Where the two would have to be kept in step in
//! detail (VLAN tags in the frame, IPv6 extension headers), everything passes.

use libc::sock_filter;

/// Where a jump leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Next,
    Pass,
    Drop,
    Label(&'static str),
}

enum Step {
    Label(&'static str),
    Load {
        code: u16,
        at: u32,
    },
    Jump {
        code: u16,
        value: u32,
        yes: To,
        no: To,
    },
}

const ETHERTYPE: u32 = 12;
const IP: u32 = 14;
const TCP_IN_IPV6: u32 = IP + 40;
/// `SKF_AD_OFF + SKF_AD_PKTTYPE`, as the kernel's unsigned field holds it.
const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();

const fn code(class: u32, size: u32, mode: u32) -> u16 {
    (class | size | mode) as u16
}
const LOAD_BYTE: u16 = code(libc::BPF_LD, libc::BPF_B, libc::BPF_ABS);
const LOAD_HALF: u16 = code(libc::BPF_LD, libc::BPF_H, libc::BPF_ABS);
/// Relative to the length of the IPv4 header.
const LOAD_BYTE_BEHIND: u16 = code(libc::BPF_LD, libc::BPF_B, libc::BPF_IND);
const LOAD_HALF_BEHIND: u16 = code(libc::BPF_LD, libc::BPF_H, libc::BPF_IND);
/// X = the length of the IPv4 header at this offset.
const MEASURE: u16 = code(libc::BPF_LDX, libc::BPF_B, libc::BPF_MSH);
const MASK: u16 = code(libc::BPF_ALU, libc::BPF_AND, libc::BPF_K);
const EQUAL: u16 = code(libc::BPF_JMP, libc::BPF_JEQ, libc::BPF_K);
const AT_LEAST: u16 = code(libc::BPF_JMP, libc::BPF_JGE, libc::BPF_K);
const ABOVE: u16 = code(libc::BPF_JMP, libc::BPF_JGT, libc::BPF_K);
const RETURN: u16 = code(libc::BPF_RET, 0, libc::BPF_K);

/// The filter for local ports `first` to `last`: segments to them, ICMP errors,
/// and our own kernel's SYNs from them on their way out. Where there are probes that
/// stand alone, all IP that comes in passes. With `any_own`, all segments of our kernel's
/// from these ports, and of each frame no more than [`WATCHED`].
pub(super) fn program(first: u16, last: u16, alone: bool, any_own: bool) -> Vec<sock_filter> {
    use To::{Drop, Label, Next, Pass};
    let or_pass = |label| match alone {
        true => Pass,
        false => Label(label),
    };
    // SYN without ACK; of all flags no bit is looked at.
    let (mask, syn) = match any_own {
        true => (0, 0),
        false => (0x12, 0x02),
    };
    let load = |code, at| Step::Load { code, at };
    let jump = |code, value: u32, yes, no| Step::Jump {
        code,
        value,
        yes,
        no,
    };
    let in_range = || {
        [
            jump(AT_LEAST, first.into(), Next, Drop),
            jump(ABOVE, last.into(), Drop, Pass),
        ]
    };
    let mut steps = vec![
        load(LOAD_BYTE, PACKET_TYPE),
        jump(
            EQUAL,
            u32::from(libc::PACKET_OUTGOING),
            Label("outgoing"),
            Next,
        ),
        load(LOAD_HALF, ETHERTYPE),
        jump(EQUAL, 0x0800, or_pass("in-v4"), Next),
        jump(EQUAL, 0x86dd, or_pass("in-v6"), Label("tagged")),
        //
        Step::Label("in-v4"),
        load(MEASURE, IP),
        load(LOAD_BYTE, IP + 9),
        jump(EQUAL, 1, Label("icmp"), Next),
        jump(EQUAL, 6, Next, Drop),
        load(LOAD_HALF_BEHIND, IP + 2),
    ];
    steps.extend(in_range());
    steps.extend([
        Step::Label("icmp"),
        load(LOAD_BYTE_BEHIND, IP),
        // Destination unreachable, time exceeded, parameter problem.
        jump(EQUAL, 3, Pass, Next),
        jump(EQUAL, 11, Pass, Next),
        jump(EQUAL, 12, Pass, Drop),
        //
        Step::Label("in-v6"),
        load(LOAD_BYTE, IP + 6),
        jump(EQUAL, 6, Label("tcp-v6"), Next),
        jump(EQUAL, 58, Next, Label("extension")),
        load(LOAD_BYTE, TCP_IN_IPV6),
        // Types below 128 are errors (RFC 4443 §2.1).
        jump(AT_LEAST, 128, Drop, Pass),
        Step::Label("extension"),
        // Not UDP, which is most of the rest.
        jump(EQUAL, 17, Drop, Pass),
        Step::Label("tcp-v6"),
        load(LOAD_HALF, TCP_IN_IPV6 + 2),
    ]);
    steps.extend(in_range());
    steps.extend([
        Step::Label("outgoing"),
        load(LOAD_HALF, ETHERTYPE),
        jump(EQUAL, 0x0800, Label("out-v4"), Next),
        jump(EQUAL, 0x86dd, Next, Label("tagged")),
        load(LOAD_BYTE, IP + 6),
        jump(EQUAL, 6, Next, Drop),
        load(LOAD_BYTE, TCP_IN_IPV6 + 13),
        load(MASK, mask),
        jump(EQUAL, syn, Next, Drop),
        load(LOAD_HALF, TCP_IN_IPV6),
    ]);
    steps.extend(in_range());
    steps.extend([
        Step::Label("out-v4"),
        load(MEASURE, IP),
        load(LOAD_BYTE, IP + 9),
        jump(EQUAL, 6, Next, Drop),
        load(LOAD_BYTE_BEHIND, IP + 13),
        load(MASK, mask),
        jump(EQUAL, syn, Next, Drop),
        load(LOAD_HALF_BEHIND, IP),
    ]);
    steps.extend(in_range());
    steps.extend([
        // The outer tag is metadata mostly; a frame that has one in it has two,
        // or its device does not take them apart.
        Step::Label("tagged"),
        jump(EQUAL, 0x8100, Pass, Next),
        jump(EQUAL, 0x88a8, Pass, Next),
        jump(EQUAL, 0x9100, Pass, Drop),
    ]);
    assemble(&steps, if any_own { WATCHED } else { u32::MAX })
}

/// Octets of a frame of a connection that is watched, which may be a busy one: a whole
/// packet as it goes over Ethernet, and so any error. What segmentation offload puts
/// together is cut.
const WATCHED: u32 = 1_600;

/// Jumps go forward by at most 255; the whole program is shorter. Of what passes, so
/// many octets do.
fn assemble(steps: &[Step], octets: u32) -> Vec<sock_filter> {
    let length = steps
        .iter()
        .filter(|step| !matches!(step, Step::Label(_)))
        .count();
    let place = |label: &str| {
        let before = steps
            .iter()
            .take_while(|step| !matches!(step, Step::Label(name) if *name == label));
        before
            .filter(|step| !matches!(step, Step::Label(_)))
            .count()
    };
    let mut program = Vec::with_capacity(length + 2);
    for step in steps {
        let here = program.len();
        let offset = |to: To| {
            let there = match to {
                To::Next => here + 1,
                // The two instructions at the end.
                To::Pass => length,
                To::Drop => length + 1,
                To::Label(label) => place(label),
            };
            debug_assert!(there > here && there - here <= 256);
            u8::try_from(there.saturating_sub(here + 1)).unwrap_or(u8::MAX)
        };
        match *step {
            Step::Label(_) => {}
            Step::Load { code, at } => program.push(sock_filter {
                code,
                jt: 0,
                jf: 0,
                k: at,
            }),
            Step::Jump {
                code,
                value,
                yes,
                no,
            } => {
                let (jt, jf) = (offset(yes), offset(no));
                program.push(sock_filter {
                    code,
                    jt,
                    jf,
                    k: value,
                });
            }
        }
    }
    for k in [octets, 0] {
        program.push(sock_filter {
            code: RETURN,
            jt: 0,
            jf: 0,
            k,
        });
    }
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::flows::FlowTable;
    use crate::net::socket::set_option;
    use etherparse::{IpNumber, PacketBuilder};
    use insession_common::flow::{FlowKey, PROTOCOL_TCP};
    use insession_common::steer::{Decision, steer};
    use proptest::prelude::*;
    use std::io;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    const FIRST: u16 = 61000;
    const LAST: u16 = 61009;

    /// The kernel's own interpreter: a pair of sockets, one of which has the
    /// filter. Nothing on it is outgoing.
    struct Kernel(UnixDatagram, UnixDatagram);

    impl Kernel {
        fn new() -> Self {
            let (near, far) = UnixDatagram::pair().unwrap();
            far.set_nonblocking(true).unwrap();
            let steps = program(FIRST, LAST, false, false);
            let filter = libc::sock_fprog {
                len: steps.len().try_into().unwrap(),
                filter: steps.as_ptr().cast_mut(),
            };
            let name = libc::SO_ATTACH_FILTER;
            set_option(far.as_fd(), libc::SOL_SOCKET, name, &filter).unwrap();
            Kernel(near, far)
        }

        fn passes(&self, frame: &[u8]) -> bool {
            assert_eq!(self.0.send(frame).unwrap(), frame.len());
            let mut buffer = [0; 2048];
            match self.1.recv(&mut buffer) {
                // Whole, or not at all.
                Ok(length) => {
                    assert_eq!(length, frame.len());
                    true
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    false
                }
            }
        }
    }

    const NEAR: [u8; 4] = [198, 18, 1, 1];
    const FAR: [u8; 4] = [198, 18, 1, 2];
    const NEAR6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    const FAR6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

    fn table() -> FlowTable {
        let mut table = FlowTable::new(FIRST, LAST);
        for (local, remote) in [
            ("198.18.1.1:61000", "198.18.1.2:80"),
            ("198.18.1.1:61009", "198.18.1.2:80"),
            ("[fd00::1]:61000", "[fd00::2]:80"),
            ("[fd00::1]:61009", "[fd00::2]:80"),
        ] {
            let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
            let key = FlowKey::new(local, remote, PROTOCOL_TCP).unwrap();
            let _ = table.insert(&key, 1).unwrap();
        }
        table
    }

    fn ethernet() -> etherparse::PacketBuilderStep<etherparse::Ethernet2Header> {
        PacketBuilder::ethernet2([2; 6], [4; 6])
    }

    fn segment_v4(port: u16) -> Vec<u8> {
        let mut frame = Vec::new();
        let ip = ethernet().ipv4(FAR, NEAR, 60);
        ip.tcp(80, port, 1, 2).write(&mut frame, &[]).unwrap();
        frame
    }

    fn segment_v6(port: u16) -> Vec<u8> {
        let mut frame = Vec::new();
        let ip = ethernet().ipv6(FAR6, NEAR6, 60);
        ip.tcp(80, port, 1, 2).write(&mut frame, &[]).unwrap();
        frame
    }

    /// The IP packet of a probe, as routers quote it.
    fn quoted(v6: bool) -> Vec<u8> {
        let mut packet = Vec::new();
        let step = if v6 {
            PacketBuilder::ipv6(NEAR6, FAR6, 1)
        } else {
            PacketBuilder::ipv4(NEAR, FAR, 1)
        };
        let tcp = step.tcp(61000, 80, 9, 2);
        tcp.write(&mut packet, &[0]).unwrap();
        packet
    }

    fn icmp(v6: bool, icmp_type: u8) -> Vec<u8> {
        let mut message = vec![icmp_type, 0, 0, 0, 0, 0, 0, 0];
        message.extend(quoted(v6));
        let mut frame = Vec::new();
        if v6 {
            let ip = ethernet().ipv6([9; 16], NEAR6, 60);
            ip.write(&mut frame, IpNumber::IPV6_ICMP, &message).unwrap();
        } else {
            let ip = ethernet().ipv4([9; 4], NEAR, 60);
            ip.write(&mut frame, IpNumber::ICMP, &message).unwrap();
        }
        frame
    }

    fn tagged(mut frame: Vec<u8>, protocol: [u8; 2]) -> Vec<u8> {
        frame.splice(12..12, [protocol[0], protocol[1], 0, 42]);
        frame
    }

    /// IPv4 with 8 bytes of options.
    fn with_options(mut frame: Vec<u8>) -> Vec<u8> {
        frame[14] = 0x47;
        let length = u16::from_be_bytes([frame[16], frame[17]]) + 8;
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        frame.splice(34..34, [1; 8]);
        frame
    }

    /// IPv6 with a destination options header of 8 bytes.
    fn with_extension(mut frame: Vec<u8>) -> Vec<u8> {
        let next = std::mem::replace(&mut frame[20], 60);
        let length = u16::from_be_bytes([frame[18], frame[19]]) + 8;
        frame[18..20].copy_from_slice(&length.to_be_bytes());
        frame.splice(54..54, [next, 0, 1, 4, 0, 0, 0, 0]);
        frame
    }

    fn ours() -> Vec<Vec<u8>> {
        vec![
            segment_v4(FIRST),
            segment_v4(LAST),
            segment_v6(FIRST),
            segment_v6(LAST),
            with_options(segment_v4(FIRST)),
            with_extension(segment_v6(FIRST)),
            icmp(false, 11),
            icmp(false, 3),
            with_options(icmp(false, 11)),
            icmp(true, 3),
            icmp(true, 1),
            icmp(true, 2),
            with_extension(icmp(true, 3)),
            tagged(segment_v4(FIRST), [0x81, 0]),
            tagged(icmp(true, 3), [0x88, 0xa8]),
            tagged(tagged(segment_v6(FIRST), [0x81, 0]), [0x91, 0]),
        ]
    }

    #[test]
    fn what_is_ours_passes() {
        let (kernel, table) = (Kernel::new(), table());
        for (number, frame) in ours().iter().enumerate() {
            let decision = steer(&frame.as_slice(), &table);
            assert!(matches!(decision, Decision::Ours { .. }), "{number}");
            assert!(kernel.passes(frame), "{number}");
        }
    }

    #[test]
    fn what_is_surely_not_ours_is_dropped() {
        let kernel = Kernel::new();
        let mut udp = Vec::new();
        let ip = ethernet().ipv4(FAR, NEAR, 60);
        ip.udp(53, FIRST).write(&mut udp, &[0; 20]).unwrap();
        let mut udp6 = Vec::new();
        let ip = ethernet().ipv6(FAR6, NEAR6, 60);
        ip.udp(53, FIRST).write(&mut udp6, &[0; 20]).unwrap();
        let mut arp = vec![0; 60];
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        let cut = segment_v4(FIRST)[..35].to_vec();
        for (number, frame) in [
            segment_v4(FIRST - 1),
            segment_v4(LAST + 1),
            segment_v6(FIRST - 1),
            segment_v6(LAST + 1),
            with_options(segment_v4(LAST + 1)),
            icmp(false, 0),
            icmp(false, 8),
            icmp(true, 128),
            icmp(true, 135),
            udp,
            udp6,
            arp,
            cut,
        ]
        .iter()
        .enumerate()
        {
            assert!(!kernel.passes(frame), "{number}");
        }
    }

    proptest! {
        /// Bytes changed at will, frames cut at will: the filter never drops
        /// what the steering decision takes.
        #[test]
        fn it_drops_nothing_that_is_steered(
            which in 0_usize..16,
            changes in prop::collection::vec((0_usize..120, any::<u8>()), 0..4),
            cut in 0_usize..160,
        ) {
            let (kernel, table) = (Kernel::new(), table());
            let mut frame = ours().swap_remove(which);
            for (at, byte) in changes {
                if let Some(slot) = frame.get_mut(at) {
                    *slot = byte;
                }
            }
            frame.truncate(cut.max(14));
            if let Decision::Ours { .. } = steer(&frame.as_slice(), &table) {
                prop_assert!(kernel.passes(&frame));
            }
        }
    }
}
