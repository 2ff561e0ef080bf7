/* --- case browser and surfaces --- */
const REGION_COLORS = { WT: "#56B4E9", TC: "#E69F00", ET: "#D55E00" };
const REGION_OPACITY = { WT: 0.25, TC: 0.55, ET: 1 };
const MOST_ROWS = 300;
const TURN = 0.15;
const view = { case: null, model: null, regions: new Set(), turning: false };

function startCases() {
  byId("find").addEventListener("input", showCases);
  byId("with3d").addEventListener("change", showCases);
  const cases = Object.keys(data.surfaces);
  fill("case3d", cases);
  byId("case3d").addEventListener("change", (event) => openCase(event.target.value));
  byId("model3d").addEventListener("change", (event) => { view.model = event.target.value; drawSurfaces(); });
  data.regions.forEach((region) => view.regions.add(region));
  byId("toggles").replaceChildren(...data.regions.map(toggle));
  for (const id of ["left", "right"]) byId(id).addEventListener("keydown", turnByKey);
  if (cases.length) openCase(cases[0]);
  else for (const id of ["left", "right"]) byId(id).replaceChildren(element("p", "The comparison was made without surfaces.", { class: "gone" }));
}

function toggle(region) {
  const label = element("label");
  const box = element("input", "", { type: "checkbox", "data-region": region });
  box.checked = true;
  box.addEventListener("change", () => {
    if (box.checked) view.regions.add(region); else view.regions.delete(region);
    drawSurfaces();
  });
  const dot = element("span", "", { class: "dot", "aria-hidden": "true" });
  dot.style.background = REGION_COLORS[region] ?? "#56B4E9";
  label.append(box, dot, region);
  return label;
}

function worstFirst() {
  const shown = chosen();
  const rows = data.cases.map((name, i) => {
    const values = shown.map((m) => data.values[state.region][state.metric][m.index][i] / data.metrics[state.metric]);
    return { name, fold: data.folds[i], values, mean: values.reduce((a, b) => a + b, 0) / (values.length || 1) };
  });
  const sign = LOWER_IS_BETTER(state.metric) ? -1 : 1;
  return rows.sort((a, b) => sign * (a.mean - b.mean));
}

function showCases() {
  const wanted = byId("find").value.toLowerCase();
  const only = byId("with3d").checked;
  const found = worstFirst().filter((row) => row.name.toLowerCase().includes(wanted) && (!only || row.name in data.surfaces));
  const head = element("tr");
  head.append(...["case", "fold", "mean", ...chosen().map((m) => m.name)].map((name) => element("th", name, { scope: "col" })));
  const thead = element("thead");
  thead.append(head);
  const body = element("tbody");
  body.append(...found.slice(0, MOST_ROWS).map(caseRow));
  byId("cases").replaceChildren(thead, body);
  if (found.length > MOST_ROWS) byId("cases").append(element("caption", `${MOST_ROWS} of ${found.length} cases; find others by name`));
}

function caseRow(found) {
  const digits = LOWER_IS_BETTER(state.metric) ? 1 : 3;
  const row = element("tr", "", { "aria-selected": String(found.name === view.case), "data-case": found.name });
  const name = element("td");
  if (found.name in data.surfaces) {
    const button = element("button", found.name, { type: "button" });
    button.addEventListener("click", () => { openCase(found.name); byId("three-h").scrollIntoView({ behavior: "smooth" }); });
    name.append(button);
  } else name.append(found.name);
  row.append(name, element("td", found.fold), element("td", found.mean.toFixed(digits)));
  row.append(...found.values.map((value) => element("td", value.toFixed(digits))));
  return row;
}

function openCase(name) {
  view.case = name;
  byId("case3d").value = name;
  const models = Object.keys(data.surfaces[name]).filter((model) => model !== "reference");
  fill("model3d", models);
  if (!models.includes(view.model)) view.model = models[0] ?? null;
  byId("model3d").value = view.model;
  document.querySelectorAll("#cases tr[data-case]").forEach((row) => row.setAttribute("aria-selected", String(row.dataset.case === name)));
  drawSurfaces();
}

function numbers(text, kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new kind(bytes.buffer);
}

function mesh(packed, region) {
  const v = numbers(packed.v, Int16Array);
  const f = numbers(packed.f, Uint16Array);
  const axis = (values, k, scale) => Array.from({ length: values.length / 3 }, (_, n) => values[3 * n + k] * scale);
  const step = 1 / data.steps_per_mm;
  const color = REGION_COLORS[region] ?? "#56B4E9";
  return {
    type: "mesh3d", name: region, z: axis(v, 0, step), y: axis(v, 1, step), x: axis(v, 2, step),
    i: axis(f, 0, 1), j: axis(f, 1, 1), k: axis(f, 2, 1), color, opacity: REGION_OPACITY[region] ?? 0.5, hoverinfo: "name",
    lighting: { ambient: 0.55, diffuse: 0.8, specular: 0.15 }, flatshading: false,
  };
}

function drawSurfaces() {
  if (!view.case) return;
  const sets = data.surfaces[view.case];
  byId("right-name").textContent = view.model ? `${view.model}, ${dice(view.case, view.model)}` : "";
  const range = extent(Object.values(sets));
  const sides = { left: sets.reference, right: view.model ? sets[view.model] : {} };
  for (const [id, meshes] of Object.entries(sides)) {
    const traces = Object.entries(meshes ?? {}).filter(([region]) => view.regions.has(region)).map(([region, packed]) => mesh(packed, region));
    Plotly.react(id, traces, cube(range), OPTIONS);
    byId(id).removeAllListeners?.("plotly_relayout");
    byId(id).on("plotly_relayout", (change) => follow(id, change));
  }
}

function dice(name, model) {
  const [i, m] = [data.cases.indexOf(name), data.methods.findIndex((method) => method.name === model)];
  return data.regions.map((region) => `${region} ${(data.values[region].Dice[m][i] / data.metrics.Dice).toFixed(3)}`).join(" · ");
}

function extent(sets) {
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  for (const packed of sets.flatMap((set) => Object.values(set))) {
    numbers(packed.v, Int16Array).forEach((value, n) => {
      low[n % 3] = Math.min(low[n % 3], value / data.steps_per_mm);
      high[n % 3] = Math.max(high[n % 3], value / data.steps_per_mm);
    });
  }
  return low.map((value, k) => [value - 2, high[k] + 2]);
}

function cube([z, y, x]) {
  const hidden = (range) => ({ visible: false, range });
  const camera = view.camera ?? { eye: { x: 1.1, y: -1.3, z: 0.8 } };
  return layout({ margin: { l: 0, r: 0, t: 0, b: 0 }, scene: { xaxis: hidden(x), yaxis: hidden(y), zaxis: hidden(z), aspectmode: "data", camera } });
}

function follow(id, change) {
  const camera = change["scene.camera"];
  if (!camera || view.turning) return;
  setCamera(camera, id);
}

function setCamera(camera, from) {
  view.camera = camera;
  view.turning = true;
  const others = ["left", "right"].filter((id) => id !== from);
  Promise.all(others.map((id) => Plotly.relayout(id, { "scene.camera": camera }))).then(() => { view.turning = false; });
}

function turnByKey(event) {
  const steps = { ArrowLeft: [-TURN, 0], ArrowRight: [TURN, 0], ArrowUp: [0, TURN], ArrowDown: [0, -TURN] }[event.key];
  if (!steps || !view.case) return;
  event.preventDefault();
  const eye = (view.camera ?? cube(extent(Object.values(data.surfaces[view.case]))).scene.camera).eye;
  const radius = Math.hypot(eye.x, eye.y, eye.z);
  const around = Math.atan2(eye.y, eye.x) + steps[0];
  const up = Math.max(-1.5, Math.min(1.5, Math.asin(eye.z / radius) + steps[1]));
  const next = { x: radius * Math.cos(up) * Math.cos(around), y: radius * Math.cos(up) * Math.sin(around), z: radius * Math.sin(up) };
  setCamera({ ...view.camera, eye: next }, null);
}
