"""Our Parquet, JSON lines and caracal CSV by DuckDB."""

import math
import sys

import duckdb

from parquet_rows import compare, started
from records import done, load, probes, same
from records import protocol as protocol_of

folder = sys.argv[1]
records = load(folder)
db = duckdb.connect()
db.execute("SET TimeZone = 'UTC'")


def rows(query):
    result = db.execute(query)
    names = [column[0] for column in result.description]
    return [dict(zip(names, row)) for row in result.fetchall()]


count = compare(records, rows(f"SELECT * FROM '{folder}/r.parquet'"))

# What a user asks first, in one line each.
verdicts = dict(
    db.execute(
        f"SELECT verdict, count(*) FROM '{folder}/r.parquet' WHERE probe_index = 0 GROUP BY 1"
    ).fetchall()
)
expected = {}
for record in records:
    expected[record["verdict"]] = expected.get(record["verdict"], 0) + 1
same(verdicts, expected, "verdicts")
labels = db.execute(
    f"SELECT sum(label.label) FROM (SELECT unnest(mpls) AS label FROM '{folder}/r.parquet')"
).fetchone()[0]
stacks = [probe.get("mpls", []) for record in records for _, _, probe in probes(record)]
same(labels, sum(label["label"] for stack in stacks for label in stack), "sum of labels")

# Compressed and joined from parts, JSON lines are one table too.
for name in ("r.jsonl", "r.jsonl.gz", "r.jsonl.zst"):
    found = db.execute(
        f"SELECT target, verdict FROM read_json('{folder}/{name}', format = 'newline_delimited',"
        " columns = {target: 'VARCHAR', verdict: 'VARCHAR'})"
    ).fetchall()
    same(found, [(record["target"], record["verdict"]) for record in records], name)


def v6(address):
    if address is None:
        return "::"
    return address if ":" in address else f"::ffff:{address}"


def half_up(value):
    return math.floor(value + 0.5)


def replies():
    for record in records:
        for ttl, _, probe in probes(record):
            if probe["kind"] == "none":
                continue
            icmp = 58 if ":" in (record["address"] or "") else 1
            of_probe = {"TCP": 6, "UDP": 17, "ICMP": icmp}[protocol_of(record)]
            protocol = 17 if probe["kind"] == "udp-reply" else 6
            if probe["icmp_type"] is not None:
                protocol = 58 if ":" in probe["from"] else 1
            stack = ",".join(
                f"({label['label']},{label['tc']},{int(label['s'])},{label['ttl']})"
                for label in probe["mpls"]
            )
            yield {
                "probe_protocol": of_probe,
                "probe_src_addr": v6(record["source"]),
                "probe_dst_addr": v6(record["address"]),
                "probe_src_port": record["source_port"] or 0,
                "probe_dst_port": record["port"],
                "probe_ttl": ttl,
                "quoted_ttl": probe["quoted_ttl"] or 0,
                "reply_src_addr": v6(probe["from"]),
                "reply_protocol": protocol,
                "reply_icmp_type": probe["icmp_type"] or 0,
                "reply_icmp_code": probe["icmp_code"] or 0,
                "reply_ttl": probe["reply_ttl"] or 0,
                "reply_size": 0,
                "reply_mpls_labels": f"[{stack}]",
                "rtt": min(half_up(probe["rtt_us"] / 100), 65535),
                "round": "1",
            }, (started(record) + probe["sent_us"] + probe["rtt_us"]) / 1e6


# The types of diamond-miner's table.
COLUMNS = {
    "capture_timestamp": "BIGINT",
    "probe_protocol": "UTINYINT",
    "probe_src_addr": "VARCHAR",
    "probe_dst_addr": "VARCHAR",
    "probe_src_port": "USMALLINT",
    "probe_dst_port": "USMALLINT",
    "probe_ttl": "UTINYINT",
    "quoted_ttl": "UTINYINT",
    "reply_src_addr": "VARCHAR",
    "reply_protocol": "UTINYINT",
    "reply_icmp_type": "UTINYINT",
    "reply_icmp_code": "UTINYINT",
    "reply_ttl": "UTINYINT",
    "reply_size": "USMALLINT",
    "reply_mpls_labels": "VARCHAR",
    "rtt": "USMALLINT",
    "round": "VARCHAR",
}
expected = list(replies())
same(len(expected) > 0, True, "replies")
for name in ("r.csv", "r.csv.gz", "r.csv.zst"):
    found = rows(
        f"SELECT * FROM read_csv('{folder}/{name}', header = true, delim = ',', quote = '\"',"
        f" columns = {COLUMNS})"
    )
    same(len(found), len(expected), f"rows of {name}")
    for nth, (row, (want, at)) in enumerate(zip(found, expected), 1):
        same(list(row), list(COLUMNS), "columns")
        # A float of microseconds since 1970 is good for a quarter of one.
        seconds = row.pop("capture_timestamp")
        same(abs(seconds + 0.5 - at) <= 0.500001, True, f"{name}, row {nth}: {seconds} for {at}")
        # Half a tenth may be rounded either way: a float is not exact there.
        rtt, wanted = row.pop("rtt"), want["rtt"]
        same(abs(rtt - wanted) <= 1 if wanted < 65535 else rtt == wanted, True, f"{name}, rtt {rtt}")
        want = {key: value for key, value in want.items() if key != "rtt"}
        same(row, want, f"{name}, row {nth}")
    count += len(found)
done(count)
