//! What the links of one interface share: the XDP program, and what may be
//! closed only after it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::program::{Attached, Program};
use super::socket::Queue;

/// The program of an interface, behind a lock that is taken once a session and
/// when counters are read, never once a packet.
pub(super) struct Shared {
    // First: the program is detached before the sockets are closed. The other way
    // round, drivers have crashed under load.
    program: Mutex<Program>,
    attached: Attached,
    /// The program's counters as some link has reported them.
    reported: Mutex<Vec<u64>>,
    /// Queues of links that are gone while others go on.
    retired: Mutex<Vec<Queue>>,
}

impl Shared {
    pub(super) fn new(program: Program) -> Self {
        Shared {
            attached: program.attached(),
            program: Mutex::new(program),
            reported: Mutex::default(),
            retired: Mutex::default(),
        }
    }

    pub(super) fn attached(&self) -> Attached {
        self.attached
    }

    pub(super) fn program(&self) -> MutexGuard<'_, Program> {
        lock(&self.program)
    }

    /// Keeps the queues of a link that goes, until the program is detached.
    pub(super) fn retire(&self, queues: Vec<Queue>) {
        lock(&self.retired).extend(queues);
    }

    /// Adds to `own` what the program counted since some link last asked: so what
    /// all links report adds up to the program's counters, whoever asks last.
    pub(super) fn count(&self, own: &mut Vec<(&'static str, u64)>) {
        let mut reported = lock(&self.reported);
        let now: Vec<_> = self.program().counters().collect();
        reported.resize(now.len(), 0);
        if own.is_empty() {
            own.extend(now.iter().map(|(label, _)| (*label, 0)));
        }
        for ((before, (_, now)), (_, own)) in reported.iter_mut().zip(now).zip(own) {
            *own += now.saturating_sub(*before);
            *before = now.max(*before);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
