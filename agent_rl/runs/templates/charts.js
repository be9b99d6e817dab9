const COLOURS = 6;
const PAD = { left: 48, right: 12, top: 10, bottom: 24 };

function drawChart(chart) {
  const figure = element("figure", { class: "chart" });
  figure.append(element("figcaption", null, element("h4", null, chart.title),
    element("span", { class: "unit" }, chart.unit)));
  const svg = element("svg", { role: "img", "aria-label": describe(chart) });
  const tip = element("div", { class: "tip", hidden: true });
  figure.append(svg, legend(chart), tip);
  const view = { chart, svg, tip, figure };
  const redraw = () => paint(view);
  page.redraw.push(redraw);
  new ResizeObserver(redraw).observe(svg);
  svg.addEventListener("pointermove", (event) => hover(view, event));
  svg.addEventListener("pointerleave", () => { tip.hidden = true; view.cursor.setAttribute("visibility", "hidden"); });
  return figure;
}

function describe(chart) {
  const ends = chart.series.map((s) => {
    const [first, last] = [s.points[0], s.points[s.points.length - 1]];
    return `${s.label} from ${short(first[1])} at step ${first[0]} to ${short(last[1])} at step ${last[0]}`;
  });
  return `${chart.title}: ${ends.join("; ")}`;
}

function legend(chart) {
  const box = element("div", { class: "legend" });
  if (chart.series.length < 2 && !chart.band.length) return box;
  chart.series.forEach((series, n) => {
    box.append(element("span", null, element("i", { style: `background:var(--c${n % COLOURS})` }), series.label));
  });
  return box;
}

// Exponential moving average, corrected for its start as in Adam.
function smooth(points, weight) {
  let mean = 0;
  return points.map(([x, y], n) => {
    mean = weight * mean + (1 - weight) * y;
    return [x, mean / (1 - weight ** (n + 1))];
  });
}

// Series of a stacked chart as lower and upper edges; steps that one of them lacks count as 0 there.
function stack(series) {
  const steps = [...new Set(series.flatMap((s) => s.points.map((p) => p[0])))].sort((a, b) => a - b);
  let below = steps.map(() => 0);
  return series.map((s) => {
    const values = new Map(s.points);
    const above = steps.map((x, i) => below[i] + (values.get(x) || 0));
    const layer = { low: steps.map((x, i) => [x, below[i]]), high: steps.map((x, i) => [x, above[i]]) };
    below = above;
    return layer;
  });
}

function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const found = [];
  for (let n = first; n * step <= high + step * 1e-9; n += 1) found.push(Number((n * step).toPrecision(12)));
  return found;
}

function scales(view, layers) {
  const { chart, svg } = view;
  const width = Math.max(200, svg.clientWidth), height = svg.clientHeight || 190;
  const points = layers ? layers.flatMap((l) => [...l.low, ...l.high])
    : [...chart.series.flatMap((s) => s.points), ...chart.band.flatMap(([x, a, b]) => [[x, a], [x, b]])];
  const span = (index) => points.reduce(
    ([a, b], p) => [Math.min(a, p[index]), Math.max(b, p[index])], [Infinity, -Infinity]);
  let [x0, x1] = span(0), [y0, y1] = span(1);
  if (x0 === x1) { x0 -= 1; x1 += 1; }
  if (y0 > 0 && y0 < 0.4 * y1) y0 = 0;
  if (y0 === 0 && y1 === 0) y1 = 1;
  if (y1 - y0 < 1e-12 * Math.max(1, Math.abs(y1))) { const room = Math.abs(y1) * 0.5 || 1; y0 -= room; y1 += room; }
  const margin = (y1 - y0) * 0.04;
  if (y0 !== 0) y0 -= margin;
  y1 += margin;
  const x = (v) => PAD.left + ((v - x0) / (x1 - x0)) * (width - PAD.left - PAD.right);
  const y = (v) => height - PAD.bottom - ((v - y0) / (y1 - y0)) * (height - PAD.top - PAD.bottom);
  return { x, y, x0, x1, y0, y1, width, height };
}

function paint(view) {
  const { chart, svg } = view;
  if (!svg.clientWidth) return;
  const layers = chart.stacked ? stack(chart.series) : null;
  const s = scales(view, layers);
  view.scales = s;
  svg.setAttribute("viewBox", `0 0 ${s.width} ${s.height}`);
  const path = (points, close) => points.map(([a, b], n) =>
    `${n ? "L" : "M"}${s.x(a).toFixed(1)} ${s.y(b).toFixed(1)}`).join("") + (close ? "Z" : "");
  const parts = axes(s);
  if (chart.band.length > 1) {
    const edge = [...chart.band.map(([a, low]) => [a, low]), ...chart.band.map(([a, , high]) => [a, high]).reverse()];
    parts.push(element("path", { d: path(edge, true), fill: "var(--c0)", opacity: 0.16 }));
  }
  chart.series.forEach((series, n) => {
    const colour = `var(--c${n % COLOURS})`;
    if (layers) {
      const area = [...layers[n].low, ...[...layers[n].high].reverse()];
      parts.push(element("path", { d: path(area, true), fill: colour, opacity: 0.75 }));
      return;
    }
    parts.push(...curve(series.points, colour, path, s));
  });
  view.cursor = element("line", { class: "cursor", y1: PAD.top, y2: s.height - PAD.bottom, visibility: "hidden" });
  svg.replaceChildren(...parts, view.cursor);
}

// Dense curves are smoothed over a faint raw line; sparse ones are shown as measured, with dots.
function curve(points, colour, path, s) {
  const line = (data, more) => element("path", {
    d: path(data), fill: "none", stroke: colour, "stroke-width": 2, "stroke-linejoin": "round", ...more });
  if (points.length <= 25) {
    const dots = points.map(([a, b]) => element("circle", { cx: s.x(a), cy: s.y(b), r: 2.6, fill: colour }));
    return [line(points), ...dots];
  }
  if (page.smoothing === 0) return [line(points, { "stroke-width": 1.4 })];
  return [line(points, { "stroke-width": 1, opacity: 0.3 }), line(smooth(points, page.smoothing))];
}

function axes(s) {
  const parts = [];
  const label = (x, y, anchor, text) => element("text", { x, y, "text-anchor": anchor }, text);
  ticks(s.y0, s.y1, 5).forEach((v) => {
    parts.push(element("line", { class: "grid", x1: PAD.left, x2: s.width - PAD.right, y1: s.y(v), y2: s.y(v) }));
    parts.push(label(PAD.left - 7, s.y(v) + 4, "end", short(v)));
  });
  const bottom = s.height - PAD.bottom;
  ticks(s.x0, s.x1, 5).filter(Number.isInteger).forEach((v) => {
    parts.push(element("line", { class: "axis", x1: s.x(v), x2: s.x(v), y1: bottom, y2: bottom + 4 }));
    parts.push(label(s.x(v), bottom + 16, "middle", v.toLocaleString("en")));
  });
  parts.push(element("line", { class: "axis", x1: PAD.left, x2: s.width - PAD.right, y1: bottom, y2: bottom }));
  return parts;
}

function nearest(points, x) {
  return points.reduce((best, p) => (Math.abs(p[0] - x) < Math.abs(best[0] - x) ? p : best), points[0]);
}

function hover(view, event) {
  const { chart, svg, tip, figure, scales: s } = view;
  if (!s) return;
  const box = svg.getBoundingClientRect();
  const at = s.x0 + ((event.clientX - box.left - PAD.left) / (s.width - PAD.left - PAD.right)) * (s.x1 - s.x0);
  const step = nearest(chart.series.flatMap((one) => one.points), at)[0];
  const lines = [element("div", null, `step ${step.toLocaleString("en")}`)];
  chart.series.forEach((series) => {
    const found = series.points.find((p) => p[0] === step);
    if (found) lines.push(element("div", null, `${series.label}: ${short(found[1])}`));
  });
  const interval = chart.band.find((b) => b[0] === step);
  if (interval) lines.push(element("div", null, `interval: ${short(interval[1])} to ${short(interval[2])}`));
  tip.replaceChildren(...lines);
  tip.hidden = false;
  const x = s.x(step);
  view.cursor.setAttribute("x1", x);
  view.cursor.setAttribute("x2", x);
  view.cursor.setAttribute("visibility", "visible");
  const fits = x + 24 + tip.offsetWidth < figure.clientWidth;
  tip.style.left = `${fits ? x + 24 : Math.max(4, x - tip.offsetWidth)}px`;
  tip.style.top = "44px";
}
