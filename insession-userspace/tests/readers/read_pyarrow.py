"""Our Parquet by pyarrow and pandas."""

import sys

import pandas
import pyarrow
import pyarrow.parquet

from parquet_rows import compare
from records import done, load, same

folder = sys.argv[1]
records = load(folder)
name = f"{folder}/r.parquet"

table = pyarrow.parquet.read_table(name)
count = compare(records, table.to_pylist())

types = {field.name: field.type for field in table.schema}
for column, kind in {
    "target": pyarrow.string(),
    "port": pyarrow.uint16(),
    "started": pyarrow.timestamp("us", tz="UTC"),
    "asn": pyarrow.uint32(),
    "ttl": pyarrow.uint8(),
    "rtt_us": pyarrow.float64(),
    "handshake_sack": pyarrow.bool_(),
}.items():
    same(types[column], kind, f"type of {column}")

# What was said of the file: compressed, words by a dictionary, bounded row groups.
metadata = pyarrow.parquet.ParquetFile(name).metadata
same(metadata.metadata[b"schema"], b"insession.trace/1", "schema")
for at in range(metadata.num_row_groups):
    group = metadata.row_group(at)
    same(group.num_rows <= 1 << 20, True, "rows of a row group")
    for nth in range(group.num_columns):
        column = group.column(nth)
        same(column.compression, "ZSTD", column.path_in_schema)
        if column.path_in_schema in ("target", "verdict", "kind", "from"):
            same("RLE_DICTIONARY" in column.encodings, True, column.path_in_schema)

frame = pandas.read_parquet(name)
same(len(frame), count, "rows in pandas")
verdicts = frame[frame.probe_index == 0].verdict.value_counts().to_dict()
expected = {}
for record in records:
    expected[record["verdict"]] = expected.get(record["verdict"], 0) + 1
same(verdicts, expected, "verdicts in pandas")
same(str(frame.started.dtype), "datetime64[us, UTC]", "type of started in pandas")
done(count)
