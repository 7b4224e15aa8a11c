//! The run's keyed hash: initial sequence numbers and timestamp offsets as
//! RFC 6528 §3 and RFC 7323 §5.4 want them, source ports (RFC 6056 §3.3.4) and
//! IPv6 flow labels (RFC 6437 §3).
//!
//! The hash is SipHash-2-4, a pseudo-random function with a 128-bit key: who
//! sees the numbers of other flows cannot tell those of this one. It stands
//! here in forty lines because the standard library's `DefaultHasher` takes no
//! key, promises no algorithm, and so could not be tested against vectors.

use std::net::{IpAddr, SocketAddr};

use crate::session::Flow;
use crate::time::Instant;

/// What a hash is for: the same flow must not give related numbers. Of one hash the
/// halves are not related either.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Domain {
    Beginning = 1,
    FlowLabel = 2,
    Port = 3,
}

/// The key of a run, ready to hash with.
#[derive(Clone, Copy, Debug)]
pub struct Secret {
    k0: u64,
    k1: u64,
}

impl Secret {
    /// From [`super::EngineOptions::secret`].
    #[must_use]
    pub fn new(key: &[u8; 16]) -> Self {
        let key = u128::from_le_bytes(*key);
        Secret {
            k0: key as u64,
            k1: (key >> 64) as u64,
        }
    }

    /// Initial sequence number: RFC 6528's `M + F(…)`, M counting 4 µs. And where the
    /// flow's TSval clock begins.
    #[must_use]
    pub fn beginning(&self, flow: &Flow, now: Instant) -> (u32, u32) {
        let hash = self.flow(Domain::Beginning, flow);
        let isn = ((now.as_nanos() / 4_000) as u32).wrapping_add(hash as u32);
        (isn, (hash >> 32) as u32)
    }

    /// IPv6 flow label: 20 bits, never 0 ("not labelled").
    #[must_use]
    pub fn flow_label(&self, flow: &Flow) -> u32 {
        (self.flow(Domain::FlowLabel, flow) as u32 & 0xf_ffff).max(1)
    }

    /// Where among the source ports the search for `remote` begins, and which counter
    /// advances for it.
    #[must_use]
    pub fn port(&self, local: IpAddr, remote: SocketAddr) -> (u32, u32) {
        let hash = self.ends(Domain::Port, local, 0, remote);
        ((hash >> 32) as u32, hash as u32)
    }

    /// Where a flow stands in a hash table of this worker's. Not SipHash: the
    /// numbers never leave the process, and may be asked for once a packet.
    #[must_use]
    pub fn flow_chain(&self, flow: &Flow) -> u32 {
        let local = fold(address(flow.local.ip()), self.k0);
        let ports = u64::from(flow.local.port()) << 16 | u64::from(flow.remote.port());
        let ends = fold(address(flow.remote.ip()) ^ u128::from(local), self.k1);
        multiply(ends ^ ports, self.k0 | 1) as u32
    }

    /// Where a remote end stands in one.
    #[must_use]
    pub fn remote_chain(&self, remote: SocketAddr) -> u32 {
        let end = fold(address(remote.ip()), self.k1);
        multiply(end ^ u64::from(remote.port()), self.k0 | 1) as u32
    }

    fn flow(&self, domain: Domain, flow: &Flow) -> u64 {
        self.ends(domain, flow.local.ip(), flow.local.port(), flow.remote)
    }

    fn ends(&self, domain: Domain, local: IpAddr, port: u16, remote: SocketAddr) -> u64 {
        if let (IpAddr::V4(near), IpAddr::V4(far)) = (local, remote.ip()) {
            let [a, b, c, d] = near.octets();
            let [e, f, g, h] = far.octets();
            let [[i, j], [k, l]] = [port, remote.port()].map(u16::to_be_bytes);
            return self.hash(&[domain as u8, a, b, c, d, e, f, g, h, i, j, k, l]);
        }
        let mut bytes = [0; 37];
        let (tag, rest) = bytes.split_at_mut(1);
        let (addresses, ports) = rest.split_at_mut(32);
        tag.fill(domain as u8);
        addresses[..16].copy_from_slice(&octets(local));
        addresses[16..].copy_from_slice(&octets(remote.ip()));
        ports[..2].copy_from_slice(&port.to_be_bytes());
        ports[2..].copy_from_slice(&remote.port().to_be_bytes());
        self.hash(&bytes)
    }

    /// SipHash-2-4 (Aumasson, Bernstein 2012).
    #[inline]
    fn hash(&self, bytes: &[u8]) -> u64 {
        let mut state = [
            self.k0 ^ 0x736f_6d65_7073_6575,
            self.k1 ^ 0x646f_7261_6e64_6f6d,
            self.k0 ^ 0x6c79_6765_6e65_7261,
            self.k1 ^ 0x7465_6462_7974_6573,
        ];
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let mut eight = [0; 8];
            eight.copy_from_slice(word);
            absorb(&mut state, u64::from_le_bytes(eight));
        }
        let mut last = [0; 8];
        let rest = words.remainder();
        last[..rest.len()].copy_from_slice(rest);
        last[7] = bytes.len() as u8;
        absorb(&mut state, u64::from_le_bytes(last));
        state[2] ^= 0xff;
        for _ in 0..4 {
            round(&mut state);
        }
        state[0] ^ state[1] ^ state[2] ^ state[3]
    }
}

fn address(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Both halves into one, keyed.
fn fold(bits: u128, key: u64) -> u64 {
    multiply(
        bits as u64 ^ key,
        (bits >> 64) as u64 ^ key.rotate_left(32) | 1,
    )
}

/// A product's two halves, so that each bit of it depends on all below.
fn multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn absorb(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    round(state);
    round(state);
    state[0] ^= word;
}

fn round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *c = c.wrapping_add(*d);
    *b = b.rotate_left(13) ^ *a;
    *d = d.rotate_left(16) ^ *c;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*b);
    *a = a.wrapping_add(*d);
    *b = b.rotate_left(17) ^ *c;
    *d = d.rotate_left(21) ^ *a;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        Secret::new(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])
    }

    fn flow(port: u16) -> Flow {
        Flow {
            local: SocketAddr::from(([192, 0, 2, 1], port)),
            remote: SocketAddr::from(([198, 51, 100, 7], 443)),
        }
    }

    #[test]
    fn hash_agrees_with_the_vectors_of_its_paper() {
        let message: Vec<u8> = (0..15).collect();
        assert_eq!(secret().hash(&message), 0xa129_ca61_49be_45e5);
        assert_eq!(secret().hash(&[]), 0x726f_db47_dd0e_0e31);
    }

    #[test]
    fn isn_moves_with_time_and_differs_by_flow_and_key() {
        let at = Instant::from_nanos(1_000_000_000);
        let later = Instant::from_nanos(1_000_004_000);
        let (isn, offset) = secret().beginning(&flow(61_000), at);
        assert_eq!(
            secret().beginning(&flow(61_000), later),
            (isn.wrapping_add(1), offset)
        );
        assert_ne!(offset, isn.wrapping_sub(250_000));
        for (secret, flow) in [
            (secret(), flow(61_001)),
            (Secret::new(&[9; 16]), flow(61_000)),
        ] {
            let other = secret.beginning(&flow, at);
            assert_ne!(other.0, isn);
            assert_ne!(other.1, offset);
        }
    }

    #[test]
    fn chains_are_even() {
        // 4,096 flows into 4,096 heads: the longest of such chains are some 7.
        let mut chains = [[0u32; 2]; 4_096];
        for last in 0..4_096u16 {
            let [high, low] = last.to_be_bytes();
            let flow = Flow {
                local: flow(61_000 + last % 7).local,
                remote: SocketAddr::from(([10, 0, high, low], 80)),
            };
            chains[secret().flow_chain(&flow) as usize % 4_096][0] += 1;
            chains[secret().remote_chain(flow.remote) as usize % 4_096][1] += 1;
        }
        for which in 0..2 {
            let longest = chains.iter().map(|chain| chain[which]).max();
            assert!(longest < Some(12), "{longest:?}");
        }
    }

    #[test]
    fn flow_labels_fit_and_are_never_zero() {
        for port in 0..2_000 {
            let label = secret().flow_label(&flow(port));
            assert!((1..=0xf_ffff).contains(&label));
        }
    }
}
