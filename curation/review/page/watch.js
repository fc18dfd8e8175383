// Watch: one unit, playing, with all that is known of it.
import { api, el, number, say, seconds, show, words } from "./dom.js";
import * as correct from "./correct.js";
import * as judge from "./judge.js";
import { Lanes } from "./lanes.js";
import { author, state, step } from "./main.js";
import { Player } from "./player.js";

let player = null, lanes = null, right = null, turn = 0;

export function leave() { turn += 1; player?.leave(); player = null; }

export async function open(root, id) {
  leave();
  const mine = turn;
  if (!root.childElementCount) show(root, el("p", { class: "empty" }, "Loading…"));
  const unit = await api(`/api/unit/${encodeURIComponent(id)}`, { author: author(), at: state.query.get("at") });
  if (mine !== turn) return;
  lanes = new Lanes(unit, (t) => player?.seek(t));
  player = new Player(unit, (t, p) => { lanes.at(t); controls(p, t); });
  right = el("div", { class: "right" });
  const bar = el("div", { class: "controls" });
  player.bar = bar;
  show(root, head(unit), el("div", { class: "grid" },
    el("div", { class: "left" }, player.root, bar, lanes.root, el("p", { class: "soft" }, "From ", seconds(unit.from_s), " to ", seconds(unit.to_s), " of ", unit.file, "; the clip is shaded. Click to go there.", longer(unit))),
    right));
  scrollTo(0, 0);
  tell(unit);
  await player.load();
  if (mine !== turn) return;
  root.dataset.loaded = id;
  document.body.dataset.parts = player.parts.map((p) => p.name).join(" ");
}

// Everything about the unit but the player: after a correction, and when correcting begins or ends.
function tell(unit) {
  const t = player.now();
  const made = new Lanes(unit, (s) => player?.seek(s), correct.on ? correct.told : null);
  if (lanes.row >= 0 && lanes.row < unit.lanes.length) made.row = lanes.row;
  const was = made.row;
  lanes.root.replaceWith(made.root);
  lanes = made;
  player.unit = unit; player.draw(t);
  show(right, correct.on ? correct.panel(unit, { changed: again, now: () => player.now() }) : judge.panel(unit), decision(unit), caption(unit), references(unit), measured(unit));
  lanes.at(t);
  if (correct.on) { correct.begin(lanes); if (was >= 0) lanes.choose(was); }
}

async function again() {
  const mine = turn, unit = await api(`/api/unit/${encodeURIComponent(player.unit.id)}`, { author: author(), at: state.query.get("at") });
  if (mine === turn && player) tell(unit);
}

export function correcting() {
  correct.toggle();
  if (player) { tell(player.unit); controls(player, player.now()); }
}

export function key(event) {
  if (!player) return false;
  if (event.key === "c" && !event.shiftKey) { correcting(); return true; }
  const by = (event.shiftKey ? 1 : 0.04);
  const acts = {
    " ": () => player.toggle(), ArrowLeft: () => player.step(-by), ArrowRight: () => player.step(by), "[": () => player.speed(0.5), "]": () => player.speed(2),
    1: () => player.hear("source"), 2: () => player.hear("speak"), 3: () => player.hear("listen"), 4: () => player.hear("both"), o: () => boxes(),
  };
  if (!acts[event.key]) return false;
  Promise.resolve(acts[event.key]()).catch((e) => say(e.message, true));
  return true;
}

function boxes() { player.boxes = !player.boxes; player.draw(player.now()); controls(player, player.now()); }

let shown = "";
function controls(p, t) {
  const now = `${p.running} ${p.sound} ${p.boxes} ${p.overlays} ${p.sounds()} ${correct.on} ${t.toFixed(1)}`;
  if (!p.bar || (now === shown && p.bar.childElementCount)) return;
  shown = now;
  const clock = p.bar.querySelector(".clock");
  const set = `${p.running} ${p.sound} ${p.boxes} ${p.overlays} ${p.sounds()} ${correct.on}`;
  if (clock && p.bar.dataset.set === set) { clock.textContent = seconds(t); return; }
  p.bar.dataset.set = set;
  const names = { source: "source", speak: "speak", listen: "listen", both: "both" };
  show(p.bar,
    el("button", { type: "button", class: "play", onclick: () => p.toggle() }, p.running ? "Pause" : "Play"),
    el("span", { class: "clock" }, seconds(t)),
    el("span", { class: "group", role: "group", "aria-label": "sound" }, p.sounds().map((s) => el("button", { type: "button", "aria-pressed": String(p.sound === s), onclick: () => p.hear(s).catch((e) => say(e.message, true)) }, names[s]))),
    el("button", { type: "button", "aria-pressed": String(p.boxes), onclick: boxes }, "boxes"),
    el("button", { type: "button", "aria-pressed": String(p.overlays), onclick: () => { p.overlays = !p.overlays; p.draw(p.now()); controls(p, p.now()); } }, "overlays"),
    el("button", { type: "button", id: "correct", "aria-pressed": String(correct.on), onclick: correcting }, "correct", el("kbd", {}, "c")));
}

function head(u) {
  const row = state.rows[state.at];
  const place = state.at >= 0 ? `${state.at + 1} of ${state.rows.length}` : "not in the list";
  return el("div", { class: "unithead" },
    el("div", {}, el("h2", {}, u.file, " ", el("span", { class: "soft" }, `${u.start_s.toFixed(2)}–${seconds(u.end_s)}`)),
      el("p", { class: "id" }, u.id, row?.stratum ? ` · ${words(row.stratum)}` : "")),
    el("div", { class: "turn" }, el("button", { type: "button", onclick: () => step(-1), title: "back (b)" }, "←"), el("span", {}, place), el("button", { type: "button", onclick: () => step(1), title: "next (n)" }, "→")));
}

function longer(u) {
  if (u.end_s - u.start_s <= 60) return null;
  const to = (t) => { const q = new URLSearchParams(state.query); q.set("at", Math.max(0, t).toFixed(1)); return `#watch/${encodeURIComponent(u.id)}?${q}`; };
  return [" A minute at a time: ", el("a", { href: to(u.from_s - 55) }, "before"), ", ", el("a", { href: to(u.from_s + 55) }, "after"), "."];
}

function decision(u) {
  const d = u.decision, failed = u.rules.filter((r) => r.verdict !== "pass");
  const outcome = d?.outcome ?? "not decided";
  const value = (r) => Object.entries(r.measured).map(([k, v]) => `${words(k)} ${v === null ? "unknown" : number(v)}`).join(", ");
  const line = (r) => el("tr", { class: r.verdict === "fail" ? "fail" : r.verdict === "pass" ? "" : "open" }, el("td", {}, words(r.id)), el("td", {}, value(r)), el("td", {}, el("code", {}, r.thresholds.length ? r.thresholds.join(", ") : r.keep)), el("td", {}, { pass: "passes", fail: "fails" }[r.verdict] ?? "open"));
  return el("div", { class: "card" },
    el("h3", {}, el("i", { class: `badge ${outcome === "kept" ? "kept" : "out"}` }, outcome), u.state && [" as ", el("i", { class: `badge ${u.state}` }, u.state), el("span", { class: "soft" }, ` for ${words(u.state_reason)}, confidence ${number(u.confidence)}`)]),
    d?.reason && el("p", {}, el("b", {}, words(d.rule ?? "")), ": ", d.said, d.decided_by !== u.id && el("span", { class: "soft" }, ` (decided by ${d.decided_by})`)),
    failed.map((r) => r.verdict === "fail" && r.why && el("p", { class: "soft" }, r.why)),
    u.errors.map((e) => el("p", { class: "bad" }, `${e.stage}: ${e.message}`)),
    u.labels.map((x) => el("p", {}, `label by ${x.author}: ${x.state}, ${x.start_s.toFixed(2)}–${seconds(x.end_s)}`)),
    u.text && el("p", { class: "quote" }, u.text),
    el("details", { open: failed.length > 0 && failed.length < 4 }, el("summary", {}, `${u.rules.length} rules, ${failed.length} not passed`), el("div", { class: "scroll" }, el("table", {}, [...failed, ...u.rules.filter((r) => r.verdict === "pass")].map(line)))));
}

function caption(u) {
  const { caption: prose, contradictions, ...rest } = u.caption;
  if (!prose) return null;
  const said = Object.entries(rest).map(([k, v]) => [el("dt", {}, words(k)), el("dd", {}, (Array.isArray(v) ? v : [v]).map((x) => (typeof x === "number" ? number(x) : words(x))).join(", "))]);
  return el("div", { class: "card" }, el("h3", {}, "Caption"), el("p", {}, prose), contradictions && el("p", { class: "bad" }, contradictions.join("; ")), el("details", {}, el("summary", {}, "its fields"), el("dl", {}, said)));
}

function references(u) {
  if (!u.references.length) return null;
  return el("div", { class: "card" }, el("h3", {}, "References"), el("div", { class: "refs" }, u.references.map((r) => el("figure", {}, el("img", { src: `/reference/${encodeURIComponent(u.id)}/${encodeURIComponent(r.kind)}/${r.n}`, alt: r.said, loading: "lazy" }), el("figcaption", {}, r.said)))));
}

function measured(u) {
  const row = (m) => el("tr", { title: m.doc }, el("td", {}, m.name), el("td", { class: "n" }, m.value === null ? "–" : number(m.value)), el("td", { class: "soft" }, m.unit));
  const own = u.measured.filter((m) => !/^(source|shot|track)_/.test(m.name)), up = u.measured.filter((m) => /^(source|shot|track)_/.test(m.name));
  return el("details", { class: "card" }, el("summary", {}, `All ${u.measured.length} measurements`), el("div", { class: "scroll" }, el("table", {}, own.map(row), up.map(row))));
}
