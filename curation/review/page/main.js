// The surfaces and the keys. What is looked at stands in the address: #sample?..., #watch/ID?..., #tune?..., #precision.
import { api, el, say, show } from "./dom.js";
import * as correct from "./correct.js";
import * as judge from "./judge.js";
import * as numbers from "./numbers.js";
import * as sample from "./sample.js";
import * as tune from "./tune.js";
import * as watch from "./watch.js";

export const state = { about: null, query: new URLSearchParams(), rows: [], total: 0, at: -1 };

const SURFACES = ["sample", "watch", "tune", "precision"];
const KEYS = [
  ["space", "play or pause"], ["← →", "a frame back, on"], ["shift ← →", "a second back, on"], ["[ ]", "slower, faster"],
  ["1 2 3 4", "hear the source, speak, listen, both"], ["o", "boxes on the picture"], ["r", "right"],
  ["w", "wrong: then what, and Enter"], ["s p c t e x f", "state, person, cut, caption, reference, crop, filter"],
  ["u", "unsure"], ["m", "comment (Esc leaves it)"], ["z", "undo the last verdict"], ["n b", "next, back"],
  ["g", "the list"], ["?", "these keys"],
];
const CORRECTING = [
  ["c", "begin, end"], ["↑ ↓", "another lane: states, voice, words"], ["s l i b d", "the stretch is speak, listen, idle, both, discard"],
  ["x", "a mark: the state is given from it to the playhead"], ["y", "all of this person's states in the clip are right"],
  [", .", "the border before, after: then ← → move it, and Enter stores"], ["e", "edit the word"], ["k", "a cut here, or none"],
  ["z", "undo the last correction"],
];

export function author() { return document.getElementById("author").value.trim(); }

export function go(id, query = state.query) {
  const asked = query.toString();
  location.hash = `watch/${encodeURIComponent(id)}${asked ? `?${asked}` : ""}`;
}

export function step(by) {
  const to = state.at + by;
  if (to >= 0 && to < state.rows.length) go(state.rows[to].id);
  else say(by > 0 ? "this was the last of the list" : "this is the first of the list");
}

export async function route() {
  const [place, asked = ""] = location.hash.slice(1).split("?");
  const [surface, id] = place.split("/");
  const name = SURFACES.includes(surface) ? surface : "sample";
  state.query = new URLSearchParams(asked);
  for (const other of SURFACES) {
    document.getElementById(other).hidden = other !== name;
    document.getElementById(`tab-${other}`).setAttribute("aria-current", other === name ? "page" : "false");
  }
  if (name !== "tune") document.getElementById("tab-sample").href = asked ? `#sample?${asked}` : "#sample";
  if (name !== "watch") watch.leave();
  try {
    if (name === "tune") return await tune.open(document.getElementById("tune"));
    if (name === "precision") return await numbers.open(document.getElementById("precision"));
    await sample.load();
    if (name === "sample") return sample.open(document.getElementById("sample"));
    const wanted = id ? decodeURIComponent(id) : state.rows[Math.max(0, state.at)]?.id;
    if (!wanted) return show(document.getElementById("watch"), el("p", { class: "empty" }, "Nothing is in the list. ", el("a", { href: "#sample" }, "Draw another.")));
    state.at = state.rows.findIndex((r) => r.id === wanted);
    document.getElementById("tab-watch").href = `#watch/${encodeURIComponent(wanted)}${asked ? `?${asked}` : ""}`;
    await watch.open(document.getElementById("watch"), wanted);
  } catch (e) {
    say(e.message, true);
    if (name === "watch") show(document.getElementById("watch"), el("p", { class: "empty" }, e.message));
    if (name === "sample") sample.open(document.getElementById("sample"));
  }
}

function keys(event) {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  if (event.key === "Escape") { event.target.blur?.(); document.getElementById("help").close(); judge.cancel(); return; }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "?") { help(); event.preventDefault(); return; }
  if (document.getElementById("watch").hidden) return;
  if (event.key === " " && event.target.tagName === "BUTTON") event.target.blur();
  if (correct.key(event) || (!correct.on && judge.key(event)) || watch.key(event)) { event.preventDefault(); return; }
  const by = { n: 1, b: -1 }[event.key];
  if (by) step(by);
  if (event.key === "g") location.hash = document.getElementById("tab-sample").hash;
}

function help() {
  const box = document.getElementById("help");
  const told = ([k, d]) => [el("dt", {}, el("kbd", {}, k)), el("dd", {}, d)];
  show(box, el("h2", {}, "Keys"), el("dl", {}, KEYS.map(told)), el("h2", {}, "While correcting"), el("dl", {}, CORRECTING.map(told)),
    el("p", { class: "soft" }, "A verdict is about what the dataset claims: of a kept clip its state, person, cut, caption, references and crop; of one left out, that it was rightly left out (wrong: filter)."),
    el("button", { type: "button", onclick: () => box.close() }, "Close"));
  if (!box.open) box.showModal();
}

async function begin() {
  try {
    state.about = await api("/api/dataset");
  } catch (e) { say(e.message, true); return; }
  document.getElementById("name").textContent = state.about.name;
  document.title = `Review ${state.about.name}`;
  const who = document.getElementById("author");
  who.value = localStorage.getItem("author") ?? state.about.author;
  who.addEventListener("change", () => { localStorage.setItem("author", who.value); sample.forget(); route(); });
  document.getElementById("help-button").addEventListener("click", help);
  addEventListener("hashchange", route);
  addEventListener("keydown", keys);
  await route();
  document.body.dataset.ready = "yes";
}

begin();
