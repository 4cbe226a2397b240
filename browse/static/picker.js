// A class is picked by its name, or by the first letters of it.

import { colourOf } from "./colours.js";
import { byId, colour, el, showDialog } from "./dom.js";
import { state } from "./state.js";

// The name that a person picks; null where they do not.
export function pickClass(title) {
  return new Promise((resolve) => {
    const input = el("input", { "aria-label": "Class", placeholder: "Type a name", autocomplete: "off" });
    const options = el("ul", { role: "listbox" });
    let shown = [];
    let at = 0;
    let chosen = null;
    const dialog = byId("dialog");
    const choose = (name) => {
      chosen = name;
      dialog.close();
    };
    const show = () => {
      const typed = input.value.trim().toLowerCase();
      const begins = (name) => name.toLowerCase().startsWith(typed);
      shown = state.facts.classes.filter(({ name }) => name.toLowerCase().includes(typed));
      shown.sort((a, b) => begins(b.name) - begins(a.name) || a.id - b.id);
      at = Math.min(at, Math.max(0, shown.length - 1));
      options.replaceChildren(
        ...shown.map(({ id, name }, i) =>
          el(
            "li",
            { role: "option", "aria-selected": String(i === at), onclick: () => choose(name) },
            el("i", { class: "swatch", style: { background: colour(colourOf(id)) } }),
            name,
          ),
        ),
      );
      options.children[at]?.scrollIntoView({ block: "nearest" });
    };
    input.addEventListener("input", () => {
      at = 0;
      show();
    });
    input.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        at = (at + (event.key === "ArrowDown" ? 1 : shown.length - 1)) % Math.max(1, shown.length);
        show();
      } else if (event.key === "Enter" && shown[at]) choose(shown[at].name);
      else return;
      event.preventDefault();
    });
    dialog.addEventListener("close", () => resolve(chosen), { once: true });
    showDialog(el("div", { class: "picker" }, el("h2", {}, title), input, options));
    show();
    input.focus();
  });
}
