//! pcapng of every frame sent and received.
