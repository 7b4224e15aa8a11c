"""Our records, as JSON reads them: what the other formats are compared with."""

import json
import sys

import jsonschema


def load(folder):
    with open(f"{folder}/r.jsonl", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def probes(record):
    """TTL, number within the TTL from 1, probe."""
    for hop in record["hops"]:
        for nth, probe in enumerate(hop["probes"], 1):
            yield hop["ttl"], nth, probe


def protocol(record):
    """What its probes are."""
    if "icmp" in record["method"]:
        return "ICMP"
    return "UDP" if record["method"] in ("udp", "paris-udp", "dublin") else "TCP"


def same(found, expected, where):
    if found != expected:
        sys.exit(f"{where}: found {found!r}, expected {expected!r}")


def near(found, expected, within, where):
    if abs(found - expected) > within:
        sys.exit(f"{where}: found {found!r}, expected {expected!r} ± {within}")


def done(count):
    """How much was compared; the test looks at it: nothing compared is nothing tested."""
    print(f"compared {count}")


def validator_of(path):
    """The JSON Schema in a file, which is one itself, and what validates by it."""
    with open(path, encoding="utf-8") as text:
        schema = json.load(text)
    validator = jsonschema.validators.validator_for(schema)
    same(validator.__name__, "Draft202012Validator", "draft")
    validator.check_schema(schema)
    return schema, validator(schema)
