//! RFC 4884 extension structures and RFC 4950 MPLS label stacks.
