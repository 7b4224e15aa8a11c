//! The lab: networks of namespaces, with the kernel's own routers and real
//! servers, and the truth about them.
//!
//! * [`topology`]: networks as data, `topologies/*.toml`;
//! * [`lab`]: a topology, up and running; [`state`]: what is up and whose;
//! * [`truth`]: the way each flow takes, asked of the routers' own tables;
//! * [`record`]: the records of `insession trace --json`, and their judgement;
//! * [`paths`]: what many flows show together, and the truth about it;
//! * [`program`]: the program under test, run at a node;
//! * [`capture`]: what an interface saw; [`foreign`]: somebody else's XDP program.
//!
//! Nothing outside the namespaces is touched: no interface, no setting, no rule
//! of the host.

pub mod capture;
pub mod foreign;
pub mod lab;
pub mod paths;
pub mod program;
pub mod record;
mod relay;
pub mod routes;
pub mod services;
pub mod state;
mod sys;
pub mod topology;
pub mod truth;

pub use lab::Lab;
