"use strict";
// What the model does with a cluster's simplex, drawn from the numbers that come with the page.
const SHADES = [[227, 234, 242], [122, 156, 198], [33, 102, 172], [11, 36, 71]], OWN = "#c51b7d";
// Where vertices are drawn: the triangle as above, the tetrahedron as one sees it, and what has more of them as a polygon.
const CORNERS = {3: [[0.5, 0], [0, 0.87], [1, 0.87]], 4: [[0.45, 0], [0, 0.7], [0.6, 0.92], [1, 0.56]]};
const HIDDEN = "1-3";
const STEERED = {
  reached: "put at another vertex", true_reached: "the same, to the prediction of a known state", random: "moved as far in a random direction",
  random_in_span: "the same within the cluster's subspace", other_cluster: "moved along another cluster's edge", removed: "nothing put in its place",
};

function svg(name, attributes = {}, ...parts) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...parts);
  return made;
}

const picture = (width, height, label, ...parts) => svg("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label}, ...parts);
const segment = (x1, y1, x2, y2, more = {}) => svg("line", {x1, y1, x2, y2, stroke: "#444", ...more});
const words = (x, y, text, more = {}) => svg("text", {x, y, ...more}, String(text));
const spot = (cx, cy, told, more = {}) => svg("circle", {cx, cy, ...more}, svg("title", {}, told));
const cut = (text, most = 18) => text.length > most ? `${text.slice(0, most - 1)}…` : text;
const hint = text => element("p", text, {className: "hint"});
const between = (value, low, high, from, to) => high > low ? from + (value - low) / (high - low) * (to - from) : (from + to) / 2;

function shade(share) {
  const at = Math.min(Math.max(share, 0), 1) * (SHADES.length - 1), i = Math.min(Math.floor(at), SHADES.length - 2);
  return `rgb(${SHADES[i].map((from, channel) => Math.round(from + (SHADES[i + 1][channel] - from) * (at - i)))})`;
}

// All of it for one cluster; nothing in studies that do not ask the model.
function functionalPart(c) {
  const part = element("div", "", {className: "use"}), own = data.functional?.clusters[c.id];
  if (!own) return part;
  part.append(element("h2", "What the model does with this simplex"), hint("The simplex here is the smallest one around the cluster's rows, at the k that fits best; " +
    "its vertices v0, v1, … have numbers of their own, which need not be those of the AANet's."));
  part.append(element("h3", "The verdict's statistics beside null clusters"), hint("Grey: null clusters, those nearest in size. Diamond: this cluster. Dashed: the limit; " +
    "the shaded side passes. Values beyond the ends are drawn at them."), element("div", "", {id: "strips"}));
  part.append(...tokenParts(own), ...chainParts(own), ...steeringParts(own));
  return part;
}

function tokenParts({tokens, doses, tokensReason}) {
  const title = element("h3", "Next-token probabilities over the simplex");
  if (!doses.length) return [title, hint(`Not known: ${tokensReason}.`)];
  const figures = element("div", "", {className: "maps"});
  doses.forEach((dose, rank) => {
    const figure = element("figure"), name = `'${cut(dose.token)}'${dose.others ? ` or one of ${dose.others} other tokens` : ""}`;
    figure.append(element("figcaption", `probability that ${name} is next`, {title: dose.token}), tokenMap(tokens, rank), doseCurve(dose));
    figures.append(figure);
  });
  const k = tokens.points[0].length;
  const flat = k === 2 ? " Of two vertices, height is the probability, too." : k > 3 ? " Of more than three vertices it is a projection: the pointer tells a token's coordinates." : "";
  return [title, hint(`Above: held-out tokens where they lie in the simplex; the darker, the likelier this next token.${flat} ` + "Below: the model's prediction with points of one edge " +
    "put in the place of what the cluster writes: mean of the edited tokens, and shaded 80% of them. Dashed: the straight line that a mixture of both ends gives."), figures];
}

function tokenMap({points, p}, rank) {
  const k = points[0].length, values = p.map(own => own[rank] / 10000), [low, high] = [Math.min(...values), Math.max(...values)];
  const told = i => `${points[i].map((b, j) => `v${j} ${b / 1000}`).join(", ")}: ${values[i]}`;
  const dot = (x, y, i) => spot(x, y, told(i), {r: 2.6, fill: shade(between(values[i], low, high, 0, 1)), stroke: "#0b2447", "stroke-width": 0.25, class: "token"});
  const label = `held-out tokens in a simplex of ${k} vertices by probability`;
  if (k === 2) {
    return picture(220, 206, label, segment(46, 180, 206, 180), ...points.map((b, i) => dot(between(b[1], 0, 1000, 46, 206), between(values[i], low, high, 172, 12), i)),
      words(42, 176, show(low, 2), {"text-anchor": "end"}), words(42, 16, show(high, 2), {"text-anchor": "end"}),
      words(46, 196, "v0", {"text-anchor": "middle"}), words(206, 196, "v1", {"text-anchor": "middle"}));
  }
  const corners = (CORNERS[k] ?? Array.from({length: k}, (_, i) => [0.5 + 0.5 * Math.sin(2 * Math.PI * i / k), 0.46 - 0.46 * Math.cos(2 * Math.PI * i / k)]))
    .map(([x, y]) => [24 + 172 * x, 20 + 172 * y]);
  const edges = corners.flatMap((from, i) => corners.slice(i + 1).map((to, j) => {
    const behind = k > 4 || (k === 4 && `${i}-${i + j + 1}` === HIDDEN);
    return segment(...from, ...to, {"stroke-width": 0.8, ...(behind ? {"stroke-dasharray": "2 3"} : {})});
  }));
  const [middleX, middleY] = [0, 1].map(axis => corners.reduce((sum, corner) => sum + corner[axis], 0) / k);
  const names = corners.map(([x, y], i) => {
    const away = Math.hypot(x - middleX, y - middleY);
    return words(x + 11 * (x - middleX) / away, y + 11 * (y - middleY) / away + 4, `v${i}`, {"text-anchor": "middle"});
  });
  const dots = points.map((b, i) => {
    const sum = b.reduce((a, value) => a + value, 0), place = axis => b.reduce((a, value, j) => a + value * corners[j][axis], 0) / sum;
    return dot(place(0), place(1), i);
  });
  const scale = Array.from({length: 24}, (_, i) => svg("rect", {x: 62 + 4 * i, y: 201, width: 4.2, height: 7, fill: shade(i / 23)}));
  return picture(220, 216, label, ...edges, ...dots, ...names, ...scale,
    words(58, 208, show(low, 2), {"text-anchor": "end"}), words(162, 208, show(high, 2)));
}

function doseCurve({coordinate, probability, low, high, mixture, from, to}) {
  const all = [...low, ...high, ...mixture], [least, most] = [Math.min(...all), Math.max(...all)];
  const x = value => between(value, 0, 1, 46, 206), y = value => between(value, least, most, 104, 10);
  const path = (values, places) => values.map((value, i) => `${x(places[i])},${y(value)}`);
  const band = [...path(high, coordinate), ...path(low, coordinate).reverse()].join(" ");
  return picture(220, 138, `probability along the edge from v${from} to v${to}`, segment(46, 110, 206, 110), segment(46, 8, 46, 110),
    svg("polygon", {points: band, fill: "rgba(33,102,172,.18)"}),
    svg("polyline", {points: path(mixture, coordinate).join(" "), fill: "none", stroke: "#444", "stroke-dasharray": "4 3", class: "mixture"}),
    ...coordinate.map((b, i) => spot(x(b), y(probability[i]), `v${to} ${b}: ${probability[i]}, a mixture ${mixture[i]}`, {r: 2.6, fill: "#2166ac", class: "dose"})),
    words(42, 108, show(least, 2), {"text-anchor": "end"}), words(42, 16, show(most, 2), {"text-anchor": "end"}),
    words(46, 124, `v${from}`, {"text-anchor": "middle"}), words(206, 124, `v${to}`, {"text-anchor": "middle"}),
    words(126, 124, `coordinate of v${to}`, {"text-anchor": "middle"}));
}

function chainParts({chain, chainReason}) {
  const title = element("h3", "The hidden chain: how its states follow one another");
  if (!chain) return [title, hint(`Not known: ${chainReason}.`)];
  const matrices = element("div", "", {className: "chains"});
  matrices.append(matrix("found, with 95% intervals", chain.probability, chain.low, chain.high));
  if (chain.true) matrices.append(matrix("in the known process", chain.true));
  return [title, hint("Probability of moving from the row's vertex to the column's with one token, as long as the cluster stays active."), matrices];
}

function matrix(title, values, low, high) {
  const k = values.length, wide = 66, tall = 36, cells = values.flatMap((row, i) => row.map((value, j) => {
    const x = 24 + wide * j, y = 18 + tall * i, middle = {"text-anchor": "middle", style: `fill: ${value > 0.45 ? "#fff" : "#222"}`};
    const interval = low ? [words(x + wide / 2, y + 29, `${low[i][j].toFixed(3)}–${high[i][j].toFixed(3)}`, {...middle, class: "small"})] : [];
    return svg("g", {class: "cell"}, svg("rect", {x, y, width: wide - 1, height: tall - 1, fill: shade(value * 0.8)}),
      words(x + wide / 2, y + (low ? 16 : 22), value.toFixed(3), middle), ...interval);
  }));
  const names = values.flatMap((_, i) => [words(20, 40 + tall * i, `v${i}`, {"text-anchor": "end"}), words(24 + wide * (i + 0.5), 13, `v${i}`, {"text-anchor": "middle"})]);
  const figure = element("figure"), drawn = picture(26 + wide * k, 20 + tall * k, title, ...names, ...cells);
  drawn.style.width = `${26 + wide * k}px`;
  figure.append(element("figcaption", title), drawn);
  return figure;
}

function steeringParts({steering, steeringReason}) {
  const title = element("h3", "Steering: tokens near one vertex, put at another");
  if (!steering) return [title, hint(`Not known: ${steeringReason}.`)];
  const rows = Object.entries(STEERED).filter(([name]) => name !== "true_reached" || steering[name] !== null).map(([name, said]) => {
    const value = steering[name], row = element("div", "", {className: "row steered"}), x = share => between(share, -1, 1, 6, 294);
    const bar = value === null ? [] : [svg("rect", {x: x(Math.min(Math.max(value, -1), 0)), y: 3, width: Math.abs(x(Math.min(Math.max(value, -1), 1)) - x(0)), height: 10, fill: name.endsWith("reached") ? OWN : "#999"})];
    const beyond = value !== null && value < -1 ? [svg("polygon", {points: "0,8 6,2 6,14", fill: "#999"})] : [];
    row.append(element("span", said), picture(300, 16, said, segment(x(0), 0, x(0), 16), segment(x(1), 0, x(1), 16, {"stroke-dasharray": "2 2"}), ...bar, ...beyond),
      element("span", value === null ? "not known: there is no other cluster" : show(value, 3)));
    row.dataset.steered = name;
    return row;
  });
  return [title, hint("Share of the way from the prediction before to that at the vertex steered to: 0 is no change, 1 (dotted) is all of it, less than 0 is away from it. " +
    "Grey bars are controls; an arrow stands for a bar that goes on."), ...rows];
}

// Again whenever a limit changes.
function drawStrips() {
  const where = at("strips");
  if (!where) return;
  const c = byId.get(picked), {nulls, clusters, nearest} = data.functional, {statistics} = clusters[c.id];
  where.replaceChildren(...data.rules.functional.rules.filter(rule => rule.setting && statistics[rule.column]).map(({column, comparison, setting, name}) => {
    const row = element("div", "", {className: "row strip"}), value = c[column], limit = limits[setting], {p, q, reason, noP} = statistics[column];
    const said = element("span", name.replace("{limit}", show(limit)));
    said.append(element("small", column));
    row.dataset.statistic = column;
    row.append(said);
    if (value === null) {
      row.append(element("span", `not known: ${reason || "it has no value"}`, {className: "reason"}));
      return row;
    }
    const apart = i => Math.abs(Math.log(nulls.n_latents[i] / c.latents.length));
    const cloud = [...nulls[column].keys()].filter(i => nulls[column][i] !== null).sort((i, j) => apart(i) - apart(j) || i - j).slice(0, nearest).map(i => nulls[column][i]);
    const number = element("span", show(value, 3, limit));
    number.append(element("small", p === null ? `no p-value: ${noP}` : `p ${show(p, 2)}, q ${show(q, 2)}`));
    row.append(strip(value, limit, comparison, cloud), number);
    return row;
  }));
}

function strip(value, limit, comparison, cloud) {
  const sorted = [...cloud].sort((a, b) => a - b), quantile = share => sorted.length ? sorted[Math.round(share * (sorted.length - 1))] : value;
  const [least, most] = [Math.min(value, limit, quantile(0.05)), Math.max(value, limit, quantile(0.95))];
  const x = at => Math.min(Math.max(between(at, least, most, 12, 288), 5), 295), upwards = comparison === ">=";
  return picture(300, 34, "this cluster among null clusters",
    svg("rect", {x: upwards ? x(limit) : 0, y: 0, width: upwards ? 300 - x(limit) : x(limit), height: 22, fill: "#e6f2e8"}), segment(0, 22, 300, 22, {stroke: "#bbb"}),
    ...cloud.map((at, i) => svg("circle", {cx: x(at), cy: 4 + 14 * (i * 0.618 % 1), r: 1.8, fill: "#666", "fill-opacity": 0.45, class: "null"})),
    segment(x(limit), 0, x(limit), 22, {"stroke-dasharray": "3 2"}),
    svg("polygon", {points: `${x(value)},4 ${x(value) + 5},11 ${x(value)},18 ${x(value) - 5},11`, fill: OWN, stroke: "#fff"}),
    words(0, 32, show(least, 2), {class: "small"}), words(300, 32, show(most, 2), {class: "small", "text-anchor": "end"}));
}
