//! What the options of probing mean together: checked once, before anything is
//! opened.

use std::net::IpAddr;
use std::sync::Arc;

use super::{CloseName, LinkName, Probing};
use crate::cli::data::files;
use crate::cli::exit::Failure;
use crate::dns::Family;
use crate::engine::record::Asked;
use crate::owners::Owners;
use crate::session::{CloseMode, FIRST_PORT, SessionOptions};
use crate::targets::spec::{Host, TargetSpec};
use crate::trace::Method;
use crate::wire::ip;

impl Probing {
    /// What sessions have in common.
    ///
    /// # Errors
    /// A usage error that names input, reason and mend.
    pub fn session(&self) -> Result<SessionOptions, Failure> {
        if let Some(other) = self.on_handshake_failure {
            let (usual, other) = (self.method, other);
            let mend = match (usual.is_in_session(), other.is_in_session()) {
                (true, false) => None,
                (false, _) => Some(format!(
                    "--method {} opens no sessions; leave it out",
                    usual.as_str()
                )),
                (true, true) => Some(format!(
                    "{} needs a handshake, too; name a method that needs none",
                    other.as_str()
                )),
            };
            if let Some(mend) = mend {
                return Err(Failure::usage(format!(
                    "--on-handshake-failure {}: {mend}",
                    other.as_str()
                )));
            }
        }
        if self.first_ttl > self.max_ttl {
            return Err(Failure::usage(format!(
                "--first-ttl {}: it is above --max-ttl {}; lower the one or raise the other",
                self.first_ttl, self.max_ttl
            )));
        }
        if self.close == CloseName::Fin && self.over.link == LinkName::Packet {
            return Err(Failure::usage(
                "--close fin: on the packet link the kernel owns the connections, and closes them by RST; use --close rst, or --link xdp",
            ));
        }
        if self.mtu && self.method != Method::InSession {
            return Err(Failure::usage(format!(
                "--mtu: it is measured inside a session, and --method {} opens none of its own; use --method insession, or leave it out",
                self.method.as_str()
            )));
        }
        Ok(SessionOptions {
            method: self.method,
            first_ttl: self.first_ttl,
            max_ttl: self.max_ttl,
            probes: self.probes,
            probe_timeout: self.timeout,
            handshake_timeout: self.handshake_timeout,
            gap_limit: self.gap_limit,
            close: match self.close {
                CloseName::Rst => CloseMode::Rst,
                CloseName::Fin => CloseMode::Fin,
            },
            dscp: self.dscp,
            mtu: self.mtu,
            ..SessionOptions::default()
        })
    }

    /// What a target is asked for that says nothing else.
    #[must_use]
    pub fn asked(&self) -> Asked {
        let method = self.method;
        let port = match method {
            Method::Sidecar => 80,
            method if method.protocol(false) == ip::PROTOCOL_UDP => FIRST_PORT,
            _ => 443,
        };
        Asked {
            port: self.port.unwrap_or(port),
            method,
        }
    }

    /// Whose addresses are, where that is asked for: by the files that say so.
    ///
    /// # Errors
    /// When there are none, or they cannot be read.
    pub fn owners(&self) -> Result<Option<Arc<Owners>>, Failure> {
        if !self.as_lookups && self.data.is_empty() {
            return Ok(None);
        }
        let owners = files::load(&self.data, &files::directories())?;
        Ok(Some(Arc::new(owners)))
    }

    /// Which addresses of names are traced.
    ///
    /// # Errors
    /// Options that contradict each other.
    pub fn family(&self) -> Result<Family, Failure> {
        let family = match (self.ipv4, self.ipv6) {
            (true, _) => Family::V4,
            (_, true) => Family::V6,
            _ => Family::Any,
        };
        match (self.source, family) {
            (None, family) => Ok(family),
            (Some(source), _) if source.is_unspecified() || source.is_multicast() => {
                Err(Failure::usage(format!(
                    "--source {source}: no host has this address; name one of this machine's"
                )))
            }
            (Some(IpAddr::V4(source)), Family::V6) => Err(Failure::usage(format!(
                "--source {source}: it is IPv4, but -6 was given; leave one of them out"
            ))),
            (Some(IpAddr::V6(source)), Family::V4) => Err(Failure::usage(format!(
                "--source {source}: it is IPv6, but -4 was given; leave one of them out"
            ))),
            (Some(IpAddr::V4(_)), _) => Ok(Family::V4),
            (Some(IpAddr::V6(_)), _) => Ok(Family::V6),
        }
    }

    /// An address of the wrong family can never be traced: an input error, not a result.
    ///
    /// # Errors
    /// That it is one.
    pub fn fits(&self, target: &TargetSpec, family: Family) -> Result<(), Failure> {
        let because = self.source.map_or_else(
            || if family == Family::V4 { "-4" } else { "-6" }.to_owned(),
            |source| format!("--source {source}"),
        );
        let kind = match (&target.host, family) {
            (Host::Address(IpAddr::V4(_)), Family::V6) => "IPv4",
            (Host::Address(IpAddr::V6(_)), Family::V4) => "IPv6",
            _ => return Ok(()),
        };
        Err(Failure::usage(format!(
            "{}: it is {kind}, but {because} was given; leave one of them out",
            target.name
        )))
    }
}
