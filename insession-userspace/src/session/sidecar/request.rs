//! A conversation of ours: one request, sent once the connection is open, and again
//! where it is not acknowledged (RFC 6298, go-back-N). When all of it is, it is what
//! probes are made of. The response is acknowledged, and read by nobody.

use alloc::vec::Vec;

use super::{Role, Sidecar};
use crate::session::connection::Phase;
use crate::session::{Session, SessionOptions, Transmit, TransmitKind};
use crate::time::{Duration, Instant};
use crate::trace::Verdict;
use crate::wire::tcp::flags;
use crate::wire::template::Varying;

/// Octets that a segment carries: what fits into any frame that a link takes.
const SEGMENT: u32 = 158;
/// And at least, whatever the peer says.
const LEAST: u32 = 16;
/// Segments in flight (RFC 6928 §2).
const IN_FLIGHT: u32 = 10;
/// The least time after which one is sent again (RFC 6298 §2.4).
const AGAIN: Duration = Duration::from_secs(1);

/// How far the request has come.
#[derive(Debug)]
pub(super) struct Asking {
    /// Octets that were sent, and those of them that were acknowledged.
    sent: u32,
    acknowledged: u32,
    /// Octets that ever were: those behind a time-out are sent again.
    most: u32,
    /// When its first octet was sent first; before, the SYN's moment is what counts.
    begun: Option<Instant>,
    /// When what is not acknowledged was sent last, or other octets were acknowledged.
    last: Instant,
    /// How long an acknowledgment is waited for.
    timeout: Duration,
}

impl Session {
    /// It sends this request when it is open, and probes inside it. To be called before
    /// anything else.
    pub fn carry(&mut self, request: Vec<u8>, now: Instant) {
        self.set_sidecar(Role::Request(Asking {
            sent: 0,
            acknowledged: 0,
            most: 0,
            begun: None,
            last: now,
            timeout: AGAIN,
        }));
        if let Some(sidecar) = self.sidecar_mut() {
            sidecar.stretch.data = request;
        }
    }

    #[inline]
    fn asking(&self) -> Option<(&Asking, u32)> {
        match self.sidecar()? {
            Sidecar {
                role: Role::Request(asking),
                stretch,
            } => Some((asking, stretch.len())),
            _ => None,
        }
    }

    fn asking_mut(&mut self) -> Option<&mut Asking> {
        match &mut self.sidecar_mut()?.role {
            Role::Request(asking) => Some(asking),
            Role::Adopted(_) => None,
        }
    }

    /// The connection is open: whether the request comes before probes.
    pub(in crate::session) fn asks_first(&mut self) -> bool {
        let Some((asking, octets)) = self.asking() else {
            return false;
        };
        if asking.acknowledged == octets {
            // From here on its length is what bounds probes.
            self.connection.snd_wnd = octets;
            return false;
        }
        let first = self.connection.snd_una();
        let rtt = self.handshake().map_or(Duration::ZERO, |shake| shake.rtt);
        self.connection.phase = Phase::Asking;
        if let Some(sidecar) = self.sidecar_mut() {
            sidecar.stretch.first = first;
        }
        if let Some(asking) = self.asking_mut() {
            // RFC 6298 §2.2, of one measurement.
            asking.timeout = AGAIN.max(rtt * 3);
        }
        true
    }

    /// The sequence number of what is sent next and is no probe.
    pub(in crate::session) fn send_next(&self) -> u32 {
        let una = self.connection.snd_una();
        match (self.connection.phase, self.asking()) {
            (Phase::Asking, Some((asking, _))) => {
                una.wrapping_add(asking.sent - asking.acknowledged)
            }
            _ => una,
        }
    }

    /// The sequence number that the peer expects next, if all arrived that was sent.
    pub(in crate::session) fn close_at(&self) -> u32 {
        let una = self.connection.snd_una();
        let asking = self.asking();
        una.wrapping_add(asking.map_or(0, |(asking, _)| asking.most - asking.acknowledged))
    }

    /// How many octets of the request may go out now.
    fn askable(&self) -> u32 {
        let Some((asking, octets)) = self.asking() else {
            return 0;
        };
        let flying = asking.sent - asking.acknowledged;
        let window = self.connection.snd_wnd.min(IN_FLIGHT * SEGMENT);
        let mss = self.handshake().map_or(SEGMENT, |shake| shake.mss.into());
        let segment = mss.clamp(LEAST, SEGMENT);
        (octets - asking.sent)
            .min(window.saturating_sub(flying))
            .min(segment)
    }

    /// Whether some may.
    pub(in crate::session) fn request_is_due(&self) -> bool {
        self.askable() > 0
    }

    /// The next segment of the request.
    pub(in crate::session) fn request_segment(
        &mut self,
        ttl: u8,
        now: Instant,
    ) -> Option<Transmit> {
        let octets = self.askable();
        let sequence = self.send_next();
        let asking = self.asking_mut().filter(|_| octets > 0)?;
        if asking.sent == asking.acknowledged {
            asking.last = now;
        }
        asking.begun.get_or_insert(now);
        asking.sent += octets;
        asking.most = asking.most.max(asking.sent);
        let segment = self.connection.segment(now, ttl, sequence, flags::PSH);
        Some(Transmit {
            alone: None,
            kind: TransmitKind::Data,
            segment: Varying {
                payload_len: octets as u16,
                ..segment
            },
        })
    }

    /// When it is sent again, and when it is given up.
    pub(in crate::session) fn request_timers(
        &self,
        options: &SessionOptions,
    ) -> Option<(Instant, Instant)> {
        let (asking, _) = self.asking()?;
        let begun = asking.begun.unwrap_or(self.cold.opening.last_control);
        Some((
            asking.last + asking.timeout,
            begun + options.handshake_timeout,
        ))
    }

    /// Whether either has come.
    pub(in crate::session) fn request_timeout(&mut self, options: &SessionOptions, now: Instant) {
        let Some((again, deadline)) = self.request_timers(options) else {
            return;
        };
        if deadline <= now {
            let detail = Some("the request was not acknowledged".into());
            self.opening_failed(options, now, Verdict::HandshakeTimeout, detail);
        } else if again <= now
            && let Some(asking) = self.asking_mut()
        {
            asking.sent = asking.acknowledged;
            asking.last = now;
            // RFC 6298 §5.5.
            asking.timeout *= 2;
        }
    }

    /// An acknowledgment of the request, or of less; `false` where it is of something
    /// that was never sent.
    pub(in crate::session) fn request_acknowledged(&mut self, at: Instant, number: u32) -> bool {
        let more = number.wrapping_sub(self.connection.snd_una());
        let Some(sidecar) = self.sidecar_mut() else {
            return false;
        };
        let Role::Request(asking) = &mut sidecar.role else {
            return false;
        };
        // What was sent before a time-out may be acknowledged behind it.
        if more > asking.most - asking.acknowledged {
            return false;
        }
        if more > 0 {
            asking.acknowledged += more;
            asking.sent = asking.sent.max(asking.acknowledged);
            asking.last = at;
            self.connection.advance(more);
        }
        true
    }

    /// Whether all of it is.
    pub(in crate::session) fn is_asked(&self) -> bool {
        let asked = self.asking();
        asked.is_some_and(|(asking, octets)| asking.acknowledged == octets)
    }
}
