//! How a worker ends: when its work is done, or before: stopped from outside,
//! which closes every connection first, or with a dead link, which cannot.

use super::jobs::{Job, Jobs, Supply};
use super::linger::LINGER;
use super::worker::{HEARTBEAT, POLL, Worker};
use crate::link::{Link, LinkError};
use crate::time::{Duration, Instant};
use crate::trace::Verdict;
use insession_common::flow::SessionId;

/// By when all closing segments should be out. The pace is raised above the
/// run's rate if it must be for that: a connection left open costs its server
/// minutes, a few packets above the rate cost nobody.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// When connections that are still open are given up: twice what the pace takes,
/// for a link that has no room all that while.
pub(crate) const GIVE_UP_AFTER: Duration = Duration::from_secs(4);
/// How long the link has, when all is done, to send what it was given.
const SENT_WITHIN: Duration = Duration::from_millis(500);

impl Worker<'_> {
    /// Begins no more sessions when the run was stopped; closes those that are open
    /// when their grace is over, or when nobody reads what is found; gives up what is
    /// still open long after.
    pub(super) fn look_for_stop(&mut self, now: Instant) {
        match self.stopping {
            None => {
                if self.draining.is_none() && self.shared.is_stopped() {
                    tracing::debug!(open = self.open.len(), "no more sessions begin");
                    self.draining = Some(now);
                }
                let over = self.drained_at().is_some_and(|end| end <= now);
                if over || self.draining.is_some() && self.shared.is_ended() {
                    self.stopping = Some(now + GIVE_UP_AFTER);
                    self.close_all(now);
                }
            }
            Some(give_up) if now >= give_up => {
                for id in self.ids() {
                    self.finish(id, now);
                }
            }
            Some(_) => {}
        }
    }

    /// When a drain is over.
    fn drained_at(&self) -> Option<Instant> {
        let (since, grace) = (self.draining?, self.shared.stop.grace()?);
        Some(since + grace)
    }

    /// When the next step of a stop is due.
    pub(super) fn next_step(&self) -> Option<Instant> {
        self.stopping.or_else(|| self.drained_at())
    }

    /// A stopped run does not come to this target.
    pub(super) fn leave_unbegun(&mut self, job: Job, now: Instant) {
        if self.shared.tells_unbegun() {
            let Job { target, route } = job;
            self.refuse(target, route.source, now, Verdict::Interrupted, None);
        }
    }

    fn close_all(&mut self, now: Instant) {
        tracing::debug!(open = self.open.len(), "stopping");
        self.pacer
            .hasten(now, self.open.len() as f64 / CLOSE_WITHIN.as_secs_f64());
        for id in self.ids() {
            if let Some(session) = self.open.get_mut(id) {
                session.abort(now, Verdict::Interrupted, None);
                self.settle(id, now);
            }
        }
    }

    /// All work is done: waits until what is on its way has come, on either side.
    /// Answers to what the sessions sent are for us to swallow, not for the kernel
    /// to reset; and closing segments that the link still has would go with it.
    pub(super) fn leave(&mut self, link: &mut dyn Link) -> Result<(), LinkError> {
        let begun = link.now();
        let mut last = begun + LINGER;
        if let Some(give_up) = self.stopping {
            last = last.min(give_up);
        }
        loop {
            let now = link.now();
            self.receive(link, now)?;
            let now = link.now();
            self.let_go_due(link, now);
            let lingers = self.lingering.next().filter(|_| now < last);
            let frames = link.in_flight();
            let sends = frames > 0 && now < begun + SENT_WITHIN;
            let until = match lingers {
                Some(until) if !sends => until.min(last),
                Some(until) => until.min(now + POLL),
                None if sends => now + POLL,
                None => {
                    if frames > 0 {
                        let interface = &self.info.interface;
                        tracing::warn!(
                            interface,
                            frames,
                            "closing segments were not sent: some connections may stay open"
                        );
                    }
                    return Ok(());
                }
            };
            link.wait(until)?;
        }
    }

    /// The link is dead: every open session and every job to come ends with
    /// verdict `error`; where nothing is to be told of targets that were not begun,
    /// sessions are as good as not begun, and the run's end says why. Returns when
    /// the supply has ended.
    pub(super) fn fail(&mut self, link: &mut dyn Link, jobs: &mut dyn Jobs, error: &LinkError) {
        let now = link.now();
        self.set_busy(false);
        let detail = error.to_string();
        let is_told = self.shared.tells_unbegun();
        let verdict = match is_told {
            true => Verdict::Error,
            false => Verdict::Interrupted,
        };
        for id in self.ids() {
            if let Some(session) = self.open.get_mut(id) {
                session.abort(now, verdict, Some(detail.clone()));
                self.finish(id, now);
            }
        }
        // The supply may go on for hours: what is held of the kernel's, its
        // connections above all, goes now.
        self.let_go(link, usize::MAX);
        loop {
            self.tally.publish(self.shared.stats);
            self.outbox.drain_blocking();
            let job = self.unbegun().map(Supply::Job);
            if job.is_none() && jobs.leave() {
                return;
            }
            match job.unwrap_or_else(|| jobs.poll()) {
                Supply::Job(job) if self.shared.is_stopped() || !is_told => {
                    self.leave_unbegun(job, now);
                }
                Supply::Job(Job { target, route }) => {
                    let detail = Some(detail.clone());
                    self.refuse(target, route.source, now, Verdict::Error, detail);
                }
                Supply::Later => jobs.wait(HEARTBEAT),
                Supply::Done => return,
            }
        }
    }

    /// All open sessions.
    fn ids(&self) -> Vec<SessionId> {
        self.open.ids().collect()
    }
}
