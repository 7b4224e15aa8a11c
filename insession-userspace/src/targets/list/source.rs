//! Where a list is read from: a regular file, a pipe, standard input; gzip and zstd
//! are known by their first bytes, whatever the file is called.
//!
//! A regular file is read as it is wanted. Of a pipe nobody knows when more comes, so
//! a thread of its own reads (and unpacks) it, at most [`AHEAD`] pieces ahead; when
//! it is wanted no more, that thread ends with the read that it is in.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use flate2::bufread::MultiGzDecoder;

use super::ListError;

/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;
/// Pieces that are read before they are wanted.
const AHEAD: usize = 4;
/// A pipe that gives nothing for so long has nothing at hand: whoever writes into it
/// wants what it wrote traced meanwhile.
pub(super) const STALL: Duration = Duration::from_millis(200);

/// A list to be read.
#[derive(Debug)]
pub(super) struct Source {
    /// As errors name it.
    name: String,
    input: Input,
}

#[derive(Debug)]
enum Input {
    /// Not yet begun.
    Whole(File),
    /// To be opened when its turn comes: that waits for a writer.
    Fifo(PathBuf),
    Stdin,
    File(Box<Unpacked<File>>),
    Pipe(Receiver<Piece>),
    Ended,
}

/// A piece of a list, or why there is none.
type Piece = Result<Vec<u8>, Trouble>;

/// What [`Source::read`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// Some more.
    Bytes,
    /// Nothing for [`STALL`]; there may be more.
    Stalled,
    /// The end.
    End,
}

impl Source {
    /// A list by its path, `-` for standard input.
    pub(super) fn open(path: &Path) -> Result<Self, ListError> {
        let name = path.display().to_string();
        if path == Path::new("-") {
            let name = "standard input".to_owned();
            return Ok(Source {
                name,
                input: Input::Stdin,
            });
        }
        let refused = |error: io::Error| {
            let mend = match error.kind() {
                io::ErrorKind::NotFound => "check the path",
                io::ErrorKind::PermissionDenied => "check who may read it",
                _ => "check what it is",
            };
            ListError::new(&name, error, mend)
        };
        let kind = std::fs::metadata(path).map_err(refused)?.file_type();
        let input = if kind.is_dir() {
            return Err(ListError::new(&name, "a directory", "name a file in it"));
        } else if kind.is_file() {
            Input::Whole(File::open(path).map_err(refused)?)
        } else {
            Input::Fifo(path.to_owned())
        };
        Ok(Source { name, input })
    }

    /// As errors name it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether another reading would give the same, and nothing is waited for.
    pub(super) fn is_regular(path: &Path) -> bool {
        path != Path::new("-") && std::fs::metadata(path).is_ok_and(|meta| meta.is_file())
    }

    /// Puts what comes next into `buffer`, in place of what was there; `line` is
    /// where the reader is, for errors.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>, line: u64) -> Result<Got, ListError> {
        let got = self.read_piece(buffer);
        if !matches!(got, Ok(Got::Bytes | Got::Stalled)) {
            self.input = Input::Ended;
        }
        got.map_err(|trouble| trouble.named(&self.name, line))
    }

    fn read_piece(&mut self, buffer: &mut Vec<u8>) -> Result<Got, Trouble> {
        loop {
            let begun = match std::mem::replace(&mut self.input, Input::Ended) {
                Input::Whole(file) => Input::File(Box::new(Unpacked::new(file)?)),
                Input::Fifo(path) => Input::Pipe(read_ahead(move || File::open(path))?),
                Input::Stdin => {
                    let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
                    // `insession run --targets - < FILE`: nobody writes meanwhile.
                    if file.metadata()?.is_file() {
                        Input::Whole(file)
                    } else {
                        Input::Pipe(read_ahead(move || Ok(file))?)
                    }
                }
                begun => begun,
            };
            self.input = begun;
            match &mut self.input {
                Input::Whole(_) | Input::Fifo(_) | Input::Stdin => {}
                Input::File(file) => {
                    buffer.resize(PIECE, 0);
                    let length = file.read(buffer)?;
                    buffer.truncate(length);
                    return Ok(if length == 0 { Got::End } else { Got::Bytes });
                }
                Input::Pipe(pieces) => {
                    return match pieces.recv_timeout(STALL) {
                        Ok(piece) => {
                            *buffer = piece?;
                            Ok(Got::Bytes)
                        }
                        Err(RecvTimeoutError::Timeout) => Ok(Got::Stalled),
                        Err(RecvTimeoutError::Disconnected) => Ok(Got::End),
                    };
                }
                Input::Ended => return Ok(Got::End),
            }
        }
    }
}

/// Reads on a thread of its own.
fn read_ahead(
    open: impl FnOnce() -> io::Result<File> + Send + 'static,
) -> io::Result<Receiver<Piece>> {
    let (giver, pieces) = sync_channel(AHEAD);
    std::thread::Builder::new()
        .name("target list".into())
        .spawn(move || {
            if let Err(trouble) = give_all(open, &giver) {
                // Fails when nobody wants it any more.
                let _ = giver.send(Err(trouble));
            }
        })?;
    Ok(pieces)
}

fn give_all(
    open: impl FnOnce() -> io::Result<File>,
    giver: &SyncSender<Piece>,
) -> Result<(), Trouble> {
    let mut input = Unpacked::new(open()?)?;
    loop {
        let mut piece = vec![0; PIECE];
        let length = input.read(&mut piece)?;
        piece.truncate(length);
        if length == 0 || giver.send(Ok(piece)).is_err() {
            return Ok(());
        }
    }
}

/// Why a list could not be read on.
#[derive(Debug)]
pub(super) struct Trouble {
    error: io::Error,
    /// Compressed how, and how many bytes of that were taken in.
    within: Option<(Packing, u64)>,
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble {
            error,
            within: None,
        }
    }
}

impl Trouble {
    fn named(self, name: &str, line: u64) -> ListError {
        // What the kernel says may be otherwise next time, what stands in a file not.
        let is_passing = self.error.raw_os_error().is_some();
        let mut error = self.in_words(name, line);
        if let ListError::Input { may_pass, .. } = &mut error {
            *may_pass = is_passing;
        }
        error
    }

    fn in_words(self, name: &str, line: u64) -> ListError {
        let Some((packing, at)) = self.within else {
            return ListError::new(
                &format!("{name}, line {}", line.max(1)),
                self.error,
                "check the disk, or what writes it",
            );
        };
        let why = match self.error.kind() {
            io::ErrorKind::Unsupported => self.error.to_string(),
            io::ErrorKind::UnexpectedEof => "it ends too early".to_owned(),
            _ => format!("not whole ({})", self.error),
        };
        let (format, mend) = packing.words();
        ListError::new(
            &format!("{name}, byte {at} of the {format} stream, behind line {line}"),
            why,
            mend,
        )
    }
}

/// How a list is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Gzip,
    Zstd,
    /// Not by us.
    Xz,
    Bzip2,
}

/// First bytes: RFC 1952 §2.3.1; RFC 8878 §3.1.1, and §3.1.2 for what a parallel
/// zstd begins with; the .xz file format 1.2 §2.1.1.1; bzip2 with its first block.
const FIRST: [(&[u8], Packing); 5] = [
    (b"\x1f\x8b", Packing::Gzip),
    (b"\x28\xb5\x2f\xfd", Packing::Zstd),
    (b"\x50\x2a\x4d\x18", Packing::Zstd),
    (b"\xfd7zXZ\0", Packing::Xz),
    (b"BZh91AY&SY", Packing::Bzip2),
];

impl Packing {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Packing::Gzip => ("gzip", "check the file with gzip -t"),
            Packing::Zstd => ("zstd", "check the file with zstd -t"),
            Packing::Xz => (
                "xz",
                "unpack it first: xz -dc FILE | insession run --targets -",
            ),
            Packing::Bzip2 => (
                "bzip2",
                "unpack it first: bzip2 -dc FILE | insession run --targets -",
            ),
        }
    }
}

/// The bytes of a list, unpacked.
struct Unpacked<R> {
    input: Inner<R>,
    packing: Option<Packing>,
}

/// Bytes as they lie in the file, with the first few, that were looked at, in front.
type Raw<R> = BufReader<Counted<io::Chain<io::Cursor<Vec<u8>>, R>>>;

enum Inner<R> {
    Plain(Raw<R>),
    Gzip(MultiGzDecoder<Raw<R>>),
    /// Its window, which the file chooses, is 128 MiB at most.
    Zstd(zstd::Decoder<'static, Raw<R>>),
}

impl<R> std::fmt::Debug for Unpacked<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacked")
            .field("packing", &self.packing)
            .finish_non_exhaustive()
    }
}

impl<R: Read> Unpacked<R> {
    fn new(mut input: R) -> Result<Self, Trouble> {
        let (first, packing) = first_bytes(&mut input)?;
        let raw = BufReader::with_capacity(
            PIECE,
            Counted {
                input: io::Cursor::new(first).chain(input),
                count: 0,
            },
        );
        let input = match packing {
            None => Inner::Plain(raw),
            Some(Packing::Gzip) => Inner::Gzip(MultiGzDecoder::new(raw)),
            Some(Packing::Zstd) => Inner::Zstd(zstd::Decoder::with_buffer(raw)?),
            Some(Packing::Xz | Packing::Bzip2) => {
                let error = io::Error::new(
                    io::ErrorKind::Unsupported,
                    "only gzip and zstd are unpacked here",
                );
                return Err(Trouble {
                    error,
                    within: packing.map(|packing| (packing, 0)),
                });
            }
        };
        Ok(Unpacked { input, packing })
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Trouble> {
        loop {
            let read = match &mut self.input {
                Inner::Plain(input) => input.read(buffer),
                Inner::Gzip(input) => input.read(buffer),
                Inner::Zstd(input) => input.read(buffer),
            };
            match read {
                Ok(length) => return Ok(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Trouble {
                        error,
                        within: self.packing.map(|packing| (packing, self.at())),
                    });
                }
            }
        }
    }

    /// How many bytes of the file were taken in.
    fn at(&self) -> u64 {
        let raw = match &self.input {
            Inner::Plain(raw) => raw,
            Inner::Gzip(input) => input.get_ref(),
            Inner::Zstd(input) => input.get_ref(),
        };
        let waiting = u64::try_from(raw.buffer().len()).unwrap_or(0);
        raw.get_ref().count.saturating_sub(waiting)
    }
}

/// As many bytes as tell how the list is compressed, and that. No more are waited
/// for than are needed: a pipe may give one line and then nothing for an hour.
fn first_bytes(input: &mut impl Read) -> io::Result<(Vec<u8>, Option<Packing>)> {
    let mut first = Vec::new();
    loop {
        let found = FIRST
            .iter()
            .find(|(magic, _)| is_magic(magic, &first, magic.len()));
        let may_be = FIRST
            .iter()
            .any(|(magic, _)| is_magic(magic, &first, first.len()));
        if found.is_some() || !may_be {
            return Ok((first, found.map(|(_, packing)| *packing)));
        }
        let mut next = [0];
        match input.read(&mut next) {
            Ok(0) => return Ok((first, None)),
            Ok(_) => first.extend(next),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether the first `length` of these bytes are those of the format.
fn is_magic(magic: &[u8], first: &[u8], length: usize) -> bool {
    let of = |bytes: &[u8]| -> Option<Vec<u8>> {
        let mut bytes = bytes.get(..length)?.to_vec();
        // Zstandard's skippable frames have sixteen magic numbers.
        if let [byte @ 0x50..=0x5f, ..] = bytes.as_mut_slice() {
            *byte = 0x50;
        }
        // Bzip2's nine block sizes.
        if let [b'B', b'Z', b'h', byte @ b'1'..=b'9', ..] = bytes.as_mut_slice() {
            *byte = b'9';
        }
        Some(bytes)
    };
    of(magic).is_some() && of(magic) == of(first)
}

/// Counts what goes through.
struct Counted<R> {
    input: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.count += u64::try_from(length).unwrap_or(0);
        Ok(length)
    }
}
