const PAGE_ROWS = 50;
const STATUS_CLASS = { correct: "good", wrong: "bad", error: "warn", over_limit: "warn" };
const COLUMNS = [
  { key: "step", label: "step", number: true },
  { key: "env", label: "environment" },
  { key: "task_id", label: "task" },
  { key: "sample", label: "sample", number: true },
  { key: "reward", label: "reward", number: true },
  { key: "advantage", label: "advantage", number: true },
  { key: "n_tokens", label: "tokens", number: true },
  { key: "kl", label: "KL", number: true },
  { key: "turns", label: "turns", number: true },
  { key: "status", label: "status" },
  { key: "finish_reason", label: "finish" },
  { key: "completion", label: "completion" },
];

class Rollouts {
  constructor(place, data) {
    this.data = data;
    this.rows = data.steps.flatMap(({ step, rows }) => rows.map((row) => ({ ...row, step })));
    this.filter = { step: data.steps.length ? data.steps[data.steps.length - 1].step : null, status: "", env: "", text: "" };
    this.sort = { key: null, up: true };
    this.shown = 0;
    this.space = true;
    this.place = place;
    this.columns = COLUMNS.filter(({ key }) => this.isUseful(key));
    this.build();
    this.refresh();
    const groups = this.matching();
    this.choose(groups.find((row) => this.members(row).some((m) => m.reward !== row.reward)) || groups[0]);
  }

  isUseful(key) {
    if (key === "step" || key === "completion") return true;
    const values = new Set(this.rows.map((row) => row[key]));
    values.delete(null);
    values.delete("");
    if (key === "env" || key === "turns") return values.size > 1;
    return values.size > 0;
  }

  build() {
    const distinct = (key) => [...new Set(this.rows.map((row) => row[key]).filter(Boolean))].sort();
    const choice = (label, key, values) => element("label", null, label, element("select", {
      onchange: (event) => { this.filter[key] = event.target.value; this.refresh(); },
    }, element("option", { value: "" }, "all"), values.map((v) => element("option", { value: v }, v))));
    this.steps = element("select", { "aria-label": "step", onchange: (event) => this.toStep(event.target.value) },
      this.data.steps.map(({ step }) => element("option", { value: step }, `step ${step}`)),
      element("option", { value: "" }, "all steps here"));
    this.back = element("button", { type: "button", "aria-label": "earlier step", onclick: () => this.move(-1) }, "‹");
    this.next = element("button", { type: "button", "aria-label": "later step", onclick: () => this.move(1) }, "›");
    const search = element("input", { type: "search", placeholder: "text in prompt or completion", "aria-label": "text",
      oninput: (event) => { this.filter.text = event.target.value.toLowerCase(); this.refresh(); } });
    const envs = distinct("env");
    this.count = element("span", { class: "unit" });
    const spaces = element("input", { type: "checkbox", checked: true,
      onchange: (event) => { this.space = event.target.checked; this.choose(this.chosen); } });
    this.head = element("tr");
    this.body = element("tbody");
    this.scroll = element("div", { class: "scroll", onscroll: () => this.fill() },
      element("table", { class: "list" }, element("thead", null, this.head), this.body));
    this.detail = element("div");
    this.place.append(element("h3", null, "Episodes"));
    if (this.data.left_out) this.place.append(element("p", { class: "hint" }, this.data.left_out));
    this.place.append(
      element("div", { class: "tools" }, this.back, this.steps, this.next, choice("status", "status", distinct("status")),
        envs.length > 1 ? choice("environment", "env", envs) : null, search, this.count,
        element("label", null, spaces, "show white space")),
      this.scroll, this.detail);
  }

  toStep(value) {
    this.filter.step = value === "" ? null : Number(value);
    this.refresh();
    this.choose(this.matching()[0]);
  }

  move(by) {
    const steps = this.data.steps.map(({ step }) => step);
    const at = steps.indexOf(this.filter.step);
    this.toStep(steps[Math.min(steps.length - 1, Math.max(0, at + by))]);
  }

  promptOf(row) { return this.data.prompts[row.prompt] || ""; }

  matching() {
    const { step, status, env, text } = this.filter;
    const rows = this.rows.filter((row) => (step === null || row.step === step)
      && (!status || row.status === status) && (!env || row.env === env)
      && (!text || `${this.promptOf(row)}\n${row.completion}`.toLowerCase().includes(text)));
    const { key, up } = this.sort;
    if (key === null) return rows;
    const sign = up ? 1 : -1;
    return rows.sort((a, b) => {
      const [x, y] = [a[key], b[key]];
      if (x === null || y === null) return (x === null) - (y === null);
      return sign * (typeof x === "number" ? x - y : String(x).localeCompare(String(y)));
    });
  }

  refresh() {
    this.found = this.matching();
    this.count.textContent = `${this.found.length.toLocaleString("en")} episodes`;
    this.steps.value = this.filter.step === null ? "" : this.filter.step;
    const steps = this.data.steps.map(({ step }) => step);
    this.back.disabled = this.filter.step === null || this.filter.step === steps[0];
    this.next.disabled = this.filter.step === null || this.filter.step === steps[steps.length - 1];
    this.head.replaceChildren(...this.columns.map((column) => this.heading(column)));
    this.body.replaceChildren();
    this.shown = 0;
    this.scroll.scrollTop = 0;
    this.fill();
    if (!this.found.length) {
      this.body.append(element("tr", null, element("td", { class: "empty", colspan: this.columns.length }, "No episode matches.")));
    }
  }

  heading(column) {
    const { key, up } = this.sort;
    const active = key === column.key;
    const arrow = active ? (up ? " ↑" : " ↓") : "";
    return element("th", { scope: "col", class: column.number ? "number" : "", "aria-sort": active ? (up ? "ascending" : "descending") : "none" },
      element("button", { type: "button", onclick: () => {
        this.sort = { key: column.key, up: active ? !up : !column.number };
        this.refresh();
      } }, column.label + arrow));
  }

  // Rows are made as they are scrolled to: thousands of them cost nothing until they are looked at.
  fill() {
    while (this.shown < this.found.length
      && (this.shown === 0 || this.scroll.scrollTop + this.scroll.clientHeight > this.scroll.scrollHeight - 300)) {
      const more = this.found.slice(this.shown, this.shown + PAGE_ROWS);
      this.shown += more.length;
      this.body.append(...more.map((row) => this.line(row)));
      if (!this.scroll.clientHeight) break;
    }
  }

  line(row) {
    const node = element("tr", { tabindex: 0, class: row === this.chosen ? "chosen" : "",
      onclick: () => this.choose(row), onkeydown: (event) => { if (event.key === "Enter") this.choose(row); } });
    node.append(...this.columns.map(({ key, number }) => this.cell(row, key, number)));
    node.row = row;
    return node;
  }

  cell(row, key, number) {
    if (key === "status") return element("td", null, chip(row.status));
    if (key === "completion") return element("td", { class: "excerpt" }, visible(row.completion.slice(0, 160), false));
    if (number) return element("td", { class: "number" }, key === "step" ? String(row.step) : short(row[key]));
    return element("td", { class: "word", title: row[key] }, visible(row[key], false));
  }

  members(row) {
    return this.rows.filter((other) => other.step === row.step && other.group === row.group && other.env === row.env);
  }

  choose(row) {
    this.chosen = row;
    [...this.body.children].forEach((node) => node.classList.toggle("chosen", node.row === row && row !== undefined));
    if (!row) { this.detail.replaceChildren(); return; }
    const members = row.group === null ? [row] : this.members(row);
    const alike = members.every((m) => m.prompt === row.prompt);
    this.detail.replaceChildren(
      element("h3", null, `Step ${row.step}, task `, visible(row.task_id || "?", false), `: ${members.length} sample${members.length === 1 ? "" : "s"}`),
      element("pre", { class: "prompt" }, visible(this.promptOf(row), this.space)),
      element("div", { class: "group" }, members.map((m) => this.sample(m, alike))));
    const chosen = this.detail.querySelector(".sample.chosen");
    if (chosen) chosen.parentElement.scrollLeft = chosen.offsetLeft - chosen.parentElement.offsetLeft;
  }

  sample(row, alike) {
    const pairs = [["reward", short(row.reward)], ["advantage", short(row.advantage)], ["KL", short(row.kl)],
      ["tokens", short(row.n_tokens)], ["turns", row.turns > 1 ? String(row.turns) : null], ["finish", row.finish_reason]];
    const parts = Object.entries(row.parts || {}).map(([name, value]) => [`part ${name}`, short(value)]);
    const facts = [...pairs, ...parts].filter(([, value]) => value && value !== "–");
    return element("article", { class: row === this.chosen ? "sample chosen" : "sample" },
      element("header", null, element("h4", null, `sample ${row.sample === null ? "" : row.sample}`), chip(row.status)),
      element("dl", null, facts.flatMap(([name, value]) => [element("dt", null, visible(name, false)), element("dd", null, visible(value, false))])),
      row.reason ? element("p", { class: "reason" }, visible(row.reason, false)) : null,
      alike ? null : element("pre", { class: "text" }, visible(this.promptOf(row), this.space)),
      element("pre", { class: "text" }, this.content(row)));
  }

  content(row) {
    if (row.tokens) return coloured(row.tokens, this.space);
    if (row.messages) {
      return row.messages.flatMap((m) => [element("span", { class: "role" }, visible(m.role, false)), ...visible(m.content, this.space)]);
    }
    return visible(row.completion, this.space);
  }
}

function chip(status) {
  return status ? element("span", { class: `chip ${STATUS_CLASS[status] || ""}` }, visible(status, false)) : "";
}

// Text as nodes: control and text-direction characters are always shown by code, white space on demand.
function visible(text, space) {
  const kinds = space
    ? /( +|\t|\n|[\x00-\x08\x0b-\x1f\x7f-\x9f\u00a0\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff])/
    : /([\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff])/;
  return String(text).split(kinds).filter((piece) => piece !== "").map((piece) => {
    if (!kinds.test(piece)) return piece;
    if (piece[0] === " ") return element("span", { class: "space" }, "·".repeat(piece.length));
    if (piece === "\t") return element("span", { class: "space" }, "→\t");
    if (piece === "\n") return element("span", { class: "space" }, "↵\n");
    return element("span", { class: "control" }, `U+${piece.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`);
  });
}

// [text, sampled by the policy, logprob, advantage]: blue where the advantage is above 0, orange below.
function coloured(tokens, space) {
  const most = Math.max(1e-9, ...tokens.map((t) => Math.abs(t[3] || 0)));
  return tokens.map(([text, sampled, logprob, advantage]) => {
    const strength = Math.round(45 * Math.abs(advantage || 0) / most);
    const colour = advantage < 0 ? "var(--c1)" : "var(--c0)";
    const style = sampled && advantage ? `background:color-mix(in srgb, ${colour} ${strength}%, transparent)` : null;
    const title = sampled ? `log-probability ${short(logprob)}, advantage ${short(advantage)}` : "not sampled by the policy";
    return element("span", { class: sampled ? "token" : "token given", style, title }, visible(text, space));
  });
}
