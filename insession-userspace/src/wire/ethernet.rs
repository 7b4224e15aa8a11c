//! Ethernet II and 802.1Q/802.1ad tags.
