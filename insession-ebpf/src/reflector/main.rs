//! The reflector, for test beds: on the far end of a veth pair it answers as a
//! whole network would, out of where the question came in. What it answers is in `insession-common`,
//! where user space runs the same code.
//!
//! A frame's head is read into a buffer, the reply is made in another one and
//! written back over a packet of its length. That costs two helper calls, and
//! it makes room towards the head, where there always is some.
//!
//! To load it takes CAP_PERFMON, for a length is a difference of packet pointers.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::btf_maps::{Array, PerCpuArray};
use aya_ebpf::helpers;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use insession_common::reflect::{
    ADDRESS_PAD, Counter, FRAME_BYTES, FRAME_WORDS, Frame, Network, READ_BYTES, reflect,
};

#[btf_map]
static NETWORK: Array<[u64; 3], 1> = Array::new();
#[btf_map]
static REFLECTED: PerCpuArray<u64, { Counter::ALL.len() }> = PerCpuArray::new();
#[btf_map]
static REQUEST: PerCpuArray<[u32; FRAME_WORDS], 1> = PerCpuArray::new();
#[btf_map]
static REPLY: PerCpuArray<[u32; FRAME_WORDS], 1> = PerCpuArray::new();

/// Octets of an Ethernet header; the kernel gives no shorter frames.
const ETHERNET: u32 = 14;

/// The entry.
#[xdp]
fn reflector(ctx: XdpContext) -> u32 {
    let (Some(words), Some(request), Some(reply)) =
        (NETWORK.get(0), REQUEST.get_ptr_mut(0), REPLY.get_ptr_mut(0))
    else {
        return XDP_DROP;
    };
    let network = Network::from_words(*words);
    // SAFETY: this CPU's own, and XDP does not nest on a CPU; `Frame` is an array
    // of words, and the values of maps are aligned to 8.
    let (request, reply) = unsafe { (&mut *request.cast::<Frame>(), &mut *reply.cast::<Frame>()) };

    let spare = &raw mut reply.words[FRAME_WORDS - 2];
    let forget = |value: u64| {
        // SAFETY: the buffer's last 8 bytes, aligned as the buffer is; no reply
        // reaches them.
        unsafe {
            spare.cast::<u64>().write_volatile(value);
            spare.cast::<u64>().read_volatile()
        }
    };

    let length = (ctx.data_end() - ctx.data()) as u32;
    // What lies behind the Ethernet header, within bounds that the verifier sees.
    let read = forget(u64::from(
        length.min(READ_BYTES as u32).wrapping_sub(ETHERNET),
    )) as u32
        & 0xff;
    if read > READ_BYTES as u32 - ETHERNET {
        return drop(Counter::Truncated as u32);
    }
    let read = ETHERNET + read;
    clear(request);
    // SAFETY: the helper writes `read` octets behind the padding, at most
    // `READ_BYTES`, which the buffer has.
    let error = unsafe {
        let start = request.words.as_mut_ptr().cast::<u8>().add(ADDRESS_PAD);
        helpers::bpf_xdp_load_bytes(ctx.ctx, 0, start.cast(), read)
    };
    if error != 0 {
        return drop(Counter::Truncated as u32);
    }

    let answer = reflect(&network, request, length, reply, &forget);
    if answer.counter == Counter::Gateway as u32 {
        count(answer.counter);
        return XDP_PASS;
    }
    if answer.length == 0 {
        return drop(answer.counter);
    }
    let written = forget(u64::from(answer.written.wrapping_sub(ETHERNET))) as u32 & 0xff;
    if written > FRAME_BYTES as u32 - ETHERNET {
        return drop(Counter::NoRoom as u32);
    }
    let written = ETHERNET + written;
    let shorter = length as i32 - answer.length as i32;
    // SAFETY: a helper on this program's own context; no pointer into the packet
    // is used behind it.
    if shorter != 0 && unsafe { helpers::bpf_xdp_adjust_head(ctx.ctx, shorter) } != 0 {
        return drop(Counter::NoRoom as u32);
    }
    // SAFETY: the helper reads `written` octets behind the padding, at most
    // `FRAME_BYTES`, which the buffer has.
    let error = unsafe {
        let start = reply.words.as_mut_ptr().cast::<u8>().add(ADDRESS_PAD);
        helpers::bpf_xdp_store_bytes(ctx.ctx, 0, start.cast(), written)
    };
    if error != 0 {
        return drop(Counter::NoRoom as u32);
    }
    count(answer.counter);
    // Out again where it came in. XDP_TX would do the same for less, but veth
    // polls a peer for it only if that has a program (drivers/net/veth.c,
    // `veth_xdp_flush`); for a redirect NAPI is enough, which GRO brings.
    // SAFETY: a helper that takes numbers.
    unsafe { helpers::bpf_redirect(ctx.ingress_ifindex() as u32, 0) as u32 }
}

/// Zeros what is read of a request: eight octets at a time, which the compiler
/// would make a call of a loop over single ones of.
#[inline(always)]
fn clear(request: &mut Frame) {
    let start = request.words.as_mut_ptr().cast::<u64>();
    let mut at = 0;
    while at < (ADDRESS_PAD + READ_BYTES).div_ceil(8) {
        // SAFETY: inside the buffer, which is aligned to 8.
        unsafe { start.add(at).write_volatile(0) };
        at += 1;
    }
}

#[inline(always)]
fn drop(reason: u32) -> u32 {
    count(reason);
    XDP_DROP
}

#[inline(always)]
fn count(counter: u32) {
    if let Some(slot) = REFLECTED.get_ptr_mut(counter) {
        // SAFETY: a slot of this CPU's own, and XDP does not nest on a CPU.
        unsafe { *slot += 1 };
    }
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Not reached: a program that could panic would not pass the verifier.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
