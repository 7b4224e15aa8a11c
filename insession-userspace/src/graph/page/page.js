// The page around the drawing: controls, what is pointed at, keys.

const element = (id) => document.getElementById(id);
const tip = element("tip"), panel = element("panel"), said = element("said");
const LEVELS = { address: "Addresses", router: "Routers", prefix: "Prefixes", as: "Autonomous systems" };
const count = d3.format(",");
const state = { data: null, hover: null, picked: -1, traces: 0, changes: null, frame: 0, zoomed: 0 };

// ---- words

const millis = (micros) => (micros == null ? null : d3.format(micros < 10000 ? ".3~f" : ".1~f")(micros / 1000) + " ms");
const percent = (part) => d3.format(part > 0 && part < 0.1 ? ".1%" : ".0%")(part);
const between = ([least, most]) => (least === most ? `${least}` : `${least}–${most}`);
const kindName = ["seen", "assumed", "gap"];

function html(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((it) => it != null));
  return made;
}

function roles(data, node) {
  const role = data.role[node];
  const words = [role & SOURCE && "source", role & ROUTER && (data.level === "address" ? "router" : "on the way"), role & TARGET && "target"];
  return words.filter(Boolean).join(", ");
}

function facts(data, node) {
  const whose = owner(data, node), addresses = data.addresses[node];
  const rows = [
    ["name", data.name[node]],
    ["AS", whose.asn == null ? null : `${whose.asn}${whose.holder ? " " + whose.holder : ""}`],
    ["holder", whose.asn == null ? whose.holder : null],
    ["prefix", whose.prefix],
    ["exchange", whose.ixp],
    ["addresses", addresses ? addresses.join(", ") + (data.count[node] > addresses.length ? ` and ${count(data.count[node] - addresses.length)} more` : "") : null],
    ["role", roles(data, node)],
    ["hop", data.ttls[node][1] ? between(data.ttls[node]) : null],
    ["RTT", data.rtt[node] == null ? null : `${millis(data.rtt[node])} median, ${millis(data.least[node])} least`],
    ["loss", data.probes[node] ? `${percent(loss(data, node))} of ${count(data.probes[node])} probes` : null],
    ["traces", count(data.traces[node])],
    ["ended here", data.ended[node] ? plural(data.ended[node], "trace") : null],
  ];
  const list = html("dl");
  for (const [name, value] of rows) if (value != null && value !== "") list.append(html("dt", {}, name), html("dd", {}, value));
  return list;
}

function edgeFacts(data, edge) {
  const list = html("dl");
  const rows = [
    ["what", KINDS[data.kind[edge]]],
    ["silent", data.kind[edge] === GAP ? `${between(data.silent[edge])} ${data.silent[edge][1] === 1 ? "hop" : "hops"}` : null],
    ["traces", count(data.weight[edge])],
    ["RTT", data.edge_rtt[edge] == null ? null : `${millis(data.edge_rtt[edge])} median to the far end`],
    ["loss", data.edge_probes[edge] ? `${percent(data.edge_lost[edge] / data.edge_probes[edge])} at the far end` : null],
  ];
  for (const [name, value] of rows) if (value != null) list.append(html("dt", {}, name), html("dd", {}, value));
  return list;
}

// ---- colours

// From low to high, each of them apart from the ground.
const ramp = (part) => d3.interpolateViridis(matchMedia("(prefers-color-scheme: dark)").matches ? 0.28 + 0.72 * part : 0.02 + 0.83 * part);

const COLOURINGS = {
  role: {
    title: "Role",
    of: (data, node) => (data.role[node] & SOURCE ? colours.ink : data.role[node] & ROUTER ? colours.answered : colours.reached),
    signs: () => [[colours.answered, "router"], [colours.reached, "target"]],
  },
  as: {
    title: "AS",
    prepare(data) {
      const traces = d3.rollup(numbers(data.nodes).filter((node) => owner(data, node).asn != null), (group) => d3.sum(group, (node) => data.traces[node]), (node) => owner(data, node).asn);
      const named = new Map(data.owners.filter((it) => it.asn != null).map((it) => [it.asn, it.holder]));
      this.most = [...traces].sort((one, other) => other[1] - one[1] || one[0] - other[0]).slice(0, 5).map(([asn]) => [asn, named.get(asn)]);
      this.places = new Map(this.most.map(([asn], nth) => [asn, nth]));
    },
    of(data, node) {
      const { asn } = owner(data, node), place = this.places.get(asn);
      if (data.role[node] & SOURCE) return colours.ink;
      return asn == null ? colours.dim : place == null ? colours.c5 : colours["c" + place];
    },
    signs() {
      return [...this.most.map(([asn, holder], nth) => [colours["c" + nth], `AS${asn} ${holder ?? ""}`]), [colours.c5, "another AS, or none known"]];
    },
  },
  rtt: {
    title: "RTT",
    prepare(data) {
      const times = data.rtt.filter((it) => it != null && it > 0);
      const domain = times.length ? [d3.quantile(times, 0.02), Math.max(d3.quantile(times, 0.98), d3.quantile(times, 0.02) * 1.5)] : [1, 10];
      this.scale = d3.scaleSequentialLog(domain, ramp).clamp(true);
    },
    of(data, node) {
      return data.rtt[node] == null ? colours.dim : this.scale(Math.max(1e-3, data.rtt[node]));
    },
    bar() {
      return [this.scale.domain().map(millis), numbers(9).map((nth) => ramp(nth / 8))];
    },
  },
  loss: {
    title: "Loss",
    prepare() {
      this.scale = d3.scaleLinear([0, 0.05, 0.5], [colours.c5, colours.c1, colours.lost]).clamp(true);
    },
    of(data, node) {
      return data.role[node] & SOURCE ? colours.ink : this.scale(loss(data, node));
    },
    bar() {
      return [["0 %", "50 % and more"], numbers(9).map((nth) => this.scale((nth / 8) * 0.5))];
    },
  },
};

function sign(draw, words) {
  const svg = d3.create("svg").attr("width", 34).attr("height", 16);
  draw(svg);
  return html("li", {}, svg.node(), words);
}

function legend() {
  const data = state.data, list = element("signs");
  const dot = (colour) => (svg) => svg.append("circle").attr("cx", 17).attr("cy", 8).attr("r", 5.5).attr("fill", colour);
  const line = (colour, dash, width = 2) => (svg) => svg.append("line").attr("x1", 2).attr("x2", 32).attr("y1", 8).attr("y2", 8).attr("stroke", colour).attr("stroke-width", width).attr("stroke-dasharray", dash).attr("stroke-linecap", dash?.startsWith("0.1") ? "round" : "butt");
  const kinds = new Set(data.kind);
  const signs = [sign((svg) => svg.append("rect").attr("x", 10).attr("y", 1).attr("width", 14).attr("height", 14).attr("rx", 3).attr("fill", colours.ink), "source, a vantage point")];
  for (const [colour, words] of colouring.signs?.() ?? []) signs.push(sign(dot(colour), words));
  if (colouring.bar) {
    const [ends, steps] = colouring.bar();
    signs.push(html("li", { class: "head" }, colouring.title), html("li", {}, html("span", { class: "bar", style: `background:linear-gradient(90deg,${steps.join(",")})` }), html("span", { class: "ends" }, html("span", {}, ends[0]), html("span", {}, ends[1]))));
  }
  signs.push(sign((svg) => { dot(colouring === COLOURINGS.role ? colours.reached : colours.c5)(svg); svg.append("circle").attr("cx", 17).attr("cy", 8).attr("r", 2.3).attr("fill", colours.page); }, "with a hole: a target"));
  if (data.fans.length) signs.push(sign((svg) => { svg.append("path").attr("d", "M2,8C14,8 14,1 28,1L28,15C14,15 14,8 2,8").attr("fill", colours.reached).attr("opacity", 0.25); svg.append("rect").attr("x", 27).attr("y", 1).attr("width", 4).attr("height", 14).attr("rx", 2).attr("fill", colours.reached); }, "many targets behind one router"));
  if (data.lost.some((it) => it > 0)) signs.push(sign((svg) => { dot(colours.c5)(svg); svg.append("path").attr("d", d3.arc()({ innerRadius: 6.4, outerRadius: 8, startAngle: 0, endAngle: 2 })).attr("transform", "translate(17,8)").attr("fill", colours.lost); }, "red arc: the part of probes lost"));
  if (data.ended.some((it, node) => it > 0 && !(data.role[node] & SOURCE))) signs.push(sign((svg) => svg.append("path").attr("d", "M13,4L21,12M13,12L21,4").attr("stroke", colours.lost).attr("stroke-width", 2), "traces ended here, short of their target"));
  if (kinds.has(SEEN)) signs.push(sign(line(colours.seen), KINDS[SEEN] + "; the wider, the more traces"));
  if (kinds.has(ASSUMED)) signs.push(sign(line(colours.assumed, "0.1 5", 2.6), KINDS[ASSUMED]));
  if (kinds.has(GAP)) signs.push(sign(line(colours.silent, "6 5"), KINDS[GAP]));
  if (data.changes.length) {
    signs.push(sign(line(colours.lost, "4 3", 2.6), "gone with a path change"), sign(line(colours.reached, null, 2.6), "come with a path change"));
    signs.push(sign((svg) => svg.append("path").attr("d", d3.symbol(d3.symbolDiamond2, 60)()).attr("transform", "translate(17,8)").attr("fill", colours.c3), "when paths changed; hollow: seen by another flow"));
  }
  list.replaceChildren(...signs);
}

// ---- what is shown

function schedule() {
  state.frame ||= requestAnimationFrame(() => {
    state.frame = 0;
    const now = performance.now(), data = state.data;
    // Where drawing takes long it is moved while it is dragged, and drawn now and then.
    if (drawn.cost > 24 && drawn.view?.width === view.width && now - state.zoomed < 120 && now - drawn.at < 10 * drawn.cost) {
      drawMoved();
      clearTimeout(state.settle);
      state.settle = setTimeout(schedule, 130);
    } else drawAll(data);
    overlay();
  });
}

function overlay() {
  const data = state.data, hover = state.hover;
  const shown = { picked: state.picked >= 0 ? [state.picked] : [], gone: new Set(), come: new Set() };
  const pointed = hover?.node ?? (hover ? -1 : state.picked);
  if (hover?.fan != null) shown.edges = state.lit(`fan ${hover.fan}`, () => edgesThrough(data, new Set(data.fans[hover.fan].members)));
  else if (pointed >= 0) shown.edges = state.lit(`node ${pointed}`, () => edgesThrough(data, new Set([pointed])));
  if (hover?.edge != null) shown.edge = hover.edge;
  if (hover?.node != null && hover.node !== state.picked) shown.picked.push(hover.node);
  const changes = state.changes ?? (slice.first > 0 || slice.last < head.buckets - 1 ? changesInSlice(data) : []);
  if (pointed < 0 && !hover && changes.length > 0) Object.assign(shown, differences(data, changes));
  drawOver(data, shown);
}

// Edges that are lit, found once for each that is pointed at.
state.lit = (() => {
  let known = null, edges = null;
  return (what, find) => {
    const of = `${what} ${state.slices}`;
    if (known !== of) [known, edges] = [of, find()];
    return edges;
  };
})();

// The slice is another: weigh, draw, tell.
function sliced({ moved = true } = {}) {
  state.slices = (state.slices ?? 0) + 1;
  state.traces = weigh(state.data);
  element("empty").hidden = state.data.on.some(Boolean);
  const data = state.data, shown = d3.sum(data.on);
  const parts = [plural(state.traces, "trace"), `${count(shown)} of ${plural(data.nodes, "node")}`, plural(head.sources.length, "vantage point")];
  if (head.unanswered) parts.push(`${plural(head.unanswered, "trace")} without any answer`);
  if (head.left_out) parts.push(`paths of ${plural(head.left_out, "trace")} not kept`);
  element("about").textContent = parts.join(" · ");
  element("about").title = head.names.join("\n");
  const through = element("through");
  through.hidden = !slice.through;
  if (slice.through) through.textContent = `through ${slice.through.text} ×`;
  through.title = "Show all paths again";
  if (moved) drawTime(data, moveTime);
  else showWindow();
  describe();
  schedule();
}

function moveTime(first, last) {
  if (slice.first === first && slice.last === last) return;
  Object.assign(slice, { first, last });
  state.changes = null;
  sliced({ moved: false });
}

function show(name) {
  state.data = level(name);
  state.data.level = name;
  Object.assign(state, { hover: null, picked: -1, changes: null });
  drawn.view = null;
  if (slice.through) slice.through = find(state.data, slice.through.text);
  Object.assign(view, fitted(state.data));
  recolour();
  sliced();
}

function recolour() {
  colouring = COLOURINGS[element("colour").value] ?? COLOURINGS.role;
  colouring.prepare?.(state.data);
  legend();
}

// ---- details

function describe() {
  const data = state.data, node = state.picked;
  if (node < 0) {
    overview(data);
    return;
  }
  const neighbours = (edges, end) => {
    const list = html("ol");
    const shown = edges.filter((edge) => data.weight[edge] > 0).sort((one, other) => data.weight[other] - data.weight[one]);
    for (const edge of shown.slice(0, 40)) {
      const other = end[edge];
      list.append(html("li", {}, html("button", { type: "button", onclick: () => pick(other, true) },
        html("span", {}, html("i", { class: kindName[data.kind[edge]], title: KINDS[data.kind[edge]] }), data.label[other]),
        html("span", { class: "n" }, count(data.weight[edge])),
        data.name[other] ? html("small", { class: "wide" }, data.name[other]) : null)));
    }
    if (shown.length > 40) list.append(html("li", {}, html("p", {}, `and ${count(shown.length - 40)} more`)));
    return [shown.length, list];
  };
  const [before, listBefore] = neighbours(data.in[node], data.from);
  const [behind, listBehind] = neighbours(data.out[node], data.to);
  panel.replaceChildren(
    html("h2", {}, data.label[node]),
    facts(data, node),
    html("div", { class: "acts" },
      html("button", { type: "button", onclick: () => through({ text: data.label[node], nodes: new Set([node]) }) }, "Only paths through it"),
      html("button", { type: "button", onclick: () => pick(-1) }, "Close")),
    ...(before ? [html("h3", {}, `Before it (${count(before)})`), listBefore] : []),
    ...(behind ? [html("h3", {}, `Behind it (${count(behind)})`), listBehind] : []));
}

function overview(data) {
  const changes = changesInSlice(data);
  const same = changes.filter((it) => it.same).length;
  const children = [html("h2", {}, LEVELS[data.level]), html("p", {}, "Point at a node or a line to see what it is; click to keep it.")];
  if (head.buckets > 1) {
    children.push(html("h3", {}, `Path changes (${count(changes.length)})`));
    if (changes.length === 0) children.push(html("p", {}, "No path to a target became another in this time."));
    else if (changes.length > same) children.push(html("p", {}, `${count(same)} in the same flow. The others were seen by another flow, which a balancer may lead elsewhere.`));
    const list = html("ol");
    for (const change of changes.slice(0, 150)) {
      const [source, method, target] = head.keys[change.key];
      const names = (nodes) => nodes.map((it) => data.label[it]).join(", ");
      list.append(html("li", {}, html("button", { type: "button", onclick: () => { pick(-1); state.changes = [change]; schedule(); say(`${target}: gone ${names(change.gone)}, come ${names(change.come)}`); } },
        html("span", {}, target), html("span", { class: "n" }, change.ttl ? `hop ${change.ttl}` : ""),
        html("small", { class: "wide" }, html("span", { class: "gone" }, names(change.gone)), " → ", html("span", { class: "come" }, names(change.come))),
        html("small", { class: "wide" }, `${utc(moment(change.bucket))} · ${head.methods[method]}${head.sources.length > 1 ? " from " + head.sources[source] : ""}${change.same ? "" : " · another flow"}`))));
    }
    children.push(list);
    if (changes.length > 150) children.push(html("p", {}, `and ${count(changes.length - 150)} more: narrow the time`));
  }
  panel.replaceChildren(...children);
}

function through(found) {
  slice.through = found;
  state.changes = null;
  state.picked = -1;
  sliced();
}

function say(text) {
  said.textContent = text;
}

// Keeps a node, and has it in sight.
function pick(node, bring = false) {
  state.picked = node;
  state.hover = null;
  state.changes = null;
  tip.hidden = true;
  if (node >= 0) {
    const data = state.data;
    if (bring) inSight(node);
    say(`${data.label[node]}${data.name[node] ? ", " + data.name[node] : ""}, ${roles(data, node)}, ${plural(data.traces[node], "trace")}${data.rtt[node] == null ? "" : ", " + millis(data.rtt[node])}, loss ${percent(loss(data, node))}`);
  }
  describe();
  schedule();
}

function inSight(node) {
  const data = state.data;
  const to = { ...view };
  // Out of its fan.
  if (isFolded(data, node)) to.ky = Math.max(view.ky, 9 / data.fans[data.fan[node]].room);
  const x = to.tx + data.x[node] * to.kx, y = to.ty + data.y[node] * to.ky;
  if (x < 60 || x > view.width - 120) to.tx += view.width / 2 - x;
  if (y < 60 || y > view.height - 60) to.ty += view.height / 2 - y;
  glide(to);
}

function glide(to) {
  const from = { ...view }, still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const keys = ["tx", "ty", "kx", "ky"];
  const at = (part) => {
    for (const key of keys) view[key] = from[key] + (to[key] - from[key]) * part;
    state.zoomed = part < 1 ? performance.now() : 0;
    schedule();
  };
  state.glide?.stop();
  if (still) return at(1);
  state.glide = d3.timer((elapsed) => {
    at(d3.easeCubicInOut(Math.min(1, elapsed / 320)));
    if (elapsed >= 320) state.glide.stop();
  });
}

// ---- pointer and keys

// Layers come apart more slowly than rows.
function zoomBy(ratio, x, y) {
  const data = state.data, whole = fitted(data);
  const ky = Math.max(whole.ky * 0.5, Math.min(90, view.ky * ratio));
  const kx = Math.max(whole.kx * 0.6, Math.min(420, view.kx * Math.pow(ky / view.ky, 0.5)));
  view.tx = x - ((x - view.tx) * kx) / view.kx;
  view.ty = y - ((y - view.ty) * ky) / view.ky;
  Object.assign(view, { kx, ky });
}

let last = d3.zoomIdentity;
const zoom = d3.zoom().scaleExtent([1e-9, 1e9]).filter((event) => !event.button && event.type !== "dblclick")
  .on("zoom", ({ transform, sourceEvent }) => {
    const [x, y] = sourceEvent ? d3.pointer(sourceEvent, over) : [view.width / 2, view.height / 2];
    const ratio = transform.k / last.k;
    if (Math.abs(ratio - 1) > 1e-9) zoomBy(ratio, x, y);
    else {
      view.tx += transform.x - last.x;
      view.ty += transform.y - last.y;
    }
    last = transform;
    state.zoomed = performance.now();
    tip.hidden = true;
    schedule();
  });

function point(event) {
  if (event.buttons) return;
  const [x, y] = d3.pointer(event, over), data = state.data;
  const found = hit(data, x, y);
  const was = JSON.stringify(state.hover);
  state.hover = found;
  over.classList.toggle("hit", found != null && found.edge == null);
  if (JSON.stringify(found) !== was) {
    requestAnimationFrame(overlay);
    tell(found);
  }
  if (found) {
    const width = tip.offsetWidth, height = tip.offsetHeight;
    tip.style.left = Math.max(4, x + 16 + width > view.width ? x - width - 12 : x + 16) + "px";
    tip.style.top = Math.max(4, Math.min(y + 14, view.height - height - 6)) + "px";
  }
}

function tell(found) {
  const data = state.data;
  tip.hidden = !found;
  if (!found) return;
  if (found.node != null) tip.replaceChildren(html("b", {}, data.label[found.node]), facts(data, found.node));
  else if (found.edge != null) tip.replaceChildren(html("b", {}, `${data.label[data.from[found.edge]]} → ${data.label[data.to[found.edge]]}`), edgeFacts(data, found.edge));
  else {
    const fan = data.fans[found.fan], on = fan.members.filter((node) => data.on[node]);
    const times = on.map((node) => data.rtt[node]).filter((it) => it != null);
    const lost = d3.sum(on, (node) => data.lost[node]), probes = d3.sum(on, (node) => data.probes[node]);
    const list = html("dl", {}, html("dt", {}, "from"), html("dd", {}, data.label[on[0]]), html("dt", {}, "to"), html("dd", {}, data.label[on[on.length - 1]]));
    if (times.length) list.append(html("dt", {}, "RTT"), html("dd", {}, `${millis(d3.median(times))} median`));
    if (probes) list.append(html("dt", {}, "loss"), html("dd", {}, percent(lost / probes)));
    tip.replaceChildren(html("b", {}, `${plural(on.length, "target")} behind ${data.label[fan.parent]}`), list, html("p", {}, "Zoom in, or click, to see each."));
  }
}

function clicked(event) {
  const [x, y] = d3.pointer(event, over), data = state.data;
  const found = hit(data, x, y);
  if (found?.node != null) pick(found.node === state.picked ? -1 : found.node);
  else if (found?.fan != null) {
    const fan = data.fans[found.fan];
    const ky = Math.min(90, Math.max(APART * 1.6 / fan.room, (view.height * 0.7) / (fan.bottom - fan.top)));
    const ratio = Math.min(3, Math.sqrt(ky / view.ky)), kx = Math.min(420, view.kx * Math.max(1, ratio));
    glide({ kx, ky, tx: view.width * 0.62 - fan.x * kx, ty: view.height / 2 - ((fan.top + fan.bottom) / 2) * ky });
  } else if (state.picked >= 0 || state.changes) pick(-1);
}

// The node that an arrow leads to from the one that is kept.
function walk(key) {
  const data = state.data, node = state.picked;
  if (node < 0) return data.order.find((it) => data.on[it]) ?? -1;
  const heaviest = (edges, end) => {
    const best = d3.greatest(edges.filter((edge) => data.weight[edge] > 0), (edge) => data.weight[edge]);
    return best === undefined ? node : end[best];
  };
  if (key === "ArrowRight") return heaviest(data.out[node], data.to);
  if (key === "ArrowLeft") return heaviest(data.in[node], data.from);
  const down = key === "ArrowDown" ? 1 : -1;
  const beside = numbers(data.nodes).filter((it) => it !== node && data.on[it] && data.x[it] === data.x[node] && (data.y[it] - data.y[node]) * down > 0);
  return d3.least(beside, (it) => Math.abs(data.y[it] - data.y[node])) ?? node;
}

function key(event) {
  const middle = [view.width / 2, view.height / 2], arrows = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (arrows[event.key] && event.shiftKey) {
    view.tx += arrows[event.key][0];
    view.ty += arrows[event.key][1];
    schedule();
  } else if (arrows[event.key]) pick(walk(event.key), true);
  else if (event.key === "Enter" && state.picked >= 0) through({ text: state.data.label[state.picked], nodes: new Set([state.picked]) });
  else if (event.key === "Escape") (state.picked >= 0 || state.changes ? () => pick(-1) : () => through(null))();
  else if (event.key === "+" || event.key === "=") nearer(1.5, ...middle);
  else if (event.key === "-") nearer(1 / 1.5, ...middle);
  else if (event.key === "0" || event.key === "f") glide({ ...view, ...fitted(state.data) });
  else if (event.key === " ") playing(!time.playing, moveTime);
  else return;
  event.preventDefault();
}

function nearer(ratio, x = view.width / 2, y = view.height / 2) {
  const from = { ...view };
  zoomBy(ratio, x, y);
  const to = { ...view };
  Object.assign(view, from);
  glide(to);
}

function choices(select, options) {
  select.replaceChildren(...options.map(([value, words]) => html("option", { value }, words)));
  select.parentElement.hidden = options.length < 2;
}

// ---- beginning

readColours();
choices(element("level"), head.levels.map((name) => [name, LEVELS[name]]));
choices(element("source"), (head.sources.length > 1 ? [[-1, `all ${head.sources.length} vantage points`]] : []).concat(head.sources.map((it, nth) => [nth, it])));
choices(element("method"), (head.methods.length > 1 ? [[-1, "all methods"]] : []).concat(head.methods.map((it, nth) => [nth, it])));
const firstLevel = level(head.levels[0]);
choices(element("colour"), [["role", "by role"], ...(firstLevel.owners.some((it) => it.asn != null) ? [["as", "by AS"]] : []), ["rtt", "by RTT"], ["loss", "by loss"]]);
resize();
show(head.levels[0]);

element("level").addEventListener("change", (event) => show(event.target.value));
for (const name of ["source", "method"]) element(name).addEventListener("change", (event) => { slice[name] = +event.target.value; state.changes = null; sliced(); });
element("colour").addEventListener("change", () => { recolour(); schedule(); });
element("through").addEventListener("click", () => through(null));
element("fit").addEventListener("click", () => glide({ ...view, ...fitted(state.data) }));
element("nearer").addEventListener("click", () => nearer(1.6));
element("farther").addEventListener("click", () => nearer(1 / 1.6));
element("controls").addEventListener("submit", (event) => event.preventDefault());
element("find").addEventListener("input", (event) => {
  const text = event.target.value, found = text.length > 1 ? find(state.data, text) : null;
  const options = new Set();
  for (const node of found?.nodes ?? []) {
    if (options.size >= 30) break;
    options.add(state.data.name[node]?.toLowerCase().includes(text.toLowerCase()) ? state.data.name[node] : state.data.label[node]);
  }
  element("found").replaceChildren(...[...options].map((value) => html("option", { value })));
});
element("find").addEventListener("change", (event) => {
  const found = find(state.data, event.target.value);
  if (!event.target.value) return through(null);
  if (!found) return say("nothing found");
  if (found.nodes.size === 1) pick([...found.nodes][0], true);
  else through(found);
});
d3.select(over).call(zoom).on("dblclick.zoom", null);
over.addEventListener("pointermove", point);
over.addEventListener("pointerleave", () => { state.hover = null; tip.hidden = true; requestAnimationFrame(overlay); });
over.addEventListener("click", clicked);
over.addEventListener("keydown", key);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !/INPUT|SELECT/.test(document.activeElement?.tagName)) {
    event.preventDefault();
    element("find").focus();
  }
});
listenToTime(moveTime);
new ResizeObserver(() => {
  const whole = fitted(state.data), all = ["kx", "ky", "tx", "ty"].every((it) => Math.abs(view[it] - whole[it]) < 1e-6);
  if (!resize()) return;
  if (all) Object.assign(view, fitted(state.data));
  drawn.view = null;
  drawTime(state.data, moveTime);
  schedule();
}).observe(stage);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); recolour(); drawTime(state.data, moveTime); schedule(); });
// Small windows have their legend folded.
if (innerHeight < 640 || innerWidth < 960) element("legend").open = false;
// When the first drawing was there, milliseconds after the page was opened.
requestAnimationFrame(() => requestAnimationFrame(() => { document.documentElement.dataset.drawn = performance.now().toFixed(1); }));
