//! A scenario of many targets: a tree of shared routers, where everything that
//! goes wrong on real ways goes wrong somewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::rng::Rng;
use super::scenario::{
    Answer, Balance, End, Line, Middlebox, QuoteLength, QuoteRepair, RateLimit, Reject, Rejection,
    Router, RouterId, Scenario, Server, Stage, Step, Target,
};
use crate::time::Duration;
use crate::trace::MplsLabel;
use crate::wire::icmp::Form;

/// How many targets one of [`Scenario::internet`] may have.
pub const MAX_TARGETS: u32 = 1 << 17;

/// Routers next to us, in a row.
const CORE: usize = 2;
/// Routers in the middle.
const MIDDLE: usize = 64;
/// Targets behind one last router.
const LEAF: u32 = 16;

impl Scenario {
    /// `targets` targets at 198.18.0.0/15 (RFC 2544), each seventh at
    /// 2001:db8:2::/48 instead, behind 4 to 8 routers. `troubles` scales how
    /// often something is wrong: 0 never, 1 often.
    ///
    /// # Panics
    /// With more targets than [`MAX_TARGETS`].
    #[must_use]
    pub fn internet(seed: u64, targets: u32, troubles: f64) -> Scenario {
        assert!(
            targets <= MAX_TARGETS,
            "198.18.0.0/15 has no more addresses"
        );
        let mut maker = Maker {
            scenario: Scenario::new(),
            rng: Rng::new(seed),
            troubles,
        };
        let core: Vec<_> = (0..CORE).map(|_| maker.router()).collect();
        let middle: Vec<_> = (0..MIDDLE).map(|_| maker.router()).collect();
        let mut leaf = core.clone();
        for number in 0..targets {
            if number % LEAF == 0 {
                let count = 1 + maker.rng.below(3);
                leaf = (0..count).map(|_| maker.router()).collect();
            }
            maker.target(number, &core, &middle, &leaf);
        }
        maker.scenario
    }
}

struct Maker {
    scenario: Scenario,
    rng: Rng,
    troubles: f64,
}

impl Maker {
    /// True in `percent` of a hundred cases, all troubles on.
    fn trouble(&mut self, percent: u32) -> bool {
        self.rng.chance(f64::from(percent) / 100.0 * self.troubles)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.below(bound)
    }

    fn router(&mut self) -> RouterId {
        let number = self.scenario.routers.len() as u32;
        let mut router = Router {
            v4: Some(Ipv4Addr::from_bits(10 << 24 | number)),
            v6: Some(Ipv6Addr::from_bits(
                0x2001_0db8_0001 << 80 | u128::from(number),
            )),
            ttl: if self.below(2) == 0 { 64 } else { 255 },
            silent: self.trouble(8),
            counts_first: self.trouble(5),
            ..Router::default()
        };
        if self.trouble(20) {
            router.quote = match self.below(2) {
                0 => QuoteLength::Octets(8),
                _ => QuoteLength::Octets(28),
            };
        }
        if self.trouble(15) {
            let depth = 1 + self.below(3);
            router.labels = (1..=depth)
                .map(|nth| MplsLabel {
                    label: 16 + self.rng.below(1 << 19) as u32,
                    tc: 0,
                    bottom: nth == depth,
                    ttl: 1,
                })
                .collect();
            router.form = match self.below(3) {
                0 => Form::Legacy,
                _ => Form::Compliant,
            };
        }
        if self.trouble(5) {
            router.limit = Some(RateLimit {
                interval: Duration::from_millis(10),
                burst: 20,
            });
        }
        if self.trouble(5) {
            router.late = Some((0.2, Duration::from_millis(1 + self.below(5000))));
        }
        self.scenario.router(router)
    }

    fn line(&mut self) -> Line {
        let millionth = |rng: &mut Rng, most| Duration::from_micros(rng.below(most));
        let mut line = Line {
            latency: Duration::from_micros(50) + millionth(&mut self.rng, 20_000),
            ..Line::default()
        };
        if self.trouble(30) {
            line.jitter = millionth(&mut self.rng, 2000);
        }
        if self.trouble(10) {
            line.loss = 0.02;
        }
        if self.trouble(3) {
            line.duplicate = 0.05;
        }
        if self.trouble(3) {
            line.reorder = (0.05, millionth(&mut self.rng, 30_000));
        }
        line
    }

    fn step(&mut self, router: RouterId) -> Vec<Step> {
        let line = self.line();
        vec![Step { line, router }]
    }

    fn target(&mut self, number: u32, core: &[RouterId], middle: &[RouterId], leaf: &[RouterId]) {
        let address: IpAddr = match number % 7 {
            6 => Ipv6Addr::from_bits(0x2001_0db8_0002 << 80 | u128::from(number)).into(),
            _ => Ipv4Addr::from_bits(0xc612_0000 | number).into(),
        };
        let mut target = Target::new(address);
        let one = |branch| Stage {
            branches: vec![branch],
            balance: Balance::PerFlow,
        };
        for router in core {
            let step = self.step(*router);
            target.way.push(one(step));
        }
        let count = 1 + self.below(3);
        for _ in 0..count {
            let width = if self.trouble(20) { 2 } else { 1 };
            let branches = (0..width)
                .map(|_| {
                    let chosen = self.rng.below(middle.len() as u64) as usize;
                    self.step(middle[chosen])
                })
                .collect();
            let balance = match self.trouble(10) {
                true => Balance::PerPacket,
                false => Balance::PerFlow,
            };
            target.way.push(Stage { branches, balance });
        }
        if self.trouble(10) {
            let middlebox = self.middlebox();
            let id = self.router();
            self.scenario.routers[id.0 as usize].middlebox = Some(middlebox);
            let step = self.step(id);
            target.way.insert(1, one(step));
        }
        if self.trouble(4) {
            let id = self.router();
            self.scenario.routers[id.0 as usize].rejects = Some(Reject {
                answer: match self.below(4) {
                    0 => Rejection::TooBig(1280),
                    _ => Rejection::Unreachable(1),
                },
                only_data: self.below(2) == 0,
            });
            let step = self.step(id);
            target.way.push(one(step));
        }
        for router in leaf {
            let step = self.step(*router);
            target.way.push(one(step));
        }
        target.last = self.line();
        target.server = self.server();
        self.scenario.target(target);
    }

    fn middlebox(&mut self) -> Middlebox {
        let quotes = match self.below(3) {
            0 => QuoteRepair::None,
            1 => QuoteRepair::Fields,
            _ => QuoteRepair::Whole,
        };
        match self.below(5) {
            0 | 1 => Middlebox::Nat {
                v4: Some([203, 0, 113, 1].into()),
                v6: None,
                port: self.below(256) as u16,
                quotes,
                hides_routers: self.trouble(30),
            },
            2 | 3 => Middlebox::Sequence {
                ours: self.rng.next() as u32,
                theirs: self.rng.next() as u32,
                sack: self.below(2) == 0,
                quotes,
            },
            _ => Middlebox::Dscp(10),
        }
    }

    fn server(&mut self) -> Server {
        let mut server = Server {
            sack: !self.trouble(10),
            timestamps: !self.trouble(20),
            compresses: !self.trouble(30),
            window_scale: (!self.trouble(10)).then_some(7),
            ..Server::default()
        };
        if self.trouble(6) {
            server.answer = match self.below(2) {
                0 => Answer::Refuses,
                _ => Answer::Drops,
            };
        }
        if self.trouble(10) {
            server.banner = 1 + self.below(100) as u16;
        }
        if self.trouble(5) {
            server.window_opens = Some(Duration::from_millis(self.below(500)));
        }
        if self.trouble(5) {
            server.window = 64;
            server.window_scale = None;
        }
        if self.trouble(8) {
            let end = if self.below(2) == 0 {
                End::Fin
            } else {
                End::Rst
            };
            server.ends = Some((1 + self.below(10) as u32, end));
        }
        server
    }
}
