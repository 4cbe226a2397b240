// Run by test_modules.py with `node --test`; CASES names a file of what Python says.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { colourOf } from "../../ui/static/colours.js";
import { cocoFile, stem } from "../../ui/static/download.js";
import { canvasPixels, labelMap, runEnds } from "../../ui/static/masks.js";

const cases = JSON.parse(readFileSync(process.env.CASES, "utf-8"));

test("colours are those of pictures/colours.py", () => {
  assert.deepEqual(
    cases.colours.map((_, i) => colourOf(i)),
    cases.colours,
  );
});

test("run lengths and pixels are those that pycocotools reads", () => {
  for (const mask of cases.masks) {
    const [height, width] = mask.rle.size;
    assert.equal(runEnds(mask.rle.counts).at(-1), height * width);
    assert.deepEqual([...canvasPixels(mask, { width, height })].sort((a, b) => a - b), mask.pixels);
  }
});

test("a canvas of another size takes the pixel under each of its centres", () => {
  const mask = { rle: { size: [2, 2], counts: "112" }, bbox: [0, 1, 1, 1] }; // bottom left alone
  assert.deepEqual([...canvasPixels(mask, { width: 4, height: 4 })].sort((a, b) => a - b), [8, 9, 12, 13]);
  assert.deepEqual([...canvasPixels(mask, { width: 1, height: 1 })], []);
});

test("the higher mask is seen, hidden ones are not", () => {
  const masks = [
    { pixels: [0, 1], score: 0.9 },
    { pixels: [1, 2], score: 0.5 },
  ];
  const grid = { width: 4, height: 1 };
  const byScore = (mask) => mask.score;
  assert.deepEqual([...labelMap(masks, [true, true], grid, byScore)], [0, 0, 1, -1]);
  assert.deepEqual([...labelMap(masks, [false, true], grid, byScore)], [-1, 1, 1, -1]);
});

test("a COCO file keeps all that the service said of a mask", () => {
  const mask = {
    class_id: 1,
    rle: { size: [2, 2], counts: "112" },
    bbox: [0, 1, 1, 1],
    area: 1,
    score: 0.5,
    predicted_iou: 0.75,
    stability_score: 1,
    uncertainty: 0.25,
  };
  const answer = { width: 2, height: 2 };
  const file = cocoFile("a.jpg", answer, [mask], ["cat", "dog"]);
  assert.deepEqual(
    file.categories.map(({ id, name }) => [id, name]),
    [
      [1, "cat"],
      [2, "dog"],
    ],
  );
  const [{ category_id, segmentation, score, predicted_iou, stability_score, uncertainty }] = file.annotations;
  assert.deepEqual([category_id, segmentation, score], [2, mask.rle, 0.5]);
  assert.deepEqual([predicted_iou, stability_score, uncertainty], [0.75, 1, 0.25]);
  const { class_id: _class, uncertainty: _uncertainty, ...entity } = mask;
  const entities = cocoFile("a.jpg", answer, [entity], []);
  assert.equal(entities.categories[0].name, "entity");
  assert.ok(!("uncertainty" in entities.annotations[0]));
});

test("a file keeps its name without the ending", () => {
  assert.deepEqual(["a.b.jpg", "photo", ".jpg"].map(stem), ["a.b", "photo", "image"]);
});
