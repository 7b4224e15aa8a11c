//! The wiring: what the options open, and the engine on a thread of its own.

use std::io::Read as _;
use std::net::IpAddr;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use insession_common::flow::BLOCK;
use tokio::sync::{mpsc, oneshot};

use super::{CloseName, LinkName, LiveFramesName, Probing, XdpModeName, ZeroCopyName};
use crate::cli::exit::{self, Failure};
use crate::engine::dispatch::{self, OpenLinks, RouteFailure, Routing, Way};
use crate::engine::stats::Stats;
use crate::engine::worker::LINGER_MAX;
use crate::engine::{EngineOptions, Output, Stop, Target};
use crate::link::flows::Alone;
use crate::link::packet::{PacketLink, PacketOptions};
use crate::link::pcap::{Capture, PcapWriter};
use crate::link::xdp::{Transmission, XdpLink, XdpMode, XdpOptions, ZeroCopy};
use crate::link::{Link, LinkError, permit};
use crate::net::{self, Interface, NetError, NextHop, Router, RouterOptions};
use crate::session::{Flow, SessionOptions, has_block};
use crate::trace::LinkInfo;

/// Targets that are taken together, where they wait: who resolves them is woken once
/// for so many.
const TOGETHER: usize = 128;

/// What becomes known before there is a record: for the header of live text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The way to a target.
    Routed {
        /// The target.
        target: Target,
        /// Our address.
        source: IpAddr,
    },
    /// A link was opened.
    Linked(LinkInfo),
}

/// The engine, ready to start.
pub struct Engine {
    router: Router,
    options: EngineOptions,
    links: Links,
}

/// What crosses to the engine's thread.
pub struct Channels {
    /// Targets in.
    pub targets: mpsc::Receiver<Target>,
    /// Records and events out.
    pub outputs: mpsc::Sender<Output>,
    /// Where openings are told, if somebody wants to know.
    pub openings: Option<mpsc::UnboundedSender<Opening>>,
    /// Stops the run.
    pub stop: Arc<Stop>,
    /// What is counted.
    pub stats: Arc<Stats>,
}

impl Engine {
    /// Checks rights, interface and source, and chooses ports; `set` sets what is
    /// not an option of probing.
    ///
    /// # Errors
    /// When one of them is not to be had.
    pub fn new(
        arguments: &Probing,
        session: &SessionOptions,
        set: impl FnOnce(&mut EngineOptions),
    ) -> Result<Self, Failure> {
        check_rights(arguments)?;
        let router = Router::new(RouterOptions {
            sources: arguments.source.into_iter().collect(),
            interface: arguments.interface.clone(),
        })
        .map_err(|error| match arguments.source {
            Some(_) => Failure::usage(error.to_string()),
            None => no_link(&error),
        })?;
        let ports = match &arguments.source_ports {
            Some(ports) => ports.clone(),
            None => net::ports::default_range().map_err(|error| no_link(&error))?,
        };
        let mut options = EngineOptions {
            rate: arguments.rate,
            sessions: arguments.sessions,
            ..EngineOptions::new(session.clone(), ports.clone(), secret()?)
        };
        options.on_handshake_failure = arguments.on_handshake_failure;
        options.conversation = arguments.conversation()?;
        set(&mut options);
        let adopted = options.conversation.adopted().map(|adopted| adopted.flow);
        if let Some(flow) = adopted {
            let port = flow.local.port();
            options.ports = port..=port;
        }
        if options.blocks().is_none() && options.methods().any(has_block) {
            return Err(Failure::usage(format!(
                "--source-ports {}-{}: by this method a target takes {BLOCK} ports that begin at a multiple of that; name more of them",
                ports.start(),
                ports.end()
            )));
        }
        Ok(Engine {
            router,
            links: Links::new(arguments, options.ports.clone(), options.alone(), adopted)?,
            options,
        })
    }

    /// The file that frames are recorded in.
    #[must_use]
    pub fn capture(&self) -> Option<Arc<PcapWriter>> {
        self.links.capture.clone()
    }

    /// Starts it on a thread of its own. The receiver gets how it ended; an
    /// error of the receiver means that the thread panicked.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        self,
        channels: Channels,
    ) -> Result<oneshot::Receiver<Result<(), LinkError>>, Failure> {
        let (done, end) = oneshot::channel();
        let Channels {
            targets,
            outputs,
            openings,
            stop,
            stats,
        } = channels;
        let Engine {
            router,
            options,
            links,
        } = self;
        std::thread::Builder::new()
            .name("campaign".to_owned())
            .spawn(move || {
                let targets = Box::new(Arriving {
                    targets,
                    arrived: Vec::new(),
                });
                let mut routing = Told {
                    router,
                    openings: openings.clone(),
                };
                let open = move |interface: &Interface| {
                    let opened = links.open(interface)?;
                    // They are of one kind.
                    if let (Some(openings), Some(link)) = (&openings, opened.first()) {
                        // Fails when the report is over.
                        let _ = openings.send(Opening::Linked(link.info()));
                    }
                    Ok(opened)
                };
                let ended = dispatch::run(
                    targets,
                    &mut routing,
                    &open,
                    &options,
                    &outputs,
                    &stop,
                    &stats,
                );
                // Fails when nobody waits any more.
                let _ = done.send(ended);
            })
            .map_err(|error| {
                Failure::failed(format!(
                    "the engine's thread: {error}; raise the limit of processes (ulimit -u)"
                ))
            })?;
        Ok(end)
    }
}

/// Whether this process may open the links that may be asked for, and the interface
/// is there: what can be known before anything is begun.
///
/// # Errors
/// When one of them is not to be had.
pub fn check_rights(arguments: &Probing) -> Result<(), Failure> {
    // What every link that may be opened needs.
    let needed: &[_] = match arguments.over.link {
        LinkName::Xdp => &[permit::NET_RAW, permit::NET_ADMIN, permit::BPF],
        LinkName::Auto | LinkName::Packet => &[permit::NET_RAW],
    };
    permit::require("tracing", needed)?;
    if let Some(name) = &arguments.interface {
        net::interface(name).map_err(|error| no_link(&error))?;
    }
    Ok(())
}

/// Targets as they are resolved; those that wait already are taken together.
struct Arriving {
    targets: mpsc::Receiver<Target>,
    /// The next one is the last.
    arrived: Vec<Target>,
}

impl Iterator for Arriving {
    type Item = Target;

    fn next(&mut self) -> Option<Target> {
        if self.arrived.is_empty() {
            self.targets.blocking_recv_many(&mut self.arrived, TOGETHER);
            self.arrived.reverse();
        }
        self.arrived.pop()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.arrived.len(), None)
    }
}

/// Routing that tells the ways it finds.
struct Told {
    router: Router,
    openings: Option<mpsc::UnboundedSender<Opening>>,
}

impl Routing for Told {
    fn route(&mut self, target: &Target) -> Result<Way, RouteFailure> {
        let way = self.router.route(target)?;
        if let (Way::Known(route), Some(openings)) = (&way, &self.openings) {
            // Fails when the report is over.
            let _ = openings.send(Opening::Routed {
                target: target.clone(),
                source: route.source,
            });
        }
        Ok(way)
    }

    fn settled(&mut self, limit: Duration) -> Vec<NextHop> {
        self.router.settled(limit)
    }
}

/// Opens links as the options say.
pub struct Links {
    kind: LinkName,
    xdp: XdpOptions,
    packet: PacketOptions,
    capture: Option<Arc<PcapWriter>>,
    close: CloseName,
}

impl Links {
    /// With these local ports, for connections and for such probes; or for a connection
    /// that is there, which only the packet link watches.
    ///
    /// # Errors
    /// When the file that frames are to be recorded in cannot be written.
    pub fn new(
        arguments: &Probing,
        ports: RangeInclusive<u16>,
        alone: Alone,
        adopted: Option<Flow>,
    ) -> Result<Self, Failure> {
        let capture = arguments.pcap.as_deref().map(PcapWriter::create);
        let capture = capture.transpose().map_err(|error| {
            let name = arguments.pcap.as_deref().unwrap_or(Path::new(""));
            Failure::usage(format!(
                "--pcap {}: {error}; name a file that can be written",
                name.display()
            ))
        })?;
        let packet = PacketOptions {
            dscp: arguments.dscp,
            device: arguments.interface.clone(),
            alone,
            adopted,
            ..PacketOptions::new(ports.clone())
        };
        // The open ones, and those that linger behind them.
        let flows = arguments.sessions.saturating_add(LINGER_MAX);
        let xdp = XdpOptions {
            mode: match arguments.over.xdp_mode {
                XdpModeName::Auto => XdpMode::Auto,
                XdpModeName::Native => XdpMode::Native,
                XdpModeName::Generic => XdpMode::Generic,
            },
            zero_copy: match arguments.over.zero_copy {
                ZeroCopyName::Auto => ZeroCopy::Auto,
                ZeroCopyName::On => ZeroCopy::On,
                ZeroCopyName::Off => ZeroCopy::Off,
            },
            transmission: match arguments.over.live_frames {
                LiveFramesName::Auto => Transmission::Auto,
                LiveFramesName::On => Transmission::Live,
                LiveFramesName::Off => Transmission::Ring,
            },
            ports,
            alone,
            flows: u32::try_from(flows).unwrap_or(u32::MAX),
            // Costs the program a map and its branches: for who debugs.
            program_log: tracing::enabled!(tracing::Level::DEBUG),
            ..XdpOptions::default()
        };
        // Who asks for a kind of XDP would not get it from the packet link.
        let insists = xdp.mode != XdpMode::Auto
            || xdp.zero_copy == ZeroCopy::On
            || xdp.transmission == Transmission::Live;
        let kind = match arguments.over.link {
            _ if adopted.is_some() => LinkName::Packet,
            LinkName::Auto if insists => LinkName::Xdp,
            kind => kind,
        };
        Ok(Links {
            kind,
            xdp,
            packet,
            capture,
            close: arguments.close,
        })
    }

    /// The links of an interface.
    ///
    /// # Errors
    /// When they are not to be had.
    pub fn open(&self, interface: &Interface) -> Result<OpenLinks, LinkError> {
        let links = self.open_bare(interface)?;
        let Some(writer) = &self.capture else {
            return Ok(links);
        };
        let captured = links.into_iter().map(|link| -> Box<dyn Link + Send> {
            Box::new(Capture::new(link, Arc::clone(writer)))
        });
        Ok(captured.collect())
    }

    fn open_bare(&self, interface: &Interface) -> Result<OpenLinks, LinkError> {
        match self.kind {
            LinkName::Xdp => self.xdp(interface),
            LinkName::Packet => self.packet(interface),
            // What XDP sends over lo from an IPv4 address of this host is dropped.
            LinkName::Auto if interface.is_loopback() => self.packet_unasked(interface),
            LinkName::Auto => match self.xdp(interface) {
                Err(error) if falls_back(&error) => {
                    exit::tell(format_args!("warning: {error}"));
                    exit::tell(format_args!(
                        "warning: interface {}: going on with the packet link, where the kernel \
                         owns the connections; --link xdp forbids it",
                        interface.name
                    ));
                    self.packet_unasked(interface)
                }
                opened => opened,
            },
        }
    }

    fn xdp(&self, interface: &Interface) -> Result<OpenLinks, LinkError> {
        // More workers than processors only take turns.
        let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
        let links = XdpLink::open_shared(interface, &self.xdp, workers)?;
        Ok(links.into_iter().map(boxed).collect())
    }

    /// The packet link where it was not asked for by name.
    fn packet_unasked(&self, interface: &Interface) -> Result<OpenLinks, LinkError> {
        if self.close == CloseName::Fin {
            exit::tell(
                "warning: --close fin: the packet link closes by RST all the same; --link xdp \
                 does as it says, or fails",
            );
        }
        self.packet(interface)
    }

    fn packet(&self, interface: &Interface) -> Result<OpenLinks, LinkError> {
        let link = PacketLink::open(&interface.name, &self.packet)?;
        Ok(vec![boxed(link)])
    }
}

fn boxed(link: impl Link + Send + 'static) -> Box<dyn Link + Send> {
    Box::new(link)
}

/// Only where BPF is not to be had: an interface that is down or somebody
/// else's is for the user to mend, not to be worked around.
fn falls_back(error: &LinkError) -> bool {
    matches!(
        error,
        LinkError::NotPermitted { .. }
            | LinkError::LockedMemory { .. }
            | LinkError::Unsupported { .. }
    )
}

/// What the network of this host does not give.
#[must_use]
pub fn no_link(error: &NetError) -> Failure {
    Failure {
        code: exit::NO_LINK,
        message: error.to_string(),
    }
}

/// The key of initial sequence numbers (RFC 6528 §3), and whatever else nobody is to
/// guess.
///
/// # Errors
/// Where there is no `/dev`.
pub fn secret() -> Result<[u8; 16], Failure> {
    let mut secret = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut secret))
        .map_err(|error| {
            Failure::failed(format!(
                "/dev/urandom: {error}; mount /dev, initial sequence numbers must not be guessable"
            ))
        })?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_closed_gate_falls_back() {
        let text = String::from;
        for (error, expected) in [
            (
                LinkError::NotPermitted {
                    what: text("bpf"),
                    reason: text("CAP_BPF is missing"),
                    mend: text("grant it"),
                },
                true,
            ),
            (
                LinkError::Unsupported {
                    what: text("AF_XDP"),
                    reason: text("the kernel was built without it"),
                    mend: text("use --link packet"),
                },
                true,
            ),
            (LinkError::NoInterface(text("eth9")), false),
            (LinkError::Down(text("eth0")), false),
            (
                LinkError::Occupied {
                    interface: text("eth0"),
                    owner: text("program 7"),
                    mend: text("detach it"),
                },
                false,
            ),
        ] {
            assert_eq!(falls_back(&error), expected, "{error}");
        }
    }

    #[test]
    fn flows_that_linger_have_room_beside_the_sessions() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            arguments: Probing,
        }
        let words = ["trace", "--sessions", "100000"];
        let arguments = <Line as clap::Parser>::parse_from(words).arguments;
        let links = Links::new(&arguments, 61_000..=65_535, Alone::NONE, None).unwrap();
        assert_eq!(links.xdp.flows as usize, 100_000 + LINGER_MAX);
    }

    #[test]
    fn the_packet_link_goes_over_loopback_unless_xdp_is_asked_for() {
        let kinds = crate::net::testing::Namespace::new().run(|| {
            let lo = Interface {
                index: net::interface("lo").unwrap().index,
                name: "lo".to_owned(),
            };
            [LinkName::Auto, LinkName::Xdp, LinkName::Packet].map(|kind| {
                let links = Links {
                    close: CloseName::Rst,
                    kind,
                    xdp: XdpOptions::default(),
                    packet: PacketOptions::new(61_000..=61_999),
                    capture: None,
                };
                links.open(&lo).unwrap()[0].info().kind
            })
        });
        assert_eq!(kinds, ["packet", "xdp", "packet"]);
    }

    #[test]
    fn every_run_has_its_own_secret() {
        assert_ne!(secret().unwrap(), secret().unwrap());
    }
}
