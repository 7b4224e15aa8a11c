//! What probes of `--method sidecar` hide in, as options say it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::Probing;
use crate::cli::exit::Failure;
use crate::engine::conversation::{Adopted, Conversation};
use crate::net;
use crate::session::Flow;
use crate::trace::Method;

/// `--request`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestName {
    /// A HEAD of `/`.
    Http,
    /// What stands in a file.
    File(PathBuf),
}

impl RequestName {
    /// `http`, or the name of a file.
    ///
    /// # Errors
    /// None; clap wants the type.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "http" => RequestName::Http,
            name => RequestName::File(name.into()),
        })
    }
}

/// Octets that a request has at most: what may be sent at once (RFC 6928 §2), and more
/// than any trace needs.
const MOST: usize = 14_600;
/// And at least: a probe, and an octet that is left out.
const LEAST: usize = 2;

impl Probing {
    /// What sessions carry.
    ///
    /// # Errors
    /// When the file of the request cannot be used.
    pub fn conversation(&self) -> Result<Conversation, Failure> {
        let Some(request) = &self.request else {
            return Ok(Conversation::Http);
        };
        if self.method != Method::Sidecar {
            return Err(Failure::usage(format!(
                "--request: --method {} carries none; add --method sidecar, or leave it out",
                self.method.as_str()
            )));
        }
        match request {
            RequestName::Http => Ok(Conversation::Http),
            RequestName::File(path) => {
                read(path).map(|octets| Conversation::Request(octets.into()))
            }
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let refused = |why: String| Failure::usage(format!("--request {}: {why}", path.display()));
    let octets = std::fs::read(path)
        .map_err(|error| refused(format!("{error}; name a file that can be read, or http")))?;
    match octets.len() {
        0..LEAST => Err(refused(format!(
            "it has fewer than {LEAST} octets; probes are octets of the request"
        ))),
        LEAST..=MOST => Ok(octets),
        long => Err(refused(format!(
            "it has {long} octets; write no more than {MOST}"
        ))),
    }
}

/// `LOCAL:PORT-REMOTE:PORT`, each as `192.0.2.1:80` or `[2001:db8::1]:80`.
///
/// # Errors
/// Why it is no connection, and how one is written.
pub fn adopted(text: &str) -> Result<Flow, String> {
    const MEND: &str =
        "write LOCAL:PORT-REMOTE:PORT as `ss -tn` shows them, [v6]:port for IPv6 addresses";
    let (local, remote) = text
        .split_once('-')
        .ok_or_else(|| format!("there is no - in it; {MEND}"))?;
    let end = |text: &str| match text.parse::<SocketAddr>() {
        Ok(end) if end.port() > 0 => Ok(SocketAddr::new(end.ip().to_canonical(), end.port())),
        _ => Err(format!("{text:?} is no address and port; {MEND}")),
    };
    let (local, remote) = (end(local)?, end(remote)?);
    if local.is_ipv4() != remote.is_ipv4() {
        return Err(format!("one end is IPv4 and the other IPv6; {MEND}"));
    }
    Ok(Flow { local, remote })
}

/// Why this connection cannot be adopted.
#[must_use]
pub fn refused(flow: &Flow, why: &str) -> Failure {
    let Flow { local, remote } = flow;
    Failure::usage(format!("--adopt {local}-{remote}: {why}"))
}

/// The connection, as the kernel knows it.
///
/// # Errors
/// When there is none, or none that can be probed in.
pub fn find(flow: Flow) -> Result<Conversation, Failure> {
    let refused = |why| refused(&flow, why);
    let found =
        net::connection(flow.local, flow.remote).map_err(|error| super::engine::no_link(&error))?;
    let Some(found) = found else {
        return Err(refused(
            "this host has no such connection, or one that is bound to a device; `ss -tn` lists those that there are",
        ));
    };
    if !found.established {
        return Err(refused(
            "it is not established, or is being closed; name one that is",
        ));
    }
    if !found.sack {
        return Err(refused(
            "it has no SACK, without which answers to probes could make this host send data again; name one that has",
        ));
    }
    Ok(Conversation::Adopted(Adopted {
        flow,
        sent: found.sent,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::testing::Folder;

    #[test]
    fn connections_are_written_as_ss_shows_them() {
        let flow = |local: &str, remote: &str| Flow {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
        };
        for (text, expected) in [
            (
                "192.0.2.1:40000-198.51.100.7:443",
                flow("192.0.2.1:40000", "198.51.100.7:443"),
            ),
            (
                "[2001:db8::1]:40000-[2001:db8::2]:22",
                flow("[2001:db8::1]:40000", "[2001:db8::2]:22"),
            ),
            (
                "[::ffff:192.0.2.1]:40000-[::ffff:198.51.100.7]:443",
                flow("192.0.2.1:40000", "198.51.100.7:443"),
            ),
        ] {
            assert_eq!(adopted(text), Ok(expected));
        }
        for text in [
            "",
            "192.0.2.1:40000",
            "192.0.2.1-198.51.100.7:443",
            "192.0.2.1:0-198.51.100.7:443",
            "192.0.2.1:1-[2001:db8::2]:22",
            "host:1-198.51.100.7:443",
        ] {
            assert!(adopted(text).unwrap_err().contains("LOCAL:PORT"), "{text}");
        }
    }

    #[test]
    fn requests_out_of_files_have_bounds() {
        let folder = Folder::new("request");
        let path = folder.path("request");
        for (octets, fits) in [
            (0, false),
            (1, false),
            (2, true),
            (14_600, true),
            (14_601, false),
        ] {
            std::fs::write(&path, vec![b'x'; octets]).unwrap();
            assert_eq!(read(&path).is_ok(), fits, "{octets}");
        }
        let error = read(&folder.path("none")).unwrap_err();
        assert!(error.message.contains("none: No such file"), "{error:?}");
    }
}
