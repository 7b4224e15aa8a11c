//! What the parts of insession cost, measured on the machine it runs on.

pub mod steering;
