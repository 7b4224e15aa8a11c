//! Traces from our own Parquet, row group by row group.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{BoolType, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::file::reader::{FileReader as _, RowGroupReader, SerializedFileReader};

use super::{io_error, known_columns};
use crate::report::values::{self, Word};
use crate::time::{Duration, UnixTime};
use crate::trace::{Handshake, Hop, LinkInfo, MplsLabel, Probe, Reply, Trace};

/// Rows that are read at a time, of each column.
const BATCH: usize = 4096;

/// Whether a file begins as Parquet does.
///
/// # Errors
/// When it cannot be opened or read.
pub fn is_parquet(path: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    File::open(path)?.take(4).read_to_end(&mut head)?;
    Ok(head == b"PAR1")
}

/// A file of ours in Parquet. Memory: a page and some thousands of rows of each column.
pub struct Reader {
    file: SerializedFileReader<File>,
    /// The next row group.
    group: usize,
    rows: Option<Rows>,
    /// The trace whose rows are being read.
    trace: Option<Trace>,
}

impl Reader {
    /// Opens it.
    ///
    /// # Errors
    /// When it cannot be read, or is no result of ours.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = SerializedFileReader::new(File::open(path)?).map_err(io_error)?;
        known_columns(file.metadata().file_metadata().schema())?;
        Ok(Reader {
            file,
            group: 0,
            rows: None,
            trace: None,
        })
    }

    /// The next trace; `None` after the last.
    ///
    /// # Errors
    /// When the file cannot be read, or holds what no trace has.
    #[expect(clippy::should_implement_trait, reason = "an iterator has no errors")]
    pub fn next(&mut self) -> io::Result<Option<Trace>> {
        loop {
            let Some(rows) = &mut self.rows else {
                if self.group == self.file.num_row_groups() {
                    return Ok(self.trace.take());
                }
                let group = self.file.get_row_group(self.group).map_err(io_error)?;
                self.group += 1;
                self.rows = Some(Rows::new(group.as_ref())?);
                continue;
            };
            if rows.left == 0 {
                self.rows = None;
                continue;
            }
            rows.left -= 1;
            let (begun, row) = rows.next()?;
            let done = match begun {
                Some(begun) => self.trace.replace(begun),
                None => None,
            };
            if let (Some(row), Some(trace)) = (row, &mut self.trace) {
                add(row, trace);
            }
            if done.is_some() {
                return Ok(done);
            }
        }
    }
}

/// A probe and where it stands.
struct Row {
    ttl: u8,
    shared: bool,
    nth: i32,
    probe: Probe,
}

fn add(row: Row, trace: &mut Trace) {
    match trace.hops.last_mut() {
        Some(hop) if row.nth > 1 && hop.ttl == row.ttl => hop.probes.push(row.probe),
        _ => trace.hops.push(Hop {
            ttl: row.ttl,
            shared: row.shared,
            probes: vec![row.probe],
        }),
    }
}

fn wrong(column: &'static str, value: impl std::fmt::Display) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("column {column}: {value}: not what a trace has"),
    )
}

/// A column that is read row by row.
struct Column<D: DataType> {
    name: &'static str,
    reader: ColumnReaderImpl<D>,
    values: std::vec::IntoIter<D::T>,
    present: Vec<i16>,
    repeated: Vec<i16>,
    /// The next level.
    at: usize,
    optional: bool,
    list: bool,
}

impl<D: DataType> Column<D> {
    /// Reads on where all that was read is used up.
    fn fill(&mut self) -> io::Result<()> {
        let mut values = Vec::new();
        self.present.clear();
        self.repeated.clear();
        self.at = 0;
        let (records, _, _) = self
            .reader
            .read_records(
                BATCH,
                self.optional.then_some(&mut self.present),
                self.list.then_some(&mut self.repeated),
                &mut values,
            )
            .map_err(io_error)?;
        if records == 0 {
            return Err(wrong(self.name, "ends too early"));
        }
        if !self.optional {
            self.present.resize(records, 1);
        }
        self.values = values.into_iter();
        Ok(())
    }

    /// The next row's value.
    fn next(&mut self) -> io::Result<Option<D::T>> {
        if self.at == self.present.len() {
            self.fill()?;
        }
        let present = self.present.get(self.at).is_some_and(|level| *level > 0);
        self.at += 1;
        Ok(if present { self.values.next() } else { None })
    }

    /// The next row's value, which it must have.
    fn required(&mut self) -> io::Result<D::T> {
        let name = self.name;
        self.next()?.ok_or_else(|| wrong(name, "null"))
    }

    /// The next row's list.
    fn elements(&mut self) -> io::Result<Vec<D::T>> {
        let first = self.next()?;
        let mut all: Vec<_> = first.into_iter().collect();
        while self.repeated.get(self.at).is_some_and(|level| *level > 0) {
            all.extend(self.next()?);
        }
        Ok(all)
    }
}

impl Column<ByteArrayType> {
    fn text(&mut self) -> io::Result<Option<String>> {
        let name = self.name;
        let text = self.next()?.map(|octets| {
            let text = std::str::from_utf8(octets.data());
            text.map(str::to_owned).map_err(|_| wrong(name, "no UTF-8"))
        });
        text.transpose()
    }

    fn word<W: Word>(&mut self) -> io::Result<W> {
        let text = self.text()?.unwrap_or_default();
        W::of(&text).ok_or_else(|| wrong(self.name, text))
    }

    fn address(&mut self) -> io::Result<Option<IpAddr>> {
        let text = self.text()?;
        let parsed = text.map(|text| text.parse().map_err(|_| wrong(self.name, text)));
        parsed.transpose()
    }
}

impl Column<Int32Type> {
    /// A number of a narrower type. The column may be unsigned: its octets count.
    fn number<N: TryFrom<u32>>(&mut self) -> io::Result<Option<N>> {
        let name = self.name;
        let number = self
            .next()?
            .map(|number| N::try_from(number as u32).map_err(|_| wrong(name, number as u32)));
        number.transpose()
    }
}

impl Column<DoubleType> {
    fn span(&mut self) -> io::Result<Option<Duration>> {
        let name = self.name;
        let span = self
            .next()?
            .map(|micros| values::span(micros).ok_or_else(|| wrong(name, micros)));
        span.transpose()
    }
}

type Texts = Column<ByteArrayType>;
type Ints = Column<Int32Type>;
type Doubles = Column<DoubleType>;
type Booleans = Column<BoolType>;

/// The columns of a row group, side by side, in the schema's order.
struct Rows {
    left: i64,
    target: Texts,
    address: Texts,
    port: Ints,
    method: Texts,
    source: Texts,
    source_port: Ints,
    started: Column<Int64Type>,
    duration: Doubles,
    verdict: Texts,
    detail: Texts,
    handshake_rtt: Doubles,
    handshake_mss: Ints,
    handshake_sack: Booleans,
    handshake_timestamps: Booleans,
    handshake_window_scale: Ints,
    destination_ttl: Ints,
    link_kind: Texts,
    link_mode: Texts,
    link_zero_copy: Booleans,
    link_interface: Texts,
    probe_index: Ints,
    ttl: Ints,
    shared: Booleans,
    nth: Ints,
    sent: Doubles,
    kind: Texts,
    from: Texts,
    name: Texts,
    asn: Ints,
    rtt: Doubles,
    rtt_bound: Texts,
    icmp_type: Ints,
    icmp_code: Ints,
    reply_ttl: Ints,
    quoted_ttl: Ints,
    mtu: Ints,
    mpls_label: Ints,
    mpls_tc: Ints,
    mpls_s: Booleans,
    mpls_ttl: Ints,
    rewrites: Texts,
    // Of later versions.
    holder: Option<Texts>,
    prefix: Option<Texts>,
    ixp: Option<Texts>,
    nat: Option<Ints>,
}

/// Gives the columns of a row group one after another.
struct Columns<'a> {
    group: &'a dyn RowGroupReader,
    next: usize,
}

impl Columns<'_> {
    fn next<D: DataType>(&mut self, name: &'static str) -> io::Result<Column<D>> {
        let reader = self.group.get_column_reader(self.next).map_err(io_error)?;
        let schema = self.group.metadata().schema_descr();
        let levels = schema.column(self.next);
        self.next += 1;
        Ok(Column {
            name,
            reader: get_typed_column_reader::<D>(reader),
            values: Vec::new().into_iter(),
            present: Vec::new(),
            repeated: Vec::new(),
            at: 0,
            optional: levels.max_def_level() > 0,
            list: levels.max_rep_level() > 0,
        })
    }
}

impl Columns<'_> {
    /// The next column, where the file has one.
    fn added<D: DataType>(&mut self, name: &'static str) -> io::Result<Option<Column<D>>> {
        if self.next == self.group.num_columns() {
            return Ok(None);
        }
        self.next(name).map(Some)
    }
}

/// The next row's text of a column that may not be there.
fn added(column: &mut Option<Texts>) -> io::Result<Option<String>> {
    match column {
        Some(column) => column.text(),
        None => Ok(None),
    }
}

impl Rows {
    fn new(group: &dyn RowGroupReader) -> io::Result<Self> {
        let mut columns = Columns { group, next: 0 };
        Ok(Rows {
            left: group.metadata().num_rows(),
            target: columns.next("target")?,
            address: columns.next("address")?,
            port: columns.next("port")?,
            method: columns.next("method")?,
            source: columns.next("source")?,
            source_port: columns.next("source_port")?,
            started: columns.next("started")?,
            duration: columns.next("duration_us")?,
            verdict: columns.next("verdict")?,
            detail: columns.next("detail")?,
            handshake_rtt: columns.next("handshake_rtt_us")?,
            handshake_mss: columns.next("handshake_mss")?,
            handshake_sack: columns.next("handshake_sack")?,
            handshake_timestamps: columns.next("handshake_timestamps")?,
            handshake_window_scale: columns.next("handshake_window_scale")?,
            destination_ttl: columns.next("destination_ttl")?,
            link_kind: columns.next("link_kind")?,
            link_mode: columns.next("link_mode")?,
            link_zero_copy: columns.next("link_zero_copy")?,
            link_interface: columns.next("link_interface")?,
            probe_index: columns.next("probe_index")?,
            ttl: columns.next("ttl")?,
            shared: columns.next("shared")?,
            nth: columns.next("nth")?,
            sent: columns.next("sent_us")?,
            kind: columns.next("kind")?,
            from: columns.next("from")?,
            name: columns.next("name")?,
            asn: columns.next("asn")?,
            rtt: columns.next("rtt_us")?,
            rtt_bound: columns.next("rtt_bound")?,
            icmp_type: columns.next("icmp_type")?,
            icmp_code: columns.next("icmp_code")?,
            reply_ttl: columns.next("reply_ttl")?,
            quoted_ttl: columns.next("quoted_ttl")?,
            mtu: columns.next("mtu")?,
            mpls_label: columns.next("mpls.label")?,
            mpls_tc: columns.next("mpls.tc")?,
            mpls_s: columns.next("mpls.s")?,
            mpls_ttl: columns.next("mpls.ttl")?,
            rewrites: columns.next("rewrites")?,
            holder: columns.added("holder")?,
            prefix: columns.added("prefix")?,
            ixp: columns.added("ixp")?,
            nat: columns.added("nat")?,
        })
    }

    /// The next row: the trace that it begins, if it does, and its probe, if it has one.
    fn next(&mut self) -> io::Result<(Option<Trace>, Option<Row>)> {
        let first = self.probe_index.required()? == 0;
        let trace = if first {
            Some(self.trace()?)
        } else {
            self.pass_trace()?;
            None
        };
        Ok((trace, self.row()?))
    }

    fn trace(&mut self) -> io::Result<Trace> {
        let started = self.started.required()?;
        let handshake = (
            self.handshake_rtt.span()?,
            self.handshake_mss.number()?,
            self.handshake_sack.next()?,
            self.handshake_timestamps.next()?,
            self.handshake_window_scale.number()?,
        );
        let handshake = match handshake {
            (Some(rtt), Some(mss), Some(sack), Some(timestamps), window_scale) => Some(Handshake {
                rtt,
                mss,
                sack,
                timestamps,
                window_scale,
            }),
            _ => None,
        };
        let micros = u64::try_from(started).ok();
        let nanos = micros.and_then(|micros| micros.checked_mul(1_000));
        Ok(Trace {
            target: self.target.text()?.unwrap_or_default(),
            address: self.address.address()?,
            port: self.port.number()?.unwrap_or_default(),
            method: self.method.word()?,
            source: self.source.address()?,
            source_port: self.source_port.number()?,
            started: UnixTime(nanos.ok_or_else(|| wrong("started", started))?),
            duration: self.duration.span()?.unwrap_or_default(),
            verdict: self.verdict.word()?,
            detail: self.detail.text()?,
            handshake,
            destination_ttl: self.destination_ttl.number()?,
            hops: Vec::new(),
            // It has no column.
            mtu: None,
            link: self.link()?.map(Arc::new),
        })
    }

    fn link(&mut self) -> io::Result<Option<LinkInfo>> {
        let (kind, mode) = (self.link_kind.text()?, self.link_mode.text()?);
        let zero_copy = self.link_zero_copy.next()?;
        let interface = self.link_interface.text()?;
        let Some(kind) = kind else {
            return Ok(None);
        };
        let mode = mode.map(|mode| {
            let word = values::link_mode(&mode);
            word.ok_or_else(|| wrong("link_mode", mode))
        });
        Ok(Some(LinkInfo {
            kind: values::link_kind(&kind).ok_or_else(|| wrong("link_kind", &kind))?,
            mode: mode.transpose()?,
            zero_copy: zero_copy.unwrap_or_default(),
            interface: interface.unwrap_or_default(),
        }))
    }

    /// Steps over what the rows of one trace have in common.
    fn pass_trace(&mut self) -> io::Result<()> {
        for column in [
            &mut self.target,
            &mut self.address,
            &mut self.method,
            &mut self.source,
            &mut self.verdict,
            &mut self.detail,
            &mut self.link_kind,
            &mut self.link_mode,
            &mut self.link_interface,
        ] {
            column.next()?;
        }
        for column in [
            &mut self.port,
            &mut self.source_port,
            &mut self.handshake_mss,
            &mut self.handshake_window_scale,
            &mut self.destination_ttl,
        ] {
            column.next()?;
        }
        self.started.next()?;
        self.duration.next()?;
        self.handshake_rtt.next()?;
        self.handshake_sack.next()?;
        self.handshake_timestamps.next()?;
        self.link_zero_copy.next()?;
        Ok(())
    }

    fn row(&mut self) -> io::Result<Option<Row>> {
        let (ttl, nth) = (self.ttl.number()?, self.nth.next()?);
        let shared = self.shared.next()?.unwrap_or_default();
        let sent = self.sent.span()?;
        let reply = self.reply()?;
        Ok(match (ttl, nth, sent) {
            (Some(ttl), Some(nth), Some(sent)) => Some(Row {
                ttl,
                shared,
                nth,
                probe: Probe { sent, reply },
            }),
            _ => None,
        })
    }

    fn reply(&mut self) -> io::Result<Option<Reply>> {
        let kind = self.kind.text()?;
        let from = self.from.address()?;
        let (name, asn) = (self.name.text()?, self.asn.number()?);
        let (rtt, bound) = (self.rtt.span()?, self.rtt_bound.text()?);
        let icmp = self.icmp_type.number()?.zip(self.icmp_code.number()?);
        let (reply_ttl, quoted_ttl) = (self.reply_ttl.number()?, self.quoted_ttl.number()?);
        let mtu = self.mtu.number()?;
        let mpls = self.stack()?;
        let rewrites = self.rewrites.elements()?.into_iter().map(|word| {
            let word = String::from_utf8_lossy(word.data());
            Word::of(&word).ok_or_else(|| wrong("rewrites", word))
        });
        let rewrites = rewrites.collect::<io::Result<Vec<_>>>()?;
        let (holder, prefix) = (added(&mut self.holder)?, added(&mut self.prefix)?);
        let ixp = added(&mut self.ixp)?;
        let nat = match &mut self.nat {
            Some(column) => column.number()?,
            None => None,
        };
        let Some(kind) = kind.filter(|kind| kind != "none") else {
            return Ok(None);
        };
        let bound = bound.unwrap_or_default();
        Ok(Some(Reply {
            kind: Word::of(&kind).ok_or_else(|| wrong("kind", kind))?,
            from: from.ok_or_else(|| wrong("from", "null"))?,
            name,
            owner: values::owner(asn, holder, prefix, ixp),
            rtt: rtt.ok_or_else(|| wrong("rtt_us", "null"))?,
            rtt_bound: Word::of(&bound).ok_or_else(|| wrong("rtt_bound", bound))?,
            icmp,
            reply_ttl,
            quoted_ttl,
            mtu,
            mpls,
            rewrites,
            nat,
        }))
    }

    fn stack(&mut self) -> io::Result<Vec<MplsLabel>> {
        let labels = self.mpls_label.elements()?;
        let tcs = self.mpls_tc.elements()?;
        let bottoms = self.mpls_s.elements()?;
        let ttls = self.mpls_ttl.elements()?;
        let all = labels.into_iter().zip(tcs).zip(bottoms).zip(ttls);
        let octet = |value: i32| u8::try_from(value).map_err(|_| wrong("mpls", value));
        all.map(|(((label, tc), bottom), ttl)| {
            Ok(MplsLabel {
                label: label as u32,
                tc: octet(tc)?,
                bottom,
                ttl: octet(ttl)?,
            })
        })
        .collect()
    }
}
