// Three planes through a volume. As radiologists see it: the patient's right is on the left, the front above
// in axial slices, and the head above in the others.

import { BACKGROUND } from "./volume.js";

// Of each axis that is cut across: the axis that runs to the right of the picture and the one that runs up it,
// whether they run as the picture does, and the letters at the left, right, upper and lower edge.
const LAYOUT = {
  2: { across: 0, up: 1, mirrored: true, letters: ["R", "L", "A", "P"] },
  1: { across: 0, up: 2, mirrored: true, letters: ["R", "L", "S", "I"] },
  0: { across: 1, up: 2, mirrored: true, letters: ["A", "P", "S", "I"] },
};
const MARGIN = 18;
const STEP_PIXELS = 60; // that a wheel turns a slice

export class Planes {
  constructor(canvases, act) {
    this.views = canvases.map(canvas => new Plane(canvas, this));
    this.act = act; // what a pointer does: act(point, axis, phase)
    this.volume = null;
    this.point = [0, 0, 0];
    this.colours = new Map();
    this.hidden = new Set();
    this.opacity = 0.4;
    this.frame = 0;
    new ResizeObserver(() => this.draw()).observe(canvases[0]);
  }

  show(volume, structures) {
    this.volume = volume;
    this.colours = new Map(structures.map(s => [s.value, rgb(s.colour)]));
    this.hidden = new Set();
    this.point = middle(volume);
    this.draw();
  }

  move(axis, steps) {
    this.point[axis] = clamp(this.point[axis] + steps, 0, this.volume.shape[axis] - 1);
    this.draw();
  }

  draw() {
    if (this.frame || !this.volume) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      for (const view of this.views) view.paint();
    });
  }
}

class Plane {
  constructor(canvas, owner) {
    this.canvas = canvas;
    this.owner = owner;
    this.axis = Number(canvas.dataset.axis);
    this.layout = LAYOUT[this.axis];
    this.picture = document.createElement("canvas");
    this.turned = 0;
    canvas.addEventListener("pointerdown", event => this.pointer(event, "begin"));
    canvas.addEventListener("pointermove", event => event.buttons && this.pointer(event, "go on"));
    canvas.addEventListener("pointerup", event => this.pointer(event, "end"));
    canvas.addEventListener("pointercancel", event => this.pointer(event, "end"));
    canvas.addEventListener("wheel", event => this.wheel(event), { passive: false });
    canvas.addEventListener("keydown", event => this.key(event));
  }

  // Where the picture lies on the canvas, in its pixels.
  place() {
    const { spacing, shape } = this.owner.volume;
    const { across, up } = this.layout;
    const [width, height] = [shape[across] * spacing[across], shape[up] * spacing[up]];
    const edge = this.canvas.width, scale = (edge - 2 * MARGIN * this.ratio) / Math.max(width, height);
    return { left: (edge - width * scale) / 2, top: (edge - height * scale) / 2, width: width * scale, height: height * scale };
  }

  voxel(event) {
    const box = this.canvas.getBoundingClientRect(), at = this.place(), { shape } = this.owner.volume;
    const { across, up, mirrored } = this.layout;
    const x = ((event.clientX - box.left) * this.canvas.width) / box.width - at.left;
    const y = ((event.clientY - box.top) * this.canvas.height) / box.height - at.top;
    const point = [...this.owner.point];
    const column = Math.floor((x / at.width) * shape[across]), row = Math.floor((y / at.height) * shape[up]);
    point[across] = clamp(mirrored ? shape[across] - 1 - column : column, 0, shape[across] - 1);
    point[up] = clamp(shape[up] - 1 - row, 0, shape[up] - 1);
    return point;
  }

  pointer(event, phase) {
    if (!this.owner.volume || (event.button > 0 && phase !== "go on")) return;
    if (phase === "begin") this.canvas.setPointerCapture(event.pointerId);
    this.owner.act(this.voxel(event), this.axis, phase);
  }

  wheel(event) {
    if (!this.owner.volume || event.ctrlKey) return;
    event.preventDefault();
    this.turned += event.deltaMode ? Math.sign(event.deltaY) * STEP_PIXELS : event.deltaY;
    const steps = Math.trunc(this.turned / STEP_PIXELS);
    this.turned -= steps * STEP_PIXELS;
    if (steps) this.owner.move(this.axis, -steps);
  }

  key(event) {
    const steps = { ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[event.key];
    if (!steps || !this.owner.volume) return;
    event.preventDefault();
    this.owner.move(this.axis, steps);
  }

  paint() {
    const { volume, point } = this.owner, { across, up } = this.layout;
    const edge = this.canvas.clientWidth;
    this.ratio = window.devicePixelRatio || 1;
    const pixels = Math.round(edge * this.ratio);
    if (this.canvas.width !== pixels) this.canvas.width = this.canvas.height = pixels;
    const [columns, rows] = [volume.shape[across], volume.shape[up]];
    if (this.picture.width !== columns || this.picture.height !== rows) [this.picture.width, this.picture.height] = [columns, rows];
    const context = this.picture.getContext("2d"), slice = context.createImageData(columns, rows);
    this.fill(slice.data, columns, rows);
    context.putImageData(slice, 0, 0);
    const shown = this.canvas.getContext("2d"), at = this.place();
    shown.clearRect(0, 0, pixels, pixels);
    shown.imageSmoothingEnabled = false;
    shown.drawImage(this.picture, at.left, at.top, at.width, at.height);
    this.marks(shown, at, point);
  }

  // One slice as pixels: grey, labels over it with their borders stronger, scribbles over both.
  fill(pixels, columns, rows) {
    const { volume, point, colours, hidden, opacity } = this.owner, { across, up, mirrored } = this.layout;
    const [step, rise] = [volume.strides[across], volume.strides[up]], { image, labels, scribbles } = volume;
    const base = point[this.axis] * volume.strides[this.axis];
    for (let row = 0, n = 0; row < rows; row++) {
      const line = base + (rows - 1 - row) * rise;
      for (let column = 0; column < columns; column++, n += 4) {
        const c = mirrored ? columns - 1 - column : column, voxel = line + c * step, grey = image[voxel];
        let [r, g, b] = [grey, grey, grey];
        const label = labels[voxel];
        if (label && !hidden.has(label) && opacity) {
          const border = (c && labels[voxel - step] !== label) || (c < columns - 1 && labels[voxel + step] !== label)
            || (row && labels[voxel + rise] !== label) || (row < rows - 1 && labels[voxel - rise] !== label);
          const colour = colours.get(label) || [255, 255, 255], share = border ? Math.min(1, opacity * 2) : opacity;
          r += (colour[0] - r) * share; g += (colour[1] - g) * share; b += (colour[2] - b) * share;
        }
        pixels[n] = r; pixels[n + 1] = g; pixels[n + 2] = b; pixels[n + 3] = 255;
      }
    }
    for (const [voxel, value] of scribbles) {
      const place = [voxel % volume.shape[0], Math.floor(voxel / volume.strides[1]) % volume.shape[1], Math.floor(voxel / volume.strides[2])];
      if (place[this.axis] !== point[this.axis]) continue;
      const column = mirrored ? columns - 1 - place[across] : place[across], n = 4 * (column + (rows - 1 - place[up]) * columns);
      const colour = value === BACKGROUND ? [255, 255, 255] : colours.get(value) || [255, 255, 0];
      [pixels[n], pixels[n + 1], pixels[n + 2]] = colour.map((c, m) => (value === BACKGROUND && m ? 60 : c));
    }
  }

  marks(shown, at, point) {
    const { volume } = this.owner, { across, up, mirrored, letters } = this.layout, ratio = this.ratio;
    const column = mirrored ? volume.shape[across] - 1 - point[across] : point[across];
    const x = at.left + ((column + 0.5) / volume.shape[across]) * at.width;
    const y = at.top + ((volume.shape[up] - 0.5 - point[up]) / volume.shape[up]) * at.height;
    shown.strokeStyle = "#7ec8ff88";
    shown.lineWidth = ratio;
    shown.beginPath();
    shown.moveTo(x, at.top); shown.lineTo(x, at.top + at.height);
    shown.moveTo(at.left, y); shown.lineTo(at.left + at.width, y);
    shown.stroke();
    shown.fillStyle = "#e8eaed";
    shown.font = `${13 * ratio}px system-ui, sans-serif`;
    shown.textAlign = "center";
    shown.textBaseline = "middle";
    const edge = this.canvas.width, middle = edge / 2, inset = 9 * ratio;
    shown.fillText(letters[0], inset, middle);
    shown.fillText(letters[1], edge - inset, middle);
    shown.fillText(letters[2], middle, inset);
    shown.textAlign = "left";
    shown.fillText(`${letters[3]}   slice ${point[this.axis] + 1} of ${volume.shape[this.axis]}`, middle - 4 * ratio, edge - inset);
  }
}

// The middle of what is labelled, or of the scan.
function middle(volume) {
  const sums = [0, 0, 0];
  let count = 0;
  for (let n = 0; n < volume.count; n += 7) {
    if (!volume.labels[n]) continue;
    sums[0] += n % volume.shape[0];
    sums[1] += Math.floor(n / volume.strides[1]) % volume.shape[1];
    sums[2] += Math.floor(n / volume.strides[2]);
    count++;
  }
  return volume.shape.map((size, axis) => (count ? Math.round(sums[axis] / count) : size >> 1));
}

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const rgb = text => [1, 3, 5].map(n => parseInt(text.slice(n, n + 2), 16));
