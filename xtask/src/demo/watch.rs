//! Looks at the servers' kernels while sessions are open: how many, and
//! whether anything reached an application.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use insession_lab::lab::{Lab, tcp_in_use};

/// Short against the time that a thousand sessions are open together, long
/// against what it takes to read two small files.
const INTERVAL: Duration = Duration::from_millis(5);

/// What was seen.
pub struct Watched {
    /// The most sockets that the servers held together at one moment.
    pub peak: usize,
    /// Bytes that applications could have read, the one time when sockets were
    /// looked at closely: when most of a thousand were open.
    pub received: Option<u64>,
    /// How many sockets that look saw.
    pub looked_at: usize,
}

/// Looking goes on until it is stopped.
pub struct Watch {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
    total: JoinHandle<Watched>,
}

impl Watch {
    /// Starts to look at these nodes.
    pub fn start(lab: &Lab, nodes: &[&str]) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let counts: Arc<Vec<AtomicUsize>> =
            Arc::new(nodes.iter().map(|_| AtomicUsize::new(0)).collect());
        let mut threads = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let (stop, counts) = (Arc::clone(&stop), Arc::clone(&counts));
            // A thread that lab.within() starts inside keeps the namespace.
            let thread = lab.within(node, move || {
                std::thread::spawn(move || -> Result<()> {
                    // Listeners, which stay.
                    let idle = tcp_in_use()?;
                    while !stop.load(Ordering::Relaxed) {
                        counts[index].store(tcp_in_use()?.saturating_sub(idle), Ordering::Relaxed);
                        std::thread::sleep(INTERVAL);
                    }
                    Ok(())
                })
            })?;
            threads.push(thread);
        }
        let namespaces: Vec<String> = nodes.iter().map(|node| lab.namespace(node)).collect();
        let asked = Arc::clone(&stop);
        let total = std::thread::spawn(move || {
            let mut watched = Watched {
                peak: 0,
                received: None,
                looked_at: 0,
            };
            while !asked.load(Ordering::Relaxed) {
                let now = counts
                    .iter()
                    .map(|count| count.load(Ordering::Relaxed))
                    .sum();
                watched.peak = watched.peak.max(now);
                if now > super::CONCURRENT && watched.received.is_none() {
                    let (bytes, sockets) = received(&namespaces);
                    watched.received = Some(bytes);
                    watched.looked_at = sockets;
                }
                std::thread::sleep(INTERVAL);
            }
            watched
        });
        Ok(Watch {
            stop,
            threads,
            total,
        })
    }

    /// Ends it.
    pub fn stop(self) -> Result<Watched> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread
                .join()
                .map_err(|_| anyhow!("a watching thread panicked"))?
                .context("watching the servers")?;
        }
        self.total
            .join()
            .map_err(|_| anyhow!("the watching thread panicked"))
    }
}

/// Bytes received in order on all established connections, and how many
/// connections there are (`ss` leaves the word out where there are none).
fn received(namespaces: &[String]) -> (u64, usize) {
    let (mut bytes, mut sockets) = (0, 0);
    for namespace in namespaces {
        let Some(text) =
            crate::command::output("ss", &["-N", namespace, "-HOtni", "state", "established"])
        else {
            continue;
        };
        for line in text.lines() {
            sockets += 1;
            bytes += line
                .split_whitespace()
                .find_map(|word| word.strip_prefix("bytes_received:")?.parse::<u64>().ok())
                .unwrap_or(0);
        }
    }
    (bytes, sockets)
}
