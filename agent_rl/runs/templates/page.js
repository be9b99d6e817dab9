// Elements are made by this function only: text becomes a text node, never markup.
function element(tag, attributes, ...children) {
  const node = tag === "svg" || element.svg.has(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}
element.svg = new Set(["g", "path", "line", "rect", "circle", "text", "title"]);

function short(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5) return value.toExponential(2);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  if (size >= 100) return value.toFixed(1).replace(/\.0$/, "");
  if (size < 1e-3) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

const page = {
  data: JSON.parse(document.getElementById("data").textContent),
  smoothing: 0.6,
  redraw: [],
};

document.addEventListener("DOMContentLoaded", () => {
  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  document.getElementById("smoothing").addEventListener("input", (event) => {
    page.smoothing = Number(event.target.value);
    page.redraw.forEach((draw) => draw());
  });
  document.querySelectorAll(".stage").forEach((section, index) => {
    const stage = page.data.stages[index];
    const place = (role) => section.querySelector(`[data-role="${role}"]`);
    stage.charts.forEach((chart) => place("charts").append(drawChart(chart)));
    if (stage.others.length) showOthers(place("others"), stage.others);
    if (stage.rollouts.steps.length || stage.rollouts.left_out) {
      place("rollouts").hidden = false;
      new Rollouts(place("rollouts"), stage.rollouts);
    }
  });
});

function showOthers(details, charts) {
  details.hidden = false;
  details.addEventListener("toggle", () => {
    charts.splice(0).forEach((chart) => details.lastElementChild.append(drawChart(chart)));
  });
}
