//! AF_XDP behind the XDP program.
