"""Rows of our Parquet, compared with the records they were made of."""

import datetime

from records import probes, same

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
MICROSECOND = datetime.timedelta(microseconds=1)


def micros(moment):
    return (moment - EPOCH) // MICROSECOND


def started(record):
    text = record["started"].replace("Z", "+00:00")
    return micros(datetime.datetime.fromisoformat(text))


def expected(record):
    """The rows of a record."""
    handshake = record["handshake"] or {}
    link = record["link"] or {}
    trace = {
        key: record[key]
        for key in (
            "target address port method source source_port duration_us verdict detail"
            " destination_ttl"
        ).split()
    }
    trace["started"] = started(record)
    for key in ("rtt_us", "mss", "sack", "timestamps", "window_scale"):
        trace[f"handshake_{key}"] = handshake.get(key)
    for key in ("kind", "mode", "zero_copy", "interface"):
        trace[f"link_{key}"] = link.get(key)
    shared = {hop["ttl"]: hop.get("shared", False) for hop in record["hops"]}
    rows = list(probes(record)) or [(None, None, {})]
    for index, (ttl, nth, probe) in enumerate(rows):
        row = dict(trace, probe_index=index, ttl=ttl, shared=shared.get(ttl), nth=nth)
        for key in (
            "kind from name asn holder prefix ixp sent_us rtt_us rtt_bound icmp_type icmp_code"
            " reply_ttl quoted_ttl"
        ).split():
            row[key] = probe.get(key)
        row["mpls"] = probe.get("mpls", [])
        row["rewrites"] = probe.get("rewrites", [])
        row["nat"] = probe.get("nat")
        yield row


def compare(records, rows):
    """`rows` are dictionaries; `started` is an aware datetime there."""
    count = 0
    wanted = (row for record in records for row in expected(record))
    for count, (row, want) in enumerate(zip(rows, wanted, strict=True), 1):
        row = dict(row)
        row["started"] = micros(row["started"])
        # Not in a record; only a packet that was too big has one.
        mtu = row.pop("mtu")
        if want["kind"] != "packet-too-big":
            same(mtu, None, "mtu")
        same(set(row), set(want), "columns")
        for key, value in want.items():
            same(row[key], value, f"row {count}, {want['target']!r}, column {key}")
    return count
