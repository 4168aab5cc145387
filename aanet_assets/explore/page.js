"use strict";
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#6a3d9a", "#444444"];
const STEP = 0.02, LARGE_STEP = 0.1;
const by = id => document.getElementById(id);
let study, shown = null, point = null;

function element(name, content, properties = {}) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(content);
  return made;
}

function drawn(name, attributes, content = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(content);
  return made;
}

async function ask(path, asked) {
  let answer;
  try {
    const options = {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(asked)};
    answer = await fetch(path, asked ? options : {});
  } catch {
    throw new Error("the server does not answer: start it again with aanet serve");
  }
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  return content;
}

// One request at a time; of those that come meanwhile, only the last is still of interest.
function latest(work) {
  let busy = false, next = null;
  return async function run(...given) {
    if (busy) { next = given; return; }
    busy = true;
    try { await work(...given); } catch (error) { by("problem").textContent = error.message; }
    busy = false;
    if (next) { const again = next; next = null; run(...again); }
  };
}

const which = () => ({n: Number(by("n").value), cluster: Number(by("cluster").value), k: Number(by("k").value), text: by("text").value});
const clustering = () => study.clusterings.find(one => one.n === Number(by("n").value));

function fill(select, values, name = String) {
  select.replaceChildren(...values.map(value => element("option", name(value), {value})));
}

function chooseN() {
  const one = clustering(), selected = Object.keys(one.selected).map(Number);
  const others = [...Array(one.n).keys()].filter(id => !selected.includes(id));
  fill(by("cluster"), [...selected, ...others], id => id in one.selected ? `${id} (selected, k = ${one.selected[id]})` : `${id}`);
  by("note").textContent = one.problem ?? "";
  chooseCluster();
}

function chooseCluster() {
  by("k").value = clustering().selected[by("cluster").value] ?? (study.ks.includes(3) ? 3 : study.ks[0]);
  chosen();
}

function chosen() {
  point = null;
  refresh();
}

const refresh = latest(async () => {
  const asked = which();
  shown = null;
  if (!asked.text.trim()) {
    clear("type a prompt");
    return;
  }
  try { shown = {...await ask("/api/project", asked), text: asked.text}; } catch (error) { clear(error.message); return; }
  const active = shown.tokens.filter(token => token.b);
  by("problem").textContent = active.length ? "" : "The cluster is active at no token of this prompt.";
  drawTokens();
  by("how").textContent = `${shown.name}: ${active.length} of ${shown.tokens.length} tokens are active. ` +
    (shown.k <= 3 ? "Drag the large point, or move it with the arrow keys (with Shift in larger steps)." : "For more than three vertices, use the buttons.");
  if (!active.length) { point = null; drawSimplex(); by("put").replaceChildren(); by("next").tBodies[0].replaceChildren(); by("edit").textContent = ""; return; }
  point = inside(active.at(-1).b);
  by("put").replaceChildren(...COLOURS.slice(0, shown.k).map((_, i) =>
    element("button", `put at vertex ${i}`, {type: "button", onclick: () => move(corner(i))})));
  drawSimplex();
  edit();
});

function clear(message) {
  shown = point = null;
  by("problem").textContent = message;
  for (const id of ["tokens", "legend", "simplex", "put"]) by(id).replaceChildren();
  by("next").tBodies[0].replaceChildren();
  by("how").textContent = by("edit").textContent = "";
}

const edit = latest(async () => {
  if (!shown || !point) return;
  const at = point, of = shown;
  const found = await ask("/api/put", {...which(), text: of.text, b: at});
  if (of !== shown) return;
  const most = Math.max(...found.tokens.flatMap(token => [token.before, token.after]));
  by("next").tBodies[0].replaceChildren(...found.tokens.map(token => {
    const row = element("tr", element("td", token.token));
    for (const value of [token.before, token.after]) row.append(element("td", value.toFixed(3)));
    const bars = element("td", "", {className: "bar"});
    for (const value of [token.before, token.after]) {
      const bar = element("div", "");
      bar.style.width = `${100 * value / most}%`;
      bars.append(bar);
    }
    row.append(bars);
    return row;
  }));
  by("edit").textContent = `What the cluster writes at the last active token is replaced by the point (${at.map(x => x.toFixed(2)).join(", ")}); the layers above are run. Grey: before, blue: after.`;
});

const colour = vertex => COLOURS[vertex % COLOURS.length];

function drawTokens() {
  const parts = [], text = shown.text, placed = shown.tokens.some(token => token.start !== null);
  const span = (content, token) => {
    const made = element("span", content, {className: token.b ? "active" : "", title: token.b ? `nearest vertex ${token.vertex_id}: ${token.b.map(x => x.toFixed(2)).join(", ")}` : ""});
    if (token.b) { made.style.color = colour(token.vertex_id); made.style.borderColor = colour(token.vertex_id); }
    return made;
  };
  // JavaScript counts characters beyond the first plane twice; the server counts them once.
  const characters = Array.from(text);
  let end = 0, last = null;
  for (const token of shown.tokens) {
    if (!placed) { parts.push(span(token.token, token)); continue; }
    if (token.start === null) continue;
    // Pieces of one character: it is shown once, as the last active one.
    if (token.end <= end) { if (token.b && last) { const again = span(last.textContent, token); parts[parts.length - 1] = last = again; } continue; }
    parts.push(characters.slice(end, token.start).join(""));
    last = span(characters.slice(Math.max(token.start, end), token.end).join(""), token);
    parts.push(last);
    end = token.end;
  }
  if (placed) parts.push(characters.slice(end).join(""));
  by("tokens").replaceChildren(...parts);
  by("legend").replaceChildren(...[...Array(shown.k).keys()].map(i => {
    const made = element("span", `vertex ${i}`);
    made.style.color = colour(i);
    return made;
  }));
}

const corner = i => [...Array(shown.k).keys()].map(j => Number(i === j));

// Where the vertices are drawn: on a line, at the corners of a triangle, or of a regular polygon.
function corners(k) {
  if (k === 2) return [[0, 0.5], [1, 0.5]];
  if (k === 3) return [[0, 0.95], [1, 0.95], [0.5, 0.95 - Math.sqrt(0.75)]];
  return [...Array(k).keys()].map(i => {
    const angle = 2 * Math.PI * (i + 0.5) / k;
    return [0.5 + 0.5 * Math.sin(angle), 0.48 - 0.48 * Math.cos(angle)];
  });
}

function place(b) {
  const at = corners(b.length);
  return [0, 1].map(axis => b.reduce((sum, x, i) => sum + x * at[i][axis], 0));
}

function coordinates([x, y], k) {
  const at = corners(k);
  if (k === 2) return [1 - x, x];
  const height = (at[0][1] - y) / (at[0][1] - at[2][1]);
  const right = x - height / 2;
  return [1 - right - height, right, height];
}

function inside(b) {
  const positive = b.map(x => Math.max(x, 0)), total = positive.reduce((a, x) => a + x, 0);
  return positive.map(x => x / total);
}

function drawSimplex() {
  const svg = by("simplex"), at = corners(shown.k), hadFocus = document.activeElement?.classList.contains("point");
  svg.replaceChildren();
  for (let i = 0; i < shown.k; i++)
    for (let j = 0; j < i; j++)
      svg.append(drawn("line", {class: "edge", x1: at[i][0], y1: at[i][1], x2: at[j][0], y2: at[j][1]}));
  at.forEach(([x, y], i) => svg.append(drawn("text", {x, y: y + (y > 0.6 ? 0.09 : -0.05), "text-anchor": "middle", fill: colour(i)}, `vertex ${i}`)));
  const active = shown.tokens.filter(token => token.b), places = active.map(token => place(token.b));
  svg.append(drawn("polyline", {class: "path", points: places.map(p => p.join(",")).join(" ")}));
  active.forEach((token, i) => {
    const [x, y] = places[i];
    const dot = drawn("circle", {class: "dot", cx: x, cy: y, r: 0.014, fill: colour(token.vertex_id)});
    dot.append(drawn("title", {}, `${i + 1}: ${token.token}`));
    svg.append(dot, drawn("text", {class: "token", x: x + 0.02, y: y - 0.015}, `${i + 1} ${token.token.trim()}`));
  });
  if (!point) return;
  const [cx, cy] = place(point);
  const handle = drawn("circle", {
    class: "point", cx, cy, r: 0.028, tabindex: 0, role: "application",
    "aria-label": `Where the last active token is put: ${point.map((x, i) => `${x.toFixed(2)} of vertex ${i}`).join(", ")}. Arrow keys move it.`,
  });
  svg.append(handle);
  if (hadFocus) handle.focus();
}

function move(b) {
  point = inside(b);
  drawSimplex();
  edit();
}

const canMove = () => shown && point && shown.k <= 3;

by("simplex").addEventListener("keydown", event => {
  const [dx, dy] = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key] ?? [0, 0];
  if (!canMove() || (!dx && !dy)) return;
  event.preventDefault();
  const size = event.shiftKey ? LARGE_STEP : STEP, [x, y] = place(point);
  move(coordinates([x + size * dx, y + size * dy], shown.k));
});

by("simplex").addEventListener("pointerdown", event => {
  if (!canMove() || !event.target.classList.contains("point")) return;
  event.preventDefault();
  const svg = by("simplex");
  svg.setPointerCapture(event.pointerId);
  const drag = moved => {
    const at = new DOMPoint(moved.clientX, moved.clientY).matrixTransform(svg.getScreenCTM().inverse());
    move(coordinates([at.x, at.y], shown.k));
  };
  svg.addEventListener("pointermove", drag);
  const end = () => {
    svg.removeEventListener("pointermove", drag);
    svg.querySelector(".point")?.focus();
  };
  for (const name of ["pointerup", "pointercancel"]) svg.addEventListener(name, end, {once: true});
});

by("which").addEventListener("submit", event => event.preventDefault());
by("n").addEventListener("change", chooseN);
by("cluster").addEventListener("change", chooseCluster);
by("k").addEventListener("change", chosen);
by("text").addEventListener("input", refresh);

latest(async () => {
  study = await ask("/api/study");
  by("study").textContent = study.study;
  document.title = `aanet: ${study.study}`;
  fill(by("n"), study.clusterings.map(one => one.n));
  fill(by("k"), study.ks);
  const first = study.clusterings.find(one => Object.keys(one.selected).length) ?? study.clusterings[0];
  by("n").value = first.n;
  chooseN();
  by("text").focus();
})();
