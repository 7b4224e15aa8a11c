"""Our records against the JSON Schema in the documentation."""

import json
import sys

from records import done, load, same, validator_of

folder = sys.argv[1]
_, validator = validator_of(sys.argv[2])
records = load(folder)
for record in records:
    for error in validator.iter_errors(record):
        sys.exit(f"{record['target']!r}: {error.json_path}: {error.message}")

# It is to say no, too: each of these is wrong in one place.
good = next(r for r in records if r["hops"] and r["hops"][0]["probes"][0]["kind"] != "none")


def broken(change):
    record = json.loads(json.dumps(good))
    change(record)
    return record


for nth, change in enumerate(
    [
        lambda r: r.update(schema="insession.trace/2"),
        lambda r: r.update(verdict="done"),
        lambda r: r.update(port=65536),
        lambda r: r.update(address="10.0.0.256"),
        lambda r: r.update(started="2026-01-02 03:04:05"),
        lambda r: r.update(duration_us=-1),
        lambda r: r.update(method=None),
        lambda r: r.pop("target"),
        lambda r: r.pop("link"),
        lambda r: r["hops"][0].update(ttl=256),
        lambda r: r["hops"][0]["probes"][0].update(kind="echo"),
        lambda r: r["hops"][0]["probes"][0].pop("from"),
        lambda r: r["hops"][0]["probes"][0].update(rewrites=["tos"]),
        lambda r: r["hops"][0]["probes"][0].update(rtt_bound=None),
        lambda r: r["hops"][0]["probes"][0].update(mpls=[{"label": 1 << 20, "tc": 0, "s": True, "ttl": 1}]),
    ]
):
    same(validator.is_valid(broken(change)), False, f"broken record {nth} is valid")
done(len(records))
