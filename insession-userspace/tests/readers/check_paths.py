"""Merged flows against the JSON Schema in the documentation."""

import json
import sys

from records import done, load, same, validator_of

folder = sys.argv[1]
schema, validator = validator_of(sys.argv[2])
merged = load(folder)


def closed(schema):
    """The same schema, but no key may stand there that it does not name."""
    if isinstance(schema, dict):
        schema = {key: closed(value) for key, value in schema.items()}
        if "properties" in schema and "required" in schema:
            same(sorted(schema["required"]), sorted(schema["properties"]), "required")
            schema["additionalProperties"] = False
    elif isinstance(schema, list):
        schema = [closed(value) for value in schema]
    return schema


strict = type(validator)(closed(schema))
for paths in merged:
    for error in strict.iter_errors(paths):
        sys.exit(f"{paths['target']!r}: {error.json_path}: {error.message}")

# It is to say no, too: each of these is wrong in one place.
good = next(it for it in merged if it["diamonds"] and it["mda"])


def broken(change):
    paths = json.loads(json.dumps(good))
    change(paths)
    return paths


for nth, change in enumerate(
    [
        lambda it: it.update(schema="insession.trace/1"),
        lambda it: it.pop("links"),
        lambda it: it.update(flows=-1),
        lambda it: it["mda"].update(stopped="tired"),
        lambda it: it["nodes"][0].update(ttls=[256]),
        lambda it: it["links"][0].pop("to"),
        lambda it: it["diamonds"][0].update(missed=1.5),
        lambda it: it["paths"][0].update(source_ports=[65536]),
        lambda it: it["paths"][0]["hops"][0].update({"from": None}),
    ]
):
    same(validator.is_valid(broken(change)), False, f"broken object {nth} is valid")
done(len(merged))
