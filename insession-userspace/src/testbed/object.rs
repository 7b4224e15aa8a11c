//! The reflector's object file, as the build script made it.

/// The object, aligned as an ELF reader wants it.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/reflector.bpf.o"));
