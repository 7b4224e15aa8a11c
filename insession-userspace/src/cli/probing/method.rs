//! [`Method`] as a value of options.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::trace::Method;

impl ValueEnum for Method {
    fn value_variants<'a>() -> &'a [Self] {
        &Method::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Method::InSession => "Data segments inside a TCP session of ours",
            Method::Sidecar => {
                "Acknowledged data, sent again inside a connection that carries a request (see --request), or a running one"
            }
            Method::Icmp => "Echo requests, as the standard traceroute -I",
            Method::Udp => {
                "Datagrams to rising ports, each from a port of its own, as the standard traceroute"
            }
            Method::Tcp => "SYNs, each from a port of its own, as the standard traceroute -T",
            Method::ParisIcmp => "Echo requests of one flow: identifier and checksum stay",
            Method::ParisUdp => "Datagrams of one flow: ports stay, the checksum names the probe",
            Method::ParisTcp => "SYNs of one flow: ports stay, the sequence number names the probe",
            Method::Dublin => "Datagrams of one flow whose quotes tell NATs apart",
        };
        Some(PossibleValue::new(self.as_str()).help(help))
    }
}
