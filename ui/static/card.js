// What is said of one mask.

export const percent = (share) => `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;

function line(text, className) {
  const part = document.createElement("span");
  part.textContent = text;
  if (className) part.className = className;
  return part;
}

// The lines of the card of the `index`-th mask of an answer.
export function describe(mask, index, answer) {
  const size = mask.area / (answer.width * answer.height);
  const parts = [
    line(mask.class_name ?? `Mask ${index + 1}`, "title"),
    line(`score ${mask.score.toFixed(2)}`),
    line(`stability ${mask.stability_score.toFixed(2)}`),
    line(`${percent(size)} of the image`),
  ];
  if (mask.predicted_iou !== undefined) parts.splice(2, 0, line(`predicted IoU ${mask.predicted_iou.toFixed(2)}`));
  if (mask.uncertainty !== undefined) parts.push(line(`uncertainty ${mask.uncertainty.toFixed(2)}`));
  return parts;
}
