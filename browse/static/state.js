// What the page shows, as its address says it, and what all of its parts know.

export const CONDITIONS = ["show", "corrected", "text", "split", "class", "score", "area", "doubt", "masks", "order"];
const OF_MASKS = ["class", "score", "area"];
export const PAGE = 60;

export const state = {
  query: {}, // name → text of a condition, those that are set
  first: 0, // number of the first image of the list's page
  image: null, // id of the image that is looked at; null for the list
  at: null, // its number in the list, where that is known
  list: "", // the list that is gone through, as the server calls it
  matched: 0,
  facts: null, // what /api/store says
  plain: false, // whether masks are hidden
};

export function readAddress() {
  const parameters = new URLSearchParams(location.search);
  state.query = Object.fromEntries(CONDITIONS.filter((name) => parameters.get(name)).map((name) => [name, parameters.get(name)]));
  state.first = Math.max(0, Number.parseInt(parameters.get("first") ?? "0", 10) || 0);
  state.image = parameters.get("image");
  const at = Number.parseInt(parameters.get("at") ?? "", 10);
  state.at = Number.isNaN(at) ? null : at;
}

export function address() {
  const parameters = new URLSearchParams(state.query);
  if (state.first) parameters.set("first", state.first);
  if (state.image !== null) parameters.set("image", state.image);
  if (state.image !== null && state.at !== null) parameters.set("at", state.at);
  const text = parameters.toString();
  return text ? `/?${text}` : "/";
}

export const conditionsOfMasks = () =>
  Object.fromEntries(OF_MASKS.filter((name) => state.query[name]).map((name) => [name, state.query[name]]));

export function annotator() {
  try {
    return localStorage.getItem("annotator") || state.facts.annotator;
  } catch {
    return state.facts.annotator;
  }
}

export function setAnnotator(name) {
  try {
    localStorage.setItem("annotator", name);
  } catch {
    state.facts.annotator = name;
  }
}
