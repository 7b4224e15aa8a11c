//! The production loops over links in memory: no root, no wall clock.

mod courtesy;
mod dispatch;
mod drain;
mod ends;
mod faults;
mod mtu;
mod near;
mod pace;
mod ports;
mod tap;
mod traces;

use std::net::{IpAddr, Ipv4Addr};

use tokio::sync::mpsc;

use super::{EngineOptions, Output, Target};
use crate::net::{Interface, Route};
use crate::session::SessionOptions;
use crate::trace::Trace;

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// More outputs than any test makes.
const PLENTY: usize = 1 << 22;

fn options() -> EngineOptions {
    EngineOptions::new(
        SessionOptions::default(),
        61_000..=65_535,
        *b"no secret at all",
    )
}

fn interface(index: u32) -> Interface {
    Interface {
        index,
        name: format!("sim{index}"),
    }
}

fn route(index: u32) -> Route {
    Route {
        interface: interface(index).into(),
        vlan: None,
        source: SOURCE,
        source_mac: [2, 0, 0, 0, 0, 1],
        next_hop_mac: [2, 0, 0, 0, 0, 2],
        mtu: 1500,
        device_mtu: 1500,
    }
}

fn target(index: u64, address: IpAddr) -> Target {
    Target {
        index,
        name: format!("target-{index}"),
        address,
        port: 80,
    }
}

/// Every output that was made; records by their index, each once.
fn records(outputs: &mut mpsc::Receiver<Output>) -> Vec<Trace> {
    let mut records = std::collections::BTreeMap::new();
    while let Ok(output) = outputs.try_recv() {
        if let Output::Trace { index, trace } = output {
            assert!(records.insert(index, *trace).is_none(), "two records");
        }
    }
    assert!(records.keys().copied().eq(0..records.len() as u64));
    records.into_values().collect()
}
