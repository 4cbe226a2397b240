// Masks as the service answers them (COCO compressed run-length encoding) → pixels of a canvas.

// The runs of an encoding, as the column-major index one past each run's end. Runs alternate outside, inside, outside, …
export function runEnds(counts) {
  const ends = [];
  const lengths = [];
  let position = 0;
  let total = 0;
  while (position < counts.length) {
    let length = 0;
    let shift = 0;
    let more = true;
    while (more) {
      const code = counts.charCodeAt(position++) - 48;
      length |= (code & 0x1f) << shift;
      shift += 5;
      more = (code & 0x20) !== 0;
      if (!more && code & 0x10) length |= -1 << shift;
    }
    // From the third run on, the difference to the last run but one is stored.
    if (lengths.length > 2) length += lengths[lengths.length - 2];
    lengths.push(length);
    total += length;
    ends.push(total);
  }
  return ends;
}

// Indices (row-major) of the canvas pixels whose centres lie in the mask. `grid` is {width, height} of the canvas.
export function canvasPixels(mask, grid) {
  const [height, width] = mask.rle.size;
  const ends = runEnds(mask.rle.counts);
  const [x0, y0, boxWidth, boxHeight] = mask.bbox;
  const left = Math.max(0, Math.floor((x0 * grid.width) / width) - 1);
  const right = Math.min(grid.width, Math.ceil(((x0 + boxWidth) * grid.width) / width) + 1);
  const top = Math.max(0, Math.floor((y0 * grid.height) / height) - 1);
  const bottom = Math.min(grid.height, Math.ceil(((y0 + boxHeight) * grid.height) / height) + 1);
  const pixels = [];
  let run = 0;
  for (let column = left; column < right; column++) {
    const x = Math.min(width - 1, Math.floor(((column + 0.5) * width) / grid.width));
    for (let row = top; row < bottom; row++) {
      const y = Math.min(height - 1, Math.floor(((row + 0.5) * height) / grid.height));
      const index = x * height + y;
      // A canvas finer than the image reads a column twice, so the index may step back.
      while (run > 0 && ends[run - 1] > index) run--;
      while (run < ends.length && ends[run] <= index) run++;
      if (run % 2 === 1 && run < ends.length) pixels.push(row * grid.width + column);
    }
  }
  return Uint32Array.from(pixels);
}

// Which mask is seen at each canvas pixel: its index, or -1. `height(mask)` says which of two lies on top.
export function labelMap(masks, visible, grid, height) {
  const labels = new Int32Array(grid.width * grid.height).fill(-1);
  const order = masks.map((_, i) => i).filter((i) => visible[i]);
  order.sort((a, b) => height(masks[a]) - height(masks[b]));
  for (const i of order) for (const pixel of masks[i].pixels) labels[pixel] = i;
  return labels;
}

// The class of every pixel: plain colours, black where there is none.
export function paintMap(labels, grid, colours) {
  const layer = new ImageData(grid.width, grid.height);
  labels.forEach((label, at) => layer.data.set([...(label < 0 ? [0, 0, 0] : colours[label]), 255], at * 4));
  return layer;
}

// The coloured layer over the image. `selected` (or -1) stands out, the others step back.
export function paintMasks(labels, grid, colours, opacity, selected) {
  const layer = new ImageData(grid.width, grid.height);
  const data = layer.data;
  for (let y = 0; y < grid.height; y++) {
    for (let x = 0; x < grid.width; x++) {
      const at = y * grid.width + x;
      const label = labels[at];
      if (label < 0) continue;
      const border =
        (x > 0 && labels[at - 1] !== label) ||
        (y > 0 && labels[at - grid.width] !== label) ||
        (x + 1 < grid.width && labels[at + 1] !== label) ||
        (y + 1 < grid.height && labels[at + grid.width] !== label);
      const chosen = label === selected;
      const [red, green, blue] = border && chosen ? [255, 255, 255] : colours[label];
      let alpha = border ? Math.min(1, opacity + 0.4) : opacity;
      if (chosen) alpha = border ? 1 : Math.min(0.85, opacity + 0.2);
      else if (selected >= 0) alpha *= 0.35;
      data.set([red, green, blue, Math.round(alpha * 255)], at * 4);
    }
  }
  return layer;
}
