// The prompt over the image: the box that was dragged, and the points that were clicked on.

// `scale` is canvas pixels per image pixel; lines and points are as large on every screen.
export function drawPrompt(context, { points, labels, box }, scale) {
  const unit = context.canvas.width / context.canvas.clientWidth || 1; // canvas pixels per screen pixel
  if (box) {
    const [x0, y0, x1, y1] = box.map((value) => value * scale);
    context.lineWidth = 2 * unit;
    context.strokeStyle = "#fff";
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    context.setLineDash([6 * unit, 4 * unit]);
    context.strokeStyle = "#1d4ed8";
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    context.setLineDash([]);
  }
  points.forEach(([x, y], i) => {
    context.beginPath();
    context.arc(x * scale, y * scale, 7 * unit, 0, 2 * Math.PI);
    context.fillStyle = labels[i] ? "#16a34a" : "#dc2626";
    context.fill();
    context.lineWidth = 2 * unit;
    context.strokeStyle = "#fff";
    context.stroke();
  });
}
