// The page's server. Whatever it refuses becomes an Error with its sentence.

async function answered(request) {
  let response;
  try {
    response = await request;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The page's server does not answer. Is `everymask browse` still running?", { cause: error });
  }
  const text = await response.text();
  let content;
  try {
    content = JSON.parse(text);
  } catch {
    throw new Error(text || `The server answered ${response.status}.`);
  }
  if (!response.ok) throw new Error(content.error ?? `The server answered ${response.status}.`);
  return content;
}

export const get = (path, parameters = {}, signal = undefined) =>
  answered(fetch(`${path}?${new URLSearchParams(parameters)}`, { signal }));

export const post = (path, content) =>
  answered(
    fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Everymask": "browse" },
      body: JSON.stringify(content),
    }),
  );

export const thumbnail = (image, plain) =>
  `/thumbnail?${new URLSearchParams({ id: image.id, v: image.signature, ...(plain ? { plain: "" } : {}) })}`;

export const picture = (image) => `/picture?${new URLSearchParams({ id: image.id, v: image.picture })}`;
