// The viewer of one tab: an image, masks over it, filters that need no request, and, in the Click tab, the prompt.

import { describe, percent } from "./card.js";
import { colourOf } from "./colours.js";
import { saveCoco, savePng } from "./download.js";
import { canvasPixels, labelMap, paintMap, paintMasks } from "./masks.js";
import { drawPrompt } from "./prompt.js";

const LONGEST_SIDE = 1024; // of the canvas, in pixels
const finger = matchMedia("(pointer: coarse)").matches; // a finger has no Shift
const HELP = {
  add: finger
    ? "Tap an object. More taps add to the same mask."
    : "Click on an object. More clicks add to the same mask; with Shift, a click leaves out what lies there.",
  remove: `${finger ? "Tap" : "Click on"} what the mask should leave out.`,
  box: "Drag a box around an object.",
};
const round = (value) => Math.round(value * 10) / 10;

// `element`, live `props` and `watch(prop, callback)` are Gradio's; `onPrompt` is called with every new prompt.
export function startViewer(element, props, watch, onPrompt) {
  const find = (selector) => element.querySelector(selector);
  const all = (selector) => [...element.querySelectorAll(selector)];
  const canvas = find("canvas");
  const context = canvas.getContext("2d");
  const isPrompt = find(".viewer").dataset.prompting === "true";

  const view = {
    picture: null, // HTMLImageElement
    loading: null, // the one that is to be shown next
    answer: null, // what the service said
    masks: [], // of the answer, each with its canvas `pixels`
    kept: [], // masks kept from earlier prompts (Click tab)
    visible: [],
    labels: null,
    colours: [],
    selected: -1,
    pinned: false,
    hiddenClasses: new Set(),
    map: false, // whether the semantic map is shown
    grid: { width: 1, height: 1 },
  };
  const prompt = { points: [], labels: [], box: null, tool: "add", candidate: 0, drag: null };

  const slider = (name) => find(`input[name=${name}]`);
  const setting = (name) => Number(slider(name).value);

  // ---- what is shown -------------------------------------------------------------------------------------------------

  function shownMasks() {
    return view.masks.filter((_, i) => view.visible[i]);
  }

  function filterMasks() {
    const total = view.answer ? view.answer.width * view.answer.height : 1;
    const leastArea = (setting("size") / 100) * total;
    const passing = view.masks.map((mask) => mask.score >= setting("score") && mask.area >= leastArea);
    view.visible = view.masks.map((mask, i) => {
      if (isPrompt) return i < view.kept.length || i === view.kept.length + prompt.candidate;
      return passing[i] && !view.hiddenClasses.has(mask.class_id);
    });
    for (const chip of all(".chip")) {
      const count = view.masks.filter((mask, i) => passing[i] && mask.class_id === Number(chip.dataset.classId)).length;
      chip.querySelector("b").textContent = count;
    }
    if (view.selected >= 0 && !view.visible[view.selected]) select(-1, false);
    // Over the image small masks lie on top, or they would not be seen; in the map it is the better ones.
    view.labels = labelMap(view.masks, view.visible, view.grid, (mask) => (view.map ? mask.score : -mask.area));
    summarise();
    draw();
  }

  function summarise() {
    for (const input of all("input[type=range]")) {
      const shown = input.name === "size" ? `${Number(input.value).toFixed(2)} %` : Number(input.value).toFixed(2);
      input.parentElement.querySelector("output").value = shown;
    }
    if (!view.answer) return;
    const covered = view.labels.reduce((count, label) => count + (label >= 0), 0) / view.labels.length;
    const count = view.visible.filter(Boolean).length;
    const noun = view.masks.length === 1 ? "mask" : "masks";
    const summary = isPrompt
      ? `${shownMasks().length} ${shownMasks().length === 1 ? "mask" : "masks"}, ${view.kept.length} kept`
      : view.masks.length === 0
        ? "No masks: nothing in this image passed"
        : `${count} of ${view.masks.length} ${noun} · ${percent(covered)} covered`;
    const least = setting("score");
    const below = isPrompt ? 0 : view.masks.filter((mask) => mask.score < least).length;
    const hidden = below ? ` · ${below} below ${least.toFixed(2)}` : "";
    find(".summary").textContent = `${summary}${hidden} · ${view.answer.seconds.toFixed(2)} s`;
    find(".summary").title = view.answer.embedding_cache === "hit" ? "The service had embedded this image before." : "";
  }

  // What there is nothing to do with is off.
  function enableTools() {
    const prompted = prompt.points.length > 0 || prompt.box !== null;
    find("[data-action=undo]").disabled = !prompted;
    find("[data-action=clear]").disabled = !prompted && view.kept.length === 0;
    find("[data-action=keep]").disabled = view.masks.length === view.kept.length;
    for (const name of ["coco", "png"]) find(`[data-action=${name}]`).disabled = shownMasks().length === 0;
    find(".help").textContent = HELP[prompt.tool];
  }

  function draw() {
    enableTools();
    if (!view.picture) return;
    const { width, height } = view.grid;
    context.clearRect(0, 0, width, height);
    context.drawImage(view.picture, 0, 0, width, height);
    if (view.labels) {
      const layer = document.createElement("canvas");
      layer.width = width;
      layer.height = height;
      const paint = view.map
        ? paintMap(view.labels, view.grid, view.colours)
        : paintMasks(view.labels, view.grid, view.colours, setting("opacity"), view.selected);
      layer.getContext("2d").putImageData(paint, 0, 0);
      context.globalAlpha = view.map ? Math.min(1, setting("opacity") + 0.4) : 1;
      context.drawImage(layer, 0, 0);
      context.globalAlpha = 1;
    }
    if (isPrompt) drawPrompt(context, prompt, view.grid.width / view.size.width);
  }

  // ---- one mask ------------------------------------------------------------------------------------------------------

  function select(index, pinned) {
    view.pinned = pinned && index >= 0;
    if (index === view.selected) return;
    view.selected = index;
    const card = find(".card");
    card.hidden = index < 0;
    if (index >= 0) card.replaceChildren(...describe(view.masks[index], index, view.answer));
    draw();
  }

  // The pointer's place in image pixels.
  function imagePoint(event) {
    const frame = canvas.getBoundingClientRect();
    const along = (value, length) => Math.min(Math.max(value, 0), 1 - 1e-6) * length;
    return [
      along((event.clientX - frame.left) / frame.width, view.size.width),
      along((event.clientY - frame.top) / frame.height, view.size.height),
    ];
  }

  function maskAt(event) {
    if (!view.labels || view.map) return -1;
    const [x, y] = imagePoint(event);
    const column = Math.floor((x / view.size.width) * view.grid.width);
    const row = Math.floor((y / view.size.height) * view.grid.height);
    return view.labels[row * view.grid.width + column];
  }

  // ---- the prompt ----------------------------------------------------------------------------------------------------

  function sendPrompt() {
    prompt.candidate = 0;
    if (!prompt.box && !prompt.labels.includes(1)) {
      view.masks = [...view.kept];
      showCandidates([]);
      filterMasks();
      return;
    }
    onPrompt({ points: prompt.points, labels: prompt.labels, box: prompt.box });
  }

  function resetPrompt() {
    Object.assign(prompt, { points: [], labels: [], box: null, candidate: 0, drag: null });
  }

  function showCandidates(masks) {
    const group = find(".candidates");
    group.hidden = masks.length < 2;
    group.replaceChildren(
      ...masks.map((mask, i) => {
        const button = document.createElement("button");
        button.type = "button";
        button.dataset.candidate = i;
        button.textContent = `${i + 1} · ${mask.score.toFixed(2)}`;
        button.setAttribute("aria-pressed", i === prompt.candidate);
        return button;
      }),
    );
  }

  function startPrompt(event) {
    const point = imagePoint(event).map(round);
    if (prompt.tool === "box") {
      prompt.drag = point;
      canvas.setPointerCapture(event.pointerId);
      return;
    }
    prompt.points.push(point);
    prompt.labels.push(prompt.tool === "add" && !event.shiftKey ? 1 : 0);
    draw();
    sendPrompt();
  }

  function dragBox(event) {
    const [x, y] = imagePoint(event).map(round);
    const [left, top] = prompt.drag;
    prompt.box = [Math.min(left, x), Math.min(top, y), Math.max(left, x), Math.max(top, y)];
    draw();
  }

  function endBox() {
    prompt.drag = null;
    const [x0, y0, x1, y1] = prompt.box ?? [0, 0, 0, 0];
    if (x1 - x0 < 2 || y1 - y0 < 2) {
      prompt.box = null;
      draw();
      return;
    }
    sendPrompt();
  }

  // ---- events --------------------------------------------------------------------------------------------------------

  canvas.addEventListener("pointermove", (event) => {
    if (prompt.drag) dragBox(event);
    else if (!isPrompt && !view.pinned && event.pointerType === "mouse") select(maskAt(event), false);
  });
  canvas.addEventListener("pointerleave", () => !view.pinned && select(-1, false));
  canvas.addEventListener("pointerdown", (event) => {
    if (!view.size || event.button !== 0) return;
    if (isPrompt) return startPrompt(event);
    const index = maskAt(event);
    if (view.pinned && index === view.selected) select(-1, false);
    else select(index, true);
  });
  canvas.addEventListener("pointerup", () => prompt.drag && endBox());

  element.addEventListener("input", (event) => event.target.type === "range" && filterMasks());

  element.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const { tool, candidate, action, classId } = button.dataset;
    if (tool) {
      prompt.tool = tool;
      canvas.dataset.tool = tool;
      for (const other of all("[data-tool]")) other.setAttribute("aria-pressed", other === button);
      enableTools();
    } else if (candidate) {
      prompt.candidate = Number(candidate);
      showCandidates(view.masks.slice(view.kept.length));
      filterMasks();
    } else if (classId) {
      const id = Number(classId);
      if (!view.hiddenClasses.delete(id)) view.hiddenClasses.add(id);
      button.setAttribute("aria-pressed", !view.hiddenClasses.has(id));
      filterMasks();
    } else if (action) {
      actions[action](button);
    }
  });

  const actions = {
    coco: () => saveCoco(props.file_name, view.answer, shownMasks(), view.answer.classes ?? []),
    png: () => savePng(props.file_name, canvas),
    undo: () => {
      if (prompt.points.length) {
        prompt.points.pop();
        prompt.labels.pop();
      } else prompt.box = null;
      draw();
      sendPrompt();
    },
    clear: () => {
      resetPrompt();
      view.kept = [];
      sendPrompt();
    },
    keep: () => {
      view.kept = shownMasks();
      resetPrompt();
      sendPrompt();
    },
    map: (button) => {
      view.map = !view.map;
      button.setAttribute("aria-pressed", view.map);
      select(-1, false);
      filterMasks();
    },
  };

  // ---- what Python sends ---------------------------------------------------------------------------------------------

  function showLegend() {
    const classes = view.answer?.classes ?? [];
    find(".legend").replaceChildren(
      ...classes.map((name, id) => {
        const chip = document.createElement("button");
        chip.type = "button";
        chip.className = "chip";
        chip.dataset.classId = id;
        chip.setAttribute("aria-pressed", true);
        const swatch = document.createElement("i");
        swatch.style.background = `rgb(${classColour(id)})`;
        chip.append(swatch, `${name} `, document.createElement("b"));
        const presence = view.answer.presence?.[id];
        if (presence !== undefined) {
          const sure = document.createElement("small");
          sure.textContent = ` ${percent(presence)}`;
          chip.append(sure);
          chip.title = "The share says how sure the model is that the picture shows this at all.";
        }
        return chip;
      }),
    );
  }

  function classColour(id) {
    return view.answer.semantic_map?.palette[id + 1] ?? colourOf(id);
  }

  function showPicture() {
    Object.assign(view, { picture: null, loading: null, answer: null, masks: [], kept: [], visible: [] });
    Object.assign(view, { labels: null, map: false, size: null });
    select(-1, false);
    resetPrompt();
    showCandidates([]);
    for (const panel of all(".panel")) panel.hidden = true;
    find(".tools").hidden = true;
    canvas.hidden = true;
    find(".hint").hidden = false;
    if (!props.picture) return;
    const picture = new Image();
    view.loading = picture;
    picture.onload = () => {
      if (picture !== view.loading) return; // another one was picked meanwhile
      const scale = Math.min(1, LONGEST_SIDE / Math.max(picture.width, picture.height));
      view.grid = {
        width: Math.max(1, Math.round(picture.width * scale)),
        height: Math.max(1, Math.round(picture.height * scale)),
      };
      view.size = { width: props.image_size[0], height: props.image_size[1] };
      view.picture = picture;
      canvas.width = view.grid.width;
      canvas.height = view.grid.height;
      // As large as the window allows with what stands above, but small images no more than three times their size.
      const shape = picture.width / picture.height;
      canvas.style.width = `min(100%, calc(max(100dvh - 25rem, 15rem) * ${shape}), ${3 * view.grid.width}px)`;
      canvas.hidden = false;
      find(".hint").hidden = true;
      find(".tools").hidden = !isPrompt;
      draw();
      showAnswer();
      // Browsers draw fewer kinds of files than the service reads, TIFF for one.
      for (const uploaded of document.querySelectorAll("#upload img")) {
        if (!uploaded.naturalWidth) uploaded.src = picture.src;
      }
    };
    picture.src = props.picture;
  }

  function showAnswer() {
    if (!view.picture || !props.value?.masks) return;
    const answer = props.value;
    // An answer about an image that is no longer there comes too late.
    if (answer.image_id !== props.image_id) return;
    view.answer = answer;
    const fresh = answer.masks.map((mask) => ({ ...mask, pixels: canvasPixels(mask, view.grid) }));
    view.masks = [...view.kept, ...fresh];
    view.colours = view.masks.map((mask, i) => (mask.class_id === undefined ? colourOf(i) : classColour(mask.class_id)));
    view.hiddenClasses.clear();
    view.map = false;
    view.selected = -1;
    find(".card").hidden = true;
    find("[data-action=map]").hidden = !answer.semantic_map;
    find("[data-action=map]").setAttribute("aria-pressed", false);
    for (const filter of all(".filter")) filter.hidden = isPrompt;
    if (!isPrompt) slider("score").value = 0;
    if (isPrompt) showCandidates(fresh);
    showLegend();
    for (const panel of all(".panel")) panel.hidden = false;
    filterMasks();
  }

  function showNotice() {
    const notice = find(".notice");
    notice.hidden = !props.notice;
    notice.textContent = props.notice ?? "";
  }

  function showBusy() {
    find(".busy").hidden = !props.busy;
  }

  canvas.dataset.tool = "add";
  watch("picture", showPicture);
  watch("value", showAnswer);
  watch("notice", showNotice);
  watch("busy", showBusy);
  showPicture();
  showNotice();
  showBusy();
}
