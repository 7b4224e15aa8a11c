//! Getting written frames out, and frames back: kicks and completions.

use std::io;

use super::XdpLink;
use crate::link::LinkError;

/// How many calls in a row may send nothing before the rest of a batch is left
/// to the next [`crate::link::Link::flush`] or `wait`.
const VAIN_KICKS: u32 = 4;

impl XdpLink {
    /// Takes sent frames back; whether there were any.
    pub(super) fn reclaim(&mut self) -> bool {
        let Some(queue) = self.queues.first_mut() else {
            return false;
        };
        let (returned, unknown) = queue.reclaim();
        self.returned |= returned > 0;
        self.unknown_frames += unknown;
        returned > 0
    }

    /// Has the kernel send what stands in the TX ring, if it wants to be asked.
    ///
    /// In copy mode one call sends at most 32 frames on kernels before 6.17, and
    /// stops with EAGAIN when the socket's buffer is full; so it is called again
    /// as long as that gets frames out. That it did shows in the TX ring on newer
    /// kernels; older ones (6.1, 6.12) say how far they are there only when they
    /// have taken all that they saw, and until then only frames that come back
    /// tell. In zero-copy mode the driver goes on by itself.
    pub(super) fn kick(&mut self) -> Result<(), LinkError> {
        let always = !self.need_wakeup;
        let mut vain = 0;
        let mut left = u32::MAX;
        let mut came_back = false;
        loop {
            let Some((queue, ring)) = self.queues.first_mut().and_then(|queue| {
                let untaken = queue.transmit.as_mut()?.ring.untaken();
                let wanted = always || queue.transmit.as_ref()?.ring.needs_wakeup();
                (wanted && untaken > 0).then_some((queue, untaken))
            }) else {
                return Ok(());
            };
            vain = if ring < left || came_back {
                0
            } else {
                vain + 1
            };
            left = ring;
            if vain == VAIN_KICKS {
                return Ok(());
            }
            let zero_copy = queue.zero_copy;
            let answer = queue.kick_tx();
            match answer.as_ref().err().and_then(io::Error::raw_os_error) {
                None if zero_copy => return Ok(()),
                None | Some(libc::EINTR) => came_back = false,
                // Buffers or completion ring full, driver busy, no memory: all
                // pass, and all are helped by taking frames back.
                Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS) => came_back = self.reclaim(),
                Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => return Err(self.down()),
                Some(_) => {
                    return answer.map_err(|source| LinkError::System {
                        what: format!("interface {}: sending", self.device.name()),
                        source,
                    });
                }
            }
        }
    }
}
