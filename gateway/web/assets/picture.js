// A picture on its way from the visitor's device: its bytes, and what the browser can show of it.

const MAX_BYTES = 20 * 1024 * 1024;
const TYPES = { bmp: "image/bmp", gif: "image/gif", jpeg: "image/jpeg", jpg: "image/jpeg", png: "image/png", tif: "image/tiff", tiff: "image/tiff", webp: "image/webp" };

/** Read a file. `bitmap` is null for formats that the server may read and this browser cannot. */
export async function readPicture(file) {
  const suffix = file.name.split(".").pop().toLowerCase();
  const type = file.type || TYPES[suffix] || "";
  if (!type.startsWith("image/")) throw new Error(`${file.name} is not a picture.`);
  if (file.size > MAX_BYTES) {
    throw new Error(`${file.name} has ${file.size} bytes, at most ${MAX_BYTES} can be sent.`);
  }
  const [url, bitmap] = await Promise.all([dataUrl(file, type), decode(file)]);
  return { name: file.name, type, url, bitmap };
}

function dataUrl(file, type) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(`data:${type};base64,${reader.result.split(",", 2)[1] ?? ""}`);
    reader.onerror = () => reject(new Error(`${file.name} cannot be read.`));
    reader.readAsDataURL(file);
  });
}

async function decode(file) {
  try {
    // Upright, as the server sees it.
    return await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    return null;
  }
}

/** Find the picture among what was dropped or pasted; null if there is none. */
export function pictureIn(transfer) {
  return [...(transfer?.files ?? [])].find((file) => file.type.startsWith("image/"))
    ?? transfer?.files?.[0] ?? null;
}
