//! The columns of a row group while it is filled.

use std::sync::Arc;

use bytes::Bytes;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
use parquet::errors::Result;

use super::runs::{Group, Interned, Runs, elements, values};
use crate::report::values::micros;
use crate::trace::{Handshake, MplsLabel, Reply, Rewrite, Trace, write_address};

/// Texts of all columns: most stand in many rows.
#[derive(Default)]
struct Texts {
    interned: Interned<Bytes>,
    /// An address on its way to text.
    scratch: Vec<u8>,
}

impl Texts {
    fn text(&mut self, text: &str) -> u32 {
        self.interned
            .number(text.as_bytes(), Bytes::copy_from_slice, text.len())
    }

    fn address(&mut self, address: std::net::IpAddr) -> u32 {
        self.scratch.clear();
        write_address(address, &mut self.scratch);
        let text = &self.scratch[..];
        self.interned
            .number(text, Bytes::copy_from_slice, text.len())
    }

    fn get(&self, number: u32) -> ByteArray {
        ByteArray::from(self.interned.get(number).cloned().unwrap_or_default())
    }
}

/// Columns of the trace: a value stands for all its rows.
#[derive(Default)]
struct TraceColumns {
    target: Runs<u32>,
    address: Runs<u32>,
    port: Runs<i32>,
    method: Runs<u32>,
    source: Runs<u32>,
    source_port: Runs<i32>,
    started: Runs<i64>,
    duration_us: Runs<f64>,
    verdict: Runs<u32>,
    detail: Runs<u32>,
    handshake_rtt_us: Runs<f64>,
    handshake_mss: Runs<i32>,
    handshake_sack: Runs<bool>,
    handshake_timestamps: Runs<bool>,
    handshake_window_scale: Runs<i32>,
    destination_ttl: Runs<i32>,
    link_kind: Runs<u32>,
    link_mode: Runs<u32>,
    link_zero_copy: Runs<bool>,
    link_interface: Runs<u32>,
}

/// Columns of the probe.
#[derive(Default)]
struct ProbeColumns {
    probe_index: Runs<i32>,
    ttl: Runs<i32>,
    shared: Runs<bool>,
    nth: Runs<i32>,
    sent_us: Runs<f64>,
    kind: Runs<u32>,
    from: Runs<u32>,
    name: Runs<u32>,
    asn: Runs<i32>,
    rtt_us: Runs<f64>,
    rtt_bound: Runs<u32>,
    icmp_type: Runs<i32>,
    icmp_code: Runs<i32>,
    reply_ttl: Runs<i32>,
    quoted_ttl: Runs<i32>,
    mtu: Runs<i32>,
    mpls: Runs<u32>,
    rewrites: Runs<u32>,
    holder: Runs<u32>,
    prefix: Runs<u32>,
    ixp: Runs<u32>,
    nat: Runs<i32>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Columns {
    rows: usize,
    texts: Texts,
    stacks: Interned<Arc<[MplsLabel]>>,
    findings: Interned<Arc<[Rewrite]>>,
    trace: TraceColumns,
    probe: ProbeColumns,
}

impl Columns {
    /// Rows so far.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Octets they take, about.
    pub(super) fn memory(&self) -> usize {
        let (trace, probe) = (&self.trace, &self.probe);
        let of_traces = trace.target.memory() * 20;
        let of_probes = [
            probe.probe_index.memory() + probe.ttl.memory() + probe.nth.memory(),
            probe.sent_us.memory() + probe.kind.memory() + probe.from.memory(),
            probe.name.memory() + probe.asn.memory() + probe.rtt_us.memory(),
            probe.rtt_bound.memory() + probe.icmp_type.memory() + probe.icmp_code.memory(),
            probe.reply_ttl.memory() + probe.quoted_ttl.memory() + probe.mtu.memory(),
            probe.mpls.memory() + probe.rewrites.memory() + probe.shared.memory(),
            probe.holder.memory() + probe.prefix.memory() + probe.ixp.memory(),
            probe.nat.memory(),
        ];
        of_traces
            + of_probes.iter().sum::<usize>()
            + self.texts.interned.memory()
            + self.stacks.memory()
            + self.findings.memory()
    }

    /// Adds a trace: a row a probe, or one that has none.
    pub(super) fn push(&mut self, trace: &Trace) {
        let probes: usize = trace.hops.iter().map(|hop| hop.probes.len()).sum();
        let rows = probes.max(1);
        self.rows += rows;
        self.push_trace(trace, u32::try_from(rows).unwrap_or(u32::MAX));
        let mut index = 0;
        for hop in &trace.hops {
            for (nth, probe) in (1..).zip(&hop.probes) {
                self.probe.probe_index.push(Some(index), 1);
                index += 1;
                self.probe.ttl.push(Some(hop.ttl.into()), 1);
                self.probe.shared.push(Some(hop.shared), 1);
                self.probe.nth.push(Some(nth), 1);
                self.probe.sent_us.push(Some(micros(probe.sent)), 1);
                self.push_reply(Some(probe.reply.as_ref()));
            }
        }
        if probes == 0 {
            self.probe.probe_index.push(Some(0), 1);
            self.probe.ttl.push(None, 1);
            self.probe.shared.push(None, 1);
            self.probe.nth.push(None, 1);
            self.probe.sent_us.push(None, 1);
            self.push_reply(None);
        }
    }

    fn push_trace(&mut self, trace: &Trace, rows: u32) {
        let (to, texts) = (&mut self.trace, &mut self.texts);
        let handshake = |of: fn(&Handshake) -> f64| trace.handshake.as_ref().map(of);
        to.target.push(Some(texts.text(&trace.target)), rows);
        let address = trace.address.map(|address| texts.address(address));
        to.address.push(address, rows);
        to.port.push(Some(trace.port.into()), rows);
        to.method
            .push(Some(texts.text(trace.method.as_str())), rows);
        let source = trace.source.map(|address| texts.address(address));
        to.source.push(source, rows);
        to.source_port.push(trace.source_port.map(i32::from), rows);
        // Whole microseconds, as in the record; no u64 of nanoseconds is beyond i64 then.
        to.started
            .push(Some((trace.started.0 / 1_000) as i64), rows);
        to.duration_us.push(Some(micros(trace.duration)), rows);
        to.verdict
            .push(Some(texts.text(trace.verdict.as_str())), rows);
        let detail = trace.detail.as_deref().map(|text| texts.text(text));
        to.detail.push(detail, rows);
        to.handshake_rtt_us
            .push(handshake(|it| micros(it.rtt)), rows);
        let handshake = trace.handshake.as_ref();
        to.handshake_mss
            .push(handshake.map(|it| it.mss.into()), rows);
        to.handshake_sack.push(handshake.map(|it| it.sack), rows);
        let timestamps = handshake.map(|it| it.timestamps);
        to.handshake_timestamps.push(timestamps, rows);
        let scale = handshake.and_then(|it| it.window_scale).map(i32::from);
        to.handshake_window_scale.push(scale, rows);
        to.destination_ttl
            .push(trace.destination_ttl.map(i32::from), rows);
        let link = trace.link.as_deref();
        to.link_kind.push(link.map(|it| texts.text(it.kind)), rows);
        let mode = link.and_then(|it| it.mode).map(|mode| texts.text(mode));
        to.link_mode.push(mode, rows);
        to.link_zero_copy.push(link.map(|it| it.zero_copy), rows);
        to.link_interface
            .push(link.map(|it| texts.text(&it.interface)), rows);
    }

    /// Of a probe that was answered or not, or of a row without a probe.
    fn push_reply(&mut self, probe: Option<Option<&Reply>>) {
        let (to, texts) = (&mut self.probe, &mut self.texts);
        let reply = probe.flatten();
        let kind = probe.map(|reply| texts.text(reply.map_or("none", |it| it.kind.as_str())));
        to.kind.push(kind, 1);
        to.from.push(reply.map(|it| texts.address(it.from)), 1);
        let name = reply.and_then(|it| it.name.as_deref());
        to.name.push(name.map(|name| texts.text(name)), 1);
        let owner = reply.and_then(|it| it.owner.as_deref());
        // The column is unsigned, its octets are the same.
        let asn = owner.and_then(|it| it.asn).map(|asn| asn as i32);
        to.asn.push(asn, 1);
        let mut known = |text: Option<&String>| text.map(|text| texts.text(text));
        to.holder
            .push(known(owner.and_then(|it| it.holder.as_ref())), 1);
        to.prefix
            .push(known(owner.and_then(|it| it.prefix.as_ref())), 1);
        to.ixp.push(known(owner.and_then(|it| it.ixp.as_ref())), 1);
        to.rtt_us.push(reply.map(|it| micros(it.rtt)), 1);
        let bound = reply.map(|it| texts.text(it.rtt_bound.as_str()));
        to.rtt_bound.push(bound, 1);
        let icmp = reply.and_then(|it| it.icmp);
        to.icmp_type.push(icmp.map(|(kind, _)| kind.into()), 1);
        to.icmp_code.push(icmp.map(|(_, code)| code.into()), 1);
        let ttl = reply.and_then(|it| it.reply_ttl).map(i32::from);
        to.reply_ttl.push(ttl, 1);
        let quoted = reply.and_then(|it| it.quoted_ttl).map(i32::from);
        to.quoted_ttl.push(quoted, 1);
        to.mtu
            .push(reply.and_then(|it| it.mtu).map(|mtu| mtu as i32), 1);
        let stack = reply.map_or(&[][..], |it| &it.mpls);
        let stack = (!stack.is_empty()).then(|| {
            self.stacks
                .number(stack, |stack| Arc::from(stack), size_of_val(stack))
        });
        to.mpls.push(stack, 1);
        let found = reply.map_or(&[][..], |it| &it.rewrites);
        let found = (!found.is_empty()).then(|| {
            self.findings
                .number(found, |found| Arc::from(found), size_of_val(found))
        });
        to.rewrites.push(found, 1);
        to.nat.push(reply.and_then(|it| it.nat).map(i32::from), 1);
    }

    /// Writes them, in the schema's order.
    pub(super) fn write(&self, group: &mut Group<'_>) -> Result<()> {
        self.write_trace(group)?;
        self.write_probe(group)
    }

    fn write_trace(&self, group: &mut Group<'_>) -> Result<()> {
        let of = &self.trace;
        self.write_texts(group, &of.target)?;
        self.write_texts(group, &of.address)?;
        write_ints(group, &of.port)?;
        self.write_texts(group, &of.method)?;
        self.write_texts(group, &of.source)?;
        write_ints(group, &of.source_port)?;
        values::<Int64Type, _>(group, &of.started, |it| it)?;
        write_doubles(group, &of.duration_us)?;
        self.write_texts(group, &of.verdict)?;
        self.write_texts(group, &of.detail)?;
        write_doubles(group, &of.handshake_rtt_us)?;
        write_ints(group, &of.handshake_mss)?;
        write_booleans(group, &of.handshake_sack)?;
        write_booleans(group, &of.handshake_timestamps)?;
        write_ints(group, &of.handshake_window_scale)?;
        write_ints(group, &of.destination_ttl)?;
        self.write_texts(group, &of.link_kind)?;
        self.write_texts(group, &of.link_mode)?;
        write_booleans(group, &of.link_zero_copy)?;
        self.write_texts(group, &of.link_interface)
    }

    fn write_probe(&self, group: &mut Group<'_>) -> Result<()> {
        let of = &self.probe;
        write_ints(group, &of.probe_index)?;
        write_ints(group, &of.ttl)?;
        write_booleans(group, &of.shared)?;
        write_ints(group, &of.nth)?;
        write_doubles(group, &of.sent_us)?;
        self.write_texts(group, &of.kind)?;
        self.write_texts(group, &of.from)?;
        self.write_texts(group, &of.name)?;
        write_ints(group, &of.asn)?;
        write_doubles(group, &of.rtt_us)?;
        self.write_texts(group, &of.rtt_bound)?;
        write_ints(group, &of.icmp_type)?;
        write_ints(group, &of.icmp_code)?;
        write_ints(group, &of.reply_ttl)?;
        write_ints(group, &of.quoted_ttl)?;
        write_ints(group, &of.mtu)?;
        let stack = |number| self.stacks.get(number).map_or(&[][..], |all| all);
        let number = |it: u32| it as i32;
        elements::<Int32Type, MplsLabel>(group, &of.mpls, stack, |it| number(it.label))?;
        elements::<Int32Type, MplsLabel>(group, &of.mpls, stack, |it| it.tc.into())?;
        elements::<BoolType, MplsLabel>(group, &of.mpls, stack, |it| it.bottom)?;
        elements::<Int32Type, MplsLabel>(group, &of.mpls, stack, |it| it.ttl.into())?;
        let found = |number| self.findings.get(number).map_or(&[][..], |all| all);
        let word = |it: &Rewrite| ByteArray::from(Bytes::from_static(it.as_str().as_bytes()));
        elements::<ByteArrayType, Rewrite>(group, &of.rewrites, found, word)?;
        self.write_texts(group, &of.holder)?;
        self.write_texts(group, &of.prefix)?;
        self.write_texts(group, &of.ixp)?;
        write_ints(group, &of.nat)
    }

    fn write_texts(&self, group: &mut Group<'_>, runs: &Runs<u32>) -> Result<()> {
        values::<ByteArrayType, _>(group, runs, |number| self.texts.get(number))
    }
}

fn write_ints(group: &mut Group<'_>, runs: &Runs<i32>) -> Result<()> {
    values::<Int32Type, _>(group, runs, |it| it)
}

fn write_doubles(group: &mut Group<'_>, runs: &Runs<f64>) -> Result<()> {
    values::<DoubleType, _>(group, runs, |it| it)
}

fn write_booleans(group: &mut Group<'_>, runs: &Runs<bool>) -> Result<()> {
    values::<BoolType, _>(group, runs, |it| it)
}
