//! Parts and joins: what was written comes back whole, whatever it is compressed with.

use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::*;
use crate::report::{input, json, samples};

/// Memory that is written to and looked at.
#[derive(Clone, Default)]
pub(super) struct Shared(pub(super) Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    pub(super) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A folder that goes away with it.
pub(in crate::report) struct Folder(pub(in crate::report) PathBuf);

impl Folder {
    pub(in crate::report) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("insession-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn spec(name: &str) -> OutputSpec {
    OutputSpec::of(Path::new(name)).unwrap()
}

/// A whole file of these traces.
pub(super) fn encoded(spec: &OutputSpec, traces: &[Trace]) -> Vec<u8> {
    let out = Shared::default();
    let mut encoder = encoder(spec, Box::new(out.clone())).unwrap();
    let mut line = Vec::new();
    for trace in traces {
        line.clear();
        json::append(trace, &mut line).unwrap();
        encoder.record(trace, &line).unwrap();
    }
    encoder.finish().unwrap();
    out.take()
}

/// These parts, each in a file, joined.
pub(super) fn joined(spec: &OutputSpec, name: &str, parts: &[Vec<u8>]) -> io::Result<Vec<u8>> {
    let folder = Folder::new(name);
    let path = |nth| folder.0.join(format!("{nth}{}", spec.extension()));
    for (nth, part) in parts.iter().enumerate() {
        std::fs::write(path(nth), part).unwrap();
    }
    let paths: Vec<_> = (0..parts.len()).map(path).collect();
    let out = Shared::default();
    join(spec, &paths, Box::new(out.clone()))?;
    Ok(out.take())
}

fn text(file: Vec<u8>) -> String {
    let mut text = String::new();
    let mut input = input::decoded(io::Cursor::new(file)).unwrap();
    input.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn records_come_back_from_parts_joined() {
    let all = samples::all();
    for name in ["r.jsonl", "r.jsonl.gz", "r.jsonl.zst"] {
        let spec = spec(name);
        let parts = [&all[..3], &[], &all[3..]].map(|some| encoded(&spec, some));
        let file = joined(&spec, name, &parts).unwrap();
        // Copied, not decoded.
        assert_eq!(file, parts.concat());
        let mut expected = Vec::new();
        for trace in &all {
            json::append(trace, &mut expected).unwrap();
        }
        assert_eq!(text(file), String::from_utf8(expected).unwrap(), "{name}");
    }
}

#[test]
fn no_parts_are_a_file_of_no_records() {
    for name in ["r.jsonl", "r.jsonl.gz", "r.jsonl.zst"] {
        let spec = spec(name);
        let file = joined(&spec, &format!("none-{name}"), &[]).unwrap();
        assert_eq!(file, encoded(&spec, &[]), "{name}");
        assert_eq!(text(file), "");
    }
}

#[test]
fn an_encoder_tells_what_it_has_written() {
    for name in ["r.jsonl", "r.jsonl.gz", "r.jsonl.zst"] {
        let out = Shared::default();
        let mut encoder = encoder(&spec(name), Box::new(out.clone())).unwrap();
        // What does not compress: 4 MiB of it, as nothing else is handed over for sure.
        let mut line = vec![0_u8; 1 << 22];
        let mut state = 1_u64;
        for octet in &mut line {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *octet = (state >> 56) as u8;
        }
        encoder.record(&samples::contract(), &line).unwrap();
        let bytes = encoder.bytes();
        assert!((3 << 20..5 << 20).contains(&bytes), "{name}: {bytes}");
        encoder.finish().unwrap();
        assert!(out.take().len() as u64 >= bytes);
    }
}

/// A disk that is full.
struct Full;

impl Write for Full {
    fn write(&mut self, _octets: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_told_by_its_kind() {
    for name in ["r.jsonl", "r.jsonl.gz", "r.jsonl.zst"] {
        let mut encoder = encoder(&spec(name), Box::new(Full)).unwrap();
        let mut written = encoder.record(&samples::contract(), b"{}\n");
        if written.is_ok() {
            written = encoder.finish();
        }
        assert_eq!(
            written.unwrap_err().kind(),
            io::ErrorKind::StorageFull,
            "{name}"
        );
    }
}

#[test]
fn a_part_that_is_not_there_is_named() {
    let gone = PathBuf::from("/no/such/part");
    let said = join(&spec("r.jsonl"), &[gone], Box::new(io::sink())).unwrap_err();
    assert!(said.to_string().starts_with("/no/such/part: "), "{said}");
}
