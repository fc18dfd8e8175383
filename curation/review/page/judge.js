// Judge: a verdict by keys or buttons, what is wrong, a remark, undo, how far one is.
import { api, el, say, show } from "./dom.js";
import { author, go, route, state, step } from "./main.js";
import { forget, judged } from "./sample.js";

const LETTERS = { s: "state", p: "person", c: "cut", t: "caption", e: "reference", x: "crop", f: "filter" };
const TEXTS = { state: "state", person: "person", cut: "cut", caption: "caption", reference: "reference", crop: "crop", filter: "filter" };
let unit = null, root = null, wrong = null, comment = "", true_state = "", busy = false;

export function panel(u) {
  unit = u; wrong = null; busy = false;
  const mine = u.verdicts.mine;
  comment = mine?.comment ?? ""; true_state = "";
  root = el("div", { class: "card judge" });
  return draw();
}

function draw() {
  const mine = unit.verdicts.mine, out = unit.decision?.outcome !== "kept";
  const done = state.rows.filter((r) => r.verdict).length;
  const button = (v, text, k, act) => el("button", { type: "button", class: `v-${v}`, id: `judge-${v}`, "aria-pressed": String(wrong ? v === "wrong" : mine?.verdict === v), onclick: act }, text, el("kbd", {}, k));
  const chips = wrong && el("div", { class: "chips", role: "group", "aria-label": "what is wrong" },
    Object.entries(LETTERS).filter(([, a]) => !out || ["filter", "state"].includes(a)).map(([k, a]) => el("button", { type: "button", "aria-pressed": String(wrong.has(a)), onclick: () => toggle(a) }, TEXTS[a], el("kbd", {}, k))),
    wrong.has("state") && unit.state && el("label", {}, "it is ", el("select", { id: "true-state", onchange: (e) => { true_state = e.target.value; } }, [["", "(another)"], ...state.about.states.filter((s) => s !== unit.state).map((s) => [s, s])].map(([v, t]) => el("option", { value: v, selected: v === true_state }, t)))),
    el("button", { type: "button", class: "first", disabled: wrong.size === 0, onclick: () => send("wrong") }, "Store", el("kbd", {}, "Enter")), el("button", { type: "button", onclick: cancel }, "Cancel"));
  return show(root,
    el("p", { class: "claim" }, out ? "Was this rightly left out?" : "Is everything of this clip right?"),
    el("div", { class: "verdicts" }, button("right", "Right", "r", () => send("right")), button("wrong", out ? "Wrong: a good one" : "Wrong", "w", begin), button("unsure", "Unsure", "u", () => send("unsure"))),
    chips || null,
    el("textarea", { id: "comment", rows: "1", placeholder: "comment (m)", oninput: (e) => { comment = e.target.value; } }, comment),
    el("div", { class: "progress" }, el("progress", { max: String(state.rows.length || 1), value: done }), el("span", {}, `${done} of ${state.rows.length} judged`), el("button", { type: "button", id: "undo", onclick: undo }, "Undo", el("kbd", {}, "z"))),
    mine ? el("p", { class: "soft" }, `You said ${mine.verdict}${mine.what.length ? `: ${mine.what.join(", ")}` : ""}.`) : null,
    unit.verdicts.others ? el("p", { class: "soft" }, `${unit.verdicts.others} other reader${unit.verdicts.others > 1 ? "s" : ""} judged this.`) : null);
}

function begin() { wrong = new Set(unit.decision?.outcome !== "kept" ? ["filter"] : []); draw(); }
function toggle(a) { if (wrong.has(a)) wrong.delete(a); else wrong.add(a); draw(); }
export function cancel() { if (wrong && root?.isConnected) { wrong = null; draw(); } }

async function send(verdict) {
  if (busy) return;
  busy = true;
  const query = new URLSearchParams(state.query);
  query.delete("page"); query.delete("at");
  const body = { unit: unit.unit, id: unit.id, verdict, what: verdict === "wrong" ? [...wrong] : [], true_state: verdict === "wrong" && wrong.has("state") ? true_state : "", comment, author: author(), drawn: query.toString() };
  try {
    const { audit } = await api("/api/judge", {}, body);
    judged(unit.id, audit);
    unit.verdicts.mine = audit; wrong = null;
    say(`stored: ${verdict}${audit.what.length ? `, ${audit.what.join(", ")}` : ""}`);
    if (state.at >= 0 && state.at + 1 < state.rows.length) step(1);
    else { draw(); if (state.at >= 0) say("stored; this was the last of the list"); }
  } catch (e) { say(e.message, true); } finally { busy = false; }
}

async function undo() {
  if (busy) return;
  busy = true;
  try {
    const { audit } = await api("/api/undo", {}, { author: author() });
    say(`taken back: ${audit.verdict} on ${audit.unit_id}`);
    forget();
    if (audit.unit_id !== unit.id && state.rows.some((r) => r.id === audit.unit_id)) go(audit.unit_id);
    else await route();
  } catch (e) { say(e.message, true); } finally { busy = false; }
}

export function key(event) {
  if (!root?.isConnected) return false;
  const k = event.key;
  if (wrong) {
    const out = unit.decision?.outcome !== "kept";
    if (k === "Enter") { if (wrong.size) send("wrong"); return true; }
    if (LETTERS[k] && (!out || ["filter", "state"].includes(LETTERS[k]))) { toggle(LETTERS[k]); return true; }
  }
  if (k === "r") send("right");
  else if (k === "w") begin();
  else if (k === "u") send("unsure");
  else if (k === "z") undo();
  else if (k === "m") document.getElementById("comment").focus();
  else return false;
  return true;
}
