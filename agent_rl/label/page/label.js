"use strict";
// Everything that a model or a file wrote becomes a text node, never markup.
const place = (id) => document.getElementById(id);
const KEYS = { 1: "left", ArrowLeft: "left", 2: "right", ArrowRight: "right", t: "tie", s: "skip", u: "undo" };
const page = { item: null, shownAt: 0, busy: false };

function annotator() {
  return new URLSearchParams(location.search).get("annotator") || "";
}

function headers(more) {
  const token = sessionStorage.getItem("token");
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

// One request at a time: a second press is dropped, and can never judge an item that was not seen.
async function ask(path, body) {
  if (page.busy) return;
  page.busy = true;
  document.body.setAttribute("aria-busy", "true");
  try {
    const options = body
      ? { method: "POST", headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify(body) }
      : { headers: headers({}) };
    const response = await fetch(path, options);
    const answer = await response.json();
    place("door").hidden = response.status !== 401;
    if (response.ok) show(answer);
    else say(answer.error ? answer.error.message : `the server says ${response.status}`);
  } catch (error) {
    say("The server does not answer, so nothing was saved. Is agent-rl label still running? Choose again to retry.");
  } finally {
    page.busy = false;
    document.body.removeAttribute("aria-busy");
  }
}

function load() {
  return ask(`/api/next?annotator=${encodeURIComponent(annotator())}`);
}

function choose(choice) {
  if (choice === "undo") return ask("/api/undo", { annotator: annotator() });
  if (page.item === null) return undefined;
  const seconds = (performance.now() - page.shownAt) / 1000;
  return ask("/api/choose", { annotator: annotator(), item: page.item.key, choice, seconds });
}

function say(text) {
  place("message").textContent = text;
  place("message").hidden = !text;
}

function turn(role, content) {
  const node = document.createElement("div");
  node.className = "turn";
  node.dir = "auto";
  if (role) {
    const name = document.createElement("div");
    name.className = "role";
    name.textContent = role;
    node.append(name);
  }
  node.append(document.createTextNode(content));
  return node;
}

function fill(id, turns) {
  place(id).replaceChildren(...turns);
  place(id).scrollTop = 0;
}

function show(state) {
  say(state.already ? "This one was judged before, perhaps in another tab; here is the next." : "");
  page.item = state.item;
  page.shownAt = performance.now();
  place("progress").textContent = `${state.done} of ${state.total}`;
  place("bar").max = Math.max(1, state.total);
  place("bar").value = state.done;
  if (document.activeElement !== place("annotator")) place("annotator").value = state.annotator;
  place("item").hidden = state.item === null;
  place("finished").hidden = state.item !== null;
  document.querySelectorAll("[data-choice]").forEach((button) => { button.disabled = state.item === null; });
  place("undo").disabled = state.done === 0;
  document.body.dataset.item = state.item === null ? "" : state.item.key;
  if (state.item === null) return;
  fill("prompt", state.item.prompt.map((message) => turn(message.role, message.content)));
  place("prompt").scrollTop = place("prompt").scrollHeight; // the last turn is what is answered
  fill("left", [turn("", state.item.left)]);
  fill("right", [turn("", state.item.right)]);
}

document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target instanceof HTMLInputElement) return;
  const choice = KEYS[event.key] || KEYS[event.key.toLowerCase()];
  if (!choice) return;
  event.preventDefault();
  choose(choice);
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.id === "undo") choose("undo");
  else if (button.dataset.choice) choose(button.dataset.choice);
});

place("door").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", place("token").value);
  place("token").value = "";
  load();
});

place("annotator").addEventListener("change", (event) => {
  location.search = new URLSearchParams({ annotator: event.target.value.trim() }).toString();
});

load();
