"""Our RIPE Atlas results by pantrace, which converts between formats of traceroutes."""

import json
import subprocess
import sys

from parquet_rows import started
from records import done, load, near, protocol, same

folder, pantrace = sys.argv[1:3]
records = load(folder)
converted = subprocess.run(
    [pantrace, "--from", "atlas", "--to", "internal", "--exit-on-error"]
    + ["--input", f"{folder}/r.atlas.jsonl"],
    check=True,
    capture_output=True,
    text=True,
)
same(converted.stderr, "", "what pantrace complains of")
traces = [json.loads(line) for line in converted.stdout.splitlines()]
same(len(traces), len(records), "traces")
count = 0
for trace, record in zip(traces, records):
    where = f"{record['target']!r} ({record['verdict']})"
    same(trace["protocol"], protocol(record), where)
    same(trace["dst_addr"] in (record["address"], "::", "0.0.0.0"), True, f"{where}: {trace['dst_addr']}")
    if record["address"]:
        same(trace["dst_addr"], record["address"], where)
    if record["source"]:
        same(trace["src_addr"], record["source"], where)
    hops = record["hops"]
    if record["verdict"] == "complete":
        last = record["destination_ttl"]
        hops = [hop for hop in hops if last is None or hop["ttl"] <= last]
    (flow,) = trace["flows"]
    for hop, want in zip(flow["hops"], hops):
        same(hop["ttl"], want["ttl"], where)
        same(len(hop["probes"]), len(want["probes"]), f"{where}: probes")
        for found, probe in zip(hop["probes"], want["probes"]):
            count += 1
            if probe["kind"] == "none":
                same(found["reply"]["addr"] in ("::", "0.0.0.0"), True, f"{where}: a silence")
                continue
            same(found["reply"]["addr"], probe["from"], f"{where}: address")
            near(found["reply"]["rtt"], probe["rtt_us"] / 1000, 0.000501, f"{where}: rtt")
            same(found["reply"]["ttl"], probe["reply_ttl"] or 0, f"{where}: reply's TTL")
done(count)
