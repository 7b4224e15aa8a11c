// The drawing: nodes and edges on one canvas, what is pointed at on another above it.
// Layers lie to the right, rows downwards; both have a scale of their own, so that
// near-by rows come apart without layers leaving the window.

const stage = document.getElementById("stage");
const base = document.getElementById("base"), over = document.getElementById("over");
const MARGIN = { left: 90, right: 150, top: 46, bottom: 26 };
// An edge's widths, in steps, so that few strokes draw them all.
const WIDTHS = 6;
// Below so many pixels a target fans are one shape each.
const APART = 4.5;

const view = { tx: 0, ty: 0, kx: 1, ky: 1, width: 0, height: 0, ratio: 1 };
const drawn = { data: null, cost: 0, at: 0, view: null, tree: null, edgeTree: null, wedges: [], snapshot: document.createElement("canvas") };
let colours = {};
let colouring = null;

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["page", "text", "dim", "line", "card", "ink", "answered", "assumed", "reached", "lost", "silent", "c0", "c1", "c2", "c3", "c4", "c5"]) {
    colours[name] = style.getPropertyValue("--" + name).trim();
  }
  // Lines stand back behind what they join.
  colours.seen = d3.interpolateRgb(colours.ink, colours.answered)(0.4);
}

function resize() {
  const box = stage.getBoundingClientRect();
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  if (view.width === box.width && view.height === box.height && view.ratio === ratio) return false;
  Object.assign(view, { width: box.width, height: box.height, ratio });
  for (const canvas of [base, over]) {
    canvas.width = Math.round(box.width * ratio);
    canvas.height = Math.round(box.height * ratio);
  }
  return true;
}

// Shows all of it; small graphs are not blown up.
function fitted(data) {
  const width = Math.max(100, view.width - MARGIN.left - MARGIN.right);
  const height = Math.max(100, view.height - MARGIN.top - MARGIN.bottom);
  const layers = Math.max(1, data.layers - 1);
  const kx = Math.min(width / layers, 210), ky = Math.min(height / data.rows, 46);
  return { kx, ky, tx: MARGIN.left + (width - kx * layers) / 2, ty: MARGIN.top + (height - ky * data.rows) / 2 };
}

const atX = (data, node) => view.tx + data.x[node] * view.kx;
const atY = (data, node) => view.ty + data.y[node] * view.ky;

function radius(data, node) {
  const role = data.role[node];
  const large = role & SOURCE ? 8 : 3 + 6 * Math.sqrt(Math.min(1, data.traces[node] / data.most));
  return Math.min(large, Math.max(1.6, data.room[node] * view.ky * 0.42));
}

// The line of an edge, through its rows in the layers that it passes.
function trail(context, data, edge) {
  const from = data.from[edge], to = data.to[edge];
  const x0 = atX(data, from), y0 = atY(data, from), x1 = atX(data, to), y1 = atY(data, to);
  const via = data.via[edge];
  if (data.x[from] === data.x[to]) {
    const bow = Math.min(view.kx * 0.45, 12 + Math.abs(y1 - y0) * 0.4);
    context.moveTo(x0, y0);
    context.bezierCurveTo(x0 + bow, y0, x1 + bow, y1, x1, y1);
    return;
  }
  const curve = d3.curveBumpX(context);
  curve.lineStart();
  curve.point(x0, y0);
  if (via) {
    const step = data.x[from] < data.x[to] ? 1 : -1;
    via.forEach((row, nth) => curve.point(view.tx + (data.x[from] + step * (nth + 1)) * view.kx, view.ty + row * view.ky));
  }
  curve.point(x1, y1);
  curve.lineEnd();
}

function isVisible(data, edge) {
  const from = data.from[edge], to = data.to[edge];
  const x0 = atX(data, from), x1 = atX(data, to);
  if (Math.max(x0, x1) < -20 || Math.min(x0, x1) > view.width + 20) return false;
  let top = Math.min(data.y[from], data.y[to]), bottom = Math.max(data.y[from], data.y[to]);
  for (const row of data.via[edge] ?? []) {
    top = Math.min(top, row);
    bottom = Math.max(bottom, row);
  }
  return view.ty + bottom * view.ky > -20 && view.ty + top * view.ky < view.height + 20;
}

const isFolded = (data, node) => data.fan[node] >= 0 && data.fans[data.fan[node]].room * view.ky < APART;

// Edges by kind and width: each group is one stroke. Where rows are closer than pixels,
// edges that would lie on one another are one, as wide as all of them.
function groups(data, edges) {
  const found = new Map(), merged = new Map();
  const scale = (WIDTHS - 1) / Math.log(1 + data.heaviest);
  const put = (edge, weight) => {
    const group = data.kind[edge] * WIDTHS + Math.min(WIDTHS - 1, Math.round(scale * Math.log(1 + weight)));
    if (!found.has(group)) found.set(group, []);
    found.get(group).push(edge);
  };
  const snap = view.ky < 3 ? view.ky / 2.5 : 0;
  for (const edge of edges) {
    if (data.weight[edge] <= 0 || isFolded(data, data.to[edge]) || !isVisible(data, edge)) continue;
    if (snap === 0 || data.via[edge]) {
      put(edge, data.weight[edge]);
      continue;
    }
    const from = data.from[edge], to = data.to[edge];
    const rows = Math.round(data.y[from] * snap) * 8192 + Math.round(data.y[to] * snap);
    const key = ((rows * 64 + (data.x[from] & 63)) * 64 + (data.x[to] & 63)) * 3 + data.kind[edge];
    const known = merged.get(key);
    if (known) known.weight += data.weight[edge];
    else merged.set(key, { edge, weight: data.weight[edge] });
  }
  for (const { edge, weight } of merged.values()) put(edge, weight);
  return [...found].sort(([one], [other]) => kindRank(one) - kindRank(other) || one - other);
}
// Gaps lie lowest, what was seen on top.
const kindRank = (group) => [2, 1, 0][Math.floor(group / WIDTHS)];

function widthOf(group) {
  const dense = Math.max(0.3, Math.min(1, view.ky / 14));
  return Math.max(0.5, (0.8 + ((group % WIDTHS) / (WIDTHS - 1)) * 4.2) * dense);
}

function styled(context, group, bold = 0) {
  const kind = Math.floor(group / WIDTHS), width = widthOf(group) + bold;
  context.lineWidth = width;
  context.lineCap = kind === SEEN ? "butt" : "round";
  context.strokeStyle = [colours.seen, colours.assumed, colours.silent][kind];
  context.setLineDash(kind === SEEN ? [] : kind === ASSUMED ? [0.1, width + 3] : [5 + width, 4 + width]);
}

// The more lines there are, the fainter is each.
function strokeEdges(context, data, edges, alpha, bold = 0) {
  const all = groups(data, edges);
  const crowd = d3.sum(all, ([, members]) => members.length);
  const faint = alpha ?? Math.max(0.16, Math.min(0.62, 0.62 * Math.pow(250 / Math.max(1, crowd), 0.32)));
  for (const [group, members] of all) {
    styled(context, group, bold);
    const heavy = (group % WIDTHS) / (WIDTHS - 1);
    context.globalAlpha = Math.min(1, faint * (0.75 + 0.5 * heavy));
    context.beginPath();
    for (const edge of members) trail(context, data, edge);
    context.stroke();
  }
  context.setLineDash([]);
  context.globalAlpha = 1;
}

// Fans as one shape each: from the node before the targets to the span of their rows.
// All that look alike are filled at once.
function wedges(context, data) {
  drawn.wedges = [];
  const shapes = [new Path2D(), new Path2D(), new Path2D()], lines = [new Path2D(), new Path2D(), new Path2D()];
  const bars = new Map();
  const width = Math.min(5, Math.max(2, view.kx * 0.08));
  data.fans.forEach((fan, nth) => {
    if (fan.room * view.ky >= APART) return;
    const x1 = view.tx + fan.x * view.kx, y0 = view.ty + fan.top * view.ky, y1 = view.ty + fan.bottom * view.ky;
    const x0 = atX(data, fan.parent), y = atY(data, fan.parent);
    if (x1 < -20 || x0 > view.width + 20 || Math.max(y1, y) < -20 || Math.min(y0, y) > view.height + 20) return;
    let on = 0;
    const kinds = [0, 0, 0];
    for (const member of fan.members) {
      on += data.on[member];
      for (const edge of data.in[member]) kinds[data.kind[edge]] += data.weight[edge];
    }
    if (on === 0) return;
    const kind = kinds.indexOf(Math.max(...kinds)), xm = (x0 + x1) / 2;
    if (y1 - y0 < 2.5) {
      const line = lines[kind], middle = (y0 + y1) / 2;
      line.moveTo(x0, y);
      line.bezierCurveTo(xm, y, xm, middle, x1, middle);
    } else {
      const shape = shapes[kind];
      shape.moveTo(x0, y);
      shape.bezierCurveTo(xm, y, xm, y0, x1, y0);
      shape.lineTo(x1, y1);
      shape.bezierCurveTo(xm, y1, xm, y, x0, y);
    }
    const colour = fill(data, fan.members[0]);
    if (!bars.has(colour)) bars.set(colour, new Path2D());
    bars.get(colour).rect(x1 - width / 2, y0 + 0.3, width, Math.max(1.6, y1 - y0 - 0.6));
    drawn.wedges.push({ nth, x: x1, y0, y1, on });
  });
  const inks = [colours.reached, colours.assumed, colours.silent];
  for (const kind of [GAP, ASSUMED, SEEN]) {
    context.fillStyle = context.strokeStyle = inks[kind];
    context.globalAlpha = 0.2;
    context.fill(shapes[kind]);
    context.setLineDash(kind === SEEN ? [] : kind === GAP ? [5, 4] : [1, 3]);
    context.lineWidth = 0.8;
    context.globalAlpha = 0.35;
    if (kind !== SEEN) context.stroke(shapes[kind]);
    context.stroke(lines[kind]);
    context.setLineDash([]);
  }
  context.globalAlpha = 1;
  for (const [colour, path] of bars) {
    context.fillStyle = colour;
    context.fill(path);
  }
}

function fill(data, node) {
  return colouring.of(data, node);
}

function nodes(context, data, which, { ring = 0 } = {}) {
  for (const node of which) {
    if (!data.on[node] || isFolded(data, node)) continue;
    const x = atX(data, node), y = atY(data, node);
    if (x < -20 || x > view.width + 20 || y < -20 || y > view.height + 20) continue;
    const r = radius(data, node), role = data.role[node];
    const outline = Math.min(1.6, r * 0.35);
    context.fillStyle = fill(data, node);
    context.strokeStyle = colours.page;
    context.lineWidth = outline;
    context.beginPath();
    if (role & SOURCE) context.roundRect(x - r, y - r, 2 * r, 2 * r, 3);
    else context.arc(x, y, r, 0, 2 * Math.PI);
    context.fill();
    if (outline > 0.8) context.stroke();
    if (role & TARGET && r > 2.6) {
      context.beginPath();
      context.arc(x, y, r * 0.42, 0, 2 * Math.PI);
      context.fillStyle = colours.page;
      context.fill();
    }
    const lost = loss(data, node);
    if (lost > 0.01 && r > 2) {
      context.beginPath();
      context.arc(x, y, r + 1.8, -Math.PI / 2, -Math.PI / 2 + 2 * Math.PI * Math.max(0.06, lost));
      context.strokeStyle = colours.lost;
      context.lineWidth = 2;
      context.stroke();
    }
    if (data.ended[node] > 0 && !(role & SOURCE) && r > 2) {
      const s = Math.min(3.2, r * 0.6), cx = x + r + 5;
      context.strokeStyle = colours.lost;
      context.lineWidth = 1.6;
      context.beginPath();
      context.moveTo(cx - s, y - s);
      context.lineTo(cx + s, y + s);
      context.moveTo(cx - s, y + s);
      context.lineTo(cx + s, y - s);
      context.stroke();
    }
    if (ring) {
      context.beginPath();
      context.arc(x, y, r + 3.5, 0, 2 * Math.PI);
      context.strokeStyle = colours.answered;
      context.lineWidth = ring;
      context.stroke();
    }
  }
}

// Behind everything: one line a hop.
function hopLines(context, data) {
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.font = "11px system-ui, sans-serif";
  context.lineWidth = 1;
  const every = Math.max(1, Math.ceil(26 / view.kx));
  for (let layer = 0; layer < data.layers; layer++) {
    const x = Math.round(view.tx + layer * view.kx) + 0.5;
    if (x < 0 || x > view.width || (layer % every && layer > 0)) continue;
    context.globalAlpha = 0.55;
    context.strokeStyle = colours.line;
    context.beginPath();
    context.moveTo(x, 28);
    context.lineTo(x, view.height);
    context.stroke();
    context.globalAlpha = 1;
    context.fillStyle = colours.dim;
    // Of what has many addresses distances are rough: no number would be true.
    const isHop = data.level === "address" || data.level === "router";
    context.fillText(layer === 0 ? (view.kx > 60 ? "source" : "0") : !isHop ? "" : layer === 1 && view.kx > 60 ? "hop 1" : String(layer), x, 15);
  }
}

// Names, the most used nodes' first, as many as have room.
function labels(context, data, order, most = 260, fans = []) {
  const taken = new Set();
  const cell = 9;
  // Whether a box is free; takes it where it is.
  const take = (x0, y0, x1, y1) => {
    const cells = [];
    for (let row = Math.floor(y0 / cell); row <= Math.floor(y1 / cell); row++) {
      for (let column = Math.floor(x0 / cell); column <= Math.floor(x1 / cell); column++) {
        const key = row * 4096 + column;
        if (taken.has(key)) return false;
        cells.push(key);
      }
    }
    for (const key of cells) taken.add(key);
    return true;
  };
  context.lineJoin = "round";
  let written = 0;
  for (const node of order) {
    if (written >= most) break;
    if (!data.on[node] || isFolded(data, node)) continue;
    const x = atX(data, node), y = atY(data, node);
    if (x < -40 || x > view.width + 20 || y < 24 || y > view.height + 10) continue;
    const r = radius(data, node), role = data.role[node];
    // Among many lines only what stands out is named.
    if (view.ky < 6 && !(role & SOURCE) && data.traces[node] < data.most * 0.004) break;
    const toRight = data.out[node].every((edge) => data.weight[edge] <= 0) && !(role & SOURCE);
    const lines = [shortened(data.label[node], 30)];
    const second = data.name[node] ?? (data.level !== "address" ? owner(data, node).holder : null);
    if (second && view.ky > 27) lines.push(shortened(second, 26));
    context.font = role & SOURCE ? "600 11px system-ui, sans-serif" : "11px system-ui, sans-serif";
    const width = Math.max(...lines.map((line) => context.measureText(line).width));
    // What does not fit between two hops would hide the next.
    if (!toRight && width > view.kx * 1.25) continue;
    const height = 12 * lines.length;
    const left = toRight ? x + r + (data.ended[node] ? 12 : 6) : x - width / 2;
    let top = toRight ? y - height / 2 : y + r + 3;
    if (!take(left, top, left + width, top + height - 2)) {
      top = y - r - 3 - height;
      if (toRight || view.ky < 24 || !take(left, top, left + width, top + height - 2)) continue;
    }
    written += 1;
    context.textAlign = toRight ? "left" : "center";
    context.textBaseline = "top";
    context.strokeStyle = colours.page;
    context.lineWidth = 3;
    lines.forEach((line, nth) => {
      const tx = toRight ? left : x, ty = top + 12 * nth + 0.5;
      context.strokeText(line, tx, ty);
      context.fillStyle = nth === 0 ? colours.text : colours.dim;
      context.fillText(line, tx, ty);
    });
  }
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "left";
  context.textBaseline = "middle";
  for (const { x, y0, y1, on } of fans) {
    const middle = (y0 + y1) / 2, text = plural(on, "target");
    if (y1 - y0 < 7 || middle < 24 || !take(x + 6, middle - 5, x + 6 + 6.2 * text.length, middle + 5)) continue;
    context.strokeStyle = colours.page;
    context.lineWidth = 3;
    context.strokeText(text, x + 6, middle);
    context.fillStyle = colours.dim;
    context.fillText(text, x + 6, middle);
  }
}

const shortened = (text, most) => (text.length > most ? text.slice(0, most - 1) + "…" : text);

function cleared(canvas) {
  const context = canvas.getContext("2d");
  context.setTransform(view.ratio, 0, 0, view.ratio, 0, 0);
  context.clearRect(0, 0, view.width, view.height);
  return context;
}

const numbers = (count) => Array.from({ length: count }, (_, nth) => nth);

// All of it, anew.
function drawAll(data) {
  const began = performance.now();
  const context = cleared(base);
  hopLines(context, data);
  data.order ??= numbers(data.nodes).sort((one, other) => (data.role[other] & SOURCE) - (data.role[one] & SOURCE) || data.traces[other] - data.traces[one]);
  data.all ??= numbers(data.edges);
  wedges(context, data);
  strokeEdges(context, data, data.all);
  nodes(context, data, data.order.toReversed());
  labels(context, data, data.order, Math.max(50, Math.min(260, view.ky * 22)), drawn.wedges);
  drawn.view = { ...view };
  drawn.tree = drawn.edgeTree = null;
  drawn.fresh = true;
  drawn.at = performance.now();
  drawn.cost = drawn.at - began;
  // Lines are filled in after this: what that takes shows in when the next frame comes.
  requestAnimationFrame(() => { drawn.cost = Math.max(drawn.cost, performance.now() - drawn.at); });
}

// What was drawn last, moved to where it would be now: quick, and soon drawn anew.
function drawMoved() {
  if (drawn.fresh) {
    drawn.snapshot.width = base.width;
    drawn.snapshot.height = base.height;
    drawn.snapshot.getContext("2d").drawImage(base, 0, 0);
    drawn.fresh = false;
  }
  const context = cleared(base), was = drawn.view;
  const sx = view.kx / was.kx, sy = view.ky / was.ky;
  context.drawImage(drawn.snapshot, view.tx - was.tx * sx, view.ty - was.ty * sy, was.width * sx, was.height * sy);
}

// Above: paths that are pointed at, or what changed.
function drawOver(data, { edges = [], picked = [], gone = [], come = [], edge = -1 }) {
  const context = cleared(over);
  const lit = [...edges];
  base.classList.toggle("dim", lit.length > 0 || gone.size > 0 || come.size > 0);
  if (lit.length > 0) {
    strokeEdges(context, data, lit, 0.95, 0.4);
    const ends = new Set();
    for (const it of lit) ends.add(data.from[it]).add(data.to[it]);
    const order = data.order.filter((node) => ends.has(node));
    nodes(context, data, order.toReversed());
    labels(context, data, order, 90);
  }
  const marks = [[gone, colours.lost, [4, 4]], [come, colours.reached, []]];
  for (const [which, colour, dash] of marks) {
    context.strokeStyle = colour;
    context.lineWidth = Math.max(2.2, Math.min(4, view.ky * 0.12));
    context.setLineDash(dash);
    context.beginPath();
    for (const it of which) if (isVisible(data, it)) trail(context, data, it);
    context.stroke();
    context.setLineDash([]);
  }
  if (gone.size > 0 || come.size > 0) {
    const ends = new Set();
    for (const it of [...gone, ...come]) ends.add(data.from[it]).add(data.to[it]);
    for (const node of ends) {
      const x = atX(data, node), y = atY(data, node);
      context.beginPath();
      context.arc(x, y, Math.max(2.5, radius(data, node)), 0, 2 * Math.PI);
      context.fillStyle = fill(data, node);
      context.fill();
    }
    labels(context, data, data.order.filter((node) => ends.has(node)), 60);
  }
  if (edge >= 0) {
    styled(context, data.kind[edge] * WIDTHS + WIDTHS - 1);
    context.strokeStyle = colours.answered;
    context.beginPath();
    trail(context, data, edge);
    context.stroke();
    context.setLineDash([]);
  }
  nodes(context, data, picked, { ring: 2.2 });
}

// What is at a place: a node, a fan, or an edge.
function hit(data, x, y) {
  if (!drawn.tree) {
    const shown = data.order.filter((node) => data.on[node] && !isFolded(data, node));
    drawn.tree = d3.quadtree().x((node) => atX(data, node)).y((node) => atY(data, node)).addAll(shown);
  }
  const node = drawn.tree.find(x, y, 14);
  if (node !== undefined && Math.hypot(atX(data, node) - x, atY(data, node) - y) <= radius(data, node) + 5) return { node };
  for (const { nth, x: wx, y0, y1 } of drawn.wedges) {
    if (Math.abs(x - wx) < 6 && y >= y0 - 2 && y <= y1 + 2) return { fan: nth };
  }
  const edge = edgeAt(data, x, y);
  return edge >= 0 ? { edge } : null;
}

// Places along the lines of edges, so that one near by is found.
function edgeAt(data, x, y) {
  if (!drawn.edgeTree) {
    const places = [];
    for (const edge of data.all) {
      if (data.weight[edge] <= 0 || isFolded(data, data.to[edge]) || !isVisible(data, edge)) continue;
      const from = data.from[edge], to = data.to[edge], step = Math.sign(data.x[to] - data.x[from]);
      if (step === 0) continue;
      const rows = [data.y[from], ...(data.via[edge] ?? []), data.y[to]];
      const direct = rows.length === 2;
      const pieces = Math.max(4, Math.round((view.kx * (direct ? Math.abs(data.x[to] - data.x[from]) : 1)) / 16));
      for (let nth = 0; nth + 1 < rows.length; nth++) {
        const x0 = direct ? data.x[from] : data.x[from] + step * nth, x1 = direct ? data.x[to] : x0 + step;
        for (let part = 1; part < pieces; part++) {
          const t = part / pieces, along = 1.5 * t * (1 - t) + t ** 3;
          places.push([view.tx + (x0 + (x1 - x0) * along) * view.kx, view.ty + (rows[nth] + (rows[nth + 1] - rows[nth]) * (3 - 2 * t) * t * t) * view.ky, edge]);
        }
      }
      if (places.length > 60000) break;
    }
    drawn.edgeTree = d3.quadtree(places);
  }
  return drawn.edgeTree.find(x, y, 7)?.[2] ?? -1;
}
