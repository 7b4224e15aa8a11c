//! The XDP program: bytes → `steer` → stamp → redirect. The decision itself is
//! in `insession-common`, where user space runs and tests the same code.
#![no_std]
#![no_main]

mod live;
mod log;
mod yardstick;

use core::mem::MaybeUninit;

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::bindings::{BPF_F_CURRENT_NETNS, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, XskMap};
use aya_ebpf::helpers;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use insession_common::bucket::{self, Bucket, Found};
use insession_common::counters::Counter;
use insession_common::flow::{FlowKeyV4, FlowKeyV6, PeerKey, SessionId, UNRESOLVED};
use insession_common::names;
use insession_common::stamp::{ReplyStamp, SteerKind};
use insession_common::steer::{Decision, Flows, Frame, steer};

use crate::log::log;

// The sizes here are for a loader that sets none; insession's sets them from
// the campaign and from the interface's number of queues.
#[btf_map]
static FLOW_BUCKETS: Array<Bucket, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
static PEER_BUCKETS: Array<Bucket, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
static FLOWS_V4: HashMap<FlowKeyV4, SessionId, 65536> = HashMap::new();
#[btf_map]
static FLOWS_V6: HashMap<FlowKeyV6, SessionId, 65536> = HashMap::new();
#[btf_map]
static PEERS: HashMap<PeerKey, u32, 65536> = HashMap::new();
// There may be as many local addresses as flows, but there are few: memory for
// those only.
#[btf_map]
static LOCALS: HashMap<[u8; 16], u32, 65536, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();
#[btf_map]
static PORTS: Array<u32, 65536, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
static SOCKETS: XskMap<64> = XskMap::new();
#[btf_map]
static COUNTERS: PerCpuArray<u64, { Counter::ALL.len() }> = PerCpuArray::new();

// Unset, the range is empty and nothing is ours. Plain integers: the BTF of
// aya's `Global` holds a union whose name the kernel refuses.
#[unsafe(no_mangle)]
static PORT_FIRST: u16 = 1;
#[unsafe(no_mangle)]
static PORT_LAST: u16 = 0;
#[unsafe(no_mangle)]
static STEERING: u8 = names::STEERING_FLOW;
#[unsafe(no_mangle)]
static ALONE: u8 = 0;
#[unsafe(no_mangle)]
static BLOCKS: u16 = 0;
#[unsafe(no_mangle)]
static BUCKET_KEY: bucket::Key = [0; 4];
#[unsafe(no_mangle)]
static FLOW_MASK: u32 = 0;
#[unsafe(no_mangle)]
static PEER_MASK: u32 = 0;

/// The entry.
#[xdp]
fn insession(ctx: XdpContext) -> u32 {
    run(&ctx)
}

#[inline(always)]
fn run(ctx: &XdpContext) -> u32 {
    if live::is_ours(ctx) {
        return live::send(ctx);
    }
    match steer(&Packet(ctx), &Maps(ctx)) {
        Decision::Ours {
            session,
            kind,
            l3_offset,
        } => hand_over(ctx, session, kind, l3_offset),
        Decision::Pass(reason) => pass(reason),
    }
}

#[inline(always)]
fn pass(reason: Counter) -> u32 {
    count(reason);
    XDP_PASS
}

/// Stamps the packet and redirects it to its own queue's socket.
#[inline(always)]
fn hand_over(ctx: &XdpContext, session: SessionId, kind: SteerKind, l3_offset: u16) -> u32 {
    let queue = ctx.rx_queue_index();
    // Metadata of another program would stand between the stamp and the packet,
    // where user space does not look for it.
    if ctx.metadata() < ctx.data() {
        log(log::NO_ROOM, queue);
        return pass(Counter::RedirectFailed);
    }
    // Before the packet is touched: what goes to the kernel goes there as it
    // came, without metadata. Where to is forgotten unless this function says
    // XDP_REDIRECT in the end.
    let Ok(redirect) = SOCKETS.redirect(queue, u64::from(XDP_PASS)) else {
        log(log::NO_SOCKET, queue);
        return pass(Counter::RedirectFailed);
    };
    let room = ReplyStamp::SIZE as i32;
    // SAFETY: a helper on this program's own context.
    if unsafe { helpers::bpf_xdp_adjust_meta(ctx.ctx, -room) } != 0 {
        log(log::NO_ROOM, queue);
        return pass(Counter::RedirectFailed);
    }
    let stamp = ctx.metadata();
    if stamp + ReplyStamp::SIZE > ctx.data() {
        return pass(Counter::RedirectFailed);
    }
    // SAFETY: a helper without arguments.
    let rx_ns = unsafe { helpers::bpf_ktime_get_ns() };
    // SAFETY: `SIZE` bytes from `stamp` on lie before the packet, checked
    // above; the metadata area is aligned to 4, hence the unaligned write.
    unsafe {
        (stamp as *mut ReplyStamp).write_unaligned(ReplyStamp {
            rx_ns,
            session,
            kind: kind as u8,
            zero: 0,
            l3_offset,
        });
    }
    if session == UNRESOLVED && matches!(kind, SteerKind::RewrittenQuote) {
        log(log::UNRESOLVED, queue);
    }
    count(Counter::of(kind));
    redirect
}

#[inline(always)]
fn count(counter: Counter) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: a slot of this CPU's own, and XDP does not nest on a CPU.
        unsafe { *slot += 1 };
    }
}

/// A load-time constant: the verifier knows its value, the compiler must not.
#[inline(always)]
fn constant<T: Copy>(symbol: &'static T) -> T {
    // SAFETY: a reference is valid for reads.
    unsafe { core::ptr::read_volatile(symbol) }
}

/// The frame: read through packet pointers at fixed places, by the kernel's
/// helper (Linux 5.18) elsewhere.
///
/// To a process without CAP_PERFMON the verifier forbids adding a variable to a
/// packet pointer (kernel/bpf/verifier.c, `sanitize_ptr_alu`: "pointer
/// arithmetic with it prohibited for !root"), and most headers have no fixed
/// place; for the helper CAP_BPF and CAP_NET_ADMIN are enough. It also reads
/// frames that lie in several buffers. A call of it costs some 25 ns.
struct Packet<'a>(&'a XdpContext);

impl Frame for Packet<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        // SAFETY: a helper on this program's own context.
        unsafe { helpers::bpf_xdp_get_buff_len(self.0.ctx) as usize }
    }

    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        /// For whole-word loads from it.
        #[repr(align(8))]
        struct Aligned<const N: usize>([u8; N]);
        let mut bytes = MaybeUninit::<Aligned<N>>::uninit();
        // SAFETY: the helper writes `N` bytes into a buffer of `N`.
        let error = unsafe {
            helpers::bpf_xdp_load_bytes(
                self.0.ctx,
                offset as u32,
                bytes.as_mut_ptr().cast(),
                N as u32,
            )
        };
        if error != 0 {
            return None;
        }
        // SAFETY: the helper returned 0: it has written all of them.
        Some(unsafe { bytes.assume_init() }.0)
    }

    #[inline(always)]
    fn read_at<const AT: usize, const N: usize>(&self) -> Option<[u8; N]> {
        /// For whole-word stores to it.
        #[repr(align(8))]
        struct Aligned<const N: usize>([u8; N]);
        let start = self.0.data();
        if start + AT + N > self.0.data_end() {
            return None;
        }
        let from = start + AT;
        if AT % 4 != 2 || !N.is_multiple_of(4) {
            // SAFETY: `N` bytes from `AT` on lie inside the packet, checked above.
            return Some(unsafe { *(from as *const [u8; N]) });
        }
        let mut bytes = MaybeUninit::<Aligned<N>>::uninit();
        let to = bytes.as_mut_ptr().cast::<u64>();
        let mut word = 0;
        while word < N / 8 {
            // SAFETY: the same bytes, eight at a time. They stand as the kernel
            // aligns IP headers (NET_IP_ALIGN) where its processor wants that,
            // hence two halves; elsewhere a word may stand anywhere.
            unsafe {
                let half = (from as *const u32).add(2 * word);
                to.add(word).write(joined(*half, *half.add(1)));
            }
            word += 1;
        }
        if !N.is_multiple_of(8) {
            // SAFETY: the last four.
            unsafe {
                let last = *(from as *const u32).add(2 * word);
                to.add(word).cast::<u32>().write(last);
            }
        }
        // SAFETY: all of its words were written.
        Some(unsafe { bytes.assume_init() }.0)
    }
}

/// The flows, read from the maps.
///
/// Keys are put together from words: from fields of bytes the compiler makes a
/// call of `memset` for the three zero bytes, a loop on a stack pointer that
/// the verifier forbids to a process without CAP_PERFMON. From words of eight
/// bytes, because to such a process Linux 6.1 forbids a store of four beside
/// four that it has noted as a spilled register (kernel/bpf/verifier.c,
/// `check_stack_write_fixed_off`: "attempt to corrupt spilled pointer").
struct Maps<'a>(&'a XdpContext);

impl Maps<'_> {
    /// Whether the kernel, in the interface's network namespace, has a socket
    /// for a `bpf_sock_tuple`: addresses, then ports, the sender's first.
    #[inline(always)]
    fn kernel<const N: usize>(&self, tuple: &mut [u64; N]) -> bool {
        // SAFETY: the helper reads the tuple by its size, 12 or 36 bytes: all
        // but the last half of its last word.
        let socket = unsafe {
            helpers::bpf_skc_lookup_tcp(
                self.0.ctx.cast(),
                tuple.as_mut_ptr().cast(),
                (size_of_val(tuple) - 4) as u32,
                BPF_F_CURRENT_NETNS as u64,
                0,
            )
        };
        if socket.is_null() {
            return false;
        }
        // SAFETY: a socket that the helper gave, released once.
        unsafe { helpers::bpf_sk_release(socket.cast()) };
        true
    }
}

/// The second half of the twelve bytes that IPv4 addresses begin with in the
/// IPv4-mapped form; the first eight are zero.
const V4_MAPPED: u32 = u32::from_be(0xffff);

/// The hash by which an entry's bucket is known.
#[inline(always)]
fn bucket_hash(words: [u32; 3]) -> u32 {
    let [a, b, c, d] = &BUCKET_KEY;
    bucket::hash(&[constant(a), constant(b), constant(c), constant(d)], words)
}

/// Looks for an entry in its bucket.
#[inline(always)]
fn find<const WORDS: usize>(bucket: *const Bucket, wanted: [u64; WORDS]) -> Found {
    bucket::find(wanted, |at| {
        // SAFETY: a word of an element of the map, which lives as long as the
        // program. User space may write it meanwhile, whole, hence volatile.
        unsafe { bucket.cast::<u64>().add(at).read_volatile() }
    })
}

/// Two words of four bytes as one, in the order of memory.
#[inline(always)]
fn joined(first: u32, second: u32) -> u64 {
    if cfg!(target_endian = "big") {
        ((first as u64) << 32) | second as u64
    } else {
        ((second as u64) << 32) | first as u64
    }
}

#[inline(always)]
fn words(address: [u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address;
    [
        u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
    ]
}

#[inline(always)]
fn ports([a, b]: [u8; 2], [c, d]: [u8; 2], protocol: u8) -> u64 {
    u64::from_ne_bytes([a, b, c, d, protocol, 0, 0, 0])
}

impl Flows for Maps<'_> {
    #[inline(always)]
    fn by_port(&self) -> bool {
        constant(&STEERING) == names::STEERING_PORT_RANGE
    }

    #[inline(always)]
    fn alone(&self) -> bool {
        constant(&ALONE) != 0
    }

    #[inline(always)]
    fn blocks(&self) -> u16 {
        constant(&BLOCKS)
    }

    #[inline(always)]
    fn ports(&self) -> (u16, u16) {
        (constant(&PORT_FIRST), constant(&PORT_LAST))
    }

    #[inline(always)]
    fn v4(&self, key: &FlowKeyV4) -> Option<SessionId> {
        let remote = u32::from_ne_bytes(key.remote);
        let local = u32::from_ne_bytes(key.local);
        let [a, b] = key.remote_port;
        let [c, d] = key.local_port;
        let both = u32::from_ne_bytes([a, b, c, d]);
        let hash = bucket_hash([remote, local, both]);
        let wanted = bucket::flow(remote, local, both, UNRESOLVED);
        if let Some(bucket) = FLOW_BUCKETS.get_ptr(hash & constant(&FLOW_MASK)) {
            match find::<{ bucket::FLOW }>(bucket, wanted) {
                Found::Here(state) => return Some(bucket::session(state)),
                Found::Nowhere => return None,
                Found::Elsewhere => {}
            }
        }
        let words = [
            joined(remote, local),
            ports(key.remote_port, key.local_port, key.protocol),
        ];
        // SAFETY: as large, more than aligned, and every bit pattern is a key.
        let key = unsafe { &*words.as_ptr().cast::<FlowKeyV4>() };
        // SAFETY: the value is copied at once; a word is written whole.
        unsafe { FLOWS_V4.get(key) }.copied()
    }

    #[inline(always)]
    fn v6(&self, key: &FlowKeyV6) -> Option<SessionId> {
        let [a, b] = words(key.remote);
        let [c, d] = words(key.local);
        let ports = ports(key.remote_port, key.local_port, key.protocol);
        let words = [a, b, c, d, ports];
        // SAFETY: as above.
        let key = unsafe { &*words.as_ptr().cast::<FlowKeyV6>() };
        // SAFETY: as above.
        unsafe { FLOWS_V6.get(key) }.copied()
    }

    #[inline(always)]
    fn has_peer(&self, key: &PeerKey) -> bool {
        let [a, b] = words(key.remote);
        let [c, d] = key.remote_port;
        let [.., e, f, g, h, i, j, k, l] = key.remote;
        if a == 0 && u32::from_ne_bytes([e, f, g, h]) == V4_MAPPED {
            let (host, port) = (u32::from_ne_bytes([i, j, k, l]), u16::from_ne_bytes([c, d]));
            let hash = bucket_hash([host, u32::from(port), 0]);
            if let Some(bucket) = PEER_BUCKETS.get_ptr(hash & constant(&PEER_MASK)) {
                match find::<{ bucket::PEER }>(bucket, bucket::peer(host, port)) {
                    Found::Here(_) => return true,
                    Found::Nowhere => return false,
                    Found::Elsewhere => {}
                }
            }
        }
        let words = [a, b, ports([c, d], [key.protocol, 0], 0)];
        // SAFETY: larger by the last half word, which is not read.
        let key = unsafe { &*words.as_ptr().cast::<PeerKey>() };
        // SAFETY: as above.
        unsafe { PEERS.get(key) }.is_some_and(|live| *live > 0)
    }

    #[inline(always)]
    fn has_local(&self, address: &[u8; 16]) -> bool {
        let words = words(*address);
        // SAFETY: as above.
        let key = unsafe { &*words.as_ptr().cast::<[u8; 16]>() };
        // SAFETY: as above.
        unsafe { LOCALS.get(key) }.is_some_and(|live| *live > 0)
    }

    #[inline(always)]
    fn has_port(&self, port: u16) -> bool {
        PORTS.get(u32::from(port)).is_some_and(|live| *live > 0)
    }

    #[inline(always)]
    fn kernel_v4(&self, key: &FlowKeyV4) -> bool {
        let mut tuple = [
            joined(
                u32::from_ne_bytes(key.remote),
                u32::from_ne_bytes(key.local),
            ),
            ports(key.remote_port, key.local_port, 0),
        ];
        self.kernel(&mut tuple)
    }

    #[inline(always)]
    fn kernel_v6(&self, key: &FlowKeyV6) -> bool {
        let [a, b] = words(key.remote);
        let [c, d] = words(key.local);
        let mut tuple = [a, b, c, d, ports(key.remote_port, key.local_port, 0)];
        self.kernel(&mut tuple)
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
