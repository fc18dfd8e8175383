// Precision: what the verdicts say, with intervals.
import { api, el, show } from "./dom.js";

const percent = (x) => `${(100 * x).toFixed(1)} %`;
const along = (x) => `${(100 * x).toFixed(2)}%`;

export async function open(root) {
  const found = await api("/api/precision");
  const readers = Object.entries(found.readers);
  if (!readers.length) return show(root, el("p", { class: "empty" }, found.adrift ? `${found.adrift} verdicts are about units that are no more. ` : "Nobody has judged anything yet. ", el("a", { href: "#sample" }, "Draw a sample.")));
  const row = (p) => el("tr", { class: p.holds ? "" : "fail" }, el("th", { scope: "row" }, p.kind === "kept" ? "kept, nothing wrong" : p.name), el("td", { class: "n" }, `${p.judged}${p.unsure ? ` + ${p.unsure} unsure` : ""}`), el("td", { class: "n soft" }, `of ${p.of}`),
    el("td", { class: "n" }, p.share === null ? "" : percent(p.share)), el("td", { class: "bar" }, p.share === null ? null : el("span", { class: "range" },
      el("span", { class: "between", style: { left: along(p.interval[0]), width: along(p.interval[1] - p.interval[0]) } }), el("span", { class: "point", style: { left: along(p.share) } }), p.bound !== null && el("span", { class: "bound", style: { left: along(p.bound) } }))),
    el("td", { class: "n" }, p.share === null ? "" : `${(100 * p.interval[0]).toFixed(1)}–${(100 * p.interval[1]).toFixed(1)}`), el("td", { class: "n" }, p.lost ? percent(p.lost[0]) : ""), el("td", {}, p.bound === null ? "" : `${percent(p.bound)} ${p.holds ? "holds" : "not reached"}`));
  const shown = found.precisions.filter((p) => p.judged || p.unsure || p.bound !== null);
  return show(root, el("h2", {}, "Precision"), el("p", { class: "soft" }, "The share of right ones among those that were judged, and where it lies for all with 95 % confidence (Wilson). Of a rule: of what it left out; what it left out wrongly are good ones lost."),
    el("div", { class: "scroll" }, el("table", { class: "precision" }, el("thead", {}, el("tr", {}, ["what", "judged", "", "right", "0–100 %", "95 %", "good lost", "bound"].map((h) => el("th", { scope: "col" }, h)))), el("tbody", {}, shown.map(row)))),
    el("h3", {}, "Readers"), el("p", {}, readers.map(([a, n]) => `${a} judged ${n}`).join(", "), "."),
    found.agreements.map((a) => el("p", {}, `${a.first} and ${a.second} agree on ${a.agreed} of ${a.units} that both judged`, a.kappa === null ? "." : `: kappa ${a.kappa.toFixed(2)}.`)),
    found.adrift ? el("p", { class: "soft" }, `${found.adrift} verdicts are about units that are no more.`) : null);
}
