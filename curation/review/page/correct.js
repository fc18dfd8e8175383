// Correct: what is wrong is put right on the lanes and in a panel. Each correction is a label that the next run uses.
import { api, el, say, show, words } from "./dom.js";
import { author, state } from "./main.js";

const STATES = { s: "speak", l: "listen", i: "idle", b: "both", d: "discard" };
const ORDER = ["states", "voice", "words"];
export let on = false;
let unit = null, root = null, changed = null, lanes = null, chosen = null, mark = null, busy = false, people = null, place = () => 0;

export function panel(u, handlers) {
  unit = u; ({ changed, now: place } = handlers); chosen = null; mark = null; people = null; busy = false;
  root = el("div", { class: "card correct" });
  draw();
  return root;
}

export function toggle() { on = !on; }

// What the lanes tell.
export const told = {
  choose: (c) => { chosen = c; draw(); },
  border: (lane, run) => send({ kind: "states", track: lane.track, runs: [run] }, `${run[2]} from ${run[0].toFixed(2)} to ${run[1].toFixed(2)} s`),
  cut: (from, to) => send({ kind: "cut", source: unit.source, none: from, new: to }, `the cut lies at ${to.toFixed(2)} s`),
};

export function begin(l) {
  lanes = l;
  const mine = unit.lanes.findIndex((x) => x.of === "states" && x.track === unit.track);
  const first = mine >= 0 ? mine : unit.lanes.findIndex((x) => ORDER.includes(x.of));
  if (first >= 0) lanes.choose(first);
}

async function send(body, text) {
  if (busy) return;
  busy = true;
  try {
    state.about.waiting = (await api("/api/correct", {}, { ...body, author: author() })).waiting;
    mark = null;
    await changed();
    say(`stored: ${text}`);
  } catch (e) { say(e.message, true); draw(); } finally { busy = false; }
}

async function undo() {
  if (busy) return;
  busy = true;
  try {
    const { gone, waiting } = await api("/api/uncorrect", {}, { author: author() });
    state.about.waiting = waiting;
    await changed();
    say(`taken back: ${words(gone.kind)} of ${gone.at.slice(0, 19).replace("T", " ")}`);
  } catch (e) { say(e.message, true); } finally { busy = false; }
}

function stretch() {
  if (mark === null || !chosen) return chosen?.item ? [Math.max(chosen.item[0], unit.from_s), Math.min(chosen.item[1], unit.to_s)] : null;  // no further than is seen
  const t = place();
  return [Math.min(mark, t), Math.max(mark, t)];
}

function give(to) {
  const s = stretch();
  if (chosen?.lane.of !== "states" || !s) return say("choose a stretch of somebody's states first", true);
  return send({ kind: "states", track: chosen.lane.track, runs: [[s[0], s[1], to]] }, `${to} from ${s[0].toFixed(2)} to ${s[1].toFixed(2)} s`);
}

function confirm() {
  if (chosen?.lane.of !== "states") return say("choose somebody's states first", true);
  const runs = chosen.lane.items.map(([a, b, s]) => [Math.max(a, unit.start_s), Math.min(b, unit.end_s), s]).filter(([a, b]) => b - a > 0.02);
  return send({ kind: "states", track: chosen.lane.track, runs }, `${runs.length} stretches are right`);
}

function cutHere() {
  const t = place(), near = unit.cuts.find((c) => Math.abs(c - t) < 0.12);
  return near === undefined ? send({ kind: "cut", source: unit.source, new: t }, `a cut at ${t.toFixed(2)} s`) : send({ kind: "cut", source: unit.source, none: near }, `no cut at ${near.toFixed(2)} s`);
}

function setMark() { mark = mark === null ? place() : null; say(mark === null ? "the mark is gone" : `from ${mark.toFixed(2)} s: go on, and give a state`); draw(); }

const key_ = (k) => el("kbd", {}, k);
const button = (text, k, act, more = {}) => el("button", { type: "button", onclick: act, ...more }, text, k && key_(k));

function draw() {
  if (!root) return;
  const held = root.contains(document.activeElement) ? document.activeElement.id : "";
  const w = state.about.waiting;
  show(root, el("p", { class: "claim" }, "What is wrong here?"), about(), el("div", { class: "chips" }, button("cut here, or none", "k", cutHere), button("undo", "z", undo, { id: "uncorrect" })),
    caption(), faces(),
    el("p", { class: "soft", id: "waiting" }, w.n ? [`${w.n} correction${w.n > 1 ? "s wait" : " waits"} for a run, which computes ${w.again.join("; ")} again: `, el("code", {}, `lpm run --out ${state.about.uri}`)] : "No correction waits for a run."));
  if (held) document.getElementById(held)?.focus();
}

function about() {
  if (!chosen) return el("p", { class: "soft" }, "Choose a lane: states, a voice or the words (↑ ↓, or click).");
  const { lane, item } = chosen, s = stretch();
  const at = s ? `${s[0].toFixed(2)}–${s[1].toFixed(2)} s` : "nothing there now";
  if (lane.of === "states") {
    return [el("p", {}, el("b", {}, lane.label), `: ${item ? item[2] : "no state"}, ${at}`, mark !== null && " (from the mark)"),
      el("div", { class: "chips", role: "group", "aria-label": "it is" }, Object.entries(STATES).map(([k, to]) => button(to, k, () => give(to), { class: `is-${to}`, "aria-pressed": String(item?.[2] === to && mark === null) }))),
      el("div", { class: "chips" }, button(mark === null ? "from here" : "no mark", "x", setMark), button("all of the clip is right", "y", confirm), button("border before", ",", () => lanes.nearest(-1)), button("after", ".", () => lanes.nearest(1)))];
  }
  if (lane.of === "voice") {
    const to = (track, name) => button(name, "", () => send({ kind: "voice", voice: lane.voice, at: item ? item[0] : place(), track }, `${lane.label} is ${name}`), { "aria-pressed": String(item?.[3] === name) });
    return [el("p", {}, el("b", {}, lane.label), " is that of", item ? `, now ${item[3]}` : ""), el("div", { class: "chips" }, unit.faces.map((f) => to(f.track, f.name)), to(null, "off screen"))];
  }
  const store = () => { const text = document.getElementById("word").value; return send({ kind: "word", source: unit.source, start_s: item[0], end_s: item[1], word: text }, text.trim() || "no word there"); };
  return item ? [el("p", {}, el("b", {}, "The word"), ` at ${item[0].toFixed(2)} s; empty = none is said`), el("div", { class: "chips" }, el("input", { id: "word", value: item[2], maxlength: "200", spellcheck: "true", onkeydown: (e) => { if (e.key === "Enter") store(); } }), button("Store", "Enter", store, { class: "first" }), el("span", { class: "soft" }, key_("e"), " to edit"))] : el("p", { class: "soft" }, "No word is here; go to one.");
}

function caption() {
  const now = unit.caption, known = state.about.fields;
  if (!now.caption) return null;
  const of = (f) => now[f === "prose" ? "caption" : f];
  const text = (f) => { const v = of(f); return v === undefined || v === null ? "" : Array.isArray(v) ? v.join(", ") : String(v); };
  const choice = el("select", { id: "field", onchange: () => edit() }, Object.keys(known).map((f) => el("option", { value: f }, words(f))));
  const box = el("div", { class: "value" });
  const read = () => {
    const f = choice.value, given = box.firstChild.value.trim();
    if (known[f].many) return given.split(",").map((x) => x.trim()).filter(Boolean);
    return given === "" && known[f].none ? null : given;
  };
  const edit = () => {
    const f = choice.value, k = known[f];
    const one = k.terms.length && !k.many;
    show(box, one ? el("select", { id: "value" }, [...(k.none ? [""] : []), ...k.terms].map((t) => el("option", { value: t, selected: t === text(f) }, t === "" ? "not known" : words(t))))
      : el("textarea", { id: "value", rows: f === "prose" ? "4" : "2", value: text(f), title: k.doc }), k.many && el("p", { class: "soft" }, "Terms with commas: ", k.terms.map(words).join(", ")));
  };
  edit();
  return el("details", { id: "fix-caption", open: open.has("caption"), ontoggle: (e) => keep("caption", e.target.open) }, el("summary", {}, "Caption"), choice, box,
    button("Store", "", () => send({ kind: "caption", id: unit.id, field: choice.value, value: read() }, words(choice.value)), { class: "first", id: "store-caption" }));
}

const open = new Set();
function keep(name, is) { if (is) open.add(name); else open.delete(name); }

function faces() {
  const known = unit.faces.filter((f) => f.person);
  if (!known.length) return null;
  const one = (f) => {
    const choice = el("select", { "aria-label": `${f.name} is the same person as`, "data-person": f.person }, el("option", { value: "" }, "the same as…"), (people?.[f.person] ?? []).map((p) => el("option", { value: p.name }, `${p.name}${p.doubtful ? " (perhaps)" : ""}, ${p.seen_s.toFixed(0)} s`)));
    return el("div", { class: "chips" }, el("b", {}, f.name), choice, button("Merge", "", () => (choice.value ? send({ kind: "merge", first: f.person, second: choice.value }, `${f.person} and ${choice.value} are one person`) : say("choose who it is the same person as", true)), { class: "merge" }),
      button("is somebody else", "", () => send({ kind: "split", track: f.track }, `${f.track.slice(-5)} is not ${f.person}`), { class: "split" }));
  };
  return el("details", { id: "fix-people", open: open.has("people"), ontoggle: (e) => { keep("people", e.target.open); if (e.target.open) load(); } }, el("summary", {}, "People"), known.map(one));
}

async function load() {
  if (people) return;
  people = {};
  try {
    for (const name of new Set(unit.faces.map((f) => f.person).filter(Boolean))) people[name] = await api("/api/people", { with: name });
  } catch (e) { say(e.message, true); }
  draw();
}

export function key(event) {
  if (!on || !root?.isConnected) return false;
  const k = event.key;
  if (STATES[k]) give(STATES[k]);
  else if (k === "y") confirm();
  else if (k === "x") setMark();
  else if (k === "k") cutHere();
  else if (k === "z") undo();
  else if (k === ",") lanes.nearest(-1);
  else if (k === ".") lanes.nearest(1);
  else if (k === "ArrowUp") lanes.next(-1);
  else if (k === "ArrowDown") lanes.next(1);
  else if (k === "e" || k === "Enter") (document.getElementById("word") ?? root.querySelector(".chips button"))?.focus();
  else return false;
  return true;
}
