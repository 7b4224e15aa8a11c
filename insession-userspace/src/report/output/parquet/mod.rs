//! Parquet: one row a probe, as `docs/formats.md` documents it.
//!
//! Rows are kept by column until there are enough for a row group: at most
//! `GROUP_ROWS` of them in `GROUP_MEMORY` octets, whichever is reached first. What
//! rows next to each other have in common is kept once (`columns`), so that is some
//! hundred thousands of probes.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, TypePtr};

use super::Encoder;
use crate::trace::Trace;
use columns::Columns;

mod columns;
mod join;
mod read;
mod runs;
#[cfg(test)]
mod tests;

pub(super) use join::join;
pub use read::{Reader, is_parquet};

/// Rows of a row group, at most.
const GROUP_ROWS: usize = 1 << 20;
/// What the rows of a row group take in memory before they are written, about.
const GROUP_MEMORY: usize = 32 << 20;

/// The columns, in the types that every reader knows.
const SCHEMA: &str = "
message insession_trace_1 {
  REQUIRED BYTE_ARRAY target (UTF8);
  OPTIONAL BYTE_ARRAY address (UTF8);
  REQUIRED INT32 port (INTEGER(16,false));
  REQUIRED BYTE_ARRAY method (UTF8);
  OPTIONAL BYTE_ARRAY source (UTF8);
  OPTIONAL INT32 source_port (INTEGER(16,false));
  REQUIRED INT64 started (TIMESTAMP(MICROS,true));
  REQUIRED DOUBLE duration_us;
  REQUIRED BYTE_ARRAY verdict (UTF8);
  OPTIONAL BYTE_ARRAY detail (UTF8);
  OPTIONAL DOUBLE handshake_rtt_us;
  OPTIONAL INT32 handshake_mss (INTEGER(16,false));
  OPTIONAL BOOLEAN handshake_sack;
  OPTIONAL BOOLEAN handshake_timestamps;
  OPTIONAL INT32 handshake_window_scale (INTEGER(8,false));
  OPTIONAL INT32 destination_ttl (INTEGER(8,false));
  OPTIONAL BYTE_ARRAY link_kind (UTF8);
  OPTIONAL BYTE_ARRAY link_mode (UTF8);
  OPTIONAL BOOLEAN link_zero_copy;
  OPTIONAL BYTE_ARRAY link_interface (UTF8);
  REQUIRED INT32 probe_index;
  OPTIONAL INT32 ttl (INTEGER(8,false));
  OPTIONAL BOOLEAN shared;
  OPTIONAL INT32 nth;
  OPTIONAL DOUBLE sent_us;
  OPTIONAL BYTE_ARRAY kind (UTF8);
  OPTIONAL BYTE_ARRAY from (UTF8);
  OPTIONAL BYTE_ARRAY name (UTF8);
  OPTIONAL INT32 asn (INTEGER(32,false));
  OPTIONAL DOUBLE rtt_us;
  OPTIONAL BYTE_ARRAY rtt_bound (UTF8);
  OPTIONAL INT32 icmp_type (INTEGER(8,false));
  OPTIONAL INT32 icmp_code (INTEGER(8,false));
  OPTIONAL INT32 reply_ttl (INTEGER(8,false));
  OPTIONAL INT32 quoted_ttl (INTEGER(8,false));
  OPTIONAL INT32 mtu (INTEGER(32,false));
  REQUIRED GROUP mpls (LIST) {
    REPEATED GROUP list {
      REQUIRED GROUP element {
        REQUIRED INT32 label (INTEGER(32,false));
        REQUIRED INT32 tc (INTEGER(8,false));
        REQUIRED BOOLEAN s;
        REQUIRED INT32 ttl (INTEGER(8,false));
      }
    }
  }
  REQUIRED GROUP rewrites (LIST) {
    REPEATED GROUP list {
      REQUIRED BYTE_ARRAY element (UTF8);
    }
  }
  OPTIONAL BYTE_ARRAY holder (UTF8);
  OPTIONAL BYTE_ARRAY prefix (UTF8);
  OPTIONAL BYTE_ARRAY ixp (UTF8);
  OPTIONAL INT32 nat (INTEGER(16,false));
}
";

fn schema() -> io::Result<TypePtr> {
    parse_message_type(SCHEMA).map(Arc::new).map_err(io_error)
}

fn properties() -> io::Result<WriterProperties> {
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("insession ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).map_err(io_error)?))
        // Of a row group, not of each page: the directory stays small.
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_key_value_metadata(Some(vec![KeyValue::new(
            "schema".to_owned(),
            "insession.trace/1".to_owned(),
        )]));
    // Times hardly ever repeat: a dictionary of them would be one more copy.
    for times in ["duration_us", "handshake_rtt_us", "sent_us", "rtt_us"] {
        let column = ColumnPath::from(times);
        properties = properties.set_column_dictionary_enabled(column, false);
    }
    Ok(properties.build())
}

type Out = Box<dyn Write + Send>;

fn writer(out: Out) -> io::Result<SerializedFileWriter<Out>> {
    SerializedFileWriter::new(out, schema()?, Arc::new(properties()?)).map_err(io_error)
}

/// A part in Parquet.
pub(super) struct Rows {
    columns: Columns,
    writer: SerializedFileWriter<Out>,
}

impl Rows {
    /// Begins a part.
    pub(super) fn new(out: Out) -> io::Result<Self> {
        Ok(Rows {
            columns: Columns::default(),
            writer: writer(out)?,
        })
    }

    fn end_group(&mut self) -> io::Result<()> {
        let mut group = self.writer.next_row_group().map_err(io_error)?;
        self.columns.write(&mut group).map_err(io_error)?;
        group.close().map_err(io_error)?;
        self.columns = Columns::default();
        Ok(())
    }
}

impl Encoder for Rows {
    fn record(&mut self, trace: &Trace, _json: &[u8]) -> io::Result<()> {
        self.columns.push(trace);
        if self.columns.rows() >= GROUP_ROWS || self.columns.memory() >= GROUP_MEMORY {
            self.end_group()?;
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.writer.bytes_written() as u64
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        if self.columns.rows() > 0 {
            self.end_group()?;
        }
        self.writer.finish().map_err(io_error)?;
        self.writer.inner_mut().flush()
    }
}

/// What Parquet's library says, with the kind of what the system said to it.
fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(cause) => *cause,
            Err(cause) => io::Error::other(cause),
        },
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

/// All parts have the columns of this version, so that they can follow one another.
fn same_columns(found: &parquet::schema::types::Type) -> io::Result<()> {
    if schema()?.get_fields() == found.get_fields() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "its columns are not those of insession.trace/1",
    ))
}

/// The columns are those of this version, or the first of them: columns that were added
/// at the end since are optional.
fn known_columns(found: &parquet::schema::types::Type) -> io::Result<()> {
    let ours = schema()?;
    let (ours, found) = (ours.get_fields(), found.get_fields());
    let rest = ours.get(found.len()..);
    if ours.starts_with(found) && rest.is_some_and(|rest| rest.iter().all(|it| it.is_optional())) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "its columns are not those of insession.trace/1",
    ))
}

/// Parts, as [`super::join()`] is given them.
type Parts<'a> = &'a [PathBuf];
