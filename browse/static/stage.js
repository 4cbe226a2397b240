// One image under its masks: painted from run lengths, zoomed and moved, with one mask or several standing out.

import { el } from "./dom.js";
import { canvasPixels, labelMap, paintMasks } from "./masks.js";

const LONGEST_SIDE = 1400; // of the canvas, in pixels
const MOST_ZOOM = 24;
const DRAG_PX = 5;
const OPACITY = 0.42;

export class Stage {
  // `on` has functions: hover(index), pick(index, event), click([x, y], event) while points are asked for.
  constructor(element, on) {
    this.element = element;
    this.on = on;
    this.base = el("canvas");
    this.top = el("canvas");
    this.sheet = el("div", { class: "sheet" });
    this.masks = [];
    this.visible = [];
    this.marked = { hovered: -1, selected: new Set() };
    this.points = null; // [[x, y, label], …] while points are asked for
    this.pointers = new Map();
    this.view = { zoom: 1, x: 0, y: 0 };
    element.replaceChildren(this.sheet);
    element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    element.addEventListener("pointerdown", (event) => this.#down(event));
    element.addEventListener("pointermove", (event) => this.#move(event));
    for (const kind of ["pointerup", "pointercancel"]) element.addEventListener(kind, (event) => this.#up(event));
    element.addEventListener("pointerleave", () => this.on.hover(-1));
    new ResizeObserver(() => this.#place()).observe(element);
  }

  // Another image: [height, width] in pixels, the address of its picture, and words for when there is none.
  show([height, width], picture, missing) {
    const scale = Math.min(1, LONGEST_SIDE / Math.max(height, width));
    this.size = { height, width };
    this.grid = { height: Math.max(1, Math.round(height * scale)), width: Math.max(1, Math.round(width * scale)) };
    for (const canvas of [this.base, this.top]) Object.assign(canvas, this.grid);
    const image = el("img", { src: picture, alt: "", draggable: "false" });
    image.addEventListener("error", () => {
      image.remove();
      if (this.sheet.contains(this.base)) this.element.append(el("p", { class: "notice why" }, missing));
    });
    this.sheet.replaceChildren(image, this.base, this.top);
    this.element.replaceChildren(this.sheet);
    this.points = null;
    this.fit();
  }

  // Nothing but words.
  say(...words) {
    this.size = null;
    this.sheet.replaceChildren();
    this.element.replaceChildren(el("p", { class: "notice why" }, ...words));
  }

  setMasks(masks, colours) {
    this.masks = masks.map((mask) => ({ ...mask, pixels: this.size ? canvasPixels(mask, this.grid) : [] }));
    this.colours = colours;
  }

  // Which masks are seen, by index.
  paint(visible) {
    if (!this.size) return;
    this.visible = visible;
    this.labels = labelMap(this.masks, visible, this.grid, (mask) => -mask.area);
    const context = this.base.getContext("2d");
    context.clearRect(0, 0, this.grid.width, this.grid.height);
    context.putImageData(paintMasks(this.labels, this.grid, this.colours, OPACITY, -1), 0, 0);
    this.mark(this.marked.hovered, this.marked.selected);
  }

  // Let masks stand out: the one under the pointer, and those that are selected.
  mark(hovered, selected) {
    this.marked = { hovered, selected };
    if (!this.size) return;
    const context = this.top.getContext("2d");
    const layer = context.createImageData(this.grid.width, this.grid.height);
    const outlined = new Set(selected);
    if (hovered >= 0) outlined.add(hovered);
    for (const index of outlined) this.#outline(layer, index, selected.has(index));
    context.putImageData(layer, 0, 0);
    this.#drawPoints(context);
  }

  #outline(layer, index, strong) {
    const { pixels } = this.masks[index] ?? { pixels: [] };
    const { width, height } = this.grid;
    const inside = new Set(pixels);
    const wide = Math.max(1, Math.round(Math.max(width, height) / 700));
    const [red, green, blue] = this.colours[index];
    for (const pixel of pixels) {
      const x = pixel % width;
      let border = false;
      for (let step = 1; step <= wide && !border; step++) {
        border =
          x < step || x + step >= width ||
          !inside.has(pixel - step) || !inside.has(pixel + step) || !inside.has(pixel - step * width) || !inside.has(pixel + step * width);
      }
      const at = pixel * 4;
      const edge = strong ? [255, 255, 255, 255] : [255, 255, 255, 190];
      layer.data.set(border ? edge : [red, green, blue, strong ? 120 : 70], at);
    }
  }

  // Points are asked for, or no more (null).
  ask(points) {
    this.points = points;
    this.element.classList.toggle("adding", points !== null);
    this.mark(this.marked.hovered, this.marked.selected);
  }

  #drawPoints(context) {
    const scale = this.grid.width / this.size.width;
    const unit = this.grid.width / (this.sheet.clientWidth * this.view.zoom || 1);
    for (const [x, y, label] of this.points ?? []) {
      context.beginPath();
      context.arc(x * scale, y * scale, 6 * unit, 0, 2 * Math.PI);
      context.fillStyle = label ? "#16a34a" : "#dc2626";
      context.fill();
      context.lineWidth = 2 * unit;
      context.strokeStyle = "#fff";
      context.stroke();
    }
  }

  // ---- zoom -----------------------------------------------------------------------------------------------------------

  fit() {
    this.view = { zoom: 1, x: 0, y: 0 };
    this.#place();
  }

  zoomBy(factor, [x, y] = this.#middle()) {
    const zoom = Math.min(MOST_ZOOM, Math.max(1, this.view.zoom * factor));
    const change = zoom / this.view.zoom;
    this.view = { zoom, x: x - (x - this.view.x) * change, y: y - (y - this.view.y) * change };
    this.#place();
  }

  #middle() {
    return [this.element.clientWidth / 2, this.element.clientHeight / 2];
  }

  #place() {
    if (!this.size) return;
    const { clientWidth, clientHeight } = this.element;
    const scale = Math.min(clientWidth / this.size.width, clientHeight / this.size.height, 4);
    const [width, height] = [this.size.width * scale, this.size.height * scale];
    const { zoom } = this.view;
    // What is smaller than the window stands in its middle, what is larger reaches its edges.
    const held = (offset, length, space) => (length <= space ? (space - length) / 2 : Math.min(0, Math.max(space - length, offset)));
    if (zoom === 1) Object.assign(this.view, { x: 0, y: 0 });
    this.view.x = held(this.view.x, width * zoom, clientWidth);
    this.view.y = held(this.view.y, height * zoom, clientHeight);
    Object.assign(this.sheet.style, {
      width: `${width}px`,
      height: `${height}px`,
      transform: `translate(${this.view.x}px, ${this.view.y}px) scale(${zoom})`,
      imageRendering: zoom * scale > 3 ? "pixelated" : "auto",
    });
    if (this.points) this.mark(this.marked.hovered, this.marked.selected);
  }

  // ---- pointers -------------------------------------------------------------------------------------------------------

  #inElement(event) {
    const frame = this.element.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  }

  // The pointer's place in pixels of the image; null outside.
  #inImage(event) {
    if (!this.size) return null;
    const frame = this.sheet.getBoundingClientRect();
    const x = ((event.clientX - frame.left) / frame.width) * this.size.width;
    const y = ((event.clientY - frame.top) / frame.height) * this.size.height;
    return x >= 0 && y >= 0 && x < this.size.width && y < this.size.height ? [x, y] : null;
  }

  #maskAt(event) {
    const point = this.#inImage(event);
    if (!point || !this.labels) return -1;
    const column = Math.min(this.grid.width - 1, Math.floor((point[0] / this.size.width) * this.grid.width));
    const row = Math.min(this.grid.height - 1, Math.floor((point[1] / this.size.height) * this.grid.height));
    return this.labels[row * this.grid.width + column];
  }

  #wheel(event) {
    event.preventDefault();
    this.zoomBy(Math.exp(-event.deltaY / 400), this.#inElement(event));
  }

  #down(event) {
    if (event.button !== 0) return;
    this.element.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.#inElement(event));
    if (this.pointers.size === 1) this.drag = { from: this.#inElement(event), view: { ...this.view }, moved: false };
  }

  #move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType === "mouse") this.on.hover(this.points ? -1 : this.#maskAt(event));
      return;
    }
    const now = this.#inElement(event);
    if (this.pointers.size === 2) this.#pinch(event.pointerId, before, now);
    else if (this.drag) {
      const [x, y] = [now[0] - this.drag.from[0], now[1] - this.drag.from[1]];
      this.drag.moved ||= Math.hypot(x, y) > DRAG_PX;
      if (this.drag.moved && this.view.zoom > 1) {
        this.element.classList.add("moving");
        Object.assign(this.view, { x: this.drag.view.x + x, y: this.drag.view.y + y });
        this.#place();
      }
    }
    this.pointers.set(event.pointerId, now);
  }

  #pinch(id, before, now) {
    const other = [...this.pointers].find(([key]) => key !== id)[1];
    const spread = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]) || 1;
    if (this.drag) this.drag.moved = true;
    this.zoomBy(spread(now) / spread(before), other);
  }

  #up(event) {
    this.pointers.delete(event.pointerId);
    this.element.classList.remove("moving");
    const drag = this.drag;
    if (this.pointers.size) return;
    this.drag = null;
    if (!drag || drag.moved || event.type === "pointercancel") return;
    if (this.points) {
      const point = this.#inImage(event);
      if (point) this.on.click(point, event);
    } else this.on.pick(this.#maskAt(event), event);
  }
}
