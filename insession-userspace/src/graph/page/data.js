// What is drawn: a level's columns as they came, what is in the slice, and what follows
// from it. Nothing here touches the page.

const SOURCE = 1, ROUTER = 2, TARGET = 4;
const SEEN = 0, ASSUMED = 1, GAP = 2;
const KINDS = ["seen in one flow", "assumed: of different flows", "gap: no answer between"];

const head = JSON.parse(document.getElementById("data-head").textContent);

// The slice; `through` names nodes, one of which a path has to have.
const slice = { source: -1, method: -1, first: 0, last: head.buckets - 1, through: null };

const loaded = new Map();

function level(name) {
  if (!loaded.has(name)) {
    const element = document.getElementById("data-" + name);
    loaded.set(name, prepared(JSON.parse(element.textContent)));
    element.remove();
  }
  return loaded.get(name);
}

// Typed columns, neighbours, and which fan a node is of.
function prepared(data) {
  const nodes = data.label.length, edges = data.from.length;
  data.nodes = nodes;
  data.edges = edges;
  for (const column of ["x", "y"]) data[column] = Float32Array.from(data[column]);
  for (const column of ["from", "to", "kind"]) data[column] = Uint32Array.from(data[column]);
  data.weight = new Float64Array(edges);
  data.on = new Uint8Array(nodes);
  data.out = Array.from({ length: nodes }, () => []);
  data.in = Array.from({ length: nodes }, () => []);
  for (let edge = 0; edge < edges; edge++) {
    data.out[data.from[edge]].push(edge);
    data.in[data.to[edge]].push(edge);
  }
  data.fan = new Int32Array(nodes).fill(-1);
  data.fans = data.fans.map(([parent, ...members], nth) => {
    for (const member of members) data.fan[member] = nth;
    const rows = members.map((member) => data.y[member]);
    const room = (rows[rows.length - 1] - rows[0]) / (members.length - 1);
    return { parent, members, room, x: data.x[members[0]], top: rows[0] - room / 2, bottom: rows[rows.length - 1] + room / 2 };
  });
  // Rows to the next node of the layer: as large as that a node may be.
  data.room = new Float32Array(nodes).fill(2);
  const place = (node) => data.x[node] * 1e6 + data.y[node];
  const order = Array.from({ length: nodes }, (_, node) => node).sort((one, other) => place(one) - place(other));
  for (let nth = 1; nth < nodes; nth++) {
    const above = order[nth - 1], below = order[nth];
    if (data.x[above] !== data.x[below]) continue;
    const room = data.y[below] - data.y[above];
    data.room[above] = Math.min(data.room[above], room);
    data.room[below] = Math.min(data.room[below], room);
  }
  data.most = Math.max(1, ...data.traces.filter((_, node) => !(data.role[node] & SOURCE)));
  data.ofKey = new Map();
  for (let at = 0; at < data.seen.length; at += 4) {
    const key = data.seen[at];
    if (!data.ofKey.has(key)) data.ofKey.set(key, []);
    data.ofKey.get(key).push(at);
  }
  data.changes = data.changes.map(([bucket, before, key, ttl, same, gone, come]) => ({ bucket, before, key, ttl, same, gone, come }));
  return data;
}

function keyTaken(key) {
  const [source, method] = head.keys[key];
  return (slice.source < 0 || slice.source === source) && (slice.method < 0 || slice.method === method);
}

function pathPasses(data, path, nodes) {
  return data.paths[path].some((edge) => nodes.has(data.from[edge]) || nodes.has(data.to[edge]));
}

// Weighs edges by what is in the slice; gives the traces in it.
function weigh(data) {
  const { weight, on } = data;
  weight.fill(0);
  on.fill(0);
  let traces = 0;
  const inTime = (bucket) => bucket >= slice.first && bucket <= slice.last;
  if (slice.through) {
    const passes = data.paths.map((_, path) => pathPasses(data, path, slice.through.nodes));
    for (let at = 0; at < data.seen.length; at += 4) {
      const path = data.seen[at + 2], count = data.seen[at + 3];
      if (!passes[path] || !inTime(data.seen[at + 1]) || !keyTaken(data.seen[at])) continue;
      traces += count;
      for (const edge of data.paths[path]) weight[edge] += count;
    }
  } else {
    const { cells } = data;
    for (let at = 0; at < cells.length; at += 5) {
      if (slice.source >= 0 && slice.source !== cells[at + 1]) continue;
      if (slice.method >= 0 && slice.method !== cells[at + 2]) continue;
      if (inTime(cells[at + 3])) weight[cells[at]] += cells[at + 4];
    }
    const { counts } = head;
    for (let at = 0; at < counts.length; at += 4) {
      if (slice.source >= 0 && slice.source !== counts[at + 1]) continue;
      if (slice.method >= 0 && slice.method !== counts[at + 2]) continue;
      if (inTime(counts[at])) traces += counts[at + 3];
    }
  }
  data.heaviest = 1;
  for (let edge = 0; edge < data.edges; edge++) {
    if (weight[edge] > 0) {
      on[data.from[edge]] = on[data.to[edge]] = 1;
      data.heaviest = Math.max(data.heaviest, weight[edge]);
    }
  }
  return traces;
}

// Edges of all paths in the slice that have one of these nodes.
function edgesThrough(data, nodes) {
  const found = new Set();
  if (data.seen.length > 0) {
    const passes = new Map();
    for (let at = 0; at < data.seen.length; at += 4) {
      const bucket = data.seen[at + 1], path = data.seen[at + 2];
      if (bucket < slice.first || bucket > slice.last || !keyTaken(data.seen[at])) continue;
      if (passes.has(path)) continue;
      const does = pathPasses(data, path, nodes);
      passes.set(path, does);
      if (does) for (const edge of data.paths[path]) if (data.weight[edge] > 0) found.add(edge);
    }
  }
  // Of paths that are not kept at least what is next to them is known.
  for (const node of nodes) {
    for (const edge of data.in[node]) if (data.weight[edge] > 0) found.add(edge);
    for (const edge of data.out[node]) if (data.weight[edge] > 0) found.add(edge);
  }
  return found;
}

// The edges that a key's paths had in a span of time.
function edgesOf(data, key, bucket) {
  const edges = new Set();
  for (const at of data.ofKey.get(key) ?? []) {
    if (data.seen[at + 1] === bucket) for (const edge of data.paths[data.seen[at + 2]]) edges.add(edge);
  }
  return edges;
}

function changesInSlice(data, { anyTime = false } = {}) {
  const { nodes } = slice.through ?? {};
  return data.changes.filter((change) =>
    keyTaken(change.key) &&
    (anyTime || (change.bucket >= slice.first && change.bucket <= slice.last)) &&
    (!nodes || change.gone.some((it) => nodes.has(it)) || change.come.some((it) => nodes.has(it)) ||
      (data.ofKey.get(change.key) ?? []).some((at) => pathPasses(data, data.seen[at + 2], nodes))));
}

// What vanished with changes, and what came instead.
function differences(data, changes) {
  const gone = new Set(), come = new Set();
  for (const change of changes) {
    const before = edgesOf(data, change.key, change.before), after = edgesOf(data, change.key, change.bucket);
    for (const edge of before) if (!after.has(edge)) gone.add(edge);
    for (const edge of after) if (!before.has(edge)) come.add(edge);
  }
  return { gone, come };
}

// Traces and changes in each span of time, whatever time the slice has.
function timeline(data) {
  const spans = Array.from({ length: head.buckets }, (_, bucket) => ({ bucket, traces: 0, same: 0, maybe: 0 }));
  if (slice.through) {
    for (let at = 0; at < data.seen.length; at += 4) {
      if (keyTaken(data.seen[at]) && pathPasses(data, data.seen[at + 2], slice.through.nodes)) spans[data.seen[at + 1]].traces += data.seen[at + 3];
    }
  } else {
    for (let at = 0; at < head.counts.length; at += 4) {
      if (slice.source >= 0 && slice.source !== head.counts[at + 1]) continue;
      if (slice.method >= 0 && slice.method !== head.counts[at + 2]) continue;
      spans[head.counts[at]].traces += head.counts[at + 3];
    }
  }
  for (const change of changesInSlice(data, { anyTime: true })) spans[change.bucket][change.same ? "same" : "maybe"] += 1;
  return spans;
}

const owner = (data, node) => data.owners[data.owner[node]] ?? {};
const loss = (data, node) => (data.probes[node] > 0 ? data.lost[node] / data.probes[node] : 0);

// Nodes that a text finds: [what it is, nodes].
function find(data, text) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return null;
  const exact = [], part = [];
  let group = null;
  for (let node = 0; node < data.nodes; node++) {
    const whose = owner(data, node);
    const asn = whose.asn == null ? null : "as" + whose.asn;
    const words = [data.label[node], data.name[node], ...(data.addresses[node] ?? [])];
    if (words.some((word) => word?.toLowerCase() === wanted)) exact.push(node);
    else if (asn === wanted || whose.prefix === wanted || whose.ixp?.toLowerCase() === wanted || whose.holder?.toLowerCase() === wanted) {
      exact.push(node);
      group = text.trim();
    } else if (words.some((word) => word?.toLowerCase().includes(wanted)) || whose.holder?.toLowerCase().includes(wanted)) part.push(node);
  }
  const nodes = exact.length > 0 ? exact : part;
  if (nodes.length === 0) return null;
  return { text: group ?? (nodes.length === 1 ? data.label[nodes[0]] : text.trim()), nodes: new Set(nodes) };
}
