//! Sending: what the program does where the kernel runs it over live frames (see
//! [`insession_common::live`]) and not over one that an interface received.
//!
//! It is a part of the steering program and no program of its own, since the kernel
//! waits for an RCU grace period at the first and the last of a call's runs unless the
//! program hangs on some interface (kernel/bpf/dispatcher.c): milliseconds a call.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::bindings::xdp_action::XDP_DROP;
use aya_ebpf::btf_maps::{Array, DevMap};
use aya_ebpf::helpers;
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use insession_common::live::{self, SHORTEST, SLOTS, Slot};

use crate::constant;

#[unsafe(no_mangle)]
static LIVE_FROM: u32 = 0;

// The loader sets how many there are.
#[btf_map]
static LIVE_SLOTS: Array<Slot, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
static LIVE_TAKEN: Array<u64, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
static LIVE_DEVICE: DevMap<1> = DevMap::new();

/// Whether this run is to send a frame. Live frames come from the loopback, and the
/// program hangs on another interface.
#[inline(always)]
pub fn is_ours(ctx: &XdpContext) -> bool {
    let from = constant(&LIVE_FROM);
    from != 0 && ctx.ingress_ifindex() as u32 == from
}

/// Makes the frame that of the sender's next slot, and sends it.
#[inline(always)]
pub fn send(ctx: &XdpContext) -> u32 {
    // SAFETY: a helper on this program's own context.
    let before = unsafe { helpers::bpf_xdp_get_buff_len(ctx.ctx) } as u32;
    let sender = live::sender(before);
    let Some(taken) = LIVE_TAKEN.get_ptr_mut(sender) else {
        return XDP_DROP;
    };
    // SAFETY: an element of the map; nobody else touches it while the sender, who
    // is one thread, is in the call that makes this run.
    let number = unsafe { taken.read_volatile() };
    if number >= u64::from(SLOTS) {
        return XDP_DROP;
    }
    let Some(slot) = LIVE_SLOTS.get_ptr_mut(sender * SLOTS + number as u32) else {
        return XDP_DROP;
    };
    // SAFETY: an element of the map, written before the call.
    let extra = unsafe { (&raw const (*slot).extra).read_volatile() };
    let length = SHORTEST + u32::from(extra);
    // SAFETY: a helper on this program's own context.
    let error = unsafe { helpers::bpf_xdp_adjust_tail(ctx.ctx, length as i32 - before as i32) };
    if error != 0 {
        return XDP_DROP;
    }
    // SAFETY: the helper reads `length` bytes, which are never more than the slot has.
    let error = unsafe {
        let bytes = &raw mut (*slot).bytes;
        helpers::bpf_xdp_store_bytes(ctx.ctx, 0, bytes.cast(), length)
    };
    if error != 0 {
        return XDP_DROP;
    }
    let Ok(redirect) = LIVE_DEVICE.redirect(0, u64::from(XDP_DROP)) else {
        return XDP_DROP;
    };
    // SAFETY: a helper without arguments; elements of maps, as above.
    unsafe {
        (&raw mut (*slot).sent).write_volatile(helpers::bpf_ktime_get_ns());
        taken.write_volatile(number + 1);
    }
    redirect
}
