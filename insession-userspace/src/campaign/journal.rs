//! The journal of a campaign: each record as it was finished, with its position,
//! appended and handed to the kernel before anybody counts it as done.
//!
//! An entry is 16 octets of head and the record's line of JSON:
//!
//! | octets | what |
//! |---|---|
//! | 4 | length of the line, little-endian |
//! | 4 | CRC-32 of what follows |
//! | 8 | position of the target, little-endian |
//! | … | the line; of a target with several flows all of their lines |
//!
//! A process that is killed leaves at most a torn entry at the end, a power cut
//! perhaps more than one: reading ends where the checksum does, and what follows is
//! cut off.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use super::part::sync_folder;
use super::patient::{Patient, Room};

/// Octets before the line.
const HEAD: usize = 16;
/// No record is longer: 255 hops of 255 probes take some 15 MiB, a thousand flows of
/// 30 hops with three probes 25 MiB.
const LONGEST: u32 = 1 << 28;
/// Octets handed to the kernel at a time, while records come faster than one by one.
const BUFFER: usize = 1 << 17;

/// A journal that is written.
#[derive(Debug)]
pub struct Journal {
    out: BufWriter<Patient<File>>,
    bytes: u64,
}

/// An entry as it is read back.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The target's position.
    pub position: u64,
    /// The record's line of JSON, with its end.
    pub line: &'a [u8],
}

impl Journal {
    /// Opens the journal, made if there is none; calls `each` for what stands in
    /// it, and cuts off what is torn. How many octets that was.
    ///
    /// # Errors
    /// What the file system says, or `each`.
    pub fn open(
        path: &Path,
        room: Arc<Room>,
        mut each: impl FnMut(Entry<'_>) -> io::Result<()>,
    ) -> io::Result<(Self, u64)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = room.wait(|| options.open(path))?;
        // Its name is to last, too: what is synchronised later is only what it holds.
        sync_folder(path)?;
        let whole = replay(&mut BufReader::with_capacity(BUFFER, &file), &mut each)?;
        let torn = file.metadata()?.len().saturating_sub(whole);
        if torn > 0 {
            file.set_len(whole)?;
        }
        file.seek(SeekFrom::Start(whole))?;
        let out = BufWriter::with_capacity(BUFFER, Patient::new(file, room));
        Ok((Journal { out, bytes: whole }, torn))
    }

    /// Adds a record. It is safe from the end of the process after
    /// [`Journal::flush`], and from the end of the machine after [`File::sync_data`]
    /// of [`Journal::file`].
    ///
    /// # Errors
    /// What the file system says, but not that the disk is full: that is waited for.
    pub fn append(&mut self, position: u64, line: &[u8]) -> io::Result<()> {
        let length = u32::try_from(line.len())
            .ok()
            .filter(|length| *length <= LONGEST)
            .ok_or_else(|| io::Error::other("the records of a target of more than 256 MiB"))?;
        let position = position.to_le_bytes();
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[4..8].copy_from_slice(&checksum(&position, line).to_le_bytes());
        head[8..].copy_from_slice(&position);
        self.out.write_all(&head)?;
        self.out.write_all(line)?;
        self.bytes += (HEAD + line.len()) as u64;
        Ok(())
    }

    /// Hands everything to the kernel.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Octets written, those before it was opened too.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file, to be synchronised by somebody who has the time.
    #[must_use]
    pub fn file(&self) -> &File {
        self.out.get_ref().get_ref()
    }
}

fn checksum(position: &[u8], line: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(position);
    crc.update(line);
    crc.finalize()
}

/// Reads entries up to the first that is not whole; how many octets they take.
fn replay(
    from: &mut impl Read,
    each: &mut impl FnMut(Entry<'_>) -> io::Result<()>,
) -> io::Result<u64> {
    let (mut whole, mut line) = (0, Vec::new());
    loop {
        let mut head = [0; HEAD];
        if !fill(from, &mut head)? {
            return Ok(whole);
        }
        let [a, b, c, d, e, f, g, h, position @ ..] = head;
        let length = u32::from_le_bytes([a, b, c, d]);
        if length > LONGEST {
            return Ok(whole);
        }
        line.resize(length as usize, 0);
        let is_whole = fill(from, &mut line)?
            && checksum(&position, &line) == u32::from_le_bytes([e, f, g, h]);
        if !is_whole {
            return Ok(whole);
        }
        each(Entry {
            position: u64::from_le_bytes(position),
            line: &line,
        })?;
        whole += HEAD as u64 + u64::from(length);
    }
}

/// Fills the buffer; `false` where the file ends before.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::testing::Folder;

    type Entries = Vec<(u64, Vec<u8>)>;

    fn open(path: &Path) -> (Journal, Entries, u64) {
        let mut entries = Vec::new();
        let (journal, torn) = Journal::open(path, Arc::default(), |entry| {
            entries.push((entry.position, entry.line.to_vec()));
            Ok(())
        })
        .unwrap();
        (journal, entries, torn)
    }

    fn written(path: &Path, count: u64) -> Entries {
        let entries: Entries = (0..count)
            .map(|n| (n * 7, vec![b'x'; (n as usize * 13) % 50]))
            .collect();
        let (mut journal, before, _) = open(path);
        assert_eq!(before, []);
        for (position, line) in &entries {
            journal.append(*position, line).unwrap();
        }
        journal.flush().unwrap();
        assert_eq!(journal.bytes(), std::fs::metadata(path).unwrap().len());
        entries
    }

    #[test]
    fn what_was_flushed_is_read_back_and_added_to() {
        let folder = Folder::new("journal");
        let path = folder.path("journal");
        let mut entries = written(&path, 20);
        let (mut journal, read, torn) = open(&path);
        assert_eq!((&read, torn), (&entries, 0));
        journal.append(1, b"more").unwrap();
        drop(journal);
        entries.push((1, b"more".to_vec()));
        assert_eq!(open(&path).1, entries);
    }

    #[test]
    fn wherever_it_is_torn_all_before_is_kept() {
        let folder = Folder::new("journal-torn");
        let path = folder.path("journal");
        let entries = written(&path, 6);
        let whole = std::fs::read(&path).unwrap();
        let mut ends = vec![0];
        for (_, line) in &entries {
            ends.push(ends.last().unwrap() + HEAD + line.len());
        }
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let kept = ends.iter().filter(|end| **end <= cut).count() - 1;
            let (mut journal, read, torn) = open(&path);
            assert_eq!(read, entries[..kept], "cut at {cut}");
            assert_eq!(torn as usize, cut - ends[kept]);
            journal.append(99, b"new").unwrap();
            drop(journal);
            let (_, read, torn) = open(&path);
            assert_eq!((read.len(), torn), (kept + 1, 0), "cut at {cut}");
        }
    }

    #[test]
    fn an_octet_that_turned_ends_it_there() {
        let folder = Folder::new("journal-turned");
        let path = folder.path("journal");
        let entries = written(&path, 6);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut turned = whole.clone();
            turned[at] ^= 0x10;
            std::fs::write(&path, &turned).unwrap();
            let (_, read, torn) = open(&path);
            assert!(read.len() < entries.len() && entries.starts_with(&read));
            assert!(torn > 0);
        }
    }
}
