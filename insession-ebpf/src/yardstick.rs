//! What a packet costs: two programs that are loaded to measure and never
//! attached, beside the one that is measured.
//!
//! `BPF_PROG_TEST_RUN` gives the same frame at every repetition, and a stamp
//! moves the frame's metadata further at each. [`yardstick`] runs the very
//! function that [`crate::insession`] is, takes the stamp back, and writes the
//! ends of another flow into the frame, for the next repetition: written right
//! before they are read, they would have to be forwarded from the store buffer,
//! which no frame from a NIC has. Without steering it does all the rest: the
//! difference is what steering costs.
//!
//! It writes at places that its orders choose: to load it takes CAP_PERFMON, which
//! the program that it measures does without.

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_PASS, XDP_REDIRECT};
use aya_ebpf::helpers;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use insession_common::stamp::ReplyStamp;
use insession_common::yardstick::{self, Orders};

/// Does nothing: what a program costs by being there.
#[xdp]
fn empty(_: XdpContext) -> u32 {
    XDP_PASS
}

/// Steers a frame, if its orders say so, and makes the next of it.
#[xdp]
fn yardstick(ctx: XdpContext) -> u32 {
    let Some(orders) = orders(&ctx) else {
        return XDP_ABORTED;
    };
    let action = if orders.steer == 0 {
        XDP_PASS
    } else {
        crate::run(&ctx)
    };
    let stamped = action == XDP_REDIRECT;
    let back = if stamped { ReplyStamp::SIZE as i32 } else { 0 };
    // SAFETY: a helper on this program's own context.
    if unsafe { helpers::bpf_xdp_adjust_meta(ctx.ctx, back) } != 0 {
        return XDP_ABORTED;
    }
    let state = yardstick::next(orders.state);
    let index = yardstick::pick(state, orders.span).wrapping_add(u32::from(orders.first) << 16);
    let (remote, port) = yardstick::ends(index);
    let start = ctx.data();
    if start + yardstick::SHORTEST > ctx.data_end() {
        return XDP_ABORTED;
    }
    // SAFETY: all inside `SHORTEST` bytes, checked above; words as aligned as
    // the fields of an IP header.
    unsafe {
        *(start as *mut u32) = state;
        if orders.quote == 0 {
            *((start + yardstick::SEGMENT_REMOTE) as *mut u32) = remote.to_be();
            *((start + yardstick::SEGMENT_PORT) as *mut u16) = port.to_be();
        } else {
            *((start + yardstick::QUOTE_REMOTE) as *mut u32) = remote.to_be();
            *((start + yardstick::QUOTE_PORT) as *mut u16) = port.to_be();
        }
    }
    action
}

#[inline(always)]
fn orders(ctx: &XdpContext) -> Option<Orders> {
    let start = ctx.data();
    if start + yardstick::SHORTEST > ctx.data_end() {
        return None;
    }
    // SAFETY: 12 bytes at the start of the packet, checked above.
    Some(unsafe { *(start as *const Orders) })
}
