//! Compression of a file as a whole, and how much has been written.

use std::io::{self, BufWriter, Write};

use flate2::write::GzEncoder;

use super::Compression;

/// Octets that are handed over at a time.
const BUFFER: usize = 1 << 16;

/// A file that is compressed, or not, while it is written.
pub(super) enum Compressed {
    Plain(Counted),
    Gzip(GzEncoder<Counted>),
    Zstd(zstd::stream::write::Encoder<'static, Counted>),
}

impl Compressed {
    /// Fast levels: records shrink to a tenth by them, and a campaign's processors
    /// have other things to do.
    pub(super) fn new(compression: Compression, out: Box<dyn Write + Send>) -> io::Result<Self> {
        let out = Counted {
            out: BufWriter::with_capacity(BUFFER, out),
            bytes: 0,
        };
        Ok(match compression {
            Compression::None => Compressed::Plain(out),
            Compression::Gzip => Compressed::Gzip(GzEncoder::new(out, flate2::Compression::fast())),
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, 1)?;
                encoder.include_checksum(true)?;
                Compressed::Zstd(encoder)
            }
        })
    }

    /// Octets that came out so far.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Compressed::Plain(out) => out.bytes,
            Compressed::Gzip(encoder) => encoder.get_ref().bytes,
            Compressed::Zstd(encoder) => encoder.get_ref().bytes,
        }
    }

    /// Ends this member or frame and begins another: what was written so far can be
    /// cut off without decoding the rest.
    pub(super) fn divide(self) -> io::Result<Self> {
        Ok(match self {
            Compressed::Plain(out) => Compressed::Plain(out),
            Compressed::Gzip(encoder) => {
                let out = encoder.finish()?;
                Compressed::Gzip(GzEncoder::new(out, flate2::Compression::fast()))
            }
            Compressed::Zstd(encoder) => {
                let mut encoder = zstd::stream::write::Encoder::new(encoder.finish()?, 1)?;
                encoder.include_checksum(true)?;
                Compressed::Zstd(encoder)
            }
        })
    }

    /// Ends the file and hands all of it over.
    pub(super) fn finish(self) -> io::Result<()> {
        let mut out = match self {
            Compressed::Plain(out) => out,
            Compressed::Gzip(encoder) => encoder.finish()?,
            Compressed::Zstd(encoder) => encoder.finish()?,
        };
        out.flush()
    }
}

impl Write for Compressed {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Compressed::Plain(out) => out.write(octets),
            Compressed::Gzip(encoder) => encoder.write(octets),
            Compressed::Zstd(encoder) => encoder.write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Compressed::Plain(out) => out.flush(),
            Compressed::Gzip(encoder) => encoder.flush(),
            Compressed::Zstd(encoder) => encoder.flush(),
        }
    }
}

/// A file that knows how much was written to it.
pub(super) struct Counted {
    out: BufWriter<Box<dyn Write + Send>>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let count = self.out.write(octets)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
