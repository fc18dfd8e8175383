// Sample: what to look at, and the list of it.
import { api, el, number, say, seconds, show, words } from "./dom.js";
import { author, go, state } from "./main.js";

const GROUPS = ["outcome", "rule", "threshold", "state", "reason", "confidence", "identity_id", "file", "gaze", "shot_type", "category"];
let loaded = null;

export function forget() { loaded = null; }

export async function load() {
  const asked = state.query.toString();
  if (loaded === `${author()} ${asked}`) return;
  state.rows = []; state.at = -1;
  const found = await api("/api/units", { ...Object.fromEntries(state.query), author: author() });
  Object.assign(state, { rows: found.rows, total: found.total, sizes: found.sizes });
  loaded = `${author()} ${asked}`;
}

export function judged(id, row) {
  const mine = state.rows.find((r) => r.id === id);
  if (mine) { mine.verdict = row?.verdict ?? null; mine.what = row?.what ?? []; }
}

export function open(root) {
  show(root, empty() ?? [form(), list()]);
}

function empty() {
  const { counts, sources, forgotten } = state.about;
  if (counts.length) return null;
  const gone = forgotten ? ` ${forgotten} sources were forgotten.` : "";
  return el("p", { class: "empty" }, sources ? `Nothing is decided yet of ${sources} sources: \`lpm run\` goes on with them.${gone}` : `The dataset has no sources: \`lpm run VIDEOS --out DATASET\` takes some in.${gone}`);
}

function form() {
  const q = state.query;
  const kind = q.get("unit") || "segments";
  const field = (name, text, input, wide) => el("label", { class: wide ? "wide" : "" }, el("span", {}, text), Object.assign(input, { name }));
  const select = (options, value) => el("select", { value: "" }, options.map(([v, t]) => el("option", { value: v, selected: v === value }, t)));
  const text = (name, hint, extra = {}) => el("input", { value: q.get(name) ?? "", placeholder: hint, autocomplete: "off", ...extra });
  const count = (u, o) => state.about.counts.filter((c) => c[0] === u && (!o || c[1] === o)).reduce((n, c) => n + c[2], 0);
  const rules = state.about.left_out.filter((r) => r[0] === kind).map(([, id, n]) => [id, `${words(id)} (${n})`]);
  const known = Object.keys(state.about.columns[kind]);
  const groups = [...GROUPS.filter((g) => g === "threshold" || known.includes(g)), ...known.filter((c) => !GROUPS.includes(c))];
  const by = (q.get("by") ?? "").split(",");
  const names = { threshold: "nearness to a threshold", identity_id: "person", file: "source", reason: "reason of the state" };
  const grouping = (i) => select([["", i ? "and nothing else" : "nothing"], ...groups.map((g) => [g, names[g] ?? words(g)])], by[i] ?? "");
  const own = state.about.rules.filter((r) => r.on === kind).map((r) => [r.id, words(r.id)]);
  const fields = el("form", { class: "draw", onsubmit: draw },
    field("unit", "Look at", select(["segments", "tracks", "shots", "sources"].map((u) => [u, `${u} (${count(u)})`]), kind)),
    field("outcome", "that are", select([["", "anything"], ...["kept", "filtered", "quarantined", "pending"].map((o) => [o, `${o} (${count(kind, o)})`])], q.get("outcome") ?? "")),
    field("rule", "left out by", select([["", "any rule or error"], ...rules], q.get("rule") ?? "")),
    kind === "segments" && field("state", "state", select([["", "any"], ...state.about.states.map((s) => [s, s])], q.get("state") ?? "")),
    field("source", "source", text("source", "file name or id")),
    ["segments", "tracks"].includes(kind) && field("identity", "person", text("identity", "any")),
    field("judged", "judged", select([["", "or not"], ["no", "not by me"], ["others", "by others, not by me"], ["me", "by me"]], q.get("judged") ?? "")),
    field("where", "and where (SQL)", text("where", "confidence < 0.7 AND duration_s > 4", { list: "columns", spellcheck: "false" }), true),
    field("by", "Grouped by", grouping(0)), field("by2", "and", grouping(1)),
    field("of", "threshold of", select([["", "the rule…"], ...own], q.get("of") ?? "")),
    field("n", "Clips a group", el("input", { type: "number", min: "0", max: "200", value: q.get("n") ?? "0", title: "0 lists all" })),
    field("seed", "seed", el("input", { type: "number", value: q.get("seed") ?? "1" })),
    el("datalist", { id: "columns" }, known.map((c) => el("option", { value: c }))),
    el("div", { class: "buttons" }, el("button", { type: "submit", class: "first" }, "Draw"), el("button", { type: "button", onclick: () => { location.hash = "sample"; } }, "Clear"), el("span", { class: "soft" }, "0 clips a group lists all.")));
  fields.elements.unit.addEventListener("change", () => { location.hash = `sample?unit=${fields.elements.unit.value}`; });
  return fields;
}

function draw(event) {
  event.preventDefault();
  const given = new FormData(event.target);
  const asked = new URLSearchParams();
  for (const [name, value] of given) if (value && !["by", "by2"].includes(name) && !(name === "n" && value === "0") && !(name === "seed" && value === "1") && !(name === "unit" && value === "segments")) asked.set(name, value);
  const by = [given.get("by"), given.get("by2")].filter(Boolean);
  if (by.length) asked.set("by", by.join(","));
  if (by.length && !asked.has("n")) asked.set("n", "10");
  const to = asked.toString();
  if (`#sample${to ? `?${to}` : ""}` === location.hash) say("this is it");
  location.hash = `sample${to ? `?${to}` : ""}`;
}

function list() {
  const q = state.query, drawn = Number(q.get("n") ?? 0) > 0, page = Number(q.get("page") ?? 0);
  const done = state.rows.filter((r) => r.verdict).length;
  const first = state.rows.find((r) => !r.verdict) ?? state.rows[0];
  const head = el("div", { class: "listhead" },
    el("p", {}, drawn ? `${state.rows.length} drawn from ${Object.keys(state.sizes ?? {}).length} groups, ${done} judged.` : `${state.total} in all${state.rows.length ? `, ${50 * page + 1} to ${50 * page + state.rows.length} shown` : ""}.`),
    first && el("button", { type: "button", class: "first", id: "begin", onclick: () => go(first.id) }, done ? "Go on judging" : "Begin"));
  if (!state.rows.length) return [head, el("p", { class: "empty" }, "Nothing is like this. Ask for less.")];
  const rows = [];
  let group = "";
  for (const r of state.rows) {
    if (drawn && r.stratum !== group) {
      group = r.stratum;
      rows.push(el("h3", {}, words(group), el("span", { class: "soft" }, ` of ${state.sizes[group]}`)));
    }
    rows.push(row(r));
  }
  return [head, el("div", { class: "rows" }, rows), !drawn && pages(page)];
}

export function row(r, asked = state.query) {
  const q = asked.toString();
  const thumb = r.track && r.start_s !== null ? el("img", { src: `/picture/${encodeURIComponent(r.track)}/${Math.round(25 * (r.start_s + (r.end_s - r.start_s) / 2))}`, alt: "", loading: "lazy", onerror: (e) => { e.target.hidden = true; } }) : null;
  return el("a", { class: `row ${r.verdict ?? ""}`, href: `#watch/${encodeURIComponent(r.id)}${q ? `?${q}` : ""}` },
    el("span", { class: "thumb" }, thumb),
    el("span", { class: "what" }, el("b", {}, r.file), " ", r.start_s === null ? "" : `${r.start_s.toFixed(2)}–${seconds(r.end_s)}`,
      el("span", { class: "soft" }, r.identity ? ` · ${r.identity}` : "", r.confidence === null ? "" : ` · confidence ${number(r.confidence)}`),
      r.why && el("span", { class: "why" }, r.why)),
    el("span", { class: "badges" }, r.state && el("i", { class: `badge ${r.state}` }, r.state), r.outcome !== "kept" && el("i", { class: "badge out" }, words(r.rule ?? r.outcome)),
      r.verdict && el("i", { class: `badge v-${r.verdict}` }, r.verdict, r.what.length ? `: ${r.what.join(", ")}` : ""), r.others > 0 && el("span", { class: "soft" }, `${r.others} other reader${r.others > 1 ? "s" : ""}`)));
}

function pages(page) {
  const last = Math.max(0, Math.ceil(state.total / 50) - 1);
  const to = (p) => { const asked = new URLSearchParams(state.query); if (p) asked.set("page", p); else asked.delete("page"); return `#sample${asked.size ? `?${asked}` : ""}`; };
  if (!last) return null;
  return el("p", { class: "pages" }, page > 0 && el("a", { href: to(page - 1) }, "← before"), ` page ${page + 1} of ${last + 1} `, page < last && el("a", { href: to(page + 1), id: "next-page" }, "next →"), page < last && el("a", { href: to(last) }, "last"));
}
