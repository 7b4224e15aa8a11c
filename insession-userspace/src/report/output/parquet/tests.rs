//! Parquet as it comes back, in row groups and joined.

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use super::*;
use crate::report::output::tests::{Folder, encoded, joined, spec};
use crate::report::samples;
use crate::time::UnixTime;

fn read(file: &[u8], name: &str) -> Vec<Trace> {
    let folder = Folder::new(name);
    let path = folder.0.join("r.parquet");
    std::fs::write(&path, file).unwrap();
    assert!(is_parquet(&path).unwrap());
    let mut reader = Reader::open(&path).unwrap();
    let mut all = Vec::new();
    while let Some(trace) = reader.next().unwrap() {
        all.push(trace);
    }
    all
}

/// All but nanoseconds of the start, and the path MTU.
fn kept(traces: &[Trace]) -> Vec<Trace> {
    let kept = |trace: &Trace| Trace {
        started: UnixTime(trace.started.0 / 1_000 * 1_000),
        mtu: None,
        ..trace.clone()
    };
    traces.iter().map(kept).collect()
}

#[test]
fn traces_come_back_from_parts_joined() {
    let mut runner = TestRunner::deterministic();
    let mut all = samples::all();
    all.extend((0..3000).map(|_| {
        samples::any_trace()
            .new_tree(&mut runner)
            .unwrap()
            .current()
    }));
    let spec = spec("r.parquet");
    let parts = [&all[..5], &[], &all[5..2000], &all[2000..]].map(|some| encoded(&spec, some));
    let file = joined(&spec, "parquet-joined", &parts).unwrap();
    let back = read(&file, "parquet-read");
    for (found, expected) in back.iter().zip(kept(&all)) {
        assert_eq!(*found, expected);
    }
    assert_eq!(back.len(), all.len());
}

/// A file of ours without the last of its columns.
fn without_last(file: &[u8], columns: &[&str], folder: &Folder) -> Vec<u8> {
    use parquet::column::writer::ColumnCloseResult;
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    let path = folder.0.join("new.parquet");
    std::fs::write(&path, file).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    let reader = SerializedFileReader::new(file.try_clone().unwrap()).unwrap();
    let is_kept = |line: &&str| !columns.iter().any(|it| line.contains(&format!(" {it} ")));
    let schema: Vec<&str> = SCHEMA.lines().filter(is_kept).collect();
    let schema = Arc::new(parse_message_type(&schema.join("\n")).unwrap());
    let out = super::super::tests::Shared::default();
    let properties = Arc::new(properties().unwrap());
    let mut writer = SerializedFileWriter::new(out.clone(), schema, properties).unwrap();
    for group in reader.metadata().row_groups() {
        let mut copied = writer.next_row_group().unwrap();
        let kept = group.columns().len() - columns.len();
        for column in &group.columns()[..kept] {
            let result = ColumnCloseResult {
                bytes_written: column.compressed_size() as u64,
                rows_written: group.num_rows() as u64,
                metadata: column.clone(),
                bloom_filter: None,
                column_index: None,
                offset_index: None,
            };
            copied.append_column(&file, result).unwrap();
        }
        copied.close().unwrap();
    }
    writer.finish().unwrap();
    out.take()
}

#[test]
fn files_from_before_a_column_are_read() {
    let mut runner = TestRunner::deterministic();
    let any = (0..200).map(|_| {
        samples::any_trace()
            .new_tree(&mut runner)
            .unwrap()
            .current()
    });
    let mut all: Vec<Trace> = any.collect();
    let file = encoded(&spec("r.parquet"), &all);
    let added = ["holder", "prefix", "ixp", "nat"];
    let folder = Folder::new("parquet-before");
    let back = read(&without_last(&file, &added, &folder), "parquet-old");
    for probe in all
        .iter_mut()
        .flat_map(|it| &mut it.hops)
        .flat_map(|it| &mut it.probes)
    {
        if let Some(reply) = &mut probe.reply {
            let asn = reply.owner.as_ref().and_then(|it| it.asn);
            reply.owner = crate::report::values::owner(asn, None, None, None);
            reply.nat = None;
        }
    }
    assert_eq!(back, kept(&all));
    // Columns that were there from the beginning are not left out.
    let older = ["rewrites", "holder", "prefix", "ixp"];
    let path = folder.0.join("older.parquet");
    let schema = SCHEMA
        .lines()
        .filter(|line| !older[1..].iter().any(|it| line.contains(it)));
    let schema: String = schema.map(|line| format!("{line}\n")).collect();
    let (first, _) = schema.split_once("  REQUIRED GROUP rewrites").unwrap();
    let schema = Arc::new(parse_message_type(&format!("{first}}}")).unwrap());
    let out = std::fs::File::create(&path).unwrap();
    let writer = SerializedFileWriter::new(out, schema, Arc::new(properties().unwrap())).unwrap();
    writer.close().unwrap();
    assert!(Reader::open(&path).is_err());
}

#[test]
fn no_parts_are_a_file_without_rows() {
    let file = joined(&spec("r.parquet"), "parquet-none", &[]).unwrap();
    assert!(read(&file, "parquet-empty").is_empty());
}

#[test]
fn a_row_group_ends_when_it_is_full() {
    // Times that differ from row to row, so that runs are of one.
    let mut trace = samples::four_hops();
    let probe = trace.hops[0].probes[0].clone();
    trace.hops[0].probes = vec![probe; 1000];
    let mut columns = Columns::default();
    for nth in 0..50 {
        let hop = trace.hops[0].probes.iter_mut();
        for (at, probe) in (nth * 1000..).zip(hop) {
            probe.sent = crate::time::Duration::from_nanos(at);
        }
        columns.push(&trace);
    }
    let a_row = columns.memory() / columns.rows();
    assert!((30..200).contains(&a_row), "{a_row}");
    let out = super::super::tests::Shared::default();
    let mut rows = Rows::new(Box::new(out.clone())).unwrap();
    let before = rows.bytes();
    let mut pushed = 0;
    while rows.bytes() == before {
        let room = rows.columns.memory();
        assert!(
            room < GROUP_MEMORY && pushed <= GROUP_ROWS,
            "{room} {pushed}"
        );
        rows.record(&trace, b"").unwrap();
        pushed += 1009;
    }
    assert_eq!(rows.columns.rows(), 0);
    let before = Box::new(rows);
    before.finish().unwrap();
    assert!(!out.take().is_empty());
}

#[test]
fn other_files_are_no_results() {
    let folder = Folder::new("parquet-other");
    let path = folder.0.join("r.parquet");
    std::fs::write(&path, b"PAR1 and nothing of it PAR1").unwrap();
    assert!(Reader::open(&path).is_err());
    let said = join(std::slice::from_ref(&path), Box::new(io::sink())).unwrap_err();
    assert!(said.to_string().contains("r.parquet: "), "{said}");
}
