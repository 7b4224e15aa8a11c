//! A name server of a test's own, on loopback.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Hosts, TokioResolver};

use super::{Dns, Family};

/// What the server says to a question.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    /// The address, if one of IPv4 was asked for, to live an hour; else none.
    Address(Ipv4Addr),
    /// The same, this much later.
    After(Duration, Ipv4Addr),
    /// NXDOMAIN, with no SOA: nobody may cache that (RFC 2308 §5).
    NoName,
    /// An answer of this RCODE and nothing else.
    Code(u8),
    /// Nothing.
    Silence,
}

/// A name server; it ends with the process.
pub(crate) struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// One that answers so, by name: in lower case, without the last dot.
    pub(crate) fn new(reply: impl Fn(&str) -> Reply + Send + 'static) -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut packet = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut packet) {
                let question = packet[..length].to_vec();
                let name = name(&question);
                log.lock().unwrap().push(name.clone());
                let reply = reply(&name);
                let Some(answer) = answer(&question, reply) else {
                    continue;
                };
                let Reply::After(delay, _) = reply else {
                    let _ = socket.send_to(&answer, from);
                    continue;
                };
                let socket = Arc::clone(&socket);
                std::thread::spawn(move || {
                    std::thread::sleep(delay);
                    let _ = socket.send_to(&answer, from);
                });
            }
        });
        Server { address, asked }
    }

    /// The names that were asked for, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Dns {
    /// Names by this server alone, without a hosts file. Within a runtime only.
    pub(crate) fn asking(server: &Server, family: Family) -> Dns {
        let mut connection = ConnectionConfig::udp();
        connection.port = server.address.port();
        let name_server = NameServerConfig::new(server.address.ip(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, vec![], vec![name_server]);
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let hosts = Arc::new(Hosts::default());
        Dns {
            family,
            resolver: Ok(super::resolver(builder, family, &hosts).unwrap()),
            hosts,
        }
    }
}

/// The name of a question (RFC 1035 §4.1.2), without compression, as all send it.
fn name(question: &[u8]) -> String {
    let mut labels = Vec::new();
    let mut at = 12;
    while question[at] > 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..end]).to_ascii_lowercase());
        at = end;
    }
    labels.join(".")
}

/// The message that says it (RFC 1035 §4.1); `None`: none.
fn answer(question: &[u8], reply: Reply) -> Option<Vec<u8>> {
    let end = 12 + question[12..].iter().position(|byte| *byte == 0)? + 5;
    let is_v4 = question[end - 4..end - 2] == [0, 1];
    let (code, address) = match reply {
        Reply::Address(address) | Reply::After(_, address) => (0, is_v4.then_some(address)),
        Reply::NoName => (3, None),
        Reply::Code(code) => (code, None),
        Reply::Silence => return None,
    };
    let mut message = question[..end].to_vec();
    // QR, and RA as a recursive server has it; RCODE. Then the four counts.
    message[2] |= 0x80;
    message[3] = 0x80 | code;
    message[4..12].copy_from_slice(&[0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    if let Some(address) = address {
        // The question's name; A, IN, an hour, four octets.
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0x0e, 0x10, 0, 4]);
        message.extend(address.octets());
    }
    Some(message)
}
