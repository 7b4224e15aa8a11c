//! The program under test: started in the namespace of the thread, ended with the
//! test.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often something is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// `insession run` with its options.
pub struct Run {
    arguments: Vec<OsString>,
    disk: Option<(String, PathBuf)>,
}

/// A run that goes.
pub struct Program {
    child: Child,
    stderr: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// How it ended.
#[derive(Debug)]
pub struct End {
    pub code: Option<i32>,
    pub stderr: String,
}

impl Run {
    pub fn new() -> Self {
        Run {
            arguments: vec!["run".into()],
            disk: None,
        }
    }

    pub fn option(mut self, name: &str, value: impl Display) -> Self {
        self.arguments.push(name.into());
        self.arguments.push(value.to_string().into());
        self
    }

    /// With a tmpfs of this size mounted at `path`, for it alone.
    pub fn on_a_disk_of(mut self, size: &str, path: &Path) -> Self {
        self.disk = Some((size.to_owned(), path.to_owned()));
        self
    }

    pub fn spawn(&self) -> Program {
        let program = env!("CARGO_BIN_EXE_insession");
        let mut command = match &self.disk {
            None => Command::new(program),
            Some((size, path)) => {
                let mut command = Command::new("unshare");
                let script = format!(
                    "mount -t tmpfs -o size={size} tmpfs {} && exec \"$@\"",
                    path.display()
                );
                command.args([
                    "--mount",
                    "--propagation",
                    "private",
                    "sh",
                    "-c",
                    &script,
                    "sh",
                ]);
                command.arg(program);
                command
            }
        };
        let mut child = command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = Arc::new(Mutex::new(String::new()));
        let (mut pipe, said) = (child.stderr.take().unwrap(), Arc::clone(&stderr));
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..length]);
                said.lock().unwrap().push_str(&text);
            }
        });
        Program {
            child,
            stderr,
            reader: Some(reader),
        }
    }
}

impl Program {
    /// Whether it ends by itself within that time.
    pub fn ends_within(&mut self, limit: Duration) -> bool {
        let begun = Instant::now();
        loop {
            if self.child.try_wait().unwrap().is_some() {
                return true;
            }
            if begun.elapsed() >= limit {
                return false;
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits until it says this.
    pub fn wait_for(&mut self, words: &str, limit: Duration) {
        let begun = Instant::now();
        while !self.stderr.lock().unwrap().contains(words) {
            let over = self.ends_within(LOOK) || begun.elapsed() > limit;
            assert!(
                !over,
                "{words:?} was not said: {}",
                self.stderr.lock().unwrap()
            );
        }
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Makes the disk that it was given larger.
    pub fn enlarge_disk(&self, size: &str, path: &Path) {
        self.inside(&["mount", "-o", &format!("remount,size={size}")], &[path]);
    }

    /// Runs a command where it sees its disk.
    fn inside(&self, command: &[&str], paths: &[&Path]) {
        let status = Command::new("nsenter")
            .args(["--mount", "--target", &self.child.id().to_string()])
            .args(command)
            .args(paths)
            .status()
            .unwrap();
        assert!(status.success(), "{command:?}");
    }

    /// Waits for its end.
    pub fn finish(mut self, limit: Duration) -> End {
        assert!(
            self.ends_within(limit),
            "it does not end: {}",
            self.stderr.lock().unwrap()
        );
        self.end()
    }

    /// Its disk, which stays as long as this is open.
    pub fn disk(&self, path: &Path) -> std::fs::File {
        let root = PathBuf::from(format!("/proc/{}/root", self.child.id()));
        std::fs::File::open(root.join(path.strip_prefix("/").unwrap())).unwrap()
    }

    fn end(mut self) -> End {
        let code = self.child.wait().unwrap().code();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        let stderr = self.stderr.lock().unwrap().clone();
        End { code, stderr }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
