// What stands beside an image: notices, its state, its classes, its masks, what was done to it.

import { colourOf } from "./colours.js";
import { ago, colour, el, icon, plural } from "./dom.js";
import { state } from "./state.js";

const MOST_PRESENT = 8; // names whose presence is shown

const GLYPHS = { confirmed: "check", relabelled: "pen", edited: "pen", added: "plus", deleted: "cross" };
export const WORDS = { confirmed: "confirmed", relabelled: "renamed", edited: "redrawn", added: "added", deleted: "deleted", kept: "not judged" };

// The panel's elements. `view` is what image.js knows, `on` holds what is done when something is clicked.
export function panelOf(view, on) {
  const { image } = view;
  const [height, width] = image.size ?? [image.height, image.width];
  return [
    ...notices(view, on),
    el("div", { class: "facts" },
      width && el("span", {}, `${width} × ${height}`),
      el("span", {}, plural(image.masks.filter((mask) => mask.action !== "deleted").length, "mask")),
      !image.error && el("span", {}, `doubt ${image.doubt.toFixed(2)}`),
      !image.error && el("span", {}, `${Math.round(100 * image.coverage)} % covered`)),
    presence(image),
    condition(image),
    classChips(view, on),
    el("ul", { class: "masks", role: "listbox", "aria-label": "Masks", "aria-multiselectable": "true" }, ...image.masks.map((mask, i) => maskRow(view, mask, i, on))),
    image.history.length > 0 && history(image),
  ].filter(Boolean);
}

// How sure the model is that the picture shows each name at all; only method concepts says so.
function presence(image) {
  if (!image.presence) return null;
  const names = new Map(state.facts.classes.map(({ id, name }) => [id, name]));
  const sure = [...image.presence.entries()].sort(([, a], [, b]) => b - a).slice(0, MOST_PRESENT);
  return el("div", { class: "facts presence", title: "How sure the model is that the picture shows each name at all" },
    el("span", {}, "in the picture:"),
    ...sure.map(([id, value]) => el("span", {}, `${names.get(id) ?? `class ${id}`} ${value.toFixed(2)}`)));
}

function condition(image) {
  const { corrected } = image;
  const by = corrected?.by ? ` by ${corrected.by}` : "";
  const when = image.history.length ? `, ${ago(image.history.at(-1).at)}` : "";
  const left = image.masks.filter((mask) => mask.action === "kept").length;
  if (!image.size) return null;
  if (corrected?.state === "finished") return el("div", { class: "state finished" }, icon("check"), `Finished${by}${when}`);
  if (corrected?.state === "begun") return el("div", { class: "state" }, icon("half"), `Begun${by}: ${plural(left, "mask")} left to judge`);
  return el("div", { class: "state" }, "Nobody has judged this image yet.");
}

function notices(view, on) {
  const { image } = view;
  const found = [];
  if (image.error && !image.masks.length) found.push(el("p", { class: "notice" }, image.error));
  if (image.is_stale) found.push(el("p", { class: "notice" }, "The file has changed since this image was corrected. The corrections are kept; here are the labels of the file as it is now."));
  if (view.pending) {
    const { by } = image.heads.at(-1) ?? {};
    found.push(
      el("div", { class: "notice" },
        el("b", {}, `${by ?? "Somebody else"} changed this image meanwhile. `),
        "What stands there now is shown. Your step was not kept yet.",
        el("div", { class: "choices" },
          el("button", { class: "first", onclick: on.applyPending }, "Do mine on top"),
          el("button", { onclick: on.dropPending }, "Leave theirs"))),
    );
  } else if (image.heads.length > 1) {
    const takes = image.heads.map((head) =>
      el("button", { onclick: () => on.take(head.entry) }, `Take ${head.by ?? "the other"}'s (${summary(head)})`));
    found.push(el("div", { class: "notice" }, el("b", {}, "Two people corrected this image at the same moment. "), "The later one is shown; decide which counts, or go on correcting.", el("div", { class: "choices" }, ...takes)));
  }
  return found;
}

function classChips(view, on) {
  const { image } = view;
  const names = new Map(image.masks.filter((mask) => mask.class_id !== null).map((mask) => [mask.class_id, mask.class_name]));
  if (names.size < 2) return null;
  const chips = [...names].sort(([a], [b]) => a - b).map(([id, name]) => {
    const those = image.masks.filter((mask) => mask.class_id === id && mask.action !== "deleted");
    return el("button", {
      class: "chip",
      "aria-pressed": String(!view.hiddenClasses.has(id)),
      title: "Click to hide or show; shift-click to select all of them",
      onclick: (event) => (event.shiftKey ? on.selectAll(those) : on.toggleClass(id)),
    }, el("i", { class: "swatch", style: { background: colour(colourOf(id)) } }), name, el("b", {}, those.length));
  });
  return el("div", { class: "chips" }, ...chips);
}

function maskRow(view, mask, i, on) {
  return el("li", {
    class: [mask.action === "deleted" && "deleted", !on.isVisible(mask) && "off"].filter(Boolean).join(" "),
    role: "option",
    "aria-selected": String(view.selected.has(mask.id)),
    title: `${WORDS[mask.action]}${mask.doubt === null ? "" : `, doubt ${mask.doubt.toFixed(2)}`}`,
    onpointerenter: (event) => event.pointerType === "mouse" && on.hover(i),
    onpointerleave: () => on.hover(-1),
    onclick: (event) => on.pick(i, event.shiftKey || event.ctrlKey || event.metaKey),
  },
    el("i", { class: "swatch", style: { background: colour(colourOf(mask.class_id ?? i)) } }),
    el("span", { class: "word" }, mask.class_name ?? `Mask ${i + 1}`),
    el("span", { class: "score" }, mask.action === "kept" && mask.score !== null ? mask.score.toFixed(2) : ""),
    el("span", { class: "judged" }, GLYPHS[mask.action] ? icon(GLYPHS[mask.action]) : ""));
}

const summary = (entry) => Object.entries(entry.counts).map(([action, count]) => `${count} ${WORDS[action]}`).join(", ") || "nothing left";

function history(image) {
  const lines = image.history.toReversed().map((entry) =>
    el("li", {}, `${entry.by ?? "somebody"}, ${ago(entry.at)}: ${entry.undo ? "took a step back" : summary(entry)}`));
  return el("details", {}, el("summary", {}, plural(lines.length, "step")), el("ul", { class: "history" }, ...lines));
}
