"use strict";
// The rules of selection are those of science/selection/rules.py, which come with the data; here they are only evaluated.
const at = id => document.getElementById(id);
const COLOURS = {S: "#1b7837", F: "#c51b7d", A: "#762a83", D: "#9970ab", B: "#2166ac", C: "#67a9cf", M: "#b35806", "": "#bbbbbb"};
const LAYOUT = {margin: {l: 55, r: 15, t: 10, b: 45}, hovermode: "closest", showlegend: false};
const LEGEND = {showlegend: true, legend: {orientation: "h", font: {size: 10}, x: 0, y: 1.02, yanchor: "bottom"}, margin: {...LAYOUT.margin, t: 30}};
const CONFIG = {responsive: true, displaylogo: false};
const HOLDS = {">=": (value, limit) => value >= limit, "<=": (value, limit) => value <= limit, true: value => Boolean(value), known: () => true};
const RECON = "aanet_recon_loss_elbow_strength", ARCH = "aanet_archetypal_loss_elbow_strength";
// Where strengths are drawn that no falling loss has.
const EDGE = 0.76;
// Filled by start(), once they are unpacked; `limits` are the mode and the settings of all rules as they are now.
let data, byId, limits;
// What each mode makes of the clusters, by these settings.
let judgements;
let picked = null, sorting = {column: "id", down: false};

// In so many digits, or in as many as it takes to lie on the same side of a threshold as it does.
function show(value, digits = 3, threshold = null) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  const short = Number(value.toPrecision(digits));
  if (threshold !== null && digits < 17 && Math.sign(short - threshold) !== Math.sign(value - threshold)) return show(value, digits + 1, threshold);
  return short.toString();
}

function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  return Object.assign(made, attributes);
}

// What a mode makes of the clusters: ids of those that pass its rules, mean and deviation of its strengths among them.
function judged({rules, strengths}) {
  const used = rules.filter(rule => !rule.switch || limits[rule.switch]);
  const passed = data.clusters.filter(c => used.every(({column, comparison, setting}) => c[column] !== null && HOLDS[comparison](c[column], limits[setting])));
  const spread = own => moments(passed.map(c => counted(c, own)).filter(strength => !Number.isNaN(strength)));
  return {passing: new Set(passed.map(c => c.id)), spreads: Object.fromEntries(Object.entries(strengths).map(([name, own]) => [name, spread(own)]))};
}

// A strength as the categories take it: where its loss may rise, NaN if no falling loss has it.
const counted = (c, {column, switch: falls, most}) => c[column] !== null && (limits[falls] || c[column] <= most) ? c[column] : NaN;

function limit(mode, strength, setting) {
  const [mean, deviation] = judgements[mode].spreads[strength];
  return mean + limits[setting] * deviation;
}

// A manual pick needs a k, which one mode may have and the other not.
function category(c, mode = limits.mode) {
  if (c[mode] === "M") return "M";
  if (!judgements[mode].passing.has(c.id)) return "";
  const {categories, strengths} = data.rules[mode];
  const above = ([strength, setting]) => counted(c, strengths[strength]) > limit(mode, strength, setting);
  const held = categories.find(own => (!own.equal_elbows || c.k_differential === 0) && own.tests.every(above));
  return held ? held.name : "";
}

// Mean and standard deviation (ddof 1), exact and rounded once, as those of Python's statistics module:
// otherwise equal strengths could lie above their mean here and not there.
function moments(values) {
  if (values.length < 2) return [NaN, NaN];
  const whole = values.map(wholeUnits), n = BigInt(whole.length);
  const sum = whole.reduce((a, b) => a + b), squares = whole.reduce((a, b) => a + b * b, 0n);
  return [root(sum * sum, n * n), root(n * squares - sum * sum, n * (n - 1n))];
}

// A number that is not negative in units of 2^-1074, of which every number is a whole multiple.
function wholeUnits(value) {
  const [bits] = new BigUint64Array(new Float64Array([value]).buffer), exponent = bits >> 52n, fraction = bits & ((1n << 52n) - 1n);
  return exponent ? (fraction | (1n << 52n)) << (exponent - 1n) : fraction;
}

// The root of top / bottom, both in squared units of 2^-1074, as the nearest number.
function root(top, bottom) {
  if (top < bottom) return 0;
  const bitsOf = x => x.toString(2).length, square = top / bottom;
  let found = 1n << BigInt((bitsOf(square) >> 1) + 1);
  for (let next = (found + square / found) >> 1n; next < found; next = (found + square / found) >> 1n) found = next;
  const cut = BigInt(Math.max(0, bitsOf(found) - 64)), short = found >> cut;
  // Whatever is cut off counts as a last bit, so that it is rounded to the right side.
  const inexact = short << cut !== found || found * found * bottom !== top;
  return Number(inexact ? short | 1n : short) * 2 ** (Number(cut) - 1074);
}

const PLOTS = {
  "fit of a simplex against latents active together": scatter("coactivity", "simplex_fit", "effective number of latents active together", "fit of the best simplex", {lines: ruleLimits}),
  "elbow strengths, reconstruction against archetypal": scatter(RECON, ARCH, "elbow strength of the reconstruction loss", "elbow strength of the archetypal loss"),
  "the same, clusters that pass the quality filters, with the limits of the categories": scatter(RECON, ARCH, "elbow strength of the reconstruction loss", "elbow strength of the archetypal loss", {wanted: c => judgements.elbow.passing.has(c.id), lines: categoryLimits, named: true}),
  "PCA rank against geometric rank": scatter("decoder_dir_rank", "activation_pca_rank", "geometric rank (of the decoder rows)", "PCA rank (of the activations)"),
  "geometric ranks": histogram("decoder_dir_rank", "geometric rank (of the decoder rows)"),
  "elbow strengths of the reconstruction loss": histogram(RECON, "elbow strength of the reconstruction loss"),
  "elbow strengths of the archetypal loss": histogram(ARCH, "elbow strength of the archetypal loss"),
};

function hover(c) {
  return `<b>cluster ${c.id}</b>, ${c.latents.length} latents<br>elbows: k ${show(c.aanet_recon_loss_elbow_k)} (${show(c[RECON])}), k ${show(c.aanet_archetypal_loss_elbow_k)} (${show(c[ARCH])})` +
    `<br>best fit ${show(c.simplex_fit)} at k ${show(c.simplex_k)}, q ${show(c.coactivity_q)}<br>${Object.keys(data.rules).map(mode => `${mode} ${c[mode] || "no"}`).join(", ")}`;
}

function line(axis, at, color) {
  const ends = axis === "y" ? {xref: "paper", x0: 0, x1: 1, y0: at, y1: at} : {yref: "paper", y0: 0, y1: 1, x0: at, x1: at};
  return {type: "line", ...ends, line: {dash: "dot", color}};
}

// Limits of the rules on what is drawn.
function ruleLimits(x, y) {
  return Object.values(data.rules).flatMap(({rules, categories}) => [[x, "x"], [y, "y"]].flatMap(([column, axis]) =>
    rules.filter(rule => rule.column === column && rule.setting).map(rule => line(axis, limits[rule.setting], COLOURS[categories[0].name]))));
}

function categoryLimits(x) {
  const {categories, strengths} = data.rules.elbow;
  return categories.flatMap(({name, tests}) => tests.map(([strength, setting]) =>
    line(strengths[strength].column === x ? "x" : "y", limit("elbow", strength, setting), COLOURS[name]))).filter(l => !Number.isNaN(l.x0) && !Number.isNaN(l.y0));
}

// Strengths that no falling loss has would flatten all others.
const strongest = x => Math.min(...Object.values(data.rules.elbow.strengths).filter(own => own.column === x).map(own => own.most));
const tooStrong = (c, x) => c[x] > strongest(x);
const drawnAt = (c, x) => tooStrong(c, x) ? EDGE : c[x];

function clippedNote(clipped, x) {
  return clipped ? [{text: `${clipped} clipped at ${show(strongest(x))}: no falling loss is so strong`, showarrow: false, xref: "paper", yref: "paper", x: 1, y: 1, xanchor: "right", yanchor: "bottom", font: {size: 11}}] : [];
}

function scatter(x, y, xTitle, yTitle, {wanted = () => true, lines = () => [], named = false} = {}) {
  return () => {
    const shown = data.clusters.filter(c => c[x] !== null && c[y] !== null && wanted(c));
    const trace = {
      type: "scatter", mode: named ? "markers+text" : "markers", x: shown.map(c => drawnAt(c, x)), y: shown.map(c => drawnAt(c, y)),
      customdata: shown.map(c => c.id), hovertext: shown.map(hover), hoverinfo: "text",
      text: shown.map(c => category(c) ? `${c.id} (${category(c)})` : ""), textposition: "top center",
      marker: {size: shown.map(c => c.id === picked ? 15 : 9), color: shown.map(c => COLOURS[category(c)]),
               line: {width: shown.map(c => c.id === picked ? 3 : 1), color: shown.map(c => c.id === picked ? "#d00" : "#fff")}},
    };
    const annotations = shown.length ? clippedNote(shown.filter(c => tooStrong(c, x) || tooStrong(c, y)).length, x) :
      [{text: "There is no such cluster.", showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5}];
    return [[trace], {...LAYOUT, shapes: lines(x, y), annotations, xaxis: {title: {text: xTitle}}, yaxis: {title: {text: yTitle}}}];
  };
}

function histogram(x, title) {
  return () => [[{type: "histogram", x: data.clusters.map(c => drawnAt(c, x)).filter(v => v !== null), marker: {color: "#7a9cc6"}}],
                {...LAYOUT, annotations: clippedNote(data.clusters.filter(c => tooStrong(c, x)).length, x), xaxis: {title: {text: title}}, yaxis: {title: {text: "clusters"}}}];
}

function drawChart() {
  const [traces, layout] = PLOTS[at("plot").value]();
  Plotly.react("chart", traces, layout, CONFIG);
}

function drawSliders() {
  const named = Object.entries(data.rules[limits.mode].settings);
  const sliders = named.filter(([, {kind}]) => kind !== "boolean").map(([name, {group, kind, least, most}]) => {
    // A slider can only be at its steps; the box beside it holds the threshold itself.
    const label = element("label", name), held = limits[name], whole = kind === "integer", own = data.defaults[group][name];
    const min = least ?? (most === null ? own - 5 : most - 1), max = most ?? own + (whole ? 10 : 5), step = whole ? 1 : (max - min) / 200;
    const slider = element("input", "", {type: "range", min: Math.min(min, held), max: Math.max(max, held), step});
    const box = element("input", "", {type: "number", step, required: true, id: name, value: held, title: `in the study: ${data.settings[group][name]}`});
    if (least !== null) box.min = least;
    if (most !== null) box.max = most;
    slider.value = held;
    slider.addEventListener("input", () => { limits[name] = Number(slider.value); box.value = limits[name]; box.classList.remove("wrong"); refresh(); });
    box.addEventListener("input", () => {
      const {valueMissing, badInput, rangeUnderflow, rangeOverflow, stepMismatch} = box.validity;
      const wrong = valueMissing || badInput || rangeUnderflow || rangeOverflow || (stepMismatch && whole);
      box.classList.toggle("wrong", wrong);
      if (wrong) return;
      limits[name] = slider.value = Number(box.value);
      refresh();
    });
    label.append(slider, box);
    return label;
  });
  const switches = named.filter(([, {kind}]) => kind === "boolean").map(([name]) => {
    const label = element("label", name), box = element("input", "", {type: "checkbox", checked: limits[name], id: name});
    box.addEventListener("change", () => { limits[name] = box.checked; refresh(); });
    label.append(box);
    return label;
  });
  at("sliders").replaceChildren(...sliders, ...switches);
}

// As Python: the mode and whatever differs from the defaults, so that it can take the place of the study's own.
function settings() {
  const python = value => typeof value === "boolean" ? (value ? "True" : "False") : JSON.stringify(value);
  return Object.entries(data.settings).map(([group, own]) => {
    const now = Object.entries(own).map(([name, value]) => [name, name in limits ? limits[name] : value]);
    const changed = now.filter(([name, value]) => name === "mode" || value !== data.defaults[group][name]);
    return `${group}=${data.types[group]}(${changed.map(([name, value]) => `${name}=${python(value)}`).join(", ")})`;
  }).join(", ");
}

const COLUMNS = {
  id: "id", latents: "size", now: "now", fit: "simplex_fit", "fit k": "simplex_k", together: "coactivity", q: "coactivity_q",
  "elbow k": "aanet_recon_loss_elbow_k", strength: RECON, "arch. k": "aanet_archetypal_loss_elbow_k", "arch. strength": ARCH,
};
const valueOf = (c, column) => column === "now" ? category(c) : column === "size" ? c.latents.length : c[column];

// With which a rule compares a column, if one does.
function threshold(column) {
  const rule = Object.values(data.rules).flatMap(mode => mode.rules).find(own => own.column === column && own.setting);
  return rule ? limits[rule.setting] : null;
}

function drawTable() {
  const head = element("tr");
  for (const name of Object.keys(COLUMNS)) {
    const cell = element("th", name + (sorting.column === name ? (sorting.down ? " ▾" : " ▴") : ""));
    cell.addEventListener("click", () => { sorting = {column: name, down: sorting.column === name && !sorting.down}; drawTable(); });
    head.append(cell);
  }
  at("clusters").tHead.replaceChildren(head);
  const wanted = at("filter").value.toLowerCase(), by = COLUMNS[sorting.column];
  const order = (a, b) => {
    const [x, y] = [valueOf(a, by), valueOf(b, by)];
    // What is missing goes last, whichever way the rest is sorted.
    if (x === null || x === "") return y === null || y === "" ? a.id - b.id : 1;
    if (y === null || y === "") return -1;
    return (x < y ? -1 : x > y ? 1 : a.id - b.id) * (sorting.down ? -1 : 1);
  };
  const rows = data.clusters.filter(c => !wanted || [c.id, category(c), ...Object.keys(data.rules).map(mode => c[`${mode}Reason`])].join(" ").toLowerCase().includes(wanted));
  at("clusters").tBodies[0].replaceChildren(...rows.sort(order).map(c => {
    const row = element("tr", "", {className: c.id === picked ? "picked" : ""});
    row.dataset.cluster = c.id;
    row.append(...Object.values(COLUMNS).map(column => element("td", show(valueOf(c, column), 3, threshold(column)), {title: valueOf(c, column) ?? ""})));
    row.addEventListener("click", () => pick(c.id));
    return row;
  }));
}

function refresh() {
  judgements = Object.fromEntries(Object.entries(data.rules).map(([name, mode]) => [name, judged(mode)]));
  const chosen = data.clusters.filter(c => category(c));
  at("chosen").textContent = `${chosen.length} of ${data.clusters.length} clusters selected` +
    (chosen.length ? `: ${chosen.slice(0, 40).map(c => c.id).join(", ")}${chosen.length > 40 ? ", …" : ""}` : "");
  at("settings").textContent = settings();
  drawChart();
  drawTable();
  drawStrips();
}

function pick(id) {
  picked = id;
  refresh();
  const c = byId.get(id), detail = data.details[id], panel = element("div", "", {className: "panel"});
  const section = at("cluster");
  section.replaceChildren(
    element("h2", `Cluster ${id}: ${c.latents.length} latents`),
    ...Object.keys(data.rules).map(mode => element("p", `${mode}: ${c[mode] || "not selected"} (${c[`${mode}Reason`]})`)),
    element("p", `latents ${c.latents.slice(0, 60).join(", ")}${c.latents.length > 60 ? ", …" : ""}`, {className: "hint"}),
    panel);
  const elbows = element("div"), shapes = element("div");
  panel.append(elbows, shapes);
  Plotly.newPlot(elbows, elbowTraces(c), {...LAYOUT, ...LEGEND,
    xaxis: {title: {text: "k"}, dtick: 1}, yaxis: {title: {text: "loss, relative to the first k"}}}, CONFIG);
  const fits = data.shapes[id] || [];
  Plotly.newPlot(shapes, [["PCA's share of variance", 1], ["occupancy", 2], ["fit", 3]].map(([name, i]) => ({
    name, x: fits.map(f => f[0]), y: fits.map(f => f[i]), mode: "lines+markers", line: {width: i === 3 ? 3 : 1}})),
    {...LAYOUT, ...LEGEND, xaxis: {title: {text: "k"}, dtick: 1}, yaxis: {title: {text: "how a simplex fits"}, range: [0, 1.05]}}, CONFIG);
  const use = functionalPart(c);
  if (!detail) {
    section.append(element("p", "No AANet of this cluster could be trained, or no simplex fitted.", {className: "hint"}), use);
    drawStrips();
    return;
  }
  const curve = element("div"), cloud = element("div");
  panel.append(curve, cloud);
  Plotly.newPlot(curve, [{x: detail.curve.steps, y: detail.curve.loss, mode: "lines"}],
    {...LAYOUT, xaxis: {title: {text: "step"}}, yaxis: {title: {text: `total loss of stage 1 at k ${detail.k}`}, type: "log"}}, CONFIG);
  drawCloud(cloud, detail);
  section.append(use);
  drawStrips();
  detail.vertices.forEach((vertex, i) => section.append(...vertexParts(vertex, i)));
  if (!c.selected) section.append(element("p", "Text is gathered for the clusters that the study selects.", {className: "hint"}));
}

function elbowTraces(c) {
  const relative = (losses, to) => losses.map(v => v === null || !to ? null : v / to);
  const band = (low, high, colour, name) => [
    {x: data.ks, y: low, mode: "lines", line: {width: 0}, showlegend: false, hoverinfo: "skip"},
    {x: data.ks, y: high, mode: "lines", line: {width: 0}, fill: "tonexty", fillcolor: colour, name, hoverinfo: "skip"}];
  const own = data.bands.replicates[c.id], none = data.bands.null;
  return [...(none ? band(none[0], none[2], "rgba(0,0,0,.08)", "null clusters, 80%") : []),
          ...(own ? band(own[0], own[1], "rgba(33,102,172,.2)", "replicates") : []),
          {x: data.ks, y: relative(c.reconLoss, c.reconLoss[0]), mode: "lines+markers", name: "reconstruction", line: {color: "#2166ac"}},
          {x: data.ks, y: relative(c.archLoss, Math.max(...c.archLoss)), mode: "lines+markers", name: "archetypal, relative to its largest", line: {color: "#b2182b", dash: "dot"}}];
}

function drawCloud(where, detail) {
  const points = detail.points.map(p => p.map(b => b / 1000)), marker = {size: 4, opacity: 0.6, color: points.map(p => p.indexOf(Math.max(...p))), colorscale: "Portland"};
  if (detail.k === 3) {
    // Not plotly's ternary plot, which leaves out points outside the triangle.
    const corners = [[0.5, Math.sqrt(0.75)], [0, 0], [1, 0]], place = (p, axis) => p.reduce((sum, b, i) => sum + b * corners[i][axis], 0);
    const outline = [0, 1, 2, 0].map(i => corners[i]), bare = {visible: false};
    Plotly.newPlot(where, [
      {type: "scatter", mode: "lines", x: outline.map(c => c[0]), y: outline.map(c => c[1]), line: {color: "#444", width: 1}, hoverinfo: "skip"},
      {type: "scatter", mode: "markers", x: points.map(p => place(p, 0)), y: points.map(p => place(p, 1)), text: points.map(p => p.map(b => show(b, 2)).join(", ")), hoverinfo: "text", marker},
    ], {...LAYOUT, margin: {l: 20, r: 20, t: 20, b: 20}, xaxis: bare, yaxis: {...bare, scaleanchor: "x"},
        annotations: corners.map(([x, y], i) => ({x, y, text: `v${i}`, showarrow: false, yshift: i === 0 ? 12 : -12}))}, CONFIG);
  } else if (detail.k === 2) {
    Plotly.newPlot(where, [{type: "histogram", x: points.map(p => p[0]), nbinsx: 40}],
      {...LAYOUT, xaxis: {title: {text: "barycentric coordinate of vertex 0"}}, yaxis: {title: {text: "tokens"}}}, CONFIG);
  } else {
    // Pair by pair; plotly's own matrix of scatter plots needs WebGL, which not every browser has.
    const side = detail.k - 1, traces = [], axes = {};
    for (let i = 1; i <= side; i++) {
      for (let j = 0; j < i; j++) {
        const place = (i - 1) * side + j + 1, name = place === 1 ? "" : place;
        traces.push({type: "scatter", mode: "markers", x: points.map(p => p[j]), y: points.map(p => p[i]), xaxis: `x${name}`, yaxis: `y${name}`, marker: {...marker, size: 2.5}});
        axes[`xaxis${name}`] = {title: {text: i === side ? `v${j}` : ""}, showticklabels: i === side, range: [-0.1, 1.1]};
        axes[`yaxis${name}`] = {title: {text: j === 0 ? `v${i}` : ""}, showticklabels: j === 0, range: [-0.1, 1.1]};
      }
    }
    Plotly.newPlot(where, traces, {...LAYOUT, ...axes, font: {size: 9}, grid: {rows: side, columns: side, pattern: "independent", xgap: 0.08, ygap: 0.08}}, CONFIG);
  }
}

function vertexParts(vertex, i) {
  const latents = element("p", `latents nearest in direction: ${vertex.latents.map(([latent, cosine]) => `${latent} (${show(cosine, 2)})`).join(", ")}`, {className: "hint"});
  if (!vertex.texts) return [element("h3", `Vertex ${i}`), latents];
  const words = element("div", "", {className: "words"});
  for (const [token, count] of vertex.tokens) {
    const shown = element("span", `${token} `);
    shown.append(element("small", count));
    words.append(shown);
  }
  const quotes = vertex.texts.map(text => {
    const quote = element("blockquote");
    for (const [part, marked] of text) quote.append(marked ? element("mark", part) : part);
    return quote;
  });
  return [element("h3", `Vertex ${i}: ${vertex.samples} samples`), latents, words, ...quotes];
}

function unpacked(id) {
  const bytes = Uint8Array.from(atob(at(id).textContent), c => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

async function start() {
  document.head.append(element("script", await unpacked("plotly")));
  data = JSON.parse(await unpacked("data"));
  byId = new Map(data.clusters.map(c => [c.id, c]));
  const {rules} = data;
  limits = {mode: data.settings.selection.mode};
  for (const mode of Object.values(rules)) for (const [name, {group}] of Object.entries(mode.settings)) limits[name] = data.settings[group][name];
  if (rules.functional) {
    PLOTS["mixtures of predictions against mixtures under edits"] = scatter("kl_explained", "int_r2", "share of predictions that mixtures over the vertices explain", "R² of edits as mixtures of those to the vertices", {lines: ruleLimits});
    Object.assign(COLUMNS, {mixtures: "kl_explained", edits: "int_r2"});
  }
  for (const mode of Object.keys(rules)) COLUMNS[mode] = mode;
  at("summary").textContent = data.summary;
  at("plot").replaceChildren(...Object.keys(PLOTS).map(name => element("option", name)));
  at("plot").addEventListener("change", () => { drawChart(); });
  at("filter").addEventListener("input", drawTable);
  at("modes").replaceChildren(...Object.keys(rules).map(mode => {
    const label = element("label"), radio = element("input", "", {type: "radio", name: "mode", value: mode, checked: mode === limits.mode});
    radio.addEventListener("change", () => { limits.mode = mode; drawSliders(); refresh(); });
    label.append(radio, ` ${mode}`);
    return label;
  }));
  at("copy").addEventListener("click", async () => {
    await navigator.clipboard.writeText(settings());
    at("copy").textContent = "Copied";
    setTimeout(() => { at("copy").textContent = "Copy settings"; }, 1500);
  });
  drawSliders();
  refresh();
  at("chart").on("plotly_click", event => { const id = event.points[0].customdata; if (id !== undefined) pick(id); });
  const first = data.clusters.find(c => c.selected);
  if (first) pick(first.id);
}

start();
