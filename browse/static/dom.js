// Elements of the page. Text from the store is set as text, never as HTML.

export const byId = (id) => document.getElementById(id);

// An element: properties that begin with "on" are listeners, `style` is an object, the rest are attributes.
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) made.style.setProperty(key, text);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...present(children));
  return made;
}

// Conditional children leave nothing behind: `count > 0 && el(…)`.
const present = (children) => children.filter((child) => child !== null && child !== undefined && child !== false);

export const fill = (element, ...children) => element.replaceChildren(...present(children));

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

export const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

export const colour = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

// How long ago a time (ISO 8601) was, in words.
export function ago(time) {
  const seconds = (Date.now() - Date.parse(time)) / 1000;
  if (Number.isNaN(seconds)) return "";
  if (seconds < 90) return "just now";
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h ago`;
  return new Date(time).toLocaleDateString();
}

// A line at the bottom of the page that goes by itself; `bad` ones stay until they are clicked.
export function toast(text, { bad = false, action = null } = {}) {
  const line = el("div", { class: bad ? "toast bad" : "toast" }, text);
  const button = action ?? (bad ? { label: "Close", run: () => {} } : null);
  if (button) {
    line.append(
      el("button", {
        onclick: () => {
          line.remove();
          button.run();
        },
      }, button.label),
    );
  }
  const lines = byId("toasts");
  lines.append(line);
  while (lines.children.length > 3) lines.firstChild.remove();
  if (!bad) setTimeout(() => line.remove(), 5000);
}

export function showDialog(...children) {
  const dialog = byId("dialog");
  dialog.replaceChildren(...children);
  if (!dialog.open) dialog.showModal();
  return dialog;
}
