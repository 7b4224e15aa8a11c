//! AF_PACKET with kernel-owned connections, where BPF is not permitted.
