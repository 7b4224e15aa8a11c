// The slider: traces by time, marks where paths changed, and the window that the drawing
// shows.

const slider = document.getElementById("slider"), play = document.getElementById("play");
const time = { spans: [], x: null, playing: null, svg: null };

const moment = (bucket) => new Date((head.bucket + bucket) * head.width * 1000);
const utc = d3.utcFormat(head.width < 60 ? "%Y-%m-%d %H:%M:%S" : head.width < 86400 ? "%Y-%m-%d %H:%M" : "%Y-%m-%d");
const tick = (at) => d3.utcFormat(d3.utcDay(at) >= at ? "%-d %b" : d3.utcMinute(at) >= at ? "%H:%M" : "%H:%M:%S")(at);
const plural = (count, one, many = one + "s") => d3.format(",")(count) + " " + (count === 1 ? one : many);

function timeWords() {
  const all = slice.first === 0 && slice.last === head.buckets - 1;
  const first = utc(moment(slice.first)), last = utc(moment(slice.last + 1));
  const spans = time.spans.slice(slice.first, slice.last + 1);
  const same = d3.sum(spans, (it) => it.same), maybe = d3.sum(spans, (it) => it.maybe);
  const changes = same + maybe === 0 ? "no path changed" : plural(same + maybe, "path change") + (maybe ? `, ${d3.format(",")(maybe)} in another flow` : "");
  return { when: all ? "all the time" : `${first} – ${last.slice(0, 10) === first.slice(0, 10) ? last.slice(11) || last : last}`, changes };
}

// Draws the slider; `moved` is called when the window is.
function drawTime(data, moved) {
  time.spans = timeline(data);
  slider.replaceChildren();
  const width = slider.clientWidth, height = 62;
  if (head.buckets < 2 || width < 50) return;
  const x = (time.x = d3.scaleUtc([moment(0), moment(head.buckets)], [8, width - 8]));
  const svg = (time.svg = d3.select(slider).append("svg").attr("width", width).attr("height", height));
  const y = d3.scaleSqrt([0, d3.max(time.spans, (it) => it.traces) || 1], [0, 24]);
  svg.append("g").attr("class", "axis").attr("transform", "translate(0,43)").call(d3.axisBottom(x).ticks(Math.min(12, width / 90)).tickFormat(tick).tickSizeOuter(0));
  const bar = Math.max(1, x(moment(1)) - x(moment(0)) - 1);
  svg.append("g").selectAll("rect").data(time.spans.filter((it) => it.traces > 0)).join("rect")
    .attr("class", "traces").attr("x", (it) => x(moment(it.bucket)) + 0.5).attr("width", bar)
    .attr("y", (it) => 42 - Math.max(1.5, y(it.traces))).attr("height", (it) => Math.max(1.5, y(it.traces)));
  const size = d3.scaleSqrt([0, d3.max(time.spans, (it) => it.same + it.maybe) || 1], [14, 70]);
  svg.append("g").selectAll("path").data(time.spans.filter((it) => it.same + it.maybe > 0)).join("path")
    .attr("class", (it) => (it.same ? "change" : "change maybe"))
    .attr("transform", (it) => `translate(${x(moment(it.bucket)) + bar / 2},8)`)
    .attr("d", (it) => d3.symbol(d3.symbolDiamond2, size(it.same + it.maybe))())
    .append("title").text((it) => `${utc(moment(it.bucket))}: ${plural(it.same, "path")} changed` + (it.maybe ? `, ${it.maybe} seen by another flow` : ""));
  const brush = d3.brushX().extent([[8, 0], [width - 8, 43]]).on("brush end", (event) => {
    if (!event.sourceEvent) return;
    if (!event.selection) return event.type === "end" ? moved(0, head.buckets - 1) : undefined;
    const [first, last] = event.selection.map((it) => ((x.invert(it) - moment(0)) / 1000) / head.width);
    const from = Math.max(0, Math.min(head.buckets - 1, Math.floor(first + 0.02)));
    moved(from, Math.max(from, Math.min(head.buckets - 1, Math.ceil(last - 0.02) - 1)));
  });
  time.brush = brush;
  time.layer = svg.append("g").attr("class", "brush").call(brush);
  // The marks stay where a pointer finds their titles.
  svg.selectAll(".change").raise();
  showWindow();
}

// The window as the slice has it.
function showWindow() {
  if (!time.x) return;
  const all = slice.first === 0 && slice.last === head.buckets - 1;
  time.layer.call(time.brush.move, all ? null : [time.x(moment(slice.first)), time.x(moment(slice.last + 1))]);
  time.svg.selectAll(".traces").classed("on", (it) => it.bucket >= slice.first && it.bucket <= slice.last);
  const { when, changes } = timeWords();
  document.getElementById("moment").textContent = `${when}\n${changes}`;
  slider.setAttribute("aria-valuemax", head.buckets - 1);
  slider.setAttribute("aria-valuenow", slice.first);
  slider.setAttribute("aria-valuetext", `${when}: ${changes}`);
}

// The next span with traces in that direction, as a window of one span.
function step(direction, moved) {
  const all = slice.first === 0 && slice.last === head.buckets - 1;
  let at = all ? (direction > 0 ? -1 : head.buckets) : direction > 0 ? slice.last : slice.first;
  do at += direction;
  while (at >= 0 && at < head.buckets && time.spans[at].traces === 0);
  if (at < 0 || at >= head.buckets) return false;
  moved(at, at);
  return true;
}

function playing(on, moved) {
  clearInterval(time.playing);
  time.playing = null;
  if (on) {
    if (!step(1, moved)) {
      moved(0, head.buckets - 1);
      step(1, moved);
    }
    time.playing = setInterval(() => step(1, moved) || playing(false, moved), 900);
  }
  play.firstElementChild.textContent = time.playing ? "⏸" : "▶";
  play.lastElementChild.textContent = time.playing ? "Pause" : "Play";
}

function listenToTime(moved) {
  play.addEventListener("click", () => playing(!time.playing, moved));
  document.getElementById("always").addEventListener("click", () => {
    playing(false, moved);
    moved(0, head.buckets - 1);
  });
  slider.addEventListener("keydown", (event) => {
    const direction = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (direction && event.shiftKey) moved(slice.first, Math.max(slice.first, Math.min(head.buckets - 1, slice.last + direction)));
    else if (direction) step(direction, moved);
    else if (event.key === "Home") moved(0, 0);
    else if (event.key === "End") moved(head.buckets - 1, head.buckets - 1);
    else if (event.key === "Escape") moved(0, head.buckets - 1);
    else return;
    event.preventDefault();
  });
  document.getElementById("time").hidden = head.buckets < 2;
}
