//! AF_XDP behind the XDP program.

pub mod object;
