"""Our scamper objects: every field of the documented format that we know, both ways."""

import json
import sys

from parquet_rows import started
from records import done, load, near, probes, same

folder = sys.argv[1]
records = load(folder)
reasons = {
    "complete": "COMPLETED",
    "unreachable": "UNREACH",
    "gap-limit": "GAPLIMIT",
    "max-ttl": "HOPLIMIT",
    "interrupted": "HALTED",
}
always = (
    "type version userid method sport dport stop_reason stop_data start hop_count attempts hoplimit"
    " firsthop wait wait_probe tos probe_size probe_count"
).split()
count = 0


def check(found, record, ttl, nth, where):
    same(found["probe_ttl"], ttl, f"{where}: probe_ttl")
    same(found["probe_id"], nth - 1, f"{where}: probe_id")
    sent = found["tx"]["sec"] * 1_000_000 + found["tx"]["usec"]
    return sent


with open(f"{folder}/r.scamper.jsonl", encoding="utf-8") as lines:
    for line, record in zip(lines, records, strict=True):
        where = f"{record['target']!r} ({record['verdict']})"
        trace = json.loads(line)
        for key in always:
            same(key in trace, True, f"{where}: {key}")
        reason = reasons.get(record["verdict"], "ERROR")
        same(trace["stop_reason"], reason, where)
        same("errmsg" in trace, reason == "ERROR", f"{where}: errmsg")
        same(trace.get("src"), record["source"], where)
        same(trace.get("dst"), record["address"], where)
        start = trace["start"]["sec"] * 1_000_000 + trace["start"]["usec"]
        same(start, started(record), f"{where}: start")
        same(trace["start"]["ftime"], record["started"][:19].replace("T", " "), where)
        all_probes = list(probes(record))
        same(trace["probe_count"], len(all_probes), where)
        answered = trace.get("hops", []) + trace.get("extra_hops", [])
        silent = trace.get("no_hops", []) + trace.get("extra_no_hops", [])
        same(len(answered) + len(silent), len(all_probes), f"{where}: probes")
        for hop in trace.get("hops", []):
            same(hop["probe_ttl"] <= trace["hop_count"], True, where)
        for hop in trace.get("extra_hops", []):
            same(hop["probe_ttl"] > trace["hop_count"], True, where)
        # The replies in their order, and the silences in theirs.
        answered.sort(key=lambda hop: hop["probe_ttl"])
        silent.sort(key=lambda hop: hop["probe_ttl"])
        answered, silent = iter(answered), iter(silent)
        for ttl, nth, probe in all_probes:
            count += 1
            found = next(silent if probe["kind"] == "none" else answered)
            sent = check(found, record, ttl, nth, where)
            near(sent, started(record) + probe["sent_us"], 2, f"{where}: tx")
            if probe["kind"] == "none":
                continue
            same(found["addr"], probe["from"], where)
            same(found.get("name"), probe["name"], where)
            near(found["rtt"], probe["rtt_us"] / 1000, 0.000501 + found["rtt"] * 1e-12, f"{where}: rtt")
            same(found["reply_ttl"], probe["reply_ttl"] or 0, where)
            same(found.get("icmp_type"), probe["icmp_type"], where)
            same(found.get("icmp_code"), probe["icmp_code"], where)
            same(found.get("icmp_q_ttl"), probe["quoted_ttl"], where)
            flags = None
            if probe["icmp_type"] is None:
                flags = {"rst": 4, "syn-ack": 18, "sack": 16, "dup-ack": 16}.get(probe["kind"])
            same(found.get("tcp_flags"), flags, where)
            stack = [
                {
                    "mpls_ttl": it["ttl"],
                    "mpls_s": int(it["s"]),
                    "mpls_exp": it["tc"],
                    "mpls_label": it["label"],
                }
                for it in probe["mpls"]
            ]
            extensions = found.get("icmpext", [])
            same([ext["mpls_labels"] for ext in extensions], [stack] if stack else [], where)
done(count)
