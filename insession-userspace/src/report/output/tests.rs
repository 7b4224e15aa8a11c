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

#[test]
fn a_joined_csv_has_its_header_once() {
    let all = samples::all();
    for name in ["r.csv", "r.csv.gz", "r.csv.zst"] {
        let spec = spec(name);
        let parts = [&all[..3], &[], &all[3..]].map(|some| encoded(&spec, some));
        let file = joined(&spec, name, &parts).unwrap();
        let found = text(file);
        assert_eq!(found, text(encoded(&spec, &all)), "{name}");
        assert_eq!(found.matches("capture_timestamp").count(), 1);
        assert!(found.starts_with("capture_timestamp,"));
        assert_eq!(
            text(joined(&spec, &format!("none-{name}"), &[]).unwrap())
                .lines()
                .count(),
            1
        );
        // A part of something else is not taken for one of it.
        let other = [parts[0].clone(), encoded(&self::spec("r.jsonl"), &all)];
        let said = joined(&spec, &format!("other-{name}"), &other).unwrap_err();
        assert!(said.to_string().contains("1.csv"), "{name}: {said}");
    }
}

/// The first line of a format that has one a trace.
fn line(name: &str, trace: &Trace) -> String {
    let text = text(encoded(&spec(name), std::slice::from_ref(trace)));
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    text.trim_end().to_owned()
}

#[test]
fn scampers_object_byte_by_byte() {
    let expected = concat!(
        r#"{"type":"trace","version":"0.1","userid":0,"method":"tcp-ack","src":"10.0.1.2","dst":"10.0.9.2","sport":61234,"dport":80,"#,
        r#""stop_reason":"COMPLETED","stop_data":0,"start":{"sec":1767323045,"usec":678901,"ftime":"2026-01-02 03:04:05"},"#,
        r#""hop_count":2,"attempts":2,"hoplimit":0,"firsthop":1,"wait":0,"wait_probe":0,"tos":0,"probe_size":53,"probe_count":3,"#,
        r#""flags":["all-attempts"],"hops":["#,
        r#"{"addr":"10.0.1.1","probe_ttl":1,"probe_id":0,"probe_size":53,"tx":{"sec":1767323045,"usec":679943},"rtt":0.057,"#,
        r#""reply_ttl":64,"reply_tos":0,"icmp_type":11,"icmp_code":0,"icmp_q_ttl":1,"#,
        r#""icmpext":[{"ie_cn":1,"ie_ct":1,"ie_dl":4,"mpls_labels":[{"mpls_ttl":1,"mpls_s":1,"mpls_exp":1,"mpls_label":24001}]}]},"#,
        r#"{"addr":"10.0.9.2","name":"www.example","probe_ttl":2,"probe_id":0,"probe_size":53,"tx":{"sec":1767323045,"usec":679951},"#,
        r#""rtt":0.205,"reply_ttl":63,"reply_tos":0,"tcp_flags":16}],"#,
        r#""no_hops":[{"probe_ttl":1,"probe_id":1,"probe_size":53,"tx":{"sec":1767323045,"usec":679944}}]}"#,
    );
    assert_eq!(line("r.scamper.jsonl", &samples::contract()), expected);
}

#[test]
fn an_atlas_result_byte_by_byte() {
    let expected = concat!(
        r#"{"fw":5080,"mver":"0.1.0","lts":-1,"endtime":1767323045,"dst_name":"www.example","dst_addr":"10.0.9.2","#,
        r#""src_addr":"10.0.1.2","proto":"TCP","af":4,"size":1,"result":["#,
        r#"{"hop":1,"result":[{"from":"10.0.1.1","ttl":64,"rtt":0.057,"icmpext":{"version":2,"rfc4884":1,"#,
        r#""obj":[{"class":1,"type":1,"mpls":[{"label":24001,"exp":1,"s":1,"ttl":1}]}]}},{"x":"*"}]},"#,
        r#"{"hop":2,"result":[{"from":"10.0.9.2","ttl":63,"rtt":0.205,"flags":"A"}]}],"#,
        r#""msm_id":0,"prb_id":0,"timestamp":1767323045,"msm_name":"Traceroute","from":"","type":"traceroute"}"#,
    );
    assert_eq!(line("r.atlas.jsonl", &samples::contract()), expected);
}

#[test]
fn caracals_rows_byte_by_byte() {
    let rows = text(encoded(&spec("r.csv"), &[samples::contract()]));
    let expected = concat!(
        "capture_timestamp,probe_protocol,probe_src_addr,probe_dst_addr,probe_src_port,probe_dst_port,probe_ttl,quoted_ttl,",
        "reply_src_addr,reply_protocol,reply_icmp_type,reply_icmp_code,reply_ttl,reply_size,reply_mpls_labels,rtt,round\n",
        "1767323045,6,::ffff:10.0.1.2,::ffff:10.0.9.2,61234,80,1,1,::ffff:10.0.1.1,1,11,0,64,0,\"[(24001,1,1,1)]\",1,1\n",
        "1767323045,6,::ffff:10.0.1.2,::ffff:10.0.9.2,61234,80,2,0,::ffff:10.0.9.2,6,0,0,63,0,\"[]\",2,1\n",
    );
    assert_eq!(rows, expected);
}

#[test]
fn every_target_has_a_line_with_its_reason() {
    for trace in samples::all() {
        let scamper = line("r.scamper.jsonl", &trace);
        let atlas = line("r.atlas.jsonl", &trace);
        for text in [&scamper, &atlas] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            assert!(value.is_object(), "{text}");
        }
        if trace.hops.is_empty() {
            assert!(
                atlas.contains(&format!("\"error\":\"{}", trace.verdict.as_str())),
                "{atlas}"
            );
        }
        if trace.verdict.is_failure() && trace.verdict != crate::trace::Verdict::Interrupted {
            let reason = format!("\"errmsg\":\"{}: {}", trace.target, trace.verdict.as_str());
            assert!(scamper.contains(&reason), "{scamper}");
        }
    }
}
