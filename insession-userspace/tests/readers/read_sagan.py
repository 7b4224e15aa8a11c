"""Our RIPE Atlas results by RIPE's own reader."""

import json
import math
import sys

from ripe.atlas.sagan import Result, TracerouteResult

from parquet_rows import started
from records import done, load, near, protocol, same

folder = sys.argv[1]
records = load(folder)
by_path = {"complete", "unreachable", "gap-limit", "max-ttl"}
words = {
    "N": "Network unreachable",
    "H": "Destination unreachable",
    "A": "Administratively prohibited",
    "P": "Protocol unreachable",
    "p": "Port unreachable",
    "h": "h",
}
letters = {
    4: {0: "N", 1: "H", 2: "P", 3: "p", 13: "A"},
    6: {0: "N", 1: "A", 2: "h", 3: "H", 4: "p"},
}
count = 0
with open(f"{folder}/r.atlas.jsonl", encoding="utf-8") as lines:
    for line, record in zip(lines, records, strict=True):
        where = f"{record['target']!r} ({record['verdict']})"
        result = Result.get(line, on_error=Result.ACTION_IGNORE, on_malformation=Result.ACTION_FAIL)
        same(isinstance(result, TracerouteResult), True, where)
        same(result.is_malformed, False, where)
        same(result.protocol, protocol(record), where)
        family = 6 if ":" in (record["address"] or "") else 4
        same(result.af, family, f"{where}: af")
        same(result.destination_address, record["address"], f"{where}: dst_addr")
        same(result.source_address, record["source"] or "", f"{where}: src_addr")
        same(result.created_timestamp, started(record) // 1_000_000, f"{where}: timestamp")
        size = 0 if "tcp" in record["method"] else 1
        same(result.size, size if protocol(record) == "TCP" else 32, f"{where}: size")
        hops = record["hops"]
        if record["verdict"] == "complete":
            last = record["destination_ttl"]
            hops = [hop for hop in hops if last is None or hop["ttl"] <= last]
        found = list(result.hops)
        if not hops or record["verdict"] not in by_path:
            said = found.pop().error_message
            same(said.split(":")[0], record["verdict"], f"{where}: the error of the last hop")
        same(len(found), len(hops), f"{where}: hops")
        for hop, want in zip(found, hops):
            same(hop.index, want["ttl"], f"{where}: hop")
            same(len(hop.packets), len(want["probes"]), f"{where}: packets")
            for packet, probe in zip(hop.packets, want["probes"]):
                count += 1
                if probe["kind"] == "none":
                    same(packet.origin, None, f"{where}: origin of a silence")
                    continue
                same(packet.origin, probe["from"], f"{where}: origin")
                near(packet.rtt, probe["rtt_us"] / 1000, 0.000501 + packet.rtt * 1e-12, f"{where}: rtt")
                same(packet.ttl, probe["reply_ttl"], f"{where}: ttl")
                quoted = probe["quoted_ttl"]
                same(packet.internal_ttl, 1 if quoted is None else quoted, f"{where}: ittl")
                error = None
                if probe["kind"] == "unreachable":
                    code = probe["icmp_code"]
                    letter = letters[family].get(code)
                    error = words[letter] if letter else str(code)
                same(packet.error_message, error, f"{where}: error")
                stack = []
                if packet.icmp_header:
                    stack = packet.icmp_header.objects[0]["mpls"]
                want_stack = [
                    {"label": it["label"], "exp": it["tc"], "s": int(it["s"]), "ttl": it["ttl"]}
                    for it in probe["mpls"]
                ]
                same(stack, want_stack, f"{where}: labels")
done(count)
