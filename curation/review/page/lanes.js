// Lanes under the player: what was measured, over the same time. Click one to go there; while correcting, choose a
// stretch, and drag the borders of states and the cuts.
import { el, svg } from "./dom.js";

const FRAME = 0.04;

export class Lanes {
  // `correct`: null, or what is told of what was chosen (choose) and of borders and cuts that were moved (border, cut).
  constructor(unit, onSeek, correct = null) {
    this.unit = unit; this.correct = correct; this.onSeek = onSeek; this.row = -1;
    this.head = el("div", { class: "playhead" });
    const x = (t) => `${(100 * this.share(t)).toFixed(3)}%`;
    const width = (a, b) => `${(100 * (this.share(b) - this.share(a))).toFixed(3)}%`;
    const strip = (...children) => el("div", { class: "strip" }, children);
    const marks = el("div", { class: "marks" },
      el("div", { class: "own", style: { left: x(unit.start_s), width: width(unit.start_s, unit.end_s) } }),
      unit.cuts.map((t) => el("div", { class: "cut", style: { left: x(t) }, title: `cut at ${t.toFixed(2)} s` })), this.head);
    this.rows = unit.lanes.map((lane) => {
      const mine = lane.track && lane.track === unit.track;
      return el("div", { class: `lane ${lane.kind}${mine ? " mine" : ""}` }, el("span", { class: "label", title: lane.label }, lane.label), strip(this.items(lane, x, width), correct && lane.of === "states" && this.borders(lane, x)));
    });
    const ticks = [];
    const every = [0.5, 1, 2, 5, 10].find((s) => (unit.to_s - unit.from_s) / s <= 12) ?? 20;
    for (let t = Math.ceil(unit.from_s / every) * every; t <= unit.to_s; t += every) ticks.push(el("span", { style: { left: x(t) } }, `${Number(t.toFixed(1))}`));
    const cuts = correct && unit.cuts.length ? el("div", { class: "lane" }, el("span", { class: "label" }, "cuts"), strip(unit.cuts.map((t) => this.handle(t, x, "cut", unit.from_s, unit.to_s, (to) => correct.cut(t, to))))) : null;
    this.root = el("div", { class: `lanes${correct ? " correcting" : ""}`, onclick: (e) => this.seek(e) }, this.rows, cuts, el("div", { class: "lane axis" }, el("span", { class: "label" }, "seconds"), strip(ticks)), marks);
  }

  share(t) { const u = this.unit; return Math.min(1, Math.max(0, (t - u.from_s) / (u.to_s - u.from_s || 1))); }

  items(lane, x, width) {
    if (lane.kind === "curve") {
      const y = (v) => 100 * (lane.high - Math.min(lane.high, Math.max(lane.low, v))) / (lane.high - lane.low);
      return svg("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none" }, svg("line", { x1: 0, x2: 1000, y1: y(0), y2: y(0) }),
        svg("polyline", { points: lane.items.filter((p) => p[1] !== null).map(([t, v]) => `${(1000 * this.share(t)).toFixed(1)},${y(v).toFixed(1)}`).join(" "), "vector-effect": "non-scaling-stroke" }));
    }
    return lane.items.map(([a, b, css, text, tip], i) => lane.kind === "words"
      ? el("span", { class: "word", style: { left: x(a), width: width(a, lane.items[i + 1]?.[0] ?? this.unit.to_s) }, title: css }, css)
      : el("span", { class: `run ${/^[a-z]+$/.test(css) ? css : ""}`, style: { left: x(a), width: width(a, b) }, title: `${tip}, ${a.toFixed(2)}–${b.toFixed(2)} s` }, text));
  }

  // Handles where one state ends and the next begins: what is moved is given to the run that grew.
  borders(lane, x) {
    const runs = [];
    for (const [a, b, s] of lane.items) {
      const last = runs.at(-1);
      if (last && last[2] === s && a - last[1] < 0.001) last[1] = b; else runs.push([a, b, s]);
    }
    return runs.slice(1).map(([t, end, state], i) => {
      const [start, before, was] = runs[i];
      if (t - before > 0.001) return null;
      return this.handle(t, x, `${was} ends, ${state} begins`, start + FRAME, end - FRAME, (to) => this.correct.border(lane, to < t ? [to, t, state] : [t, to, was]));
    });
  }

  handle(t, x, name, low, high, done) {
    let now = t;
    const put = (to) => { now = Math.min(high, Math.max(low, Math.round(to / FRAME) * FRAME)); node.style.left = x(now); node.setAttribute("aria-valuenow", now.toFixed(2)); node.setAttribute("aria-valuetext", `${name} at ${now.toFixed(2)} s`); this.onSeek(now); };
    const store = () => { if (Math.abs(now - t) > FRAME / 2) done(Number(now.toFixed(3))); };
    const keys = { ArrowLeft: (e) => put(now - (e.shiftKey ? 10 : 1) * FRAME), ArrowRight: (e) => put(now + (e.shiftKey ? 10 : 1) * FRAME), Enter: store, Escape: () => { put(t); node.blur(); } };
    const node = el("button", { type: "button", class: "handle", role: "slider", "aria-label": name, "aria-valuemin": low.toFixed(2), "aria-valuemax": high.toFixed(2), "aria-valuenow": t.toFixed(2), "data-at": t.toFixed(3), style: { left: x(t) }, title: `${name} at ${t.toFixed(2)} s: drag it, or arrows and Enter`,
      onclick: (e) => e.stopPropagation(),
      onkeydown: (e) => { if (keys[e.key]) { keys[e.key](e); e.preventDefault(); e.stopPropagation(); } },
      onpointerdown: (e) => { node.setPointerCapture(e.pointerId); node.focus(); e.preventDefault(); },
      onpointermove: (e) => { if (node.hasPointerCapture(e.pointerId)) put(this.time(e.clientX)); },
      onpointerup: (e) => { node.releasePointerCapture(e.pointerId); store(); } });
    return node;
  }

  at(t) { this.t = t; this.head.style.left = `${(100 * this.share(t)).toFixed(3)}%`; if (this.correct) this.mark(); }

  time(clientX) {
    const strip = this.root.querySelector(".strip")?.getBoundingClientRect();
    if (!strip?.width) return this.t;
    return this.unit.from_s + (this.unit.to_s - this.unit.from_s) * Math.min(1, Math.max(0, (clientX - strip.left) / strip.width));
  }

  seek(event) {
    const strip = this.root.querySelector(".strip")?.getBoundingClientRect();
    if (!strip?.width || event.clientX < strip.left) return;
    if (this.correct) { const row = this.rows.findIndex((r) => r.contains(event.target)); if (this.unit.lanes[row]?.of) this.row = row; }
    this.onSeek(this.time(event.clientX));
  }

  // The lane and the stretch under the playhead that the next correction is about.
  choose(row) { this.row = row; this.mark(true); }
  next(by) {
    const can = this.unit.lanes.map((l, i) => (l.of ? i : -1)).filter((i) => i >= 0);
    if (!can.length) return;
    const at = can.indexOf(this.row);
    this.choose(can[(at + by + can.length) % can.length]);
  }
  chosen() {
    const lane = this.unit.lanes[this.row];
    if (!lane?.of) return null;
    const i = lane.items.findIndex(([a, b]) => a - 0.001 <= this.t && this.t < b - 0.001);
    return { lane, item: lane.items[i] ?? null, i };
  }
  mark(always = false) {
    const c = this.chosen(), now = `${this.row} ${c?.i}`;
    if (now === this.marked && !always) return;
    this.marked = now;
    this.rows.forEach((r, i) => { r.classList.toggle("chosen", i === this.row); r.querySelectorAll(".run, .word").forEach((n, j) => n.classList.toggle("chosen", i === this.row && j === c?.i)); });
    this.correct.choose(c);
  }
  nearest(by) {
    const c = this.chosen();
    const times = c ? [...this.rows[this.row].querySelectorAll(".handle")] : [];
    const other = times.filter((n) => n !== document.activeElement);
    const next = by > 0 ? other.find((n) => Number(n.dataset.at) > this.t - 0.02) : other.findLast((n) => Number(n.dataset.at) < this.t + 0.02);
    if (next) { this.onSeek(Number(next.dataset.at)); next.focus(); }
  }
}
