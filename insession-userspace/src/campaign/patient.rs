//! Files that wait for room: where the disk is full, writing pauses, says so once,
//! and goes on when there is room again. Who produces what is written is held up
//! by that, down to the sessions: none is begun that could not be recorded.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How often a full disk is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// What writers of a run know of each other.
#[derive(Debug, Default)]
pub struct Room {
    /// Writers that wait now.
    waiting: AtomicU64,
    /// Nothing waits any more: the run is to end.
    over: AtomicBool,
}

impl Room {
    /// Whether somebody waits for room.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Ends all waiting: what waits fails with what the disk said.
    pub fn give_up(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Does `write` until there is room for it, or nobody waits any more.
    ///
    /// # Errors
    /// Any other error, at once; the full disk's, when waiting was given up.
    pub fn wait<T>(&self, mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let mut waits = false;
        let result = loop {
            match write() {
                Err(error) if is_full(&error) && !self.over.load(Ordering::Relaxed) => {
                    if !waits {
                        waits = true;
                        self.waiting.fetch_add(1, Ordering::Relaxed);
                    }
                    thread::sleep(AGAIN);
                }
                result => break result,
            }
        };
        if waits {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        result
    }
}

/// Whether it is for want of room that something was not written.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// A file that waits for room.
#[derive(Debug)]
pub struct Patient<W = File> {
    out: W,
    room: Arc<Room>,
}

impl<W: Write> Patient<W> {
    /// Writes to `out`.
    pub fn new(out: W, room: Arc<Room>) -> Self {
        Patient { out, room }
    }

    /// What it writes to.
    pub fn get_ref(&self) -> &W {
        &self.out
    }
}

impl<W: Write> Write for Patient<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Patient { out, room } = self;
        room.wait(|| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        let Patient { out, room } = self;
        room.wait(|| out.flush())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Takes so many octets, then is full until more are allowed.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (room, written) = &mut *self.0.lock().unwrap();
            let fits = bytes.len().min(*room);
            if fits == 0 {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            *room -= fits;
            written.extend_from_slice(&bytes[..fits]);
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn it_goes_on_when_there_is_room() {
        let (disk, room) = (Disk::default(), Arc::new(Room::default()));
        disk.0.lock().unwrap().0 = 3;
        let mut file = Patient::new(disk.clone(), Arc::clone(&room));
        let writing = thread::spawn(move || file.write_all(b"twelve bytes"));
        while !room.is_short() {
            thread::yield_now();
        }
        assert_eq!(disk.0.lock().unwrap().1, b"twe");
        disk.0.lock().unwrap().0 = 100;
        writing.join().unwrap().unwrap();
        assert!(!room.is_short());
        assert_eq!(disk.0.lock().unwrap().1, b"twelve bytes");
    }

    #[test]
    fn waiting_ends_with_the_run() {
        let room = Arc::new(Room::default());
        let mut file = Patient::new(Disk::default(), Arc::clone(&room));
        room.give_up();
        assert!(is_full(&file.write_all(b"x").unwrap_err()));
        assert!(!room.is_short());
    }

    #[test]
    fn other_errors_are_not_waited_for() {
        let room = Room::default();
        let error = room.wait(|| Err::<(), _>(io::Error::from_raw_os_error(libc::EIO)));
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::EIO));
        assert!(is_full(&io::Error::from_raw_os_error(libc::EDQUOT)));
    }
}
