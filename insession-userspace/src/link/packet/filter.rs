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
/// and our own kernel's SYNs from them on their way out.
pub(super) fn program(first: u16, last: u16) -> Vec<sock_filter> {
    use To::{Drop, Label, Next, Pass};
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
        jump(EQUAL, 0x0800, Label("in-v4"), Next),
        jump(EQUAL, 0x86dd, Label("in-v6"), Label("tagged")),
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
        load(MASK, 0x12),
        jump(EQUAL, 0x02, Next, Drop),
        load(LOAD_HALF, TCP_IN_IPV6),
    ]);
    steps.extend(in_range());
    steps.extend([
        Step::Label("out-v4"),
        load(MEASURE, IP),
        load(LOAD_BYTE, IP + 9),
        jump(EQUAL, 6, Next, Drop),
        load(LOAD_BYTE_BEHIND, IP + 13),
        // SYN without ACK.
        load(MASK, 0x12),
        jump(EQUAL, 0x02, Next, Drop),
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
    assemble(&steps)
}

/// Jumps go forward by at most 255; the whole program is shorter.
fn assemble(steps: &[Step]) -> Vec<sock_filter> {
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
    for k in [u32::MAX, 0] {
        program.push(sock_filter {
            code: RETURN,
            jt: 0,
            jf: 0,
            k,
        });
    }
    program
}
