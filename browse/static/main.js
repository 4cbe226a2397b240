// The page: its address says what it shows; this goes from one state to the next, and hands keys on.

import { get, post } from "./api.js";
import { byId, el, plural, showDialog, toast } from "./dom.js";
import { openFilters, startFilters } from "./filters.js";
import { imageKey, refresh, shownImage, showImage, startImage } from "./image.js";
import { isSelecting, select, showList, startList, togglePlain, turnPage } from "./list.js";
import { PAGE, address, annotator, readAddress, setAnnotator, state } from "./state.js";

const LOOK_EVERY_MS = 4000;
const steps = []; // lists of {id, seen}, the last step at the end

const KEYS = [
  ["← →", "the image before, the next one; in the list, the page"],
  ["Enter", "confirm what is left of an image, and go on"],
  ["n p", "select the next mask, or the one before"],
  ["e", "select every mask that is shown"],
  ["c", "confirm the selected masks"],
  ["x", "delete them, or restore deleted ones"],
  ["r", "rename them"],
  ["1 … 9", "rename them to the class of that number"],
  ["a", "add a mask by clicks"],
  ["z", "undo your last step"],
  ["m", "hide or show masks"],
  ["+ − 0", "zoom in, out, and back"],
  ["s", "select several images in the list"],
  ["/", "search ids"],
  ["Esc", "back"],
];

// ---- states -----------------------------------------------------------------------------------------------------------

// Go to another state of the page; what is not named stays.
function go(change, replace = false) {
  Object.assign(state, change);
  if (change.image === null && state.at !== null) state.first = Math.floor(state.at / PAGE) * PAGE;
  if (change.image === null) state.at = null;
  if (replace) history.replaceState(null, "", address());
  else history.pushState(null, "", address());
  show();
}

function show() {
  const looks = state.image !== null;
  byId("list-view").hidden = looks;
  byId("image-view").hidden = !looks;
  document.title = looks ? `${state.image} · everymask` : "everymask";
  if (looks) showImage();
  else showList();
}

// ---- taking steps back ------------------------------------------------------------------------------------------------

function remember(images) {
  steps.push(images.map((image) => ({ id: image.id, seen: image.seen })));
  if (images.length > 1) toast(`Kept of ${plural(images.length, "image")}.`, { action: { label: "Undo", run: undo } });
}

state.canUndo = () => steps.length > 0 || shownImage()?.corrected?.by === annotator();
state.undo = undo;

async function undo() {
  const shown = shownImage();
  const mine = shown?.corrected?.by === annotator() ? [{ id: shown.id, seen: shown.seen }] : null;
  const last = steps.pop() ?? mine;
  if (!last) {
    toast("There is no step of yours to take back.");
    return;
  }
  const failed = [];
  for (const { id, seen } of last) {
    try {
      const { images: [outcome] } = await post("/api/undo", { annotator: annotator(), id, seen });
      if (outcome.error) failed.push(outcome.error);
      else {
        // Earlier steps on this image stand on this one now.
        for (const step of steps) for (const one of step) if (one.id === id) one.seen = outcome.image.seen;
        refresh(outcome.image);
      }
    } catch (error) {
      failed.push(error.message);
    }
  }
  if (failed.length) toast(`Not taken back: ${failed[0]}`, { bad: true });
  else if (last.length > 1) toast(`Taken back on ${plural(last.length, "image")}.`);
  else if (last[0].id !== state.image) toast("Taken back.", { action: { label: "Look", run: () => go({ image: last[0].id, at: null }) } });
  if (state.image === null) showList();
}

// ---- head of the page -------------------------------------------------------------------------------------------------

function showHead() {
  const { facts } = state;
  const { totals } = facts;
  byId("store").replaceChildren(el("bdi", {}, facts.store));
  byId("store").title = facts.store;
  const done = totals.finished ? `${totals.finished.toLocaleString("en")} finished` : "";
  const conflicts = totals.conflicts ? ` · ${plural(totals.conflicts, "conflict")}` : "";
  byId("progress").textContent = facts.reading ? `reading ${facts.reading[0].toLocaleString("en")} of ${facts.reading[1].toLocaleString("en")} parts` : done + conflicts;
  byId("who").textContent = `as ${annotator()}`;
  const notice = byId("list-notice");
  notice.hidden = !facts.problems.length;
  notice.textContent = facts.problems.slice(0, 3).join(" ");
}

async function look() {
  try {
    const before = state.facts;
    state.facts = await get("/api/store");
    showHead();
    const another = before && (before.epoch !== state.facts.epoch || before.totals.images !== state.facts.totals.images);
    if (another && state.image === null) await showList();
  } catch (error) {
    byId("progress").textContent = error.message;
  }
  setTimeout(look, state.facts?.reading ? 1000 : LOOK_EVERY_MS);
}

function showHelp() {
  const rows = KEYS.flatMap(([keys, words]) => [el("span", {}, ...keys.split(" ").map((key) => (key === "…" ? " … " : el("kbd", {}, key)))), el("span", {}, words)]);
  const hint = "Click a mask to select it, shift-click for several; shift-click a class to select all of it. The wheel zooms.";
  showDialog(el("h2", {}, "Keys"), el("div", { class: "keys" }, ...rows), el("p", { class: "hint" }, hint));
}

function askWho() {
  const input = el("input", { value: annotator(), "aria-label": "Name", maxlength: 100, required: true });
  const form = el("form", { method: "dialog", onsubmit: () => { setAnnotator(input.value.trim() || annotator()); showHead(); } },
    el("h2", {}, "Whose corrections are these?"), input,
    el("div", { class: "buttons" }, el("button", { class: "first" }, "Keep")));
  showDialog(form);
  input.select();
}

// ---- keys -------------------------------------------------------------------------------------------------------------

function onKey(event) {
  const typing = event.target.matches?.("input, select, textarea");
  if (byId("dialog").open || event.altKey) return;
  const undoes = event.key === "z" && !typing;
  if ((event.ctrlKey || event.metaKey) && !undoes) return;
  if (typing && event.key !== "Escape") return;
  if (typing) event.target.blur();
  else if (state.image !== null && imageKey(event)) event.preventDefault();
  else if (undoes) undo();
  else if (event.key === "?") showHelp();
  else if (state.image === null && listKey(event)) event.preventDefault();
}

function listKey({ key, target }) {
  const doing = {
    ArrowLeft: () => turnPage(-1),
    ArrowRight: () => turnPage(1),
    PageUp: () => turnPage(-1),
    PageDown: () => turnPage(1),
    m: togglePlain,
    s: () => select(!isSelecting()),
    Escape: () => isSelecting() && select(false),
    "/": () => byId("filters").querySelector("[name=text]").focus(),
  }[key];
  if (!doing || (key.startsWith("Page") && target !== document.body)) return false;
  doing();
  return true;
}

// ---- start ------------------------------------------------------------------------------------------------------------

startFilters((query) => go({ query, first: 0, list: "" }));
startList(go, remember);
startImage(go, remember);
byId("open-filters").addEventListener("click", () => openFilters(!byId("filters").classList.contains("open")));
byId("filters").addEventListener("click", (event) => event.target.closest(".done") && openFilters(false));
byId("open-help").addEventListener("click", showHelp);
byId("who").addEventListener("click", askWho);
byId("home").addEventListener("click", (event) => {
  event.preventDefault();
  go({ query: {}, first: 0, image: null, at: null, list: "" });
});
byId("dialog").addEventListener("click", (event) => event.target === byId("dialog") && byId("dialog").close());
addEventListener("keydown", onKey);
addEventListener("popstate", () => {
  readAddress();
  show();
});

readAddress();
await look();
if (state.facts) show();
