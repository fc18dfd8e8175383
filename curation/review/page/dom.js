// Elements made of text alone: nothing that comes from a dataset is ever parsed as HTML.

export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [k, v] of Object.entries(value)) node.style.setProperty(k, v);
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(3).filter((c) => c !== null && c !== undefined && c !== false).map((c) => (c instanceof Node ? c : String(c))));
  return node;
}

export function show(node, ...children) {
  node.replaceChildren(...children.flat(3).filter(Boolean));
  return node;
}

export async function api(path, query = {}, body = null) {
  const asked = new URLSearchParams(Object.entries(query).filter(([, v]) => v !== "" && v !== null && v !== undefined));
  const options = body === null ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path + (asked.size ? `?${asked}` : ""), options).catch(() => {
    throw new Error("the review has ended: start `lpm review` again");
  });
  const text = await answer.text();
  let value = null;
  try { value = JSON.parse(text); } catch { /* a refusal in plain text */ }
  if (!answer.ok) throw new Error(value?.error ?? (text || answer.statusText));
  return value;
}

export const seconds = (t) => (t === null || t === undefined ? "" : `${t.toFixed(2)} s`);
export const words = (name) => String(name).replaceAll("_", " ");
export const number = (v) => (typeof v === "number" ? (Number.isInteger(v) ? String(v) : Number(v.toPrecision(4)).toString()) : String(v));

let quiet = null;
export function say(text, bad = false) {
  const place = document.getElementById("said");
  place.textContent = text;
  place.className = bad ? "bad" : "";
  clearTimeout(quiet);
  if (text && !bad) quiet = setTimeout(() => say(""), 5000);
}
