// One image: its masks, what a person does to them, its neighbours.

import { get, picture, post } from "./api.js";
import { Adding } from "./adding.js";
import { colourOf } from "./colours.js";
import { byId, colour, el, icon, plural, toast, fill } from "./dom.js";
import { WORDS, panelOf } from "./panel.js";
import { pickClass } from "./picker.js";
import { Stage } from "./stage.js";
import { annotator, state } from "./state.js";

const view = {
  image: null, // as /api/image gives it
  seen: new Map(), // image id → what was shown of it last: the ids of its entries, and the signature of its labels
  hovered: -1,
  selected: new Set(), // of mask ids
  hiddenClasses: new Set(),
  hidden: false,
  neighbours: [null, null],
  busy: Promise.resolve(),
  pending: null, // steps that were refused because somebody else was faster
};
let go = () => {};
let remember = () => {};
let stage = null;
let adding = null;

// `onGo(change)` goes to another state of the page; `onKept(images)` remembers a step that can be taken back.
export function startImage(onGo, onKept) {
  go = onGo;
  remember = onKept;
  stage = new Stage(byId("stage"), {
    hover: (index) => hover(index),
    pick: (index, event) => pick(index, event.shiftKey || event.ctrlKey || event.metaKey),
    click: (point, event) => adding.click(point, event.shiftKey ? 0 : 1),
  });
  adding = new Adding(stage, (step) => steps([step]), () => view.image);
}

export async function showImage() {
  adding.leave();
  Object.assign(view, { selected: new Set(), hovered: -1, neighbours: [null, null], pending: null });
  showBar();
  try {
    const image = await get("/api/image", { id: state.image });
    if (image.id !== state.image) return;
    show(image, true);
    await findNeighbours();
  } catch (error) {
    view.image = null;
    byId("panel").replaceChildren(el("p", { class: "notice" }, error.message));
    byId("actions").replaceChildren();
    stage.say(error.message);
  }
}

const shownOf = ({ seen, signature }) => ({ seen, signature });

function show(image, fresh) {
  view.image = image;
  view.seen.set(image.id, shownOf(image));
  const there = new Set(image.masks.map((mask) => mask.id));
  view.selected = new Set([...view.selected].filter((id) => there.has(id)));
  if (!image.size) stage.say(image.error ?? "This image has no labels.");
  else if (fresh) stage.show(image.size, picture(image), "The image is not where it was, or is another one now. Its masks are shown alone.");
  stage.setMasks(image.masks, image.masks.map((mask, i) => colourOf(mask.class_id ?? i)));
  repaint();
  showPanel();
  showActions();
  showBar();
}

// ---- what is seen -----------------------------------------------------------------------------------------------------

const isVisible = (mask) => !view.hidden && mask.action !== "deleted" && !view.hiddenClasses.has(mask.class_id);
const chosenMasks = () => view.image?.masks.filter((mask) => view.selected.has(mask.id)) ?? [];

function repaint() {
  stage.paint(view.image.masks.map(isVisible));
  mark();
}

function mark() {
  const selected = new Set(view.image.masks.flatMap((mask, i) => (view.selected.has(mask.id) ? [i] : [])));
  stage.mark(view.hovered, selected);
  for (const [i, row] of [...byId("panel").querySelectorAll(".masks li")].entries()) {
    row.classList.toggle("hovered", i === view.hovered);
    row.setAttribute("aria-selected", String(selected.has(i)));
  }
  showHoverCard();
}

function hover(index) {
  if (index === view.hovered || !view.image) return;
  view.hovered = index;
  mark();
}

function pick(index, more) {
  if (!view.image) return;
  const id = view.image.masks[index]?.id;
  const was = view.selected.has(id);
  if (!more) view.selected.clear();
  if (id !== undefined) {
    if (was && (more || view.selected.size === 0)) view.selected.delete(id);
    else view.selected.add(id);
    if (was && !more) view.selected.clear();
  }
  mark();
  showActions();
  byId("panel").querySelector('.masks li[aria-selected="true"]')?.scrollIntoView({ block: "nearest" });
}

function showHoverCard() {
  byId("stage").querySelector(".hover-card")?.remove();
  const mask = view.image.masks[view.hovered];
  if (!mask) return;
  byId("stage").append(
    el("div", { class: "hover-card" },
      el("i", { class: "swatch", style: { background: colour(colourOf(mask.class_id ?? view.hovered)) } }),
      el("b", {}, mask.class_name ?? `Mask ${view.hovered + 1}`),
      mask.score !== null && el("span", { class: "soft" }, `score ${mask.score.toFixed(2)}`),
      el("span", { class: "soft" }, `${share(mask)} of the image`),
      mask.action !== "kept" && el("span", { class: "soft" }, WORDS[mask.action])),
  );
}

function share(mask) {
  const part = (100 * mask.area) / (view.image.size[0] * view.image.size[1]);
  return `${part < 1 ? part.toPrecision(1) : Math.round(part)} %`;
}

function showBar() {
  const at = state.at === null ? "" : `${(state.at + 1).toLocaleString("en")} of ${state.matched.toLocaleString("en")}`;
  const [before, after] = view.neighbours;
  byId("image-bar").replaceChildren(
    el("button", { class: "quiet", onclick: () => go({ image: null }), title: "Back to the list (Esc)" }, icon("left"), "List"),
    el("span", { class: "id", title: state.image }, el("bdi", {}, state.image)),
    el("span", { class: "grow" }),
    el("span", { class: "at" }, at),
    el("button", { disabled: !before, onclick: () => turn(-1), "aria-label": "Previous image", title: "Previous (←)" }, icon("left")),
    el("button", { disabled: !after, onclick: () => turn(1), "aria-label": "Next image", title: "Next (→)" }, icon("right")),
  );
}

function showPanel() {
  byId("panel").replaceChildren(
    ...panelOf(view, {
      isVisible,
      hover,
      pick,
      selectAll: (masks) => {
        for (const mask of masks) view.selected.add(mask.id);
        mark();
        showActions();
      },
      toggleClass: (id) => {
        if (!view.hiddenClasses.delete(id)) view.hiddenClasses.add(id);
        repaint();
        showPanel();
        mark();
      },
      take: (entry) => steps([{ action: "take", entry }]),
      applyPending,
      dropPending,
    }),
  );
}

// ---- what is done -----------------------------------------------------------------------------------------------------

function showActions() {
  const { image } = view;
  if (!image?.size) return byId("actions").replaceChildren();
  const chosen = chosenMasks();
  const left = image.masks.filter((mask) => mask.action === "kept").length;
  const gone = chosen.length > 0 && chosen.every((mask) => mask.action === "deleted");
  const button = (glyph, label, key, run, disabled) =>
    el("button", { disabled, onclick: run, title: `${label} (${key})` }, icon(glyph), label);
  fill(
    byId("actions"),
    el("button", { class: "first", onclick: finish, title: "Confirm what is left, and go on (Enter)" },
      icon("check"), left ? `Confirm ${plural(left, "mask")}` : image.corrected?.state === "finished" ? "Next image" : "Confirm: nothing here", el("kbd", {}, "Enter")),
    button("check", "Confirm", "c", confirm, !chosen.some((mask) => mask.action === "kept")),
    gone ? button("undo", "Restore", "x", remove, false) : button("cross", "Delete", "x", remove, !chosen.length),
    button("pen", "Rename", "r", rename, !chosen.length || !state.facts.classes.length || gone),
    state.facts.can_click ? button("plus", "Add", "a", add, false) : button("undo", "Undo", "z", () => state.undo(), !state.canUndo()),
    state.facts.can_click && button("undo", "Undo", "z", () => state.undo(), !state.canUndo()),
  );
  return undefined;
}

const ids = (masks) => masks.map((mask) => mask.id);

function confirm() {
  const chosen = chosenMasks().filter((mask) => mask.action === "kept");
  if (chosen.length) steps([{ action: "confirm", masks: ids(chosen) }]);
}

function remove() {
  const chosen = chosenMasks();
  if (!chosen.length) return;
  const gone = chosen.every((mask) => mask.action === "deleted");
  const those = gone ? chosen : chosen.filter((mask) => mask.action !== "deleted");
  steps([{ action: gone ? "restore" : "delete", masks: ids(those) }]);
}

async function rename() {
  const chosen = chosenMasks().filter((mask) => mask.action !== "deleted");
  if (!chosen.length || !state.facts.classes.length) return;
  const name = await pickClass(`Rename ${plural(chosen.length, "mask")} to`);
  if (name !== null) await steps([{ action: "rename", masks: ids(chosen), class_name: name }]);
}

function nameBy(number) {
  const { name } = state.facts.classes[number - 1] ?? {};
  const chosen = chosenMasks().filter((mask) => mask.action !== "deleted");
  if (name && chosen.length) steps([{ action: "rename", masks: ids(chosen), class_name: name }]);
}

function add() {
  if (state.facts.can_click && view.image?.size) adding.begin();
}

async function finish() {
  const { image } = view;
  const done = image.corrected?.state === "finished";
  if (done || (await steps([{ action: "confirm", masks: "all" }]))) turn(1);
}

// Keep steps, one after the other: whoever is faster than the disk must not overtake themselves.
function steps(wanted) {
  const { id } = view.image;
  view.busy = view.busy.then(() => send(id, wanted));
  return view.busy;
}

async function send(id, wanted) {
  try {
    const wish = { id, ...view.seen.get(id), steps: wanted };
    const { images: [outcome] } = await post("/api/steps", { annotator: annotator(), images: [wish] });
    if (outcome.error && !(outcome.conflict && state.image === id)) {
      if (outcome.image && state.image === id) show(outcome.image, false); // labelled anew
      throw new Error(outcome.error);
    }
    view.pending = outcome.conflict ? wanted : null;
    if (!outcome.conflict) remember([outcome.image]);
    view.seen.set(id, shownOf(outcome.image));
    if (state.image === id) show(outcome.image, false);
    return !outcome.conflict;
  } catch (error) {
    toast(`Not kept of ${id}: ${error.message}`, { bad: true });
    return false;
  }
}

function applyPending() {
  const wanted = view.pending;
  const there = new Set(view.image.masks.map((mask) => mask.id));
  // A mask that the other person deleted for good is no longer there to be judged.
  const still = wanted.map((step) => (Array.isArray(step.masks) ? { ...step, masks: step.masks.filter((id) => there.has(id)) } : step));
  view.pending = null;
  steps(still);
}

function dropPending() {
  view.pending = null;
  showPanel();
}

// The image that is looked at; null where there is none.
export const shownImage = () => (state.image === null ? null : view.image);

// An image that a step was taken back on, as it is now.
export function refresh(image) {
  if (state.image === image.id) show(image, false);
}

// ---- neighbours -------------------------------------------------------------------------------------------------------

async function findNeighbours() {
  if (state.at === null) return;
  const first = Math.max(0, state.at - 1);
  const answer = await get("/api/images", { ...state.query, list: state.list, first, count: 3 });
  Object.assign(state, { list: answer.list, matched: answer.matched });
  const here = answer.images.findIndex((image) => image.id === state.image);
  if (here < 0) return;
  view.neighbours = [answer.images[here - 1] ?? null, answer.images[here + 1] ?? null];
  showBar();
  const next = view.neighbours[1];
  if (next) new Image().src = picture(next);
}

function turn(step) {
  const next = view.neighbours[step < 0 ? 0 : 1];
  if (next) go({ image: next.id, at: state.at + step });
  else if (step > 0) toast("This was the last image of the list.");
}

function cycle(step) {
  const seen = view.image.masks.flatMap((mask, i) => (isVisible(mask) ? [i] : []));
  if (!seen.length) return;
  const now = seen.findIndex((i) => view.selected.has(view.image.masks[i].id));
  view.selected.clear();
  pick(seen[(now + step + seen.length) % seen.length], false);
}

// ---- keys -------------------------------------------------------------------------------------------------------------

// Whether a key was for this view.
export function imageKey(event) {
  if (adding.key(event)) return true;
  const { key } = event;
  if (/^[1-9]$/.test(key)) return nameBy(Number(key)), true;
  const doing = {
    Escape: () => (view.selected.size ? pick(-1, false) : go({ image: null })),
    ArrowLeft: () => turn(-1),
    ArrowRight: () => turn(1),
    j: () => turn(1),
    k: () => turn(-1),
    Enter: finish,
    c: confirm,
    x: remove,
    Delete: remove,
    Backspace: remove,
    r: rename,
    a: add,
    n: () => cycle(1),
    p: () => cycle(-1),
    m: () => {
      view.hidden = !view.hidden;
      repaint();
      showPanel();
    },
    e: () => {
      for (const mask of view.image.masks) if (isVisible(mask)) view.selected.add(mask.id);
      mark();
      showActions();
    },
    "+": () => stage.zoomBy(1.5),
    "=": () => stage.zoomBy(1.5),
    "-": () => stage.zoomBy(1 / 1.5),
    0: () => stage.fit(),
  }[key];
  if (!doing || (!view.image && !["Escape", "ArrowLeft", "ArrowRight", "j", "k"].includes(key))) return false;
  doing();
  return true;
}
