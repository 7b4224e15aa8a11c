//! A link that times what it costs itself, and sees when it falls quiet: for
//! links in memory, whose network is not to be counted as the engine's.

use std::net::SocketAddr;
use std::time::Duration;

use insession_common::flow::SessionId;

use crate::link::{Link, LinkError, Received, clock};
use crate::session::Flow;
use crate::time::Instant;
use crate::trace::LinkInfo;

/// Waits in a row without a frame in or out after which a link is quiet.
const QUIET: u32 = 8;

/// Another link, timed.
///
/// Timed are [`Link::flush`] and [`Link::wait`], in which a link in memory makes
/// the network's answers, by the thread's own time on a processor, so that time in
/// which others ran is nobody's. A clock reading before and after is some 200 ns a
/// batch, which few sessions, with small batches, feel. What
/// [`Link::receive`] costs it beside what its caller does with the frames is not
/// timed, which would take a clock reading a frame.
pub(super) struct Metered<'a> {
    inner: &'a mut dyn Link,
    inside: Duration,
    quiet: u32,
    /// Called each time it is quiet.
    when_quiet: &'a mut dyn FnMut(),
}

impl<'a> Metered<'a> {
    pub(super) fn new(inner: &'a mut dyn Link, when_quiet: &'a mut dyn FnMut()) -> Self {
        Metered {
            inner,
            inside: Duration::ZERO,
            quiet: 0,
            when_quiet,
        }
    }

    /// Time inside of the link so far.
    pub(super) fn inside(&self) -> Duration {
        self.inside
    }

    fn timed<T>(&mut self, call: impl FnOnce(&mut dyn Link) -> T) -> T {
        let before = clock::thread();
        let answer = call(self.inner);
        self.inside += clock::thread().saturating_sub(before);
        answer
    }
}

impl Link for Metered<'_> {
    fn info(&self) -> LinkInfo {
        self.inner.info()
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn add_flow(&mut self, flow: &Flow, session: SessionId) -> Result<(), LinkError> {
        self.inner.add_flow(flow, session)
    }

    fn add_alone(&mut self, flow: &Flow, session: SessionId) -> Result<(), LinkError> {
        self.inner.add_alone(flow, session)
    }

    fn remove_flow(&mut self, flow: &Flow) {
        self.inner.remove_flow(flow);
    }

    fn departures(&self, times: &mut [Instant]) -> usize {
        self.inner.departures(times)
    }

    fn batch(&self) -> usize {
        self.inner.batch()
    }

    fn room(&mut self) -> usize {
        self.inner.room()
    }

    fn transmit(&mut self, fill: &mut dyn FnMut(&mut [u8]) -> usize) -> Result<(), LinkError> {
        self.inner.transmit(fill)
    }

    fn flush(&mut self) -> Result<(), LinkError> {
        self.quiet = 0;
        self.timed(|inner| inner.flush())
    }

    fn in_flight(&mut self) -> usize {
        self.inner.in_flight()
    }

    fn receive(
        &mut self,
        budget: usize,
        each: &mut dyn FnMut(Received<'_>),
    ) -> Result<usize, LinkError> {
        let count = self.inner.receive(budget, each)?;
        if count > 0 {
            self.quiet = 0;
        }
        Ok(count)
    }

    fn upcoming(&mut self, sessions: &mut [SessionId]) -> usize {
        self.inner.upcoming(sessions)
    }

    fn wait(&mut self, until: Instant) -> Result<(), LinkError> {
        self.quiet += 1;
        if self.quiet >= QUIET {
            (self.when_quiet)();
        }
        self.timed(|inner| inner.wait(until))
    }

    fn waker(&self) -> Option<std::sync::Arc<std::os::fd::OwnedFd>> {
        self.inner.waker()
    }

    fn counters(&mut self) -> Vec<(&'static str, u64)> {
        self.inner.counters()
    }

    fn longest_packet(&self) -> u32 {
        self.inner.longest_packet()
    }

    fn kernel_owns_connections(&self) -> bool {
        self.inner.kernel_owns_connections()
    }

    fn port_taken(&self, local: SocketAddr) -> bool {
        self.inner.port_taken(local)
    }
}
