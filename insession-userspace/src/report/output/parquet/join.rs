//! Parts in Parquet joined to one: row groups as they are.

use std::fs::File;
use std::io::{self, Write as _};

use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::ParquetMetaDataReader;

use super::{Out, Parts, io_error, same_columns, writer};
use crate::report::output::join::named;

/// Copies the column chunks of all row groups of all parts. Memory: the directory of the
/// row groups, some 10 KiB for each.
pub(in crate::report::output) fn join(parts: Parts<'_>, out: Out) -> io::Result<()> {
    let mut writer = writer(out)?;
    for path in parts {
        let name = |error| named(path, error);
        let part = File::open(path).map_err(name)?;
        let metadata = ParquetMetaDataReader::new()
            .parse_and_finish(&part)
            .map_err(|error| name(io_error(error)))?;
        same_columns(metadata.file_metadata().schema()).map_err(name)?;
        for group in metadata.row_groups() {
            let mut copied = writer.next_row_group().map_err(io_error)?;
            for column in group.columns() {
                let result = ColumnCloseResult {
                    bytes_written: column.compressed_size().try_into().unwrap_or(0),
                    rows_written: group.num_rows().try_into().unwrap_or(0),
                    metadata: column.clone(),
                    bloom_filter: None,
                    column_index: None,
                    offset_index: None,
                };
                copied.append_column(&part, result).map_err(io_error)?;
            }
            copied.close().map_err(io_error)?;
        }
    }
    writer.finish().map_err(io_error)?;
    writer.inner_mut().flush()
}
