//! The kernel's answers to route requests, and for which other targets they hold.
//!
//! A route is never worked out here. The kernel chooses among the routes whose
//! prefix contains a target; so of two addresses between which no prefix begins or
//! ends, whatever its table, the kernel says the same, and is asked for one of them.
//! All prefixes come from a dump of its tables, which has in it, each as a prefix of
//! its own, the addresses about which the kernel has learnt something (a path MTU, a
//! redirect: `fib_dump_info_fnhe`, net/ipv4/route.c).
//!
//! Where the answer hangs on more than that, the kernel is asked for each target, as
//! without a cache:
//!
//! * a rule selects by anything (`ip rule`: by source, port, mark, …);
//! * a route has several next hops, or a nexthop object that may have them, or there
//!   are two of one prefix and metric;
//! * the target is one of those that the kernel treats by address: broadcast,
//!   multicast, loopback;
//! * it is of IPv6: there the choice of a source address looks at the target's;
//! * the host has so many routes that reading them takes longer than asking.
//!
//! Dump and answers are thrown away after [`AGE`]: a route that changes is seen that
//! much later.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::neighbour::family;
use super::netlink::{Netlink, Refusal, Request, attributes, u32_at};

/// How old what is known of the tables may be. A dump of some ten routes takes 50 µs:
/// shorter would show on the processor's bill, longer in traces of the way that was.
const AGE: Duration = Duration::from_millis(500);

/// With more prefixes there is no cache: a dump of so many takes some milliseconds.
const MOST: usize = 4096;

/// So many targets are asked about before anything is read: for fewer it is not worth it.
const FIRST: u32 = 16;

/// include/uapi/linux/fib_rules.h.
const FR_ACT_TO_TBL: u8 = 1;
const FIB_RULE_PERMANENT: u32 = 1;
const FRA_PRIORITY: u16 = 6;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_PROTOCOL: u16 = 21;
/// include/uapi/linux/rtnetlink.h.
pub(super) const RTA_NH_ID: u16 = 30;

/// Answers by what they hold for.
#[derive(Debug)]
pub(super) struct RouteCache<T> {
    /// For dumps alone: one that is too long is not read to its end. `None`: there is
    /// no cache.
    netlink: Option<Netlink>,
    /// Targets that were asked about before there was one.
    before: u32,
    tables: Tables,
    /// By span: what was answered, with this source address forced.
    answers: Vec<Option<(Option<IpAddr>, T)>>,
}

/// What is known of the kernel's tables.
#[derive(Debug)]
enum Tables {
    /// Not, or not any more.
    Unread,
    /// They are as they are until this moment. `None`: in no shape for a cache.
    Read(Option<Spans>, Instant),
}

/// A range of addresses that the kernel routes alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(usize);

impl<T> RouteCache<T> {
    /// Of the network namespace of this socket, which is for nothing else.
    pub(super) fn new(netlink: Netlink) -> Self {
        RouteCache {
            netlink: Some(netlink),
            before: 0,
            tables: Tables::Unread,
            answers: Vec::new(),
        }
    }

    /// The span of this address; `None`: the kernel is to be asked about it alone.
    pub(super) fn span(&mut self, address: IpAddr) -> Option<Span> {
        let IpAddr::V4(address) = address else {
            return None;
        };
        let netlink = self.netlink.as_mut()?;
        if self.before < FIRST {
            self.before += 1;
            return None;
        }
        let now = Instant::now();
        match &self.tables {
            Tables::Read(_, until) if now < *until => {}
            Tables::Read(..) | Tables::Unread => {
                self.answers.clear();
                let spans = match read(netlink) {
                    Ok(Dump::Prefixes(prefixes)) => Some(Spans::between(&prefixes)),
                    Ok(Dump::Unfit) => None,
                    Ok(Dump::TooMany) => {
                        self.netlink = None;
                        None
                    }
                    Err(refusal) => {
                        tracing::debug!(%refusal, "no dump of the routing tables");
                        None
                    }
                };
                self.tables = Tables::Read(spans, now + AGE);
            }
        }
        match &self.tables {
            Tables::Read(Some(spans), _) => spans.of(address.to_bits()),
            _ => None,
        }
    }

    /// What was answered for this span and forced source address.
    pub(super) fn get(&self, span: Span, source: Option<IpAddr>) -> Option<&T> {
        let (asked, answer) = self.answers.get(span.0)?.as_ref()?;
        (*asked == source).then_some(answer)
    }

    /// Keeps an answer. One with another source address makes room.
    pub(super) fn put(&mut self, span: Span, source: Option<IpAddr>, answer: T) {
        if self.answers.len() <= span.0 {
            self.answers.resize_with(span.0 + 1, || None);
        }
        if let Some(place) = self.answers.get_mut(span.0) {
            *place = Some((source, answer));
        }
    }

    /// As if there had been many targets, and the tables read too long ago.
    #[cfg(test)]
    pub(super) fn age(&mut self) {
        self.before = FIRST;
        self.tables = Tables::Unread;
    }
}

/// What the tables were found to be.
#[derive(Debug, PartialEq, Eq)]
enum Dump {
    /// All prefixes in them.
    Prefixes(Vec<Prefix>),
    /// Not only prefixes count, or they changed meanwhile.
    Unfit,
    /// More than [`MOST`].
    TooMany,
}

/// What one route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Prefix {
    first: u32,
    last: u32,
    table: u32,
    tos: u8,
    metric: u32,
    /// Its next hop may differ by target.
    several: bool,
}

impl Prefix {
    /// From a route's message (`struct rtmsg`, then attributes).
    fn parse(body: &[u8]) -> Option<Prefix> {
        let [_, bits, _, tos, table, ..] = *body else {
            return None;
        };
        let mut prefix = Prefix {
            first: 0,
            last: 0,
            table: table.into(),
            tos,
            metric: 0,
            several: false,
        };
        let mut address = 0;
        for (kind, value) in attributes(body.get(12..)?) {
            match kind {
                libc::RTA_DST => address = u32::from_be_bytes(value.try_into().ok()?),
                libc::RTA_TABLE => prefix.table = u32_at(value, 0)?,
                libc::RTA_PRIORITY => prefix.metric = u32_at(value, 0)?,
                libc::RTA_MULTIPATH | RTA_NH_ID => prefix.several = true,
                _ => {}
            }
        }
        let below = u32::MAX.checked_shr(bits.into()).unwrap_or(0);
        (bits <= 32).then_some(Prefix {
            first: address & !below,
            last: address | below,
            ..prefix
        })
    }
}

/// Reads rules and tables.
fn read(netlink: &mut Netlink) -> Result<Dump, Refusal> {
    // `struct fib_rule_hdr` or `struct rtmsg`.
    let mut body = [0; 12];
    body[0] = family(Ipv4Addr::UNSPECIFIED.into());
    let mut for_all = true;
    let rules = Request::dump(libc::RTM_GETRULE, &body);
    let whole = netlink.exchange(rules, |_, rule| for_all &= is_for_all(rule))?;
    if !(whole && for_all) {
        return Ok(Dump::Unfit);
    }
    let mut prefixes = Vec::new();
    let mut count = 0;
    let routes = Request::dump(libc::RTM_GETROUTE, &body);
    let whole = netlink.exchange_while(routes, |_, route| {
        count += 1;
        prefixes.extend(Prefix::parse(route));
        count <= MOST
    })?;
    Ok(if count > MOST {
        Dump::TooMany
    } else if whole && prefixes.len() == count {
        Dump::Prefixes(prefixes)
    } else {
        Dump::Unfit
    })
}

/// Whether a rule leads everything to a table, whatever it is.
fn is_for_all(body: &[u8]) -> bool {
    // `struct fib_rule_hdr`: family, prefix lengths of destination and source, TOS,
    // table, two octets reserved, action; flags.
    let Some([_, 0, 0, 0, _, _, _, FR_ACT_TO_TBL]) = body.first_chunk() else {
        return false;
    };
    u32_at(body, 8).is_some_and(|flags| flags & !FIB_RULE_PERMANENT == 0)
        && attributes(body.get(12..).unwrap_or_default()).all(|(kind, value)| match kind {
            FRA_TABLE | FRA_PRIORITY | FRA_PROTOCOL => true,
            // None is suppressed.
            FRA_SUPPRESS_PREFIXLEN => value == [0xff; 4],
            _ => false,
        })
}

/// All addresses, cut wherever a prefix begins or ends.
#[derive(Debug)]
struct Spans {
    /// Where each begins, in order; the first at 0.
    starts: Vec<u32>,
    /// Whether the kernel routes those in it alike.
    alike: Vec<bool>,
}

impl Spans {
    fn between(prefixes: &[Prefix]) -> Self {
        let mut prefixes = prefixes.to_vec();
        prefixes.sort_unstable();
        for nth in 1..prefixes.len() {
            let [before, this] = [prefixes[nth - 1], prefixes[nth]];
            let same = |prefix| Prefix {
                several: false,
                ..prefix
            };
            prefixes[nth].several |= same(before) == same(this);
        }
        let apart = [
            // This network; loopback; multicast, reserved and broadcast.
            (0, 0x00ff_ffff),
            (0x7f00_0000, 0x7fff_ffff),
            (0xe000_0000, u32::MAX),
        ];
        let singly = prefixes.iter().filter(|prefix| prefix.several);
        let singly = singly.map(|prefix| (prefix.first, prefix.last));
        let singly: Vec<_> = singly.chain(apart).collect();

        let ends = prefixes.iter().map(|prefix| (prefix.first, prefix.last));
        let mut starts = vec![0];
        for (first, last) in ends.chain(singly.iter().copied()) {
            starts.push(first);
            starts.extend(last.checked_add(1));
        }
        starts.sort_unstable();
        starts.dedup();

        // How many more of them begin than end with each span.
        let mut begin = vec![0_i32; starts.len() + 1];
        let nth = |start: u32| starts.partition_point(|other| *other < start);
        for (first, last) in singly {
            begin[nth(first)] += 1;
            begin[last.checked_add(1).map_or(starts.len(), nth)] -= 1;
        }
        let depths = begin.iter().scan(0, |depth, begin| {
            *depth += begin;
            Some(*depth)
        });
        let alike = depths.map(|depth| depth == 0).collect();
        Spans { starts, alike }
    }

    /// The span of an address, if all of it is routed alike.
    fn of(&self, address: u32) -> Option<Span> {
        let behind = self.starts.partition_point(|start| *start <= address);
        let nth = behind.checked_sub(1)?;
        self.alike.get(nth)?.then_some(Span(nth))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(text: &str) -> Prefix {
        let (address, bits) = text.split_once('/').unwrap();
        let address: Ipv4Addr = address.parse().unwrap();
        let below = u32::MAX
            .checked_shr(bits.parse().unwrap())
            .unwrap_or_default();
        Prefix {
            first: address.to_bits() & !below,
            last: address.to_bits() | below,
            table: 254,
            tos: 0,
            metric: 0,
            several: false,
        }
    }

    fn span(spans: &Spans, address: &str) -> Option<Span> {
        spans.of(address.parse::<Ipv4Addr>().unwrap().to_bits())
    }

    #[test]
    fn a_prefix_parts_what_is_in_it_from_what_is_not() {
        let spans = Spans::between(&[
            prefix("0.0.0.0/0"),
            prefix("10.0.0.0/8"),
            prefix("10.1.0.0/16"),
            prefix("10.1.2.3/32"),
        ]);
        let of = |address| span(&spans, address).unwrap();
        assert_eq!(of("9.255.255.255"), of("1.0.0.0"));
        assert_eq!(of("10.0.0.0"), of("10.0.255.255"));
        assert_eq!(of("10.1.0.0"), of("10.1.2.2"));
        assert_eq!(of("11.0.0.0"), of("126.255.255.255"));
        let parts = [
            "9.0.0.1", "10.0.0.1", "10.1.0.1", "10.1.2.3", "10.1.2.4", "10.2.0.0", "11.0.0.0",
        ];
        for (nth, one) in parts.iter().enumerate() {
            for other in &parts[..nth] {
                assert_ne!(of(one), of(other), "{one} {other}");
            }
        }
    }

    #[test]
    fn what_may_differ_by_target_is_in_no_span() {
        let several = Prefix {
            several: true,
            ..prefix("10.0.0.0/8")
        };
        // Deeper ones are in it all the same: it may be chosen there, too.
        let spans = Spans::between(&[prefix("0.0.0.0/0"), several, prefix("10.1.0.0/16")]);
        for address in ["10.0.0.0", "10.1.2.3", "10.255.255.255"] {
            assert_eq!(span(&spans, address), None, "{address}");
        }
        for address in ["9.255.255.255", "11.0.0.0"] {
            assert!(span(&spans, address).is_some(), "{address}");
        }
        // One twice, with one metric and with two.
        let again = [prefix("10.0.0.0/8"), prefix("10.0.0.0/8")];
        assert_eq!(span(&Spans::between(&again), "10.1.1.1"), None);
        let other = Prefix {
            metric: 100,
            ..again[0]
        };
        let spans = Spans::between(&[again[0], other]);
        assert!(span(&spans, "10.1.1.1").is_some());
        // Without any route at all.
        let none = Spans::between(&[]);
        for address in ["0.0.0.1", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
            assert_eq!(span(&none, address), None, "{address}");
        }
        assert!(span(&none, "8.8.8.8").is_some());
    }

    #[test]
    fn routes_are_read_and_what_is_none_is_not() {
        // 10.1.0.0/16 in table 1000, metric 7, over two next hops.
        let attribute = |kind: u16, value: &[u8]| {
            let length = (4 + value.len()) as u16;
            [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
        };
        let header = |bits| [2, bits, 0, 0, 252, 3, 0, 1, 0, 0, 0, 0];
        let plain = [
            &header(16)[..],
            &attribute(libc::RTA_DST, &[10, 1, 0, 0]),
            &attribute(libc::RTA_TABLE, &1000_u32.to_ne_bytes()),
            &attribute(libc::RTA_PRIORITY, &7_u32.to_ne_bytes()),
        ]
        .concat();
        let expected = Prefix {
            table: 1000,
            metric: 7,
            ..prefix("10.1.0.0/16")
        };
        assert_eq!(Prefix::parse(&plain), Some(expected));
        for kind in [libc::RTA_MULTIPATH, RTA_NH_ID] {
            let several = [&plain[..], &attribute(kind, &[0; 4])].concat();
            assert!(Prefix::parse(&several).unwrap().several);
        }
        let all = Prefix::parse(&header(0)).unwrap();
        assert_eq!((all.first, all.last), (0, u32::MAX));
        assert_eq!(Prefix::parse(&header(33)), None);
        assert_eq!(Prefix::parse(&header(16)[..11]), None);
        assert_eq!(Prefix::parse(&[]), None);
    }

    #[test]
    fn a_rule_that_selects_is_not_for_all() {
        let usual = [2, 0, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0];
        let unsuppressed = [8, 0, 14, 0, 255, 255, 255, 255];
        assert!(is_for_all(&usual));
        assert!(is_for_all(&[&usual[..], &unsuppressed].concat()));
        for (at, octet) in [(1, 24), (2, 32), (3, 16), (7, 6), (8, 2)] {
            let mut rule = usual;
            rule[at] = octet;
            assert!(!is_for_all(&rule), "octet {at}");
        }
        // FRA_FWMARK; a prefix length that is suppressed.
        for attribute in [[8, 0, 10, 0, 1, 0, 0, 0], [8, 0, 14, 0, 0, 0, 0, 0]] {
            assert!(!is_for_all(&[&usual[..], &attribute].concat()));
        }
        assert!(!is_for_all(&usual[..11]));
    }

    #[test]
    fn an_answer_holds_for_its_source_address() {
        let netlink = Netlink::open(netlink_sys::protocols::NETLINK_ROUTE).unwrap();
        let mut cache = RouteCache::new(netlink);
        let [one, two] = [Some(IpAddr::from([10, 0, 0, 1])), None];
        assert_eq!(cache.get(Span(3), one), None);
        cache.put(Span(3), one, 'a');
        assert_eq!(cache.get(Span(3), one), Some(&'a'));
        assert_eq!(
            (cache.get(Span(3), two), cache.get(Span(2), one)),
            (None, None)
        );
        cache.put(Span(3), two, 'b');
        assert_eq!(
            (cache.get(Span(3), one), cache.get(Span(3), two)),
            (None, Some(&'b'))
        );
    }

    proptest! {
        /// Two addresses are in one span only if every prefix has both or neither,
        /// and in none if one of several next hops has them.
        #[test]
        fn a_span_is_in_each_prefix_or_outside(
            prefixes in prop::collection::vec((0u32..64, 0u32..7, 0u32..8), 0..12),
            addresses in [0u32..64, 0u32..64],
        ) {
            // Six bits in the middle of 10.0.0.0/8.
            let at = |low: u32| 0x0a00_0000 | low << 8;
            let prefixes: Vec<_> = prefixes.iter().map(|(low, bits, several)| {
                let below = (1 << (14 - bits)) - 1;
                Prefix {
                    first: at(*low) & !below,
                    last: at(*low) | below,
                    metric: low + bits * 64,
                    several: *several == 0,
                    ..prefix("0.0.0.0/0")
                }
            }).collect();
            let spans = Spans::between(&prefixes);
            let has = |prefix: &Prefix, low| (prefix.first..=prefix.last).contains(&at(low));
            let [one, other] = addresses;
            let [first, second] = [one, other].map(|low| spans.of(at(low)));
            if first == second && first.is_some() {
                for prefix in &prefixes {
                    prop_assert_eq!(has(prefix, one), has(prefix, other));
                }
            }
            let balanced = prefixes.iter().any(|prefix| prefix.several && has(prefix, one));
            if balanced {
                prop_assert_eq!(first, None);
            }
        }
    }
}
