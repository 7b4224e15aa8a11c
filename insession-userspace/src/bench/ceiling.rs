//! What the link does without a protocol: frames of a probe's length, laid out
//! beforehand, through the same [`Link::transmit`] and [`Link::flush`] as the
//! engine's, in batches of the same size; and frames that the far end sends,
//! taken from [`Link::receive`] and not looked at.
//!
//! Three ceilings:
//! * **tx**: nothing answers. With the reflector: in-order RSTs of a probe's
//!   length, which it takes and drops. On a user's interface: the same, to the
//!   named targets.
//! * **tx-answered**: with the reflector only: probes whose TTL ends on the way,
//!   so that every frame is answered; the answers are taken from the ring and
//!   dropped. It is what the far end's work costs a sender whose processor it
//!   shares.
//! * **rx**: with a far end that is ours only: it sends segments of one flow as
//!   fast as AF_PACKET does. Where the receiver has time left, the sender is the
//!   bound, and the time a frame takes the receiver is the figure to look at.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::cpu::{Spent, Thread};
use super::trial::{self, LinkChoice};
use super::{BenchError, Figure, Ground, Settings};
use crate::link::packet::{PacketLink, PacketOptions};
use crate::link::{Link, LinkError};
use crate::session::Flow;
use crate::wire::tcp::flags;
use crate::wire::template::{Ends, SegmentOptions, Template, Varying};

/// Flows that take turns, so that a multi-queue far end sees several.
const FLOWS: usize = 64;
/// Frames taken in at a time.
const BUDGET: usize = 256;
/// Longest sleep where there is nothing to do.
const NAP: Duration = Duration::from_millis(1);

/// How ceilings are measured.
#[derive(Clone, Debug)]
pub struct CeilingOptions {
    /// Which link.
    pub link: LinkChoice,
    /// Frames a kick; `None`: as many as suit the link.
    pub batch: Option<usize>,
}

/// One ceiling.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Ceiling {
    /// Frames a second.
    pub frames: Figure,
    /// The thread's time a frame, ns.
    pub cpu: Figure,
    /// Of that outside of the kernel.
    pub user: Figure,
    /// Part of the thread's time that it did not sleep.
    pub busy: Figure,
    /// Part of what was sent that did not arrive (rx only).
    pub lost: Figure,
}

/// The ceilings of a link.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Ceilings {
    /// Of a frame, octets.
    pub frame_octets: usize,
    /// Frames a kick.
    pub batch: usize,
    /// The link.
    pub link: String,
    /// Nothing answers.
    pub tx: Ceiling,
    /// Everything is answered, the answers are dropped.
    pub tx_answered: Option<Ceiling>,
    /// The far end sends.
    pub rx: Option<Ceiling>,
    /// Why a ceiling is missing.
    pub missing: Option<String>,
}

/// What one run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    /// Frames sent or received.
    pub frames: u64,
    /// Seconds.
    pub seconds: f64,
    /// The thread's time.
    pub spent: Spent,
    /// Frames that the far end sent.
    pub offered: Option<u64>,
}

impl Run {
    /// Frames a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.frames as f64 / self.seconds
    }
}

impl Ceiling {
    fn of(runs: &[Run]) -> Self {
        let figure = |value: &dyn Fn(&Run) -> f64| Figure::new(runs.iter().map(value));
        let each = |seconds: f64, run: &Run| seconds * 1e9 / run.frames as f64;
        Ceiling {
            frames: figure(&Run::rate),
            cpu: figure(&|run| each(run.spent.total(), run)),
            user: figure(&|run| each(run.spent.user, run)),
            busy: figure(&|run| run.spent.total() / run.seconds),
            lost: Figure::of(runs.iter().map(|run| {
                let offered = run.offered? as f64;
                Some(((offered - run.frames as f64) / offered).max(0.0))
            })),
        }
    }
}

/// Measures all that there are.
///
/// # Errors
/// When the link does not open or fails, or the measurement is ended.
pub fn measure(
    ground: &Ground,
    options: &CeilingOptions,
    settings: &Settings<'_>,
) -> Result<Ceilings, BenchError> {
    let mut ceilings = Ceilings::default();
    let (mut bare, mut answered, mut received) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=settings.rounds {
        settings.step(&format!("ceiling, round {round}: sending"))?;
        bare.push(transmit(ground, options, Answered::No, settings)?);
        if ground.has_reflector() {
            settings.step(&format!("ceiling, round {round}: sending, answered"))?;
            answered.push(transmit(ground, options, Answered::Yes, settings)?);
        }
        if ground.far().is_some() {
            settings.step(&format!("ceiling, round {round}: receiving"))?;
            received.push(receive(ground, options, settings)?);
        }
    }
    let sample = Frames::new(ground, Answered::No)?;
    ceilings.frame_octets = sample.frames.first().map_or(0, Vec::len);
    let link = trial::open(ground, &options.link)?;
    ceilings.batch = options.batch.unwrap_or_else(|| link.batch());
    ceilings.link = trial::link_words(&link.info());
    ceilings.tx = Ceiling::of(&bare);
    ceilings.tx_answered = (!answered.is_empty()).then(|| Ceiling::of(&answered));
    ceilings.rx = (!received.is_empty()).then(|| Ceiling::of(&received));
    if ceilings.rx.is_none() {
        ceilings.missing = Some(
            "rx: no far end of ours that sends on request; run without --interface for a veth pair"
                .to_owned(),
        );
    }
    Ok(ceilings)
}

/// Whether the far end answers what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// It takes frames and drops them.
    No,
    /// It answers each.
    Yes,
}

/// Sends as fast as the link takes it, once.
///
/// # Errors
/// As [`measure`].
pub fn transmit(
    ground: &Ground,
    options: &CeilingOptions,
    answered: Answered,
    settings: &Settings<'_>,
) -> Result<Run, BenchError> {
    let frames = Frames::new(ground, answered)?;
    let mut link = trial::open(ground, &options.link)?;
    if answered == Answered::Yes {
        // Answers come to us, not to the kernel.
        frames.steer(link.as_mut())?;
    }
    let most = options.batch.unwrap_or_else(|| link.batch());
    let mut turn = frames.frames.iter().cycle();
    let mut batch = |link: &mut dyn Link| -> Result<u64, LinkError> {
        let room = link.room().min(most);
        for frame in turn.by_ref().take(room) {
            link.transmit(&mut |out| {
                out.get_mut(..frame.len()).map_or(0, |out| {
                    out.copy_from_slice(frame);
                    frame.len()
                })
            })?;
        }
        if room == 0 {
            let until = link.now() + NAP;
            link.wait(until)?;
        } else {
            link.flush()?;
        }
        while link.receive(BUDGET, &mut |_| {})? == BUDGET {}
        Ok(room as u64)
    };
    timed(link.as_mut(), settings, &mut || (), &mut batch)
}

/// Receives what the far end sends, once.
///
/// # Errors
/// As [`measure`].
pub fn receive(
    ground: &Ground,
    options: &CeilingOptions,
    settings: &Settings<'_>,
) -> Result<Run, BenchError> {
    let far = ground.far().ok_or_else(|| {
        BenchError::Cannot("rx: no far end of ours; run it on a veth pair".to_owned())
    })?;
    let frames = Frames::new(ground, Answered::Yes)?;
    let mut link = trial::open(ground, &options.link)?;
    frames.steer(link.as_mut())?;
    let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| frames.send_back(&far.name, &over, &sent));
        // What is on the way at the two moments is too little to matter.
        let mut marks = Vec::new();
        let mut mark = || marks.push(sent.load(Ordering::Relaxed));
        let run = timed(link.as_mut(), settings, &mut mark, &mut |link| {
            let got = link.receive(BUDGET, &mut |_| {})?;
            if got == 0 {
                let until = link.now() + NAP;
                link.wait(until)?;
            }
            Ok(got as u64)
        });
        over.store(true, Ordering::Relaxed);
        let ended = sender.join().unwrap_or_else(|_| {
            Err(BenchError::Failed(
                "rx: the sender ended by a panic, whose message stands above".to_owned(),
            ))
        });
        let mut run = run?;
        ended?;
        run.offered = match marks[..] {
            [before, after] => Some(after - before),
            _ => None,
        };
        Ok(run)
    })
}

/// Repeats `batch` for a tenth of the duration, then for all of it; calls `mark`
/// where counting begins and where it ends.
fn timed(
    link: &mut dyn Link,
    settings: &Settings<'_>,
    mark: &mut dyn FnMut(),
    batch: &mut dyn FnMut(&mut dyn Link) -> Result<u64, LinkError>,
) -> Result<Run, BenchError> {
    let thread = Thread::current();
    let read = || thread.as_ref().and_then(Thread::read).unwrap_or_default();
    let begin = link.now() + settings.duration / 10;
    while link.now() < begin {
        batch(link)?;
    }
    mark();
    let (start, before) = (link.now(), read());
    let end = start + settings.duration;
    let mut run = Run::default();
    let mut now = start;
    while now < end {
        run.frames += batch(link)?;
        now = link.now();
        if settings.watch.is_stopped() {
            return Err(BenchError::Interrupted);
        }
    }
    mark();
    run.spent = read().since(&before);
    run.seconds = now.since(start).as_secs_f64();
    Ok(run)
}

/// Frames that are laid out beforehand.
struct Frames {
    frames: Vec<Vec<u8>>,
    flows: Vec<Flow>,
    /// What the targets would send.
    backwards: Vec<Vec<u8>>,
}

impl Frames {
    fn new(ground: &Ground, answered: Answered) -> Result<Self, BenchError> {
        let mut made = Frames {
            frames: Vec::new(),
            flows: Vec::new(),
            backwards: Vec::new(),
        };
        for number in 0..FLOWS {
            let job = ground.job(number as u64).ok_or_else(no_target)?;
            let remote = SocketAddr::new(job.target.address, job.target.port);
            // Above the default range; targets may be the same one again.
            let local = SocketAddr::new(job.route.source, 61_000 + number as u16);
            let ends = Ends {
                source_mac: job.route.source_mac,
                next_hop_mac: job.route.next_hop_mac,
                vlan: job.route.vlan,
                local,
                remote,
                dscp: 0,
                flow_label: 0,
            };
            let back = Ends {
                source_mac: ends.next_hop_mac,
                next_hop_mac: ends.source_mac,
                local: remote,
                remote: local,
                ..ends
            };
            let (ttl, bits) = match answered {
                Answered::No => (64, flags::RST),
                // Routers are nearer than any destination.
                Answered::Yes => (1 + (number % 4) as u8, flags::ACK | flags::PSH),
            };
            let varying = Varying {
                ttl,
                sequence: 1_000_000,
                acknowledgment: 2_000_000,
                flags: bits,
                window: 1024,
                options: SegmentOptions::Timestamps { tsval: 1, tsecr: 1 },
                payload_len: 1,
            };
            made.frames.push(lay_out(&ends, &varying)?);
            let varying = Varying {
                ttl: 60,
                flags: flags::ACK,
                ..varying
            };
            made.backwards.push(lay_out(&back, &varying)?);
            made.flows.push(Flow { local, remote });
        }
        Ok(made)
    }

    fn steer(&self, link: &mut dyn Link) -> Result<(), LinkError> {
        for (number, flow) in self.flows.iter().enumerate() {
            link.add_flow(flow, number as u32)?;
        }
        Ok(())
    }

    /// The far end's thread.
    fn send_back(&self, far: &str, over: &AtomicBool, sent: &AtomicU64) -> Result<(), BenchError> {
        let options = PacketOptions::new(61_000..=65_535);
        let mut link = PacketLink::open(far, &options)?;
        let mut turn = self.backwards.iter().cycle();
        while !over.load(Ordering::Relaxed) {
            let room = link.room().min(64);
            for frame in turn.by_ref().take(room) {
                link.transmit(&mut |out| {
                    out.get_mut(..frame.len()).map_or(0, |out| {
                        out.copy_from_slice(frame);
                        frame.len()
                    })
                })?;
            }
            link.flush()?;
            sent.fetch_add(room as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn lay_out(ends: &Ends, varying: &Varying) -> Result<Vec<u8>, BenchError> {
    let template = Template::new(ends).ok_or_else(no_target)?;
    let mut frame = vec![0; crate::link::MAX_FRAME];
    let length = template.write(varying, 0, &mut frame);
    frame.truncate(length);
    Ok(frame)
}

fn no_target() -> BenchError {
    BenchError::Cannot("targets: none that a frame can be laid out for; name some".to_owned())
}
