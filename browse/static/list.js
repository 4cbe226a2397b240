// The list of images: cards, pages, and what is done to several images at once.

import { get, post, thumbnail } from "./api.js";
import { byId, el, icon, plural, toast, fill } from "./dom.js";
import { showCounts, showFilters } from "./filters.js";
import { pickClass } from "./picker.js";
import { PAGE, annotator, conditionsOfMasks, state } from "./state.js";

const ORDERS = [
  ["", "Most doubtful first"],
  ["id", "By id"],
  ["lowest-score", "Lowest score first"],
  ["most-masks", "Most masks first"],
  ["fewest-masks", "Fewest masks first"],
  ["coverage", "Least covered first"],
  ["latest", "Corrected last"],
  ["random", "In random order"],
];
const BADGES = { finished: ["check", "finished"], begun: ["half", "begun"], stale: ["alert", "for an earlier file"] };

const list = { images: [], selecting: false, selected: new Set(), last: null, asked: null };
let go = () => {};
let undone = () => {};

// `onGo(change)` goes to another state of the page; `onKept(images)` remembers a step that can be taken back.
export function startList(onGo, onKept) {
  go = onGo;
  undone = onKept;
}

export async function showList() {
  list.asked?.abort();
  list.asked = new AbortController();
  const { signal } = list.asked;
  const asked = { ...state.query, first: state.first, count: PAGE, list: state.list };
  showToolbar(true);
  try {
    const answer = await get("/api/images", asked, signal);
    state.list = answer.list;
    state.matched = answer.matched;
    list.images = answer.images;
    const there = new Set(answer.images.map((image) => image.id));
    list.selected = new Set([...list.selected].filter((id) => there.has(id)));
    showToolbar(false);
    showCards();
    showPager();
    showFilters();
    showCounts((await get("/api/classes", state.query, signal)).masks);
  } catch (error) {
    if (error.name !== "AbortError") toast(error.message, { bad: true });
  }
}

function showToolbar(busy) {
  const { totals } = state.facts;
  const all = state.matched === totals.images;
  const order = el(
    "select",
    { "aria-label": "Order", onchange: (event) => go({ query: withOrder(event.target.value), first: 0, list: "" }) },
    ...ORDERS.map(([value, label]) => el("option", { value, selected: value === (state.query.order ?? "") }, label)),
  );
  fill(
    byId("toolbar"),
    el("h1", {}, plural(state.matched, "image"), el("span", { class: "of" }, busy ? " …" : all ? "" : ` of ${totals.images.toLocaleString("en")}`)),
    order,
    el("button", { "aria-pressed": String(!state.plain), onclick: togglePlain, title: "Show masks (m)" }, icon("eye"), "Masks"),
    el("button", { "aria-pressed": String(list.selecting), onclick: () => select(!list.selecting), title: "Choose several images (s)" }, "Select"),
    list.selecting && selectionBar(),
  );
}

function withOrder(order) {
  const { order: _, ...query } = state.query;
  return order ? { ...query, order } : query;
}

export function togglePlain() {
  state.plain = !state.plain;
  showToolbar(false);
  showCards();
}

function showCards() {
  const grid = byId("grid");
  grid.classList.toggle("selecting", list.selecting);
  if (!list.images.length) {
    const why = state.facts.reading ? "Reading the labels …" : state.facts.totals.images ? "No image fulfils these conditions." : "This label store holds no image yet.";
    grid.replaceChildren(el("p", { class: "empty" }, why));
    return;
  }
  grid.replaceChildren(...list.images.map(card));
}

function card(image, i) {
  const ratio = Math.min(2.6, Math.max(0.55, (image.width ?? 4) / (image.height ?? 3)));
  const frame = el("span", { class: "frame" });
  if (image.error && !image.masks) {
    frame.append(el("span", { class: "why bad" }, image.error));
  } else {
    const shown = el("img", { alt: "", loading: "lazy", decoding: "async", src: thumbnail(image, state.plain) });
    shown.addEventListener("error", () => {
      frame.classList.add("without");
      frame.append(el("span", { class: "why" }, "The image is not where it was, or is another one now."));
    });
    frame.append(shown);
  }
  const corrected = image.corrected;
  const badge = corrected && (corrected.conflict ? ["alert", "conflict"] : BADGES[corrected.state]);
  if (badge) frame.append(el("span", { class: `badge ${corrected.conflict ? "conflict" : corrected.state}`, title: `${badge[1]}${corrected.by ? ` by ${corrected.by}` : ""}` }, icon(badge[0])));
  frame.append(el("span", { class: "tick" }, icon("check")));
  const doubt = el("span", { class: "doubt", role: "img", "aria-label": `doubt ${image.doubt.toFixed(2)}`, title: `doubt ${image.doubt.toFixed(2)}` });
  doubt.append(el("i", { style: { width: `${100 * image.doubt}%` } }));
  const facts = image.error && !image.masks ? [el("span", {}, "error")] : [el("span", {}, plural(image.masks, "mask")), doubt];
  return el(
    "a",
    {
      class: "card",
      href: `/?${new URLSearchParams({ ...state.query, image: image.id, at: state.first + i })}`,
      style: { "--ratio": ratio },
      title: image.id,
      "aria-selected": list.selecting ? String(list.selected.has(image.id)) : undefined,
      onclick: (event) => {
        if (event.ctrlKey || event.metaKey) return;
        event.preventDefault();
        if (list.selecting) toggle(i, event.shiftKey);
        else go({ image: image.id, at: state.first + i });
      },
    },
    frame,
    el("span", { class: "id" }, el("bdi", {}, image.id)),
    el("span", { class: "facts" }, ...facts),
  );
}

function showPager() {
  const pages = Math.ceil(state.matched / PAGE);
  const page = Math.floor(state.first / PAGE);
  const turn = (to) => () => {
    go({ first: to * PAGE });
    byId("grid").parentElement.scrollTo(0, 0);
  };
  byId("pager").replaceChildren(
    ...(pages < 2
      ? []
      : [
          el("button", { disabled: page === 0, onclick: turn(0), "aria-label": "First page" }, "1"),
          el("button", { disabled: page === 0, onclick: turn(page - 1), title: "Page up" }, icon("left"), "Back"),
          el("span", {}, `page ${(page + 1).toLocaleString("en")} of ${pages.toLocaleString("en")}`),
          el("button", { disabled: page >= pages - 1, onclick: turn(page + 1), title: "Page down" }, "Next", icon("right")),
        ]),
  );
}

export function turnPage(step) {
  const first = state.first + step * PAGE;
  if (first >= 0 && first < state.matched) {
    go({ first });
    byId("grid").parentElement.scrollTo(0, 0);
  }
}

// ---- several images ---------------------------------------------------------------------------------------------------

export function select(on) {
  list.selecting = on;
  if (!on) list.selected.clear();
  list.last = null;
  showToolbar(false);
  showCards();
}

export const isSelecting = () => list.selecting;

function toggle(i, through) {
  const ids = list.images.map((image) => image.id);
  const on = !list.selected.has(ids[i]);
  const [from, to] = through && list.last !== null ? [Math.min(i, list.last), Math.max(i, list.last)] : [i, i];
  for (const id of ids.slice(from, to + 1)) {
    if (on) list.selected.add(id);
    else list.selected.delete(id);
  }
  list.last = i;
  showToolbar(false);
  showCards();
}

function selectionBar() {
  const chosen = list.images.filter((image) => list.selected.has(image.id));
  const where = conditionsOfMasks();
  const conditional = Object.keys(where).length > 0;
  const all = () => {
    list.selected = new Set(chosen.length === list.images.length ? [] : list.images.map((image) => image.id));
    showToolbar(false);
    showCards();
  };
  const hint = "Of these images: the masks that fulfil the filters for class, score and area";
  return el(
    "span",
    { class: "selection" },
    el("button", { onclick: all }, chosen.length === list.images.length ? "None" : `All ${list.images.length}`),
    el("button", { class: "first", disabled: !chosen.length, onclick: () => keep(chosen, [{ action: "confirm", masks: "all" }]) }, icon("check"), `Confirm ${chosen.length}`),
    conditional && el("button", { disabled: !chosen.length, title: hint, onclick: () => keep(chosen, [{ action: "delete" }], where) }, icon("cross"), "Delete matching masks"),
    conditional && state.facts.classes.length > 0 && el("button", { disabled: !chosen.length, title: hint, onclick: () => rename(chosen, where) }, icon("pen"), "Rename matching masks"),
  );
}

async function rename(chosen, where) {
  const name = await pickClass("Rename the matching masks to");
  if (name !== null) await keep(chosen, [{ action: "rename", class_name: name }], where);
}

async function keep(chosen, steps, where = undefined) {
  const images = chosen.map((image) => ({ id: image.id, seen: image.seen, signature: image.signature, steps, where }));
  try {
    const answer = await post("/api/steps", { annotator: annotator(), images });
    const failed = answer.images.filter((one) => one.error);
    const kept = answer.images.flatMap((one) => (one.error ? [] : [one.image]));
    if (kept.length) undone(kept);
    if (failed.length) toast(`Not kept of ${plural(failed.length, "image")}: ${failed[0].error}`, { bad: true });
    list.selected.clear();
    await showList();
  } catch (error) {
    toast(error.message, { bad: true });
  }
}
