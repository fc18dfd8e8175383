// Tune: move a rule's threshold over its histogram; what would come in and go out, by counts, verdicts and to be seen.
import { api, el, number, say, show, svg, words } from "./dom.js";
import { author, state } from "./main.js";
import { row } from "./sample.js";

let root = null, rule = null, found = null, value = 0, zoom = [null, null], asking = false, again = false, timer = null, parts = {};

export async function open(place) {
  root = place;
  const rules = state.about.tunable, q = state.query;
  if (!rules.length) return show(root, el("p", { class: "empty" }, "No rule of the policy compares a measurement with a number."));
  const wanted = rules.find((r) => r.rule === q.get("rule") && String(r.n) === (q.get("n") ?? "0")) ?? rules[0];
  const other = rule !== wanted;
  rule = wanted;
  if (other || !found) { value = rule.value; zoom = [null, null]; found = null; frame(); await ask(true); } else { frame(); draw(); }
}

// The parts that stay while the threshold moves, so that the focus does.
function frame() {
  const label = (r) => `${words(r.rule)}: ${words(r.column)} ${r.operator} ${number(r.value)}`;
  const out = (r) => state.about.left_out.find((x) => x[0] === r.on && x[1] === r.rule)?.[2] ?? 0;
  const choice = el("select", { id: "tune-rule", onchange: (e) => { const r = state.about.tunable[Number(e.target.value)]; location.hash = `tune?rule=${r.rule}&n=${r.n}`; } },
    state.about.tunable.map((r, i) => el("option", { value: String(i), selected: r === rule }, `${label(r)} (${r.on}, ${out(r)} left out)`)));
  parts = {
    plot: el("div", { class: "plot", tabindex: "0", role: "slider", "aria-label": `threshold of ${words(rule.column)}`, onkeydown: keys, onpointerdown: grab, onpointermove: drag, onpointerup: (e) => parts.plot.releasePointerCapture(e.pointerId) }),
    input: el("input", { id: "tune-value", inputmode: "decimal", size: "9", onchange: (e) => { const v = Number(e.target.value); if (Number.isFinite(v) && e.target.value.trim()) set(v); else say("a threshold is a number", true); } }),
    counts: el("div", { class: "counts", "aria-live": "polite" }), sides: el("div", { class: "sides" }), save: el("p", { class: "soft", id: "tune-save" }),
  };
  show(root, el("h2", {}, "Tune"), el("div", { class: "draw tuning" },
    el("label", { class: "wide" }, el("span", {}, "Rule"), choice),
    el("label", {}, el("span", {}, `${words(rule.column)} ${rule.operator}`, rule.unit && ` (${rule.unit})`), parts.input),
    el("div", { class: "buttons" }, el("button", { type: "button", onclick: () => set(rule.value) }, "as it is"), el("button", { type: "button", onclick: () => look(0.5) }, "nearer"), el("button", { type: "button", onclick: () => look(2) }, "wider"), el("button", { type: "button", onclick: () => { zoom = [null, null]; later(); } }, "all"), el("span", { class: "soft" }, rule.doc, rule.why && `. ${rule.why}`))),
  parts.plot, el("p", { class: "soft" }, "Dark: let in now by the rules on ", rule.on, "; red: kept out by this rule. Heights are square roots, so that few are seen beside many. Drag, or ← → (shift: ten times as far); Home goes back."), parts.counts, parts.save, parts.sides);
}

function set(v) {
  value = Number(v.toPrecision(6));
  parts.input.value = String(value);
  root.dataset.value = "";
  if (found) line();
  later();
}

const later = () => { if (asking) again = true; else ask().catch((e) => say(e.message, true)); };

// One question at a time, the counts at once; what is to be seen of both sides when the threshold rests.
async function ask(fresh = false, listed = false) {
  const of = rule;
  asking = true; again = false;
  clearTimeout(timer);
  try {
    const got = await api("/api/tune", { rule: of.rule, n: of.n, value, low: zoom[0], high: zoom[1], fresh: fresh ? 1 : "", listed: listed ? 1 : "", author: author() });
    if (of !== rule) return;
    found = { ...got, enters: got.enters ?? null, leaves: got.leaves ?? null };
    draw();
  } finally {
    asking = false;
    if (again || of !== rule) later();
    else if (!listed) timer = setTimeout(() => ask(false, true).catch((e) => say(e.message, true)), 250);
  }
}

function look(by) {
  const { low, high } = found.histogram, half = by * (high - low) / 2;
  zoom = [value - half, value + half];
  later();
}

const at = (clientX) => { const s = parts.plot.getBoundingClientRect(), h = found.histogram; return h.low + (h.high - h.low) * Math.min(1, Math.max(0, (clientX - s.left) / s.width)); };
function grab(e) { if (!found) return; parts.plot.setPointerCapture(e.pointerId); set(at(e.clientX)); }
function drag(e) { if (found && parts.plot.hasPointerCapture(e.pointerId)) set(at(e.clientX)); }
function keys(e) {
  if (!found) return;
  const step = (found.histogram.high - found.histogram.low) / 400 * (e.shiftKey ? 10 : 1);
  const to = { ArrowLeft: value - step, ArrowRight: value + step, Home: rule.value }[e.key];
  if (to === undefined) return;
  e.preventDefault(); e.stopPropagation(); set(to);
}

function line() {
  const { low, high } = found.histogram, x = (v) => `${(100 * Math.min(1, Math.max(0, (v - low) / (high - low || 1)))).toFixed(3)}%`;
  parts.plot.querySelector(".now").style.left = x(value);
  parts.plot.querySelector(".was").style.left = x(rule.value);
  parts.plot.setAttribute("aria-valuenow", String(value));
}

function draw() {
  const h = found.histogram, n = h.in.length, top = Math.sqrt(Math.max(1, ...h.in.map((v, i) => v + h.out[i])));
  const bars = h.in.flatMap((inside, i) => {
    const all = 100 * Math.sqrt(inside + h.out[i]) / top, part = inside + h.out[i] ? all * inside / (inside + h.out[i]) : 0;
    return [svg("rect", { class: "out", x: i, y: 100 - all, width: 0.9, height: all - part }), svg("rect", { class: "in", x: i, y: 100 - part, width: 0.9, height: part })];
  });
  show(parts.plot, svg("svg", { viewBox: `0 0 ${n} 100`, preserveAspectRatio: "none" }, bars), el("div", { class: "was", title: `now ${number(rule.value)}` }), el("div", { class: "now" }),
    el("div", { class: "ends" }, el("span", {}, number(h.low)), el("span", {}, number((h.low + h.high) / 2)), el("span", {}, number(h.high))));
  if (document.activeElement !== parts.input) parts.input.value = String(value);
  line();
  const c = found.counts, many = (k) => c[k]?.n ?? 0, lasting = (k) => `${((c[k]?.s ?? 0) / 60).toFixed(1)} min`;
  const share = (j) => (j.n ? `${j.good} good of ${j.n} judged: ${(100 * j.good / j.n).toFixed(1)} % (${(100 * j.interval[0]).toFixed(1)}–${(100 * j.interval[1]).toFixed(1)})` : "nobody has judged one");
  const card = (side, title, k, j, note) => el("div", { class: `card ${side}`, id: `tune-${side}` }, el("h3", {}, el("span", { class: "n" }, many(k)), ` ${title}`), el("p", {}, lasting(k), note), el("p", { class: "soft" }, share(j)));
  const elsewhere = many("other") ? `; ${many("other")} more pass it and are stopped by other rules` : "", kept = c.kept_leaves.n;
  show(parts.counts, card("enters", `${rule.on} would come in`, "enters", found.judged.enters, elsewhere), card("leaves", `${rule.on} would go out`, "leaves", found.judged.leaves, many("leaves") === kept ? "" : `; ${kept} of them are kept now`),
    el("div", { class: "card" }, el("h3", {}, "Then"), el("p", {}, "Inside: ", share(found.judged.inside)), el("p", {}, "Outside: ", share(found.judged.outside)), h.unknown ? el("p", { class: "soft" }, `${h.unknown} are not measured.`) : null));
  const query = new URLSearchParams({ rule: rule.rule, n: rule.n, value });
  const changed = value !== rule.value;
  show(parts.save, changed ? [el("a", { id: "save", class: "first", href: `/policy.yaml?${query}`, download: `${state.about.policy}-${rule.rule}.yaml` }, "Save as a policy"), " with ", el("code", {}, found.keep), "; then ", el("code", {}, `lpm decide ${state.about.uri} --policy ${state.about.policy}-${rule.rule}.yaml`), " (with --dry-run it says what changes)."] : "The threshold is as the policy in force has it.");
  const empty = new URLSearchParams(rule.on === "segments" ? {} : { unit: rule.on });
  const list = (side, title) => el("div", {}, el("h3", {}, title), found[side] === null ? el("p", { class: "soft" }, "…") : found[side].length ? el("div", { class: "rows" }, found[side].map((r) => row(r, empty))) : el("p", { class: "soft" }, "none"));
  show(parts.sides, list("enters", "Would come in, the nearest first"), list("leaves", "Would go out, the nearest first"));
  root.dataset.value = found.value === value && found.enters !== null ? String(value) : "";
}
