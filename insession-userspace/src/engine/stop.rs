//! How a worker ends before its work is done: stopped from outside, which
//! closes every connection first, or with a dead link, which cannot.

use super::jobs::{Job, Jobs, Supply};
use super::worker::{HEARTBEAT, Worker};
use crate::link::LinkError;
use crate::time::{Duration, Instant};
use crate::trace::Verdict;
use insession_common::flow::SessionId;

/// By when all closing segments should be out. The pace is raised above the
/// run's rate if it must be for that: a connection left open costs its server
/// minutes, a few packets above the rate cost nobody.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// When connections that are still open are given up: twice what the pace takes,
/// for a link that has no room all that while.
const GIVE_UP_AFTER: Duration = Duration::from_secs(4);

impl Worker<'_> {
    /// Begins to close when the run was stopped, or when nobody reads what it
    /// finds; gives up what is still open long after.
    pub(super) fn look_for_stop(&mut self, now: Instant) {
        match self.stopping {
            None => {
                if self.shared.is_stopped() {
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

    fn close_all(&mut self, now: Instant) {
        tracing::debug!(open = self.open.len(), "stopping");
        self.pacer
            .hasten(now, self.open.len() as f64 / CLOSE_WITHIN.as_secs_f64());
        for id in self.ids() {
            if let Some(open) = self.open.get_mut(id) {
                open.session.abort(now, Verdict::Interrupted, None);
                self.settle(id, now);
            }
        }
    }

    /// The link is dead: every open session and every job to come ends with
    /// verdict `error`. Returns when the supply has ended.
    pub(super) fn fail(&mut self, jobs: &mut dyn Jobs, error: &LinkError, now: Instant) {
        self.set_busy(false);
        let detail = error.to_string();
        for id in self.ids() {
            if let Some(open) = self.open.get_mut(id) {
                open.session
                    .abort(now, Verdict::Error, Some(detail.clone()));
                self.finish(id, now);
            }
        }
        loop {
            self.tally.publish(self.shared.stats);
            self.outbox.drain_blocking();
            match jobs.poll() {
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
        (0..self.open.indices() as u32)
            .filter_map(|slot| self.open.id_at(slot))
            .collect()
    }
}
