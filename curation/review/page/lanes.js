// Lanes under the player: what was measured, over the same time. Click one to go there.
import { el, svg } from "./dom.js";

export class Lanes {
  constructor(unit, onSeek) {
    this.unit = unit;
    this.head = el("div", { class: "playhead" });
    const x = (t) => `${(100 * this.share(t)).toFixed(3)}%`;
    const width = (a, b) => `${(100 * (this.share(b) - this.share(a))).toFixed(3)}%`;
    const strip = (...children) => el("div", { class: "strip" }, children);
    const marks = el("div", { class: "marks" },
      el("div", { class: "own", style: { left: x(unit.start_s), width: width(unit.start_s, unit.end_s) } }),
      unit.cuts.map((t) => el("div", { class: "cut", style: { left: x(t) }, title: `cut at ${t.toFixed(2)} s` })), this.head);
    const rows = unit.lanes.map((lane) => {
      const mine = lane.track && lane.track === unit.track;
      return el("div", { class: `lane ${lane.kind}${mine ? " mine" : ""}` }, el("span", { class: "label", title: lane.label }, lane.label), strip(this.items(lane, x, width)));
    });
    const ticks = [];
    const every = [0.5, 1, 2, 5, 10].find((s) => (unit.to_s - unit.from_s) / s <= 12) ?? 20;
    for (let t = Math.ceil(unit.from_s / every) * every; t <= unit.to_s; t += every) ticks.push(el("span", { style: { left: x(t) } }, `${Number(t.toFixed(1))}`));
    this.root = el("div", { class: "lanes", onclick: (e) => this.seek(e, onSeek) }, rows, el("div", { class: "lane axis" }, el("span", { class: "label" }, "seconds"), strip(ticks)), marks);
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

  at(t) { this.head.style.left = `${(100 * this.share(t)).toFixed(3)}%`; }

  seek(event, onSeek) {
    const strip = this.root.querySelector(".strip")?.getBoundingClientRect();
    if (!strip?.width || event.clientX < strip.left) return;
    onSeek(this.unit.from_s + (this.unit.to_s - this.unit.from_s) * Math.min(1, (event.clientX - strip.left) / strip.width));
  }
}
