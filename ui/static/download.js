// Files made in the browser from what is on the screen.

function saveBlob(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// A COCO file of one image. `classes` is empty for masks without a class: they share the category "entity".
export function cocoFile(fileName, answer, masks, classes) {
  const names = classes.length ? classes : ["entity"];
  return {
    images: [{ id: 1, file_name: fileName, width: answer.width, height: answer.height }],
    categories: names.map((name, i) => ({ id: i + 1, name, supercategory: "" })),
    annotations: masks.map((mask, i) => ({
      id: i + 1,
      image_id: 1,
      category_id: (mask.class_id ?? 0) + 1,
      segmentation: mask.rle,
      bbox: mask.bbox,
      area: mask.area,
      iscrowd: 0,
      score: mask.score,
      predicted_iou: mask.predicted_iou,
      stability_score: mask.stability_score,
      ...(mask.uncertainty === undefined ? {} : { uncertainty: mask.uncertainty }),
    })),
  };
}

export function saveCoco(fileName, answer, masks, classes) {
  const text = JSON.stringify(cocoFile(fileName, answer, masks, classes));
  saveBlob(new Blob([text], { type: "application/json" }), `${stem(fileName)}.coco.json`);
}

export function savePng(fileName, canvas) {
  canvas.toBlob((blob) => saveBlob(blob, `${stem(fileName)}.masks.png`), "image/png");
}

export function stem(fileName) {
  return fileName.replace(/\.[^.]*$/, "") || "image";
}
