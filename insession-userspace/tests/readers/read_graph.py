"""The path graph as NetworkX reads its GraphML, pydot its DOT, and against its JSON Schema."""

import json
import sys

import networkx
import pydot

from records import done, same, validator_of

folder = sys.argv[1]
_, validator = validator_of(sys.argv[2])
with open(f"{folder}/g.json", encoding="utf-8") as text:
    graph = json.load(text)
for error in validator.iter_errors(graph):
    sys.exit(f"{error.json_path}: {error.message}")

# It is to say no, too.
for change in [
    lambda it: it.update(schema="insession.graph/2"),
    lambda it: it.pop("changes"),
    lambda it: it["nodes"][0].update(traces=-1),
    lambda it: it["nodes"][0].update(addresses=[]),
    lambda it: it["edges"][0].update(kind="adjacent"),
    lambda it: it["edges"][0].pop("to"),
]:
    broken = json.loads(json.dumps(graph))
    change(broken)
    same(validator.is_valid(broken), False, "a broken graph is valid")

compared = 0
nodes = graph["nodes"]
xml = networkx.read_graphml(f"{folder}/g.graphml", force_multigraph=True)
same(xml.is_directed(), True, "directed")
same(xml.number_of_nodes(), len(nodes), "nodes in GraphML")
same(xml.number_of_edges(), len(graph["edges"]), "edges in GraphML")
for node in nodes:
    found = xml.nodes[f"n{node['id']}"]
    for key in ["source", "router", "target", "traces", "ended", "probes", "lost"]:
        same(found[key], node[key], f"n{node['id']}.{key}")
    same(found["addresses"].split(" "), node["addresses"], "addresses")
    for key in ["label", "name", "asn", "holder", "prefix", "ixp", "rtt_us"]:
        same(found.get(key), node[key], f"n{node['id']}.{key}")
    compared += 1
by_id = {key: (one, two, data) for one, two, key, data in xml.edges(keys=True, data=True)}
for edge in graph["edges"]:
    one, two, found = by_id[f"e{edge['id']}"]
    same((one, two), (f"n{edge['from']}", f"n{edge['to']}"), "ends")
    for key in ["kind", "silent_least", "silent_most", "traces", "probes", "lost"]:
        same(found[key], edge[key], f"e{edge['id']}.{key}")
    same(sum(it["traces"] for it in edge["times"]), edge["traces"], "traces of all times")
    compared += 1

(dot,) = pydot.graph_from_dot_file(f"{folder}/g.dot")
found = [it for it in dot.get_nodes() if it.get_name() not in ("node", "edge")]
same(len(found), len(nodes), "nodes in DOT")
for node, number in zip(found, nodes, strict=True):
    same(node.get_name(), f"n{number['id']}", "a node's number")
    label = number["label"].replace("\\", "\\\\").replace('"', '\\"')
    same(node.get_label().startswith(f'"{label}'), True, f"the label {label}")
    compared += 1
found = dot.get_edges()
same(len(found), len(graph["edges"]), "edges in DOT")
# pydot gives them by their ends, not in the order of the file.
style = {"seen": "solid", "assumed": "dotted", "gap": "dashed"}
expected = sorted((f"n{it['from']}", f"n{it['to']}", style[it["kind"]], str(it["traces"])) for it in graph["edges"])
found = sorted((it.get_source(), it.get_destination(), it.get("style"), it.get("traces")) for it in found)
for edge, other in zip(found, expected, strict=True):
    same(edge, other, "an edge in DOT")
    compared += 1
done(compared)
