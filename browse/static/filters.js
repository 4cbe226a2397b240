// The panel of filters, and the legend of classes with counts.

import { byId, colour, el, plural, fill } from "./dom.js";
import { colourOf } from "./colours.js";
import { state } from "./state.js";

const SHOW = [["", "All"], ["masks", "Masks"], ["empty", "Empty"], ["errors", "Errors"]];
const CORRECTED = [
  ["", "Anything"],
  ["no", "Nothing yet"],
  ["begun", "Begun"],
  ["finished", "Finished"],
  ["changed", "Changed something"],
  ["conflict", "In conflict"],
  ["stale", "For an earlier file"],
];
const OF_IMAGES = [
  ["doubt", "Doubt", { min: 0, max: 1, step: 0.01 }, 1],
  ["masks", "Masks", { min: 0, step: 1 }, 1],
];
const OF_MASKS = [
  ["score", "Score", { min: 0, max: 1, step: 0.01 }, 1],
  ["area", "Area, %", { min: 0, max: 100, step: 0.1 }, 100],
];

let counts = null; // masks by class in the images of the list, once they are known
let change = () => {};

// `onChange(query)` is called with every condition that is set.
export function startFilters(onChange) {
  change = onChange;
}

function set(name, value) {
  const query = { ...state.query };
  if (value) query[name] = value;
  else delete query[name];
  change(query);
}

export function showFilters() {
  const open = byId("filters").contains(document.activeElement) ? document.activeElement.name : null;
  fill(
    byId("filters"),
    search(),
    section("Images", segments("show", SHOW)),
    section("What people did", choice("corrected", CORRECTED, "What people did")),
    state.facts.splits.length > 0 &&
      section("Split", choice("split", [["", "Any"], ...state.facts.splits.map((name) => [name, name])], "Split")),
    section("Of the image", ranges(OF_IMAGES)),
    section("With a mask of", ranges(OF_MASKS)),
    classes(),
    el("div", { class: "done" }, el("button", { class: "first", onclick: () => openFilters(false) }, `Show ${plural(state.matched, "image")}`)),
  );
  const focused = open && byId("filters").querySelector(`[name="${open}"]`);
  if (focused) {
    focused.focus();
    if (open === "text") focused.setSelectionRange(focused.value.length, focused.value.length);
  }
}

export function openFilters(open) {
  byId("filters").classList.toggle("open", open);
}

// Masks by class in the images of the list: [{id, count}].
export function showCounts(masks) {
  counts = new Map(masks.map(({ id, count }) => [id, count]));
  const old = byId("filters").querySelector(".legend");
  if (old) old.replaceWith(classes());
}

const section = (title, ...content) => el("section", {}, el("h2", {}, title), ...content);

function search() {
  // What is being typed while the list loads stays.
  const typed = document.activeElement?.name === "text" ? document.activeElement.value : state.query.text;
  const input = el("input", {
    type: "search",
    name: "text",
    placeholder: "Search ids",
    "aria-label": "Search ids",
    value: typed ?? "",
    maxlength: 500,
  });
  let waiting = 0;
  input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => set("text", input.value), 250);
  });
  const isSet = Object.keys(state.query).some((name) => name !== "order");
  const clear = el("button", { class: "text-button", hidden: !isSet, onclick: () => change(state.query.order ? { order: state.query.order } : {}) }, "Clear all");
  return el("section", {}, el("h2", {}, "Filters", clear), input);
}

function segments(name, choices) {
  const chosen = state.query[name] ?? "";
  const buttons = choices.map(([value, label]) =>
    el("button", { "aria-pressed": String(value === chosen), onclick: () => set(name, value) }, label),
  );
  return el("div", { class: "segments", role: "group", "aria-label": name }, ...buttons);
}

function choice(name, choices, label) {
  const options = choices.map(([value, text]) => el("option", { value, selected: value === (state.query[name] ?? "") }, text));
  return el("select", { name, "aria-label": label, onchange: (event) => set(name, event.target.value) }, ...options);
}

function ranges(rows) {
  const box = el("div", { class: "ranges" });
  for (const [name, label, limits, unit] of rows) {
    const ends = (state.query[name] ?? "-").split("-").map((end) => (end === "" ? "" : String(Number((Number(end) * unit).toFixed(4)))));
    const inputs = ends.map((value, i) =>
      el("input", { type: "number", ...limits, value, name: `${name}${i}`, "aria-label": `${label}, ${i ? "most" : "least"}`, placeholder: i ? "most" : "least" }),
    );
    const read = () => {
      if (!inputs.every((input) => input.checkValidity())) return;
      const [least, most] = inputs.map((input) => (input.value === "" ? "" : String(Number((Number(input.value) / unit).toFixed(6)))));
      set(name, least || most ? `${least}-${most}` : "");
    };
    for (const input of inputs) input.addEventListener("change", read);
    box.append(el("label", {}, label), inputs[0], "–", inputs[1]);
  }
  return box;
}

function classes() {
  const chosen = new Set((state.query.class ?? "").split(",").filter(Boolean).map(Number));
  const rows = state.facts.classes.map(({ id, name }) => [id, name]);
  const section = el("section", { class: "legend" });
  if (!rows.length) return section;
  const clear = el("button", { class: "text-button", hidden: !chosen.size, onclick: () => set("class", "") }, "Any class");
  const item = ([id, name]) => {
    const count = counts?.get(id) ?? 0;
    const toggle = () => {
      if (!chosen.delete(id)) chosen.add(id);
      set("class", [...chosen].sort((a, b) => a - b).join(","));
    };
    return el(
      "li",
      {},
      el(
        "button",
        { class: count || counts === null ? "" : "none", "aria-pressed": String(chosen.has(id)), onclick: toggle, title: name },
        el("i", { class: "swatch", style: { background: colour(colourOf(id)) } }),
        el("span", { class: "label" }, name),
        el("span", { class: "count" }, counts === null ? "" : count.toLocaleString("en")),
      ),
    );
  };
  const isThere = ([id]) => counts === null || counts.get(id) || chosen.has(id);
  const there = rows.filter(isThere);
  const others = rows.filter((row) => !isThere(row));
  const hint = "Masks of each class in the images that are listed";
  section.append(el("h2", { title: hint }, "Class", clear), el("ul", { class: "classes" }, ...there.map(item)));
  if (others.length) {
    const list = el("ul", { class: "classes" }, ...others.map(item));
    section.append(el("details", { open: !there.length }, el("summary", {}, `${others.length} without a mask here`), list));
  }
  return section;
}
