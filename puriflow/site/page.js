// The leaderboard: filters, tables by protocol, a chart, and what made a row.
// All text of records goes through `textContent`, so that no record can be markup.
"use strict";

const { protocols, quoted, charts } = JSON.parse(document.getElementById("data").textContent);
const byId = new Map(protocols.flatMap((p) => p.rows.map((row) => [row.id, { row, protocol: p }])));
const $ = (selector, within = document) => within.querySelector(selector);

/** An element with properties and children; `class` and `aria-*` are attributes. */
function el(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(given)) {
    if (key in made && key !== "class") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

const percent = (x) => (x === null || x === undefined ? "–" : String(Math.round(x * 10) / 10));
const withInterval = (three) => (three ? `${percent(three[0])} (${percent(three[1])} to ${percent(three[2])})` : "–");
const significant = (x) => (x === null || x === undefined ? "–" : String(Number(x.toPrecision(3))));
const claimed = (row, what) => row.claims.map((claim) => claim[what]).find((x) => x !== null) ?? null;

/** All that the paper claims of a row, each number with where it stands: `70 (Table 1, n = 512)`. */
function claims(row, what) {
  const places = new Map();
  for (const claim of row.claims.filter((one) => one[what] !== null)) {
    const place = claim.table + (claim.n ? `, n = ${claim.n}` : "");
    places.set(claim[what], (places.get(claim[what]) ?? new Set()).add(place));
  }
  return [...places].map(([x, where]) => `${percent(x)} (${[...where].join("; ")})`).join(", ") || "–";
}

const rankOf = (row) => (!row.rank ? "–" : row.rank[0] === row.rank[1] ? `${row.rank[0]}` : `${row.rank[0]} to ${row.rank[1]}`);

/** A few of several titles. */
const several = (all) => all.slice(0, 2).join("; ") + (all.length > 2 ? ` and ${all.length - 2} more` : "");

// A column: its head, the value that it is sorted by, its cell, and how it begins.
const columns = [
  { key: "rank", head: "Rank", by: (r) => (r.rank ? r.rank[0] * 1000 + r.rank[1] : null), cell: rankOf },
  { key: "name", head: "Defence", by: (r) => r.name.toLowerCase(), cell: nameCell, class: "name" },
  { key: "robust", head: "Robust (%)", by: (r) => r.robust[0], cell: (r) => accuracyCell(r.robust), down: true },
  { key: "paper_robust", head: "Paper's claim, robust", by: (r) => claimed(r, "robust"), cell: (r) => claims(r, "robust"), down: true, wide: true },
  { key: "standard", head: "Standard (%)", by: (r) => r.standard[0], cell: (r) => accuracyCell(r.standard), down: true, wide: true },
  { key: "paper_standard", head: "Paper's claim, standard", by: (r) => claimed(r, "standard"), cell: (r) => claims(r, "standard"), down: true, wide: true },
  { key: "n", head: "n", by: (r) => r.n, cell: (r) => String(r.n), wide: true },
  { key: "evaluations", head: "Network evaluations", by: (r) => r.evaluations, cell: (r) => significant(r.evaluations), wide: true },
  { key: "seconds", head: "Seconds an image", by: (r) => r.seconds, cell: (r) => significant(r.seconds), wide: true },
  { key: "audit", head: "Failed checks", by: (r) => r.audit.failed?.length ?? null, cell: auditCell },
];
let sorted = { key: "robust", down: true };

function nameCell(row) {
  const button = el("button", { type: "button", onclick: () => openRow(row.id) }, row.name);
  const tags = [];
  if (!row.ours) tags.push(el("span", { class: "tag" }, "others' record"));
  if (row.failed_attack) tags.push(el("span", { class: "tag" }, "attack failed"));
  return [button, ...tags, el("div", { class: "parts" }, several(row.titles))];
}

function accuracyCell(three) {
  const [share, low, high] = three;
  const bar = el("div", { class: "interval", "aria-hidden": "true" }, el("i"), el("b"));
  bar.children[0].style.left = `${low}%`;
  bar.children[0].style.width = `${high - low}%`;
  bar.children[1].style.left = `${share}%`;
  return [withInterval(three), bar];
}

function auditCell(row) {
  if (row.audit.failed === null) return el("span", { class: "soft" }, "none");
  const text = `${row.audit.failed.length} of ${row.audit.checks.length}`;
  return el("span", { class: row.audit.failed.length ? "bad" : "" }, text);
}

// Tables

function table(protocol) {
  const heads = columns.map((column) =>
    el("th", { scope: "col", class: [column.wide ? "wide" : "", column.key === "name" ? "" : "number"].join(" "), "data-key": column.key },
      el("button", { type: "button", onclick: () => sortBy(column.key) }, column.head)));
  const body = el("tbody", {}, protocol.rows.map(tableRow));
  const caption = el("caption", {}, `Percent, with 95 % intervals; an image is right by ${protocol.rule_words}.`);
  const label = `${protocol.dataset}, ${protocol.threat}, ${protocol.attack}`;
  const made = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Table: ${label}, ${protocol.rule}` },
    el("table", {}, caption, el("thead", {}, el("tr", {}, heads)), body));
  return made;
}

function tableRow(row) {
  const cells = columns.map((column) => {
    const given = { class: [column.class ?? "number", column.wide ? "wide" : ""].join(" ") };
    if (column.key === "name") return el("th", { ...given, scope: "row" }, column.cell(row));
    return el("td", given, column.cell(row));
  });
  return el("tr", { "data-id": row.id }, cells);
}

function section(protocol, number) {
  const rows = protocol.rows.length === 1 ? "1 row" : `${protocol.rows.length} rows`;
  const title = `${protocol.dataset}, ${protocol.threat}, ${protocol.n} images: ${rows}`;
  const blind = protocol.blind ? `: ${protocol.blind}` : "";
  const said = `${protocol.attack}; gradient: ${protocol.gradient}${blind}; rule: ${protocol.rule}`;
  return el("details", { class: "protocol", id: `protocol-${number}`, open: number < 2 },
    el("summary", {}, el("h3", {}, title), el("p", {}, said)), table(protocol));
}

function sortBy(key) {
  const column = columns.find((one) => one.key === key);
  sorted = { key, down: sorted.key === key ? !sorted.down : Boolean(column.down) };
  sortAll();
}

/** Rows without a value are last, whichever way the others go. */
function compare(a, b, by) {
  const [x, y] = [by(a), by(b)];
  if (x === null || x === undefined) return y === null || y === undefined ? 0 : 1;
  if (y === null || y === undefined) return -1;
  return (x < y ? -1 : x > y ? 1 : 0) * (sorted.down ? -1 : 1);
}

function sortAll() {
  const { by } = columns.find((column) => column.key === sorted.key);
  protocols.forEach((protocol, number) => {
    const body = $(`#protocol-${number} tbody`);
    const lines = new Map([...body.rows].map((line) => [line.dataset.id, line]));
    const order = [...protocol.rows].sort((a, b) => compare(a, b, by));
    body.append(...order.map((row) => lines.get(row.id)));
    for (const head of document.querySelectorAll(`#protocol-${number} th[data-key]`)) {
      const own = head.dataset.key === sorted.key;
      if (own) head.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  });
}

// Filters

const filters = document.getElementById("filters");
const FIELDS = ["dataset", "threat", "gradient", "rule"];

function fillFilters() {
  for (const field of FIELDS) {
    const values = [...new Set(protocols.map((protocol) => protocol[field]))].sort();
    filters.elements[field].append(el("option", { value: "" }, "all"), ...values.map((value) => el("option", { value }, value)));
  }
}

function shownRow(row) {
  const words = filters.elements.text.value.trim().toLowerCase().split(/\s+/);
  const text = [row.name, ...row.titles, ...Object.values(row.chain ?? {})].join(" ").toLowerCase();
  const audited = !filters.elements.passed.checked || (row.audit.failed !== null && row.audit.failed.length === 0);
  return audited && words.every((word) => text.includes(word));
}

function filter() {
  let rows = 0, shown = 0;
  protocols.forEach((protocol, number) => {
    const fits = FIELDS.every((field) => ["", protocol[field]].includes(filters.elements[field].value));
    let left = 0;
    for (const row of protocol.rows) {
      const visible = fits && shownRow(row);
      $(`#protocol-${number} tr[data-id="${row.id}"]`).hidden = !visible;
      left += visible;
    }
    document.getElementById(`protocol-${number}`).hidden = left === 0;
    rows += left;
    shown += left > 0;
  });
  const total = byId.size;
  $("#count").textContent = `${rows} of ${total} rows, ${shown} of ${protocols.length} protocols. Ranks are among all rows of a protocol.`;
}

// The chart

const plotProtocol = document.getElementById("plot-protocol");
const plotCost = document.getElementById("plot-cost");
let view = null;

function fillPlot() {
  protocols.forEach((protocol, number) => {
    const text = `${protocol.dataset}, ${protocol.threat}: ${protocol.attack}; ${protocol.gradient}; ${protocol.rule} (${protocol.rows.length})`;
    plotProtocol.append(el("option", { value: number }, text));
  });
  for (const [cost, chart] of Object.entries(charts)) plotCost.append(el("option", { value: cost }, chart.title));
}

function points(protocol, cost) {
  const known = protocol.rows.filter((row) => row[cost] !== null && row[cost] !== undefined && (cost !== "seconds" || row[cost] > 0));
  return known.map((row) => ({
    id: row.id, name: row.name, [cost]: row[cost],
    robust: row.robust[0], low: row.robust[1], high: row.robust[2], standard: row.standard[0],
    said: withInterval(row.robust), front: Boolean(row.front?.includes(cost)),
    kind: row.failed_attack ? "an attack failed" : row.front?.includes(cost) ? "on the Pareto line" : "not on it",
    source: row.ours ? "run here" : "others' record",
  }));
}

async function draw() {
  const protocol = protocols[Number(plotProtocol.value)], cost = plotCost.value;
  const rows = points(protocol, cost);
  $("#plot-said").textContent = `${protocol.n} images; ${rows.length} of ${protocol.rows.length} rows have this cost.`;
  const spec = { ...charts[cost].spec, datasets: { ...charts[cost].spec.datasets, rows } };
  const chart = document.getElementById("chart");
  if (view) view.finalize();
  const drawn = await vegaEmbed(chart, spec, { actions: false, renderer: "svg" });
  view = drawn.view;
  view.addEventListener("click", (_, item) => { if (item?.datum?.id) openRow(item.datum.id); });
}

// A row

const dialog = document.getElementById("row");

function openRow(id) {
  const found = byId.get(id);
  if (!found) return;
  $("#row-title").textContent = found.row.name;
  $("#row-body").replaceChildren(...rowBody(found.row, found.protocol));
  for (const line of document.querySelectorAll("tr.chosen")) line.classList.remove("chosen");
  $(`tr[data-id="${id}"]`).classList.add("chosen");
  if (view) view.signal("chosen", id).runAsync();
  if (!dialog.open) dialog.showModal();
  $("#row-title").focus();
  dialog.scrollTop = 0;
  history.replaceState(null, "", `#${id}`);
}

const list = (pairs) => el("dl", {}, pairs.filter(([, value]) => value !== "" && value !== null && value !== undefined)
  .flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
const hashes = (named) => list(Object.entries(named).map(([name, hash]) => [name, el("code", { class: "hashes" }, hash)]));
const headed = (title, ...parts) => [el("h3", {}, title), ...parts];

function rowBody(row, protocol) {
  const claims = row.claims.map((claim) =>
    `${claim.table}: ${percent(claim.standard)} standard, ${percent(claim.robust)} robust` +
    `${claim.n ? `, ${claim.n} images` : ""}${claim.source ? `, from ${claim.source}` : ""}`);
  const parts = [
    list([
      ["stands in", row.titles.join("; ")],
      ["robust", `${withInterval(row.robust)} %`], ["standard", `${withInterval(row.standard)} %`],
      ["images and answers", `${row.n} images, ${row.random ? `${row.draws} answer${row.draws > 1 ? "s" : ""} each` : "deterministic"}, seed ${row.seed}`],
      ["rank", rankOf(row)], ["paper's claim", claims.join("; ") || "none"],
      ["protocol", `${protocol.dataset}, ${protocol.threat}; gradient: ${protocol.gradient}; rule: ${protocol.rule}`],
      ["cut", row.cut || "no: as published"], ["attack failed", row.failed_attack], ["note", row.note],
      ["cost", `${significant(row.evaluations)} network evaluations, ${significant(row.seconds)} s an image`],
    ]),
  ];
  if (row.pictures?.length) parts.push(...headed("Images", pictures(row)));
  parts.push(...headed("Attacks", ...row.attacks.map(attack)), ...headed("Audit", ...audit(row.audit)));
  parts.push(...headed("What made it", ...madeBy(row)));
  return parts;
}

/** A column for each image, a line for each stage, and the answers of the defence below. */
function pictures(row) {
  const shown = row.pictures, large = shown[0].stages[0].file.endsWith(".webp");
  const head = el("tr", {}, el("td"), shown.map((one, i) => el("th", { scope: "col" }, `${i + 1}: ${one.label}`)));
  const lines = shown[0].stages.map(({ what }, stage) => el("tr", {}, el("th", { scope: "row" }, what),
    shown.map((one, i) => {
      const { file, says } = one.stages[stage];
      const alt = `image ${i + 1}, ${one.label}, ${what}`;
      return el("td", {}, el("img", { src: file, alt, loading: "lazy", class: large ? "large" : "" }), says ? answer(says, one.label) : null);
    })));
  for (const [which, words] of [["clean", "defence, clean image"], ["attacked", "defence, attacked image"]]) {
    if (!shown[0][which]) continue;
    lines.push(el("tr", {}, el("th", { scope: "row" }, words), shown.map((one) => {
      const { says, right, draws } = one[which];
      return el("td", {}, answer(says, one.label), draws > 1 ? el("div", { class: "soft" }, `${right} of ${draws} right`) : null);
    })));
  }
  const how = `The first ${shown.length} images under ${row.shown_attack}, which left the least of this row's attacks. ` +
    "Below an image is what the classifier makes of that very image, where it was asked. " +
    (large ? "Shown as WebP of quality 90; the stores are exact." : "Shown pixel by pixel.");
  return el("div", {}, el("p", { class: "soft" }, how), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Images" },
    el("table", { class: "pictures" }, el("thead", {}, head), el("tbody", {}, lines))));
}

const answer = (says, label) => el("span", { class: says === label ? "good" : "bad" }, `${says === label ? "✓" : "✗"} ${says}`);

function attack(one) {
  const words = `${one.name}, through ${one.through} (gradient: ${one.gradient}): leaves ${withInterval(one.robust)} %; ` +
    `${significant(one.passes)} passes and ${significant(one.seconds)} s an image`;
  return el("div", {}, el("p", {}, words), el("pre", {}, JSON.stringify(one.options)));
}

function audit(one) {
  if (one.failed === null) return [el("p", {}, `none: ${one.why_none}`)];
  const checks = one.checks.map((check) => [check.name, [
    el("span", { class: check.verdict === "failed" ? "bad" : "" }, check.verdict), `: ${check.evidence}`, check.cure ? `. What to do: ${check.cure}` : ""]]);
  return [el("p", {}, `${one.failed.length} of ${one.checks.length} checks of ${one.attack} failed, on ${one.n} images`), list(checks)];
}

function madeBy(row) {
  const { versions, machine, images, labels, code, puriflow } = row.made_by;
  const words = (named) => Object.entries(named).map(([name, value]) => `${name} ${value}`).join(", ");
  const command = row.command ? el("pre", {}, row.command) : "its record does not say: ask who published it";
  const chain = row.chain ? Object.entries(row.chain).map(([role, name]) => `${role} ${name}${row.served[role] ? ` (${row.served[role]})` : ""}`).join(" → ") : null;
  const more = [];
  if (row.weights && Object.keys(row.weights).length) more.push(el("h4", {}, "Weights, sha256"), hashes(row.weights));
  if (row.stores) more.push(el("details", {}, el("summary", {}, `${Object.keys(row.stores).length} stores, with what identifies them`), hashes(row.stores)));
  return [list([["chain", chain], ["command to rebuild it, in the folder of its project", command], ["PuriFlow", puriflow], ["versions", words(versions)], ["machine", words(machine)]]),
    hashes({ "code": code, "defence": row.defence_sha256, "images": images, "labels": labels }), ...more];
}

// Rows that were not run

function fillQuoted() {
  document.getElementById("quoted").hidden = quoted.length === 0;
  $("#quoted tbody").append(...quoted.map((one) => el("tr", {}, el("th", { scope: "row" }, one.name), el("td", {}, one.table),
    el("td", { class: "number" }, percent(one.standard)), el("td", { class: "number" }, percent(one.robust)), el("td", {}, one.why))));
}

document.getElementById("protocols").append(...protocols.map(section));
fillFilters();
fillPlot();
fillQuoted();
sortAll();
filter();
draw();
filters.addEventListener("input", filter);
filters.addEventListener("reset", () => setTimeout(filter));
filters.addEventListener("submit", (event) => event.preventDefault());
plotProtocol.addEventListener("change", draw);
plotCost.addEventListener("change", draw);
document.getElementById("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
for (const [button, open] of [["open-all", true], ["close-all", false]]) {
  document.getElementById(button).addEventListener("click", () => {
    for (const one of document.querySelectorAll("details.protocol")) one.open = open;
  });
}
if (byId.has(location.hash.slice(1))) openRow(location.hash.slice(1));
