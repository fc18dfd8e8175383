// One clock over several videos: the source's stretch, the packed clip, the partner. The one that is heard leads.
import { api, el, say, svg } from "./dom.js";

const form = document.createElement("video").canPlayType('video/mp4; codecs="avc1.42E01E, mp4a.40.2"') ? "mp4" : "webm";
const ORDER = ["source", "packed", "partner"];
const AWAY = 0.12;
const FRAME = 0.04;

export class Player {
  constructor(unit, onTime) {
    this.unit = unit; this.onTime = onTime; this.parts = []; this.sound = unit.place.missing ? "both" : "source"; this.boxes = true; this.overlays = unit.decided.some((d) => d !== "faces");
    this.t = unit.start_s; this.running = false; this.rate = 1; this.gone = false;
    this.drawing = svg("svg", { class: "boxes", viewBox: `0 0 ${unit.width || 1} ${unit.height || 1}`, preserveAspectRatio: "xMidYMid meet" });
    this.root = el("div", { class: "screens" });
  }

  async load() {
    const u = this.unit, jobs = [];
    if (u.place.missing) this.root.append(el("p", { class: "missing" }, u.place.missing));
    else jobs.push(this.add("source", "as filmed", 0, () => api("/api/stretch", { source: u.source, from: u.from_s, to: u.to_s, form })));
    if (u.packed) jobs.push(this.add("packed", "as packed", u.start_s, () => api("/api/clip", { id: u.id, sound: this.sound === "source" ? "both" : this.sound, form })));
    const p = u.partner;
    if (p?.packed) jobs.push(this.add("partner", `partner, ${p.state}`, p.start_s - p.shift_s, () => api("/api/clip", { id: p.segment, sound: "none", form })));
    else if (p?.elsewhere && !p.place.missing) jobs.push(this.add("partner", `partner in ${p.file}`, -p.shift_s, () => api("/api/stretch", { source: p.place.source, from: p.place.start_s, to: p.place.end_s, form })));
    await Promise.all(jobs);
    this.parts.sort((a, b) => ORDER.indexOf(a.name) - ORDER.indexOf(b.name));
    this.choose();
    this.tick();
  }

  // `zero` is the source time at the file's beginning, less what the server says of where the file begins.
  async add(name, title, zero, ask) {
    const video = el("video", { playsinline: true, preload: "auto", "data-part": name });
    video.muted = true;
    const note = el("figcaption", {}, title);
    const frame = el("div", { class: "frame" }, video, name === "source" && this.drawing);
    if (name === "source" && this.unit.width) frame.style.aspectRatio = `${this.unit.width} / ${this.unit.height}`;
    const figure = el("figure", { class: name, onclick: () => this.toggle() }, frame, note);
    this.root.append(figure);
    const part = { name, video, zero, figure };
    try {
      const made = await ask();
      if (this.gone) return;
      part.zero = zero + made.start_s;
      video.src = made.url;
      await new Promise((done, failed) => { video.onloadedmetadata = done; video.onerror = () => failed(new Error(`the browser cannot play ${title}`)); });
      video.currentTime = this.local(part, this.t);
      this.parts.push(part);
    } catch (e) { note.textContent = `${title}: ${e.message}`; figure.classList.add("failed"); }
  }

  local(part, t) { return Math.min(Math.max(0, t - part.zero), part.video.duration || 0); }
  part(name) { return this.parts.find((p) => p.name === name); }
  get lead() { return (this.sound === "source" ? this.part("source") : this.part("packed")) ?? this.parts[0]; }
  sounds() { return [...(this.part("source") ? ["source"] : []), ...(this.part("packed") ? ["speak", "listen", "both"] : [])]; }
  now() { const l = this.lead; return l ? l.zero + l.video.currentTime : this.t; }

  choose() { for (const p of this.parts) { p.video.muted = p !== this.lead; p.video.playbackRate = this.rate; } }

  async hear(sound) {
    if (!this.sounds().includes(sound)) return say("this sound is not there", true);
    const t = this.now(), packed = this.part("packed");
    if (sound !== "source") {
      const made = await api("/api/clip", { id: this.unit.id, sound, form });
      packed.video.src = made.url;
      await new Promise((done) => { packed.video.onloadedmetadata = done; });
    }
    this.sound = sound; this.choose(); this.seek(t);
    if (this.running) this.play();
    this.onTime(t, this);
  }

  play() {
    if (!this.parts.length) return;
    const end = this.unit.end_s - FRAME / 2;
    if (this.now() >= Math.min(end, this.lead.zero + this.lead.video.duration - FRAME)) this.seek(this.unit.start_s);
    this.until = this.now() < end ? end : this.unit.to_s;
    this.running = true; this.choose();
    for (const p of this.parts) if (p === this.lead || this.inside(p)) p.video.play().catch(() => {});
    this.follow();
    this.onTime(this.now(), this);
  }
  pause() { this.running = false; for (const p of this.parts) p.video.pause(); this.onTime(this.now(), this); }
  toggle() { if (this.running) this.pause(); else this.play(); }
  inside(p) { const t = this.now() - p.zero; return t >= 0 && t < p.video.duration - 0.02; }
  seek(t) {
    this.t = Math.min(Math.max(t, this.unit.from_s), this.unit.to_s);
    for (const p of this.parts) p.video.currentTime = this.local(p, this.t);
    if (this.running) this.until = this.t < this.unit.end_s ? this.unit.end_s : this.unit.to_s;
    this.draw(this.t); this.onTime(this.t, this);
  }
  step(by) { this.pause(); this.seek(this.now() + by); }
  speed(by) { this.rate = Math.min(2, Math.max(0.25, this.rate * by)); this.choose(); say(`speed ${this.rate}`); }

  follow() {
    if (!this.running || this.gone) return;
    const t = this.now();
    if (t >= this.until || this.lead.video.ended) { this.pause(); this.seek(Math.min(t, this.until) - FRAME); return; }
    for (const p of this.parts) {
      if (p === this.lead) continue;
      if (!this.inside(p)) { if (!p.video.paused) p.video.pause(); continue; }
      if (Math.abs(p.video.currentTime - (t - p.zero)) > AWAY) p.video.currentTime = t - p.zero;
      if (p.video.paused) p.video.play().catch(() => {});
    }
    this.tick();
    requestAnimationFrame(() => this.follow());
  }
  tick() { const t = this.running ? this.now() : this.t = this.now(); this.draw(t); this.onTime(t, this); }

  draw(t) {
    const u = this.unit, out = [], unit = (12.5 / 2.2) * (u.width / (this.drawing.clientWidth || u.width / 2));
    const box = (x, y, w, h, css, text) => {
      out.push(svg("rect", { class: css, x, y, width: Math.max(0, w), height: Math.max(0, h), "vector-effect": "non-scaling-stroke" }));
      if (text) out.push(svg("text", { class: css, x: x + unit * 0.4, y: Math.max(unit * 2.2, y - unit * 0.7), "font-size": unit * 2.2 }, text));
    };
    if (this.boxes) {
      for (const f of u.faces) { const at = between(f.boxes, t, 0.2); if (at) box(...at, f.mine ? "mine" : "face", f.name); }
      const crop = u.crop.length && t >= u.start_s - 0.02 && t <= u.end_s + 0.02 ? between(u.crop, t, Infinity) : null;
      if (crop) box(...crop, "crop", "");
    }
    if (this.overlays && u.overlays.length) {
      const seen = u.overlays.filter((o) => o.t <= t + 0.02).at(-1) ?? u.overlays[0];
      for (const kind of ["text", "logo", "inset"]) for (let i = 0; i + 3 < seen[kind].length; i += 4) {
        const [a, b, c, d] = seen[kind].slice(i, i + 4);
        box(a * u.width, b * u.height, (c - a) * u.width, (d - b) * u.height, kind, kind);
      }
      const [l, top, r, bottom] = seen.bars;
      for (const [x, y, w, h] of [[0, 0, l, 1], [0, 0, 1, top], [1 - r, 0, r, 1], [0, 1 - bottom, 1, bottom]]) if (w > 0 && h > 0) box(x * u.width, y * u.height, w * u.width, h * u.height, "bars", "");
    }
    this.drawing.replaceChildren(...out);
  }

  leave() { this.gone = true; this.running = false; for (const p of this.parts) { p.video.pause(); p.video.removeAttribute("src"); p.video.load(); } }
}

// The box of a time between knots [t, x, y, w, h]; none further than `reach` seconds from any.
function between(knots, t, reach) {
  if (!knots.length) return null;
  let low = 0, high = knots.length - 1;
  while (low < high) { const middle = (low + high + 1) >> 1; if (knots[middle][0] <= t) low = middle; else high = middle - 1; }
  const a = knots[low], b = knots[low + 1];
  const end = Math.min(reach, 0.05);
  if (t < a[0]) return a[0] - t > end ? null : a.slice(1);
  if (!b || b[0] - a[0] > reach) return t - a[0] > (reach === Infinity ? reach : end) ? null : a.slice(1);
  const share = (t - a[0]) / (b[0] - a[0] || 1);
  return a.slice(1).map((v, i) => v + share * (b[i + 1] - v));
}
