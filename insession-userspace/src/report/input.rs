//! Files that are read as they are: plain, gzip, Zstandard or bzip2, told by their first
//! octets.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// Octets that are read at a time.
const BUFFER: usize = 1 << 17;
/// What Zstandard may ask of us to look back: 128 MiB, as `zstd -d` without `--long`.
const WINDOW_LOG_MAX: u32 = 27;

/// Opens a file, or standard input where the name is `-`, and reads what is compressed
/// in it. Several members or frames one after another are one text.
///
/// # Errors
/// When it cannot be opened or read.
pub fn open(path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    if path.as_os_str() == "-" {
        return decoded(BufReader::with_capacity(BUFFER, io::stdin()));
    }
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    decoded(BufReader::with_capacity(BUFFER, file))
}

/// Reads what is compressed, or else as it is.
///
/// # Errors
/// When the first octets cannot be read.
pub fn decoded<R: BufRead + Send + 'static>(mut input: R) -> io::Result<Box<dyn BufRead + Send>> {
    // At least four octets, unless a pipe hands over less: that is no compressor's way.
    let head = input.fill_buf()?;
    if head.starts_with(&[0x1f, 0x8b]) {
        let decoder = flate2::bufread::MultiGzDecoder::new(input);
        return Ok(Box::new(BufReader::with_capacity(BUFFER, decoder)));
    }
    if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
        decoder.window_log_max(WINDOW_LOG_MAX)?;
        return Ok(Box::new(BufReader::with_capacity(BUFFER, decoder)));
    }
    // Of bzip2 the block size behind that is a digit from 1 on.
    if let [b'B', b'Z', b'h', b'1'..=b'9', ..] = head {
        let decoder = bzip2::bufread::MultiBzDecoder::new(input);
        return Ok(Box::new(BufReader::with_capacity(BUFFER, decoder)));
    }
    Ok(Box::new(input))
}
