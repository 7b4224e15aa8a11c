//! A deterministic network in memory, from a seed.
