"use strict";
const byId = (id) => document.getElementById(id);
const COSTS = { parameters: "parameters (M)", macs: "GMACs", pam_training_mib: "PAM training (GiB)" };
const LOWER_IS_BETTER = (metric) => metric.startsWith("HD95");
const state = { region: null, metric: null, cost: null, curve: "ema_pseudo_dice", sort: "rank", up: true, shown: new Set() };
let data;

async function unpacked(id) {
  const bytes = Uint8Array.from(atob(byId(id).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

async function start() {
  setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  data = JSON.parse(await unpacked("data"));
  const script = document.createElement("script");
  script.textContent = await unpacked("plotly");
  document.head.append(script);
  data.methods.forEach((method) => state.shown.add(method.name));
  state.region = data.regions[0];
  state.metric = Object.keys(data.metrics)[0];
  state.cost = Object.keys(COSTS).find((name) => name in data.methods[0]);
  writeHead();
  connect();
  startCases();
  showAll();
  document.body.dataset.ready = "yes";
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
}

function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function writeHead() {
  const facts = data.facts;
  byId("title").textContent = `${facts.dataset}: ${data.methods.length} models`;
  document.title = byId("title").textContent;
  byId("facts").textContent = Object.entries(facts).map(([name, value]) => `${name} ${value}`).join(" · ");
  byId("sentences").replaceChildren(...data.sentences.map((sentence) => element("li", sentence)));
  fill("region", data.regions);
  fill("metric", Object.keys(data.metrics));
  fill("cost", Object.keys(COSTS).filter((name) => name in data.methods[0]), COSTS);
  writeRuns();
}

function fill(id, values, names = {}) {
  byId(id).replaceChildren(...values.map((value) => element("option", names[value] ?? value, { value })));
}

function connect() {
  for (const id of ["region", "metric", "cost", "curve"]) {
    byId(id).addEventListener("change", (event) => { state[id] = event.target.value; showAll(); });
  }
  byId("all").addEventListener("click", () => { data.methods.forEach((m) => state.shown.add(m.name)); showAll(); });
  byId("none").addEventListener("click", () => { state.shown.clear(); showAll(); });
  byId("theme").addEventListener("click", () => {
    setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    showAll();
  });
}

function showAll() {
  writeTable();
  drawBoxes();
  drawScatter();
  drawCurves();
  showCases();
}

const chosen = () => data.methods.map((method, index) => ({ ...method, index })).filter((m) => state.shown.has(m.name));

/* --- the sortable table --- */
function columns() {
  const found = [{ key: "name", title: "model", value: (m) => m.name, cell: (m) => m.name, up: true }];
  for (const region of data.regions) {
    for (const metric of Object.keys(data.metrics)) {
      const of = (m) => data.summary[region][metric][m.index];
      const digits = LOWER_IS_BETTER(metric) ? 2 : 3;
      found.push({
        key: `${region} ${metric}`, title: `${region} ${metric.replace("_pooled", "")}`, up: LOWER_IS_BETTER(metric),
        value: (m) => of(m)[0], cell: (m) => interval(of(m), digits),
      });
    }
  }
  found.push({ key: "rank", title: "mean rank", value: (m) => m.rank, cell: (m) => m.rank.toFixed(2), up: true });
  for (const [key, title] of Object.entries(COSTS)) {
    if (key in data.methods[0]) found.push({ key, title, value: (m) => m[key], cell: (m) => short(m[key]), up: true });
  }
  return found;
}

function interval([mean, low, high], digits) {
  if (mean === null) return "–";
  const range = low === null ? "" : ` (${low.toFixed(digits)}–${high.toFixed(digits)})`;
  return mean.toFixed(digits) + range;
}

const short = (value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(3)).toString());

function writeTable() {
  const all = columns();
  const sorted = all.find((column) => column.key === state.sort);
  const methods = data.methods.map((method, index) => ({ ...method, index }));
  methods.sort((a, b) => {
    const [x, y] = [sorted.value(a), sorted.value(b)];
    return (x < y ? -1 : x > y ? 1 : 0) * (state.up ? 1 : -1);
  });
  const head = element("tr");
  head.append(...all.map(headCell));
  const thead = element("thead");
  thead.append(head);
  const body = element("tbody");
  body.append(...methods.map((method) => modelRow(method, all)));
  byId("table").replaceChildren(thead, body);
}

function headCell(column) {
  const cell = element("th", "", { scope: "col" });
  const active = column.key === state.sort;
  if (active) cell.setAttribute("aria-sort", state.up ? "ascending" : "descending");
  const button = element("button", column.title + (active ? (state.up ? " ▲" : " ▼") : ""), { type: "button", "data-sort": column.key });
  button.addEventListener("click", () => {
    state.up = active ? !state.up : column.up;
    state.sort = column.key;
    writeTable();
    document.querySelector(`[data-sort="${CSS.escape(column.key)}"]`).focus();
  });
  cell.append(button);
  return cell;
}

function modelRow(method, all) {
  const row = element("tr");
  all.forEach((column, i) => row.append(i ? element("td", column.cell(method)) : nameCell(method)));
  return row;
}

function nameCell(method) {
  const cell = element("td");
  const label = element("label");
  const box = element("input", "", { type: "checkbox", "data-model": method.name });
  box.checked = state.shown.has(method.name);
  box.addEventListener("change", () => {
    if (box.checked) state.shown.add(method.name); else state.shown.delete(method.name);
    showAll();
    document.querySelector(`[data-model="${CSS.escape(method.name)}"]`).focus();
  });
  const dot = element("span", "", { class: "dot", "aria-hidden": "true" });
  dot.style.background = method.color;
  label.append(box, dot, method.name);
  cell.append(label);
  return cell;
}

function writeRuns() {
  const names = Object.keys(data.runs[0] ?? {});
  const head = element("tr");
  head.append(...names.map((name) => element("th", name, { scope: "col" })));
  const thead = element("thead");
  thead.append(head);
  const body = element("tbody");
  for (const run of data.runs) {
    const row = element("tr");
    row.append(...names.map((name) => element("td", run[name] ?? "–")));
    body.append(row);
  }
  byId("runs").replaceChildren(thead, body);
}

/* --- plots --- */
function layout(further = {}) {
  const style = getComputedStyle(document.documentElement);
  const [ink, line] = ["--ink", "--line"].map((name) => style.getPropertyValue(name).trim());
  const axis = { gridcolor: line, zerolinecolor: line, automargin: true };
  const { xaxis, yaxis, ...rest } = further;
  return {
    margin: { l: 55, r: 12, t: 12, b: 45 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: ink, size: 12 }, showlegend: false, xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis }, ...rest,
  };
}

/* lines of about 26 letters, broken after underscores and spaces */
const broken = (name) => name.replace(/(.{1,25}[_ ])(?=.)/g, "$1<br>");

/* the table of models is the legend where there is no room for one */
const roomy = () => innerWidth > 760;

function logTicks(values) {
  const [low, high] = [Math.min(...values) / 1.5, Math.max(...values) * 1.5];
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const step of [1, 2, 5]) if (step * 10 ** power >= low && step * 10 ** power <= high) found.push(step * 10 ** power);
  }
  return { tickvals: found, ticktext: found.map(short) };
}

const OPTIONS = { responsive: true, displaylogo: false, displayModeBar: false };

function scaled(region, metric, index) {
  return data.values[region][metric][index].map((value) => value / data.metrics[metric]);
}

function drawBoxes() {
  const traces = chosen().map((method) => ({
    type: "box", name: method.name, y: scaled(state.region, state.metric, method.index), text: data.cases,
    marker: { color: method.color, symbol: method.symbol, size: 4 }, boxpoints: "outliers", boxmean: true,
    hovertemplate: "%{text}<br>%{y}<extra></extra>",
  }));
  const title = `${state.region} ${state.metric.replace("_pooled", " (mm)")}`;
  const names = chosen().map((method) => method.name);
  const xaxis = { showticklabels: roomy(), tickvals: names, ticktext: names.map(broken), tickangle: names.length < 7 ? 0 : -25 };
  Plotly.react("box", traces, layout({ yaxis: { title: { text: title } }, xaxis }), OPTIONS);
}

function drawScatter() {
  if (!state.cost) {
    byId("scatter").replaceChildren(element("p", "The comparison was made without costs.", { class: "gone" }));
    return;
  }
  const traces = chosen().map((method) => {
    const [mean, low, high] = data.summary[state.region][state.metric][method.index];
    const error = low === null ? {} : { error_y: { type: "data", symmetric: false, array: [high - mean], arrayminus: [mean - low] } };
    return {
      type: "scatter", mode: "markers", name: method.name, x: [method[state.cost]], y: [mean], ...error,
      marker: { color: method.color, symbol: method.symbol, size: 12 }, hovertemplate: `${method.name}<br>%{x:.3~g}, %{y:.3f}<extra></extra>`,
    };
  });
  const title = `mean ${state.region} ${state.metric.replace("_pooled", " (mm)")}`;
  const ticks = traces.length ? logTicks(traces.map((trace) => trace.x[0])) : {};
  const xaxis = { type: "log", title: { text: COSTS[state.cost] }, ...ticks };
  const legend = { orientation: "h", y: -0.25 };
  Plotly.react("scatter", traces, layout({ xaxis, yaxis: { title: { text: title } }, showlegend: roomy() && traces.length < 9, legend }), OPTIONS);
}

function drawCurves() {
  const traces = [];
  for (const method of chosen()) {
    const curves = data.epochs[method.name];
    if (!curves) continue;
    const [mean, low, high] = curves[state.curve];
    const band = { x: [...curves.epoch, ...[...curves.epoch].reverse()], y: [...high, ...[...low].reverse()] };
    const quiet = { hoverinfo: "skip", showlegend: false, line: { width: 0 }, mode: "lines", type: "scatter" };
    traces.push({ ...band, ...quiet, fill: "toself", fillcolor: method.color, opacity: 0.15 });
    const mode = curves.epoch.length > 5 ? "lines" : "lines+markers";
    traces.push({ x: curves.epoch, y: mean, type: "scatter", mode, name: method.name, line: { color: method.color } });
  }
  const legend = { orientation: "h", y: -0.2 };
  Plotly.react("curves", traces, layout({ xaxis: { title: { text: "epoch" } }, showlegend: roomy() && traces.length < 18, legend }), OPTIONS);
}
