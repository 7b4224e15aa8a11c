//! What an interface of a node saw.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::lab::Lab;
use crate::sys::PacketSocket;
pub use crate::sys::Seen;

/// Sees every frame from when it was started.
#[derive(Debug)]
pub struct Capture {
    socket: PacketSocket,
    seen: Vec<Seen>,
}

impl Capture {
    /// Starts to look at an interface.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn start(lab: &Lab, node: &str, interface: &str) -> Result<Self> {
        Ok(Capture {
            socket: lab
                .within(node, || PacketSocket::open(interface))?
                .with_context(|| format!("{node}:{interface}"))?,
            seen: Vec::new(),
        })
    }

    /// Sends a frame of one's own out of the interface.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        self.socket.send(frame)
    }

    /// Waits for a frame that `wanted` says yes to, among all since the start.
    ///
    /// # Errors
    /// When it has not come within `limit`.
    pub fn wait_for(&mut self, limit: Duration, wanted: impl Fn(&Seen) -> bool) -> Result<Seen> {
        if let Some(seen) = self.seen.iter().find(|seen| wanted(seen)) {
            return Ok(seen.clone());
        }
        let deadline = Instant::now() + limit;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            match self.socket.next(rest.max(Duration::from_millis(1)))? {
                Some(seen) => {
                    self.seen.push(seen.clone());
                    if wanted(&seen) {
                        return Ok(seen);
                    }
                }
                None if rest.is_zero() => bail!(
                    "the frame has not come within {} s; {} others have",
                    limit.as_secs(),
                    self.seen.len()
                ),
                None => {}
            }
        }
    }

    /// All frames since the start, in their order.
    ///
    /// # Errors
    /// When some did not fit.
    pub fn finish(mut self) -> Result<Vec<Seen>> {
        while let Some(seen) = self.socket.next(Duration::ZERO)? {
            self.seen.push(seen);
        }
        let lost = self.socket.lost()?;
        if lost > 0 {
            bail!("{lost} frames were lost by the capture itself");
        }
        Ok(self.seen)
    }
}

/// Writes frames as a pcap file (nanoseconds, Ethernet), as tshark reads it.
///
/// # Errors
/// When the file cannot be written.
pub fn write_pcap(path: &Path, frames: &[Seen]) -> Result<()> {
    let mut file = Vec::new();
    let word = |file: &mut Vec<u8>, value: u32| file.extend_from_slice(&value.to_le_bytes());
    word(&mut file, 0xa1b2_3c4d);
    for value in [0x0004_0002, 0, 0, 65_536, 1] {
        word(&mut file, value);
    }
    for seen in frames {
        let length = u32::try_from(seen.bytes.len())?;
        word(&mut file, u32::try_from(seen.at / 1_000_000_000)?);
        word(&mut file, u32::try_from(seen.at % 1_000_000_000)?);
        word(&mut file, length);
        word(&mut file, length);
        file.extend_from_slice(&seen.bytes);
    }
    fs::write(path, file).with_context(|| path.display().to_string())
}
