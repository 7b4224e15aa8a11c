//! IPv6 (RFC 8200) and its extension headers.
