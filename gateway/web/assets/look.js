// Where did the model look? The picture with heat map and box over it, and the crop.

const MOST_OPAQUE = 0.72;
const MAX_SIDE_PX = 1600;
const CROP_SIDE_PX = 640;
// The colour scale ends at the map's peak, but not below this: no noise is blown up.
const LEAST_TOP = 0.05;
// Dark to bright through red, so that brightness alone already orders the values.
const RAMP = [[20, 0, 60], [120, 10, 110], [215, 50, 60], [250, 150, 20], [255, 245, 120]];

/** Draw a bitmap, or a part of it, as large as `side` allows. */
function draw(canvas, bitmap, side, [x0, y0, x1, y1] = [0, 0, bitmap.width, bitmap.height]) {
  const scale = Math.min(1, side / Math.max(x1 - x0, y1 - y0));
  const grow = Math.max(scale, Math.min(4, (side / 2) / Math.max(x1 - x0, y1 - y0)));
  canvas.width = Math.max(1, Math.round((x1 - x0) * grow));
  canvas.height = Math.max(1, Math.round((y1 - y0) * grow));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, x0, y0, x1 - x0, y1 - y0, 0, 0, canvas.width, canvas.height);
}

/** Show the picture itself. */
export function drawPicture(canvas, picture) {
  if (picture.bitmap) {
    draw(canvas, picture.bitmap, MAX_SIDE_PX);
    canvas.setAttribute("aria-label", `The picture ${picture.name}`);
    return;
  }
  [canvas.width, canvas.height] = [640, 360];
  const context = canvas.getContext("2d");
  context.fillStyle = "#888";
  context.font = "20px sans-serif";
  context.textAlign = "center";
  context.fillText("This browser cannot show this format;", 320, 170);
  context.fillText("the server may still read it.", 320, 200);
  canvas.setAttribute("aria-label", `The picture ${picture.name}, which this browser cannot show`);
}

/** Show a small view of the picture for lists. */
export function drawThumbnail(canvas, picture) {
  [canvas.width, canvas.height] = [104, 80];
  if (!picture.bitmap) return;
  const { width, height } = picture.bitmap;
  const scale = Math.max(104 / width, 80 / height);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(picture.bitmap, (104 - width * scale) / 2, (80 - height * scale) / 2, width * scale, height * scale);
}

function colour(heat) {
  const at = heat * (RAMP.length - 1);
  const low = Math.min(RAMP.length - 2, Math.floor(at));
  return RAMP[low].map((channel, i) => channel + (at - low) * (RAMP[low + 1][i] - channel));
}

/** Lay the heat map over the picture; cold cells stay clear, so that the picture remains readable. */
export function drawHeat(canvas, heatmap) {
  const context = canvas.getContext("2d");
  if (!heatmap) {
    canvas.width = canvas.width; // Clears it.
    return;
  }
  const [rows, columns] = heatmap.grid;
  const cells = new ImageData(columns, rows);
  const values = heatmap.values.flat();
  const top = Math.max(LEAST_TOP, ...values);
  values.forEach((value, i) => {
    const heat = Math.min(1, Math.max(0, value / top));
    cells.data.set([...colour(heat), 255 * MOST_OPAQUE * heat], 4 * i);
  });
  const small = document.createElement("canvas");
  [small.width, small.height] = [columns, rows];
  small.getContext("2d").putImageData(cells, 0, 0);
  [canvas.width, canvas.height] = [columns * 24, rows * 24];
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

/** Put the box where it is in the picture. */
export function placeBox(element, box, bitmap) {
  element.hidden = !box || !bitmap;
  if (element.hidden) return;
  const [x0, y0, x1, y1] = box;
  Object.assign(element.style, {
    left: `${(100 * x0) / bitmap.width}%`,
    top: `${(100 * y0) / bitmap.height}%`,
    width: `${(100 * (x1 - x0)) / bitmap.width}%`,
    height: `${(100 * (y1 - y0)) / bitmap.height}%`,
  });
  element.classList.toggle("low", y0 < 0.08 * bitmap.height);
}

/** Show what the second look saw. */
export function drawCrop(canvas, box, bitmap) {
  draw(canvas, bitmap, CROP_SIDE_PX, box);
  canvas.setAttribute("aria-label", `The region of ${box[2] - box[0]} by ${box[3] - box[1]} pixels that was looked at again`);
}
