// A mask is added by clicks: the service answers with candidates, one of which is kept.

import { post } from "./api.js";
import { byId, colour, el, toast } from "./dom.js";
import { colourOf } from "./colours.js";
import { state } from "./state.js";

export class Adding {
  // `keep(step)` adds a mask; `image()` is the one that is shown.
  constructor(stage, keep, image) {
    this.stage = stage;
    this.keep = keep;
    this.image = image;
    this.active = false;
    this.name = null;
  }

  begin() {
    Object.assign(this, { active: true, points: [], candidates: [], at: 0, asked: 0, out: false });
    this.name ??= state.facts.classes[0]?.name ?? null;
    this.stage.ask([]);
    this.#show();
  }

  leave() {
    if (!this.active) return;
    this.active = false;
    this.bar?.remove();
    this.stage.ask(null);
    this.#restore();
  }

  async click([x, y], label) {
    this.points.push([Math.round(x * 10) / 10, Math.round(y * 10) / 10, this.out ? 0 : label]);
    await this.#find();
  }

  async #find() {
    this.stage.ask(this.points);
    const asked = ++this.asked;
    if (!this.points.some((point) => point[2] === 1)) {
      this.candidates = [];
      this.#restore();
      this.#show();
      return;
    }
    this.busy = true;
    this.#show();
    try {
      const { masks } = await post("/api/click", {
        id: this.image().id,
        points: this.points.map(([px, py]) => [px, py]),
        labels: this.points.map((point) => point[2]),
      });
      if (asked !== this.asked || !this.active) return;
      Object.assign(this, { candidates: masks, at: 0, busy: false });
      this.#paint();
    } catch (error) {
      this.busy = false;
      toast(error.message, { bad: true });
    }
    this.#show();
  }

  // The candidate stands out over the image's own masks.
  #paint() {
    const { masks } = this.image();
    const candidate = this.candidates[this.at];
    const own = masks.map((mask, i) => colourOf(mask.class_id ?? i));
    this.stage.setMasks(candidate ? [...masks, candidate] : masks, [...own, this.#colour()]);
    this.stage.paint(masks.map((mask) => mask.action !== "deleted").concat(candidate ? [false] : []));
    this.stage.mark(candidate ? masks.length : -1, new Set(candidate ? [masks.length] : []));
  }

  #restore() {
    Object.assign(this, { candidates: [] });
    if (this.image()?.size) this.#paint();
  }

  #colour() {
    const { id } = state.facts.classes.find(({ name }) => name === this.name) ?? {};
    return colourOf(id ?? this.image().masks.length);
  }

  #show() {
    this.bar?.remove();
    const { classes } = state.facts;
    const choose = (at) => () => {
      this.at = at;
      this.#paint();
      this.#show();
    };
    const hint = this.busy ? "Looking …" : this.candidates.length ? "Click again to refine; shift-click where it does not belong" : "Click on an object";
    const picker =
      classes.length > 0 &&
      el("select", { "aria-label": "Class", onchange: (event) => { this.name = event.target.value; if (this.candidates.length) this.#paint(); } },
        ...classes.map(({ name }) => el("option", { value: name, selected: name === this.name }, name)));
    this.bar = el("div", { class: "adding-bar" },
      el("span", { class: this.candidates.length && !this.busy ? "refine" : "" }, hint),
      this.candidates.length > 1 && el("div", { class: "choices" }, ...this.candidates.map((mask, i) =>
        el("button", { "aria-pressed": String(i === this.at), onclick: choose(i), title: `Candidate ${i + 1} (${i + 1})` },
          el("i", { class: "swatch", style: { background: colour(this.#colour()) } }), mask.score.toFixed(2)))),
      el("div", { class: "ends" },
        // For fingers, which have no Shift.
        el("button", { class: "narrow-only", "aria-pressed": String(this.out), "aria-label": "Leave out what is tapped", onclick: () => {
          this.out = !this.out;
          this.#show();
        } }, "−"),
        picker,
        el("button", { class: "first", disabled: !this.candidates.length, onclick: () => this.#keep() }, "Keep ", el("kbd", {}, "Enter")),
        el("button", { onclick: () => this.leave() }, "Leave ", el("kbd", {}, "Esc"))));
    // What is clicked in the bar is no click on the image.
    for (const kind of ["pointerdown", "pointerup"]) this.bar.addEventListener(kind, (event) => event.stopPropagation());
    byId("stage").append(this.bar);
  }

  async #keep() {
    const mask = this.candidates[this.at];
    if (!mask) return;
    const step = { action: "add", size: mask.rle.size, counts: mask.rle.counts, class_name: this.name };
    this.leave();
    if (await this.keep(step)) this.begin();
  }

  // Whether a key was for this.
  key({ key }) {
    if (!this.active) return false;
    if (key === "Escape") this.leave();
    else if (key === "Enter") this.#keep();
    else if (/^[1-3]$/.test(key) && this.candidates[Number(key) - 1]) {
      this.at = Number(key) - 1;
      this.#paint();
      this.#show();
    } else if (key === "z" || key === "Backspace") {
      this.points.pop();
      this.#find();
    } else return false;
    return true;
  }
}
