// Colours that tell many masks apart: those of everymask/pictures/colours.py, which says why.

const GOLDEN_TURN = 0.6180339887498949;
const LEVELS = [
  [0.76, 0.15],
  [0.62, 0.19],
  [0.86, 0.12],
]; // lightness and chroma in OKLCH

// [red, green, blue] of mask or class `index`, each 0 to 255.
export function colourOf(index) {
  const [lightness, chroma] = LEVELS[index % LEVELS.length];
  const hue = 2 * Math.PI * ((0.08 + index * GOLDEN_TURN) % 1);
  return oklabToRgb(lightness, chroma * Math.cos(hue), chroma * Math.sin(hue));
}

function oklabToRgb(lightness, a, b) {
  const long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const middle = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const short = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
    -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
    -0.0041960863 * long - 0.7034186147 * middle + 1.707614701 * short,
  ].map((value) => {
    const linear = Math.min(Math.max(value, 0), 1);
    return Math.round(255 * (linear <= 0.0031308 ? 12.92 * linear : 1.055 * linear ** (1 / 2.4) - 0.055));
  });
}
