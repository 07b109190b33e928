(() => {
"use strict";

// The viewer of a case page. All it knows of a case it reads from the inert templates of its
// section; names reach the page as text only. One script for every page, so one hash.

const BACKGROUND = "#0b0c0e", INK = "#e8eaed", FAINT = "#9aa0a6", AMBER = "#e6c07b", CROSS = "#7ec8ff";
const FONT = '"DejaVu Sans", "Segoe UI", Arial, sans-serif';
const SIDE = 22, ABOVE = 22, BELOW = 56; // pixels around a slice: letters, scale bar, banner
const TALLEST = 1.2; // height of a slice, at most, over the width it may have
const NOTCH = 50, NUDGE = 30; // wheel: a mouse's notch is one slice, a finger's path adds up to one
const NARROWEST = 232; // pixels of a picture's place beside others, so that its title fits
const SPARE = 26; // pixels of the window's height that three planes and the panel leave free
const LEAST = 160; // pixels of a slice's height, whatever the window's
const STROKE = 14; // pixels a finger moves to reach the next slice
const SETTLED_MS = 250; // a wheel that was scrolling the page goes on scrolling the page

// Corners in the structure: 1 upper left, 2 upper right, 4 lower right, 8 lower left. Sides of the
// cell: 0 upper, 1 right, 2 lower, 3 left. A pair says where the outline enters and leaves, the
// structure on its left; structures that touch at a corner stay apart.
const CROSSINGS = [
  [], [[3, 0]], [[0, 1]], [[3, 1]], [[1, 2]], [[3, 0], [1, 2]], [[0, 2]], [[3, 2]],
  [[2, 3]], [[2, 0]], [[0, 1], [2, 3]], [[2, 1]], [[1, 3]], [[1, 0]], [[0, 3]], [],
];

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const tenth = value => Math.round(value * 10) / 10;
const short = value => String(Number(value.toPrecision(4)));

// Voxels -------------------------------------------------------------------------------------

async function unpack(template, layer) {
  const text = atob(template.content.textContent.trim());
  const packed = new Uint8Array(text.length);
  for (let n = 0; n < text.length; n++) packed[n] = text.charCodeAt(n);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const array = layer.bytes === 2 ? new Uint16Array(buffer) : new Uint8Array(buffer);
  const [, rows, columns] = layer.shape;
  if (array.length !== layer.shape[0] * rows * columns) throw new Error("the data has another size");
  if (layer.differences) {
    for (let n = 0; n < array.length; n += columns) {
      for (let k = n + 1; k < n + columns; k++) array[k] += array[k - 1];
    }
  }
  return { ...layer, array, strides: [rows * columns, columns, 1] };
}

// Where a voxel of the scan lies in a layer along an axis; -1 outside.
function inside(layer, axis, index) {
  const n = Math.floor((index - layer.start[axis]) / layer.factors[axis]);
  return n < layer.shape[axis] ? n : -1;
}

function valueAt(layer, point) {
  const places = point.map((index, axis) => inside(layer, axis, index));
  if (Math.min(...places) < 0) return 0;
  return layer.array[places.reduce((sum, n, axis) => sum + n * layer.strides[axis], 0)];
}

// A slice with a rim of background, so that every outline closes; null outside the layer.
function rimmed(layer, plane, index) {
  const slice = inside(layer, plane.axis, index);
  if (slice < 0) return null;
  const wide = layer.shape[plane.column] + 2, high = layer.shape[plane.row] + 2;
  const cells = new layer.array.constructor(wide * high);
  const along = layer.strides[plane.column];
  for (let y = 1; y < high - 1; y++) {
    let from = slice * layer.strides[plane.axis] + (y - 1) * layer.strides[plane.row];
    for (let x = 1, to = y * wide + 1; x < wide - 1; x++, to++, from += along) cells[to] = layer.array[from];
  }
  return { cells, wide, high };
}

// Outlines -----------------------------------------------------------------------------------

// Which structures an index of the label layer belongs to, and a table of both.
function membership(structures) {
  const indices = 1 + Math.max(0, ...structures.flatMap(s => s.indices));
  const holds = new Uint8Array(structures.length * indices);
  const owners = Array.from({ length: indices }, () => []);
  structures.forEach((structure, n) => structure.indices.forEach(index => {
    holds[n * indices + index] = 1;
    owners[index].push(n);
  }));
  return { holds, owners, indices };
}

// The steps of every structure's outline, from a side of a cell to the next.
function steps({ cells, wide, high }, { holds, owners, indices }) {
  const found = new Map();
  for (let y = 0; y < high - 1; y++) {
    for (let x = 0, n = y * wide; x < wide - 1; x++, n++) {
      const here = cells[n];
      if (cells[n + 1] === here && cells[n + wide] === here && cells[n + wide + 1] === here) continue;
      const corners = [here, cells[n + 1], cells[n + wide + 1], cells[n + wide]];
      const sides = [2 * n, 2 * (n + 1) + 1, 2 * (n + wide), 2 * n + 1];
      const seen = new Set();
      for (const corner of corners) for (const owner of owners[corner]) seen.add(owner);
      for (const owner of seen) {
        let code = 0;
        for (let c = 0; c < 4; c++) code |= holds[owner * indices + corners[c]] << c;
        if (!found.has(owner)) found.set(owner, []);
        for (const [enter, leave] of CROSSINGS[code]) found.get(owner).push(sides[enter], sides[leave]);
      }
    }
  }
  return found;
}

// Closed outlines in millimetres along the array's own axes, one path a structure.
function outlines(layer, plane, index, table) {
  const paths = new Map(), slice = rimmed(layer, plane, index);
  if (!slice) return paths;
  const { wide, high } = slice;
  const next = new Int32Array(2 * wide * high);
  const across = x => (layer.start[plane.column] + (x - 0.5) * layer.factors[plane.column]) * plane.pixel[1];
  const down = y => (layer.start[plane.row] + (y - 0.5) * layer.factors[plane.row]) * plane.pixel[0];
  for (const [owner, pairs] of steps(slice, table)) {
    const path = new Path2D();
    for (let n = 0; n < pairs.length; n += 2) next[pairs[n]] = pairs[n + 1] + 1;
    for (let n = 0; n < pairs.length; n += 2) {
      let side = pairs[n], begun = false;
      while (next[side]) {
        const cell = side >> 1, upright = side & 1, y = Math.floor(cell / wide);
        const at = [across((cell % wide) + (upright ? 0 : 0.5)), down(y + (upright ? 0.5 : 0))];
        if (begun) path.lineTo(...at); else path.moveTo(...at);
        begun = true;
        const to = next[side] - 1;
        next[side] = 0;
        side = to;
      }
      if (begun) path.closePath();
    }
    paths.set(owner, path);
  }
  return paths;
}

// One plane ----------------------------------------------------------------------------------

class View {
  constructor(viewer, plane, element) {
    this.viewer = viewer;
    this.plane = plane;
    this.name = plane.name[0].toUpperCase() + plane.name.slice(1);
    this.slices = viewer.shape[plane.axis];
    this.size = { wide: viewer.shape[plane.column] * plane.pixel[1], high: viewer.shape[plane.row] * plane.pixel[0] };
    this.element = element;
    this.title = element.querySelector(".viewer-title");
    [this.canvas, this.glass] = element.querySelectorAll("canvas");
    this.slider = element.querySelector("input");
    this.tile = document.createElement("canvas");
    this.shown = {};
    this.rolled = 0;
    this.listen();
  }

  listen() {
    const { axis } = this.plane;
    this.element.setAttribute("aria-label", `${this.name} slices`);
    this.slider.setAttribute("aria-label", `${this.name} slice`);
    this.slider.max = this.slices;
    this.slider.addEventListener("input", () => this.viewer.scroll(axis, this.slider.value - 1));
    this.canvas.addEventListener("wheel", event => this.wheel(event), { passive: false });
    this.canvas.addEventListener("keydown", event => this.key(event));
    this.canvas.addEventListener("click", event => this.point(event));
    this.canvas.addEventListener("pointerdown", event => {
      if (event.pointerType === "touch") this.finger = event.isPrimary ? { x: event.clientX, y: event.clientY } : null;
      else this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", event => {
      if (event.pointerType === "touch") this.swipe(event);
      else if (event.buttons & 1) this.point(event);
    });
    for (const end of ["pointerup", "pointercancel"]) this.canvas.addEventListener(end, () => { this.finger = null; });
  }

  wheel(event) {
    if (event.ctrlKey || !event.deltaY || this.viewer.pageMoves(event)) return;
    event.preventDefault();
    this.rolled += event.deltaY;
    const notch = event.deltaMode !== 0 || Math.abs(event.deltaY) >= NOTCH;
    if (!notch && Math.abs(this.rolled) < NUDGE) return;
    const way = -Math.sign(this.rolled);
    this.rolled = 0;
    this.step(way);
  }

  // A finger scrolls like the wheel: upwards, or to the left, is towards the user. A second finger zooms the page.
  swipe(event) {
    if (!this.finger || !event.isPrimary) return;
    const along = event.clientX - this.finger.x, down = event.clientY - this.finger.y;
    const slices = Math.trunc((Math.abs(along) > Math.abs(down) ? along : down) / STROKE);
    if (!slices) return;
    this.finger = { x: event.clientX, y: event.clientY };
    this.step(slices);
  }

  key(event) {
    const last = this.slices - 1;
    const by = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10, Home: -last, End: last };
    if (event.ctrlKey || event.altKey || event.metaKey || !(event.key in by)) return;
    event.preventDefault();
    this.step(by[event.key]);
  }

  step(by) {
    this.viewer.scroll(this.plane.axis, this.viewer.at[this.plane.axis] + by);
  }

  // The crosshair goes to the voxel under the pointer.
  point(event) {
    const box = this.canvas.getBoundingClientRect(), { plane, map } = this;
    const to = [...this.viewer.at];
    const u = map.u + (event.clientX - box.left - map.x) / map.across;
    const v = map.v + (event.clientY - box.top - map.y) / map.down;
    to[plane.column] = Math.floor(u / plane.pixel[1]);
    to[plane.row] = Math.floor(v / plane.pixel[0]);
    this.viewer.move(to);
  }

  get width() {
    return Math.floor(this.element.getBoundingClientRect().width);
  }

  // The canvas takes the width it has, and the height the slice needs at `scale` pixels a millimetre.
  fit(scale) {
    const { width } = this, height = Math.round(this.size.high * scale) + ABOVE + BELOW;
    this.ratio = devicePixelRatio;
    this.scale = scale;
    this.area = { width, height, high: this.size.high * scale };
    for (const canvas of [this.canvas, this.glass]) {
      canvas.width = Math.round(width * this.ratio);
      canvas.height = Math.round(height * this.ratio);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
    }
    this.shown = {};
  }

  // From millimetres along the array's axes (u, v) to pixels (x, y); the flips are here alone.
  locate() {
    const { plane, size, area, viewer } = this, scale = this.scale * viewer.zoom;
    const wide = Math.min(area.width - 2 * SIDE, size.wide * scale);
    const middle = (axis, pixel, whole, span) =>
      clamp(viewer.centre[axis] * pixel, span / scale / 2, whole - span / scale / 2);
    this.picture = { x: (area.width - wide) / 2, y: ABOVE, wide, high: area.high };
    this.map = {
      x: area.width / 2, y: ABOVE + area.high / 2,
      u: middle(plane.column, plane.pixel[1], size.wide, wide),
      v: middle(plane.row, plane.pixel[0], size.high, area.high),
      across: plane.flipColumns ? -scale : scale, down: plane.flipRows ? -scale : scale,
    };
  }

  crosshair() {
    const { plane, map, viewer } = this;
    return {
      x: map.x + ((viewer.at[plane.column] + 0.5) * plane.pixel[1] - map.u) * map.across,
      y: map.y + ((viewer.at[plane.row] + 0.5) * plane.pixel[0] - map.v) * map.down,
    };
  }

  sees() {
    this.locate();
    const { x, y } = this.crosshair(), p = this.picture;
    return x >= p.x && x <= p.x + p.wide && y >= p.y && y <= p.y + p.high;
  }

  // The slice is drawn again where it changed; the crosshair lies on glass before it.
  paint() {
    const { viewer, plane, shown } = this, index = viewer.at[plane.axis];
    this.locate();
    const same = shown.index === index && shown.greys === viewer.greys;
    if (!same) this.draw(index);
    if (shown.index !== index) {
      this.outlines = viewer.maps.map(map => ({ ...map, paths: outlines(map.layer, plane, index, viewer.table) }));
    }
    const { u, v } = this.map;
    if (!same || shown.look !== viewer.look || shown.u !== u || shown.v !== v) {
      this.slice();
      this.frame();
    }
    this.shown = { index, greys: viewer.greys, look: viewer.look, u, v };
    this.cross();
    this.announce(index);
  }

  // The slice's greys, a pixel a voxel of the image's layer.
  draw(index) {
    const { plane, viewer, tile } = this, layer = viewer.image;
    const rows = layer.shape[plane.row], columns = layer.shape[plane.column];
    const along = layer.strides[plane.column];
    tile.width = columns;
    tile.height = rows;
    const context = tile.getContext("2d"), picture = context.createImageData(columns, rows);
    const pixels = new Uint32Array(picture.data.buffer);
    const first = inside(layer, plane.axis, index) * layer.strides[plane.axis];
    for (let y = 0, to = 0; y < rows; y++) {
      let from = first + y * layer.strides[plane.row];
      for (let x = 0; x < columns; x++, to++, from += along) pixels[to] = viewer.greys[layer.array[from]];
    }
    context.putImageData(picture, 0, 0);
  }

  slice() {
    const context = this.canvas.getContext("2d"), { map, picture, plane, ratio, viewer } = this;
    const layer = viewer.image, scale = Math.abs(map.across);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = BACKGROUND;
    context.fillRect(0, 0, this.area.width, this.area.height);
    context.save();
    context.beginPath();
    context.rect(picture.x, picture.y, picture.wide, picture.high);
    context.clip();
    context.transform(map.across, 0, 0, map.down, map.x - map.u * map.across, map.y - map.v * map.down);
    const wide = layer.factors[plane.column] * plane.pixel[1], high = layer.factors[plane.row] * plane.pixel[0];
    context.imageSmoothingQuality = Math.min(wide, high) * scale < 1 ? "medium" : "low";
    context.drawImage(this.tile, 0, 0, this.tile.width * wide, this.tile.height * high);
    context.lineJoin = "round";
    for (const { paths, dashed } of this.outlines) {
      if (dashed && !viewer.referenceOn) continue;
      context.lineWidth = (dashed ? 1.2 : 1.5) / scale;
      context.setLineDash(dashed ? [4 / scale, 3 / scale] : []);
      for (const [owner, path] of [...paths].sort((a, b) => a[0] - b[0])) {
        if (!viewer.on[owner]) continue;
        context.strokeStyle = viewer.structures[owner][dashed ? "paler" : "colour"];
        context.stroke(path);
      }
    }
    context.restore();
  }

  cross() {
    const context = this.glass.getContext("2d"), { x, y } = this.crosshair(), p = this.picture, gap = 9;
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.area.width, this.area.height);
    if (!this.viewer.crossOn) return;
    context.save();
    context.beginPath();
    context.rect(p.x, p.y, p.wide, p.high);
    context.clip();
    context.beginPath();
    for (const [x0, y0, x1, y1] of [
      [p.x, y, x - gap, y], [x + gap, y, p.x + p.wide, y], [x, p.y, x, y - gap], [x, y + gap, x, p.y + p.high],
    ]) {
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
    }
    context.strokeStyle = CROSS;
    context.globalAlpha = 0.6;
    context.lineWidth = 1;
    context.stroke();
    context.restore();
  }

  // What stands around the slice: letters, scale bar, banner.
  frame() {
    const context = this.canvas.getContext("2d"), { picture: p, area, plane, viewer } = this;
    const middle = area.width / 2, centre = p.y + p.high / 2, foot = p.y + p.high;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillStyle = INK;
    context.font = `bold 13px ${FONT}`;
    if (plane.letters) {
      const [left, right, top, bottom] = plane.letters;
      context.fillText(left, p.x - SIDE / 2, centre);
      context.fillText(right, p.x + p.wide + SIDE / 2, centre);
      context.fillText(top, middle, p.y - ABOVE / 2);
      context.fillText(bottom, middle, foot + 11);
    }
    const scale = Math.abs(this.map.across), length = niceLength(70 / scale), bar = length * scale;
    context.font = `11px ${FONT}`;
    const label = `${short(length)} mm`, from = middle - (bar + 6 + context.measureText(label).width) / 2;
    context.fillRect(from, foot + 26, bar, 2);
    context.fillStyle = FAINT;
    context.textAlign = "left";
    context.fillText(label, from + bar + 6, foot + 27);
    context.textAlign = "center";
    context.fillStyle = AMBER;
    context.font = `11px ${FONT}`;
    const share = (area.width - 8) / context.measureText(viewer.banner).width;
    context.font = `${Math.min(11, 11 * share)}px ${FONT}`;
    context.fillText(viewer.banner, middle, foot + 45);
  }

  announce(index) {
    const where = this.viewer.position(this.plane.world);
    const said = [`slice ${index + 1} of ${this.slices}`, where].filter(Boolean).join(", ");
    this.title.textContent = `${this.name}: ${said}`;
    this.canvas.setAttribute("aria-label", `${this.name} ${said}`);
    this.slider.value = index + 1;
    this.slider.setAttribute("aria-valuetext", said);
  }
}

function niceLength(largest) {
  const power = 10 ** Math.floor(Math.log10(largest));
  return [5, 2, 1].map(step => step * power).find(length => length <= largest * (1 + 1e-9));
}

// All of them --------------------------------------------------------------------------------

class Viewer {
  constructor(root, settings, image, labels, reference) {
    Object.assign(this, settings, { root, image });
    this.find = name => root.querySelector(`.viewer-${name}`);
    this.maps = [{ layer: labels, dashed: false }];
    if (reference) this.maps.push({ layer: reference, dashed: true });
    this.table = membership(this.structures);
    this.on = this.structures.map(() => true);
    this.referenceOn = this.crossOn = true;
    this.zoom = 1;
    this.look = 0; // counts changes of what is shown of a slice
    this.moved = -Infinity;
    this.at = [...this.begin];
    this.centre = this.at.map(index => index + 0.5);
    this.views = this.planes.map(plane => this.place(plane));
    this.grey(...this.window);
    this.fillPanel();
    window.addEventListener("scroll", event => { this.moved = event.timeStamp; }, { passive: true });
    this.layOut();
    new ResizeObserver(() => this.refresh()).observe(this.find("grid"));
    window.addEventListener("resize", () => this.refresh(), { passive: true });
  }

  place(plane) {
    const panel = this.find("panel");
    const element = this.find("plane").content.firstElementChild.cloneNode(true);
    panel.before(element);
    return new View(this, plane, element);
  }

  // Whether the wheel was turning for the page before the pointer came over a picture.
  pageMoves(event) {
    const moves = event.timeStamp - this.moved < SETTLED_MS;
    if (moves) this.moved = event.timeStamp;
    return moves;
  }

  // In a wide window three planes stand in a row over the panel, and all of it fits the window.
  layOut() {
    const grid = this.find("grid"), wide = matchMedia("(min-width: 900px)").matches;
    const row = wide && this.views.length > 1;
    for (const view of this.views) view.announce(this.at[view.plane.axis]); // the texts take room too
    this.readOut();
    grid.classList.toggle("viewer-row", row);
    grid.style.gridTemplateColumns = row ? this.columns(grid) : "";
    const scales = this.views.map(({ width, size }) => {
      const room = Math.max(40, width - 2 * SIDE);
      return row ? room / size.wide : Math.min(room / size.wide, (TALLEST * room) / size.high);
    });
    if (wide) scales.push(this.tallest(row));
    this.height = innerHeight;
    const scale = Math.min(...scales);
    for (const view of this.views) view.fit(scale);
    this.paint();
  }

  // Columns as wide as the slices need at one scale.
  columns(grid) {
    const sizes = this.views.map(({ size }) => size.wide), room = grid.clientWidth - 16 * (sizes.length - 1);
    const places = scale => sizes.map(mm => Math.max(NARROWEST, mm * scale + 2 * SIDE));
    const sum = list => list.reduce((total, n) => total + n, 0);
    let scale = room / sum(sizes);
    while (scale > 0.01 && sum(places(scale)) > room) scale *= 0.98;
    return places(scale).map(n => `minmax(0, ${n}fr)`).join(" ");
  }

  // Pixels a millimetre at which the viewer is no taller than the window.
  tallest(row) {
    const { element, canvas } = this.views[0], panel = this.find("panel");
    const beside = element.offsetHeight - canvas.offsetHeight + ABOVE + BELOW;
    const taken = beside + (row ? panel.offsetHeight : 0) + this.root.offsetHeight - this.find("grid").offsetHeight;
    const room = Math.max(LEAST, innerHeight - taken - SPARE);
    return Math.min(...this.views.map(({ size }) => room / size.high));
  }

  scroll(axis, index) {
    const to = [...this.at];
    to[axis] = index;
    this.move(to);
  }

  move(to) {
    this.at = to.map((index, axis) => clamp(index, 0, this.shape[axis] - 1));
    if (!this.views.every(view => view.sees())) this.centre = this.at.map(index => index + 0.5);
    this.refresh();
  }

  // Painted once a frame, however often the pointer moves.
  refresh() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      const changed = this.height !== innerHeight
        || this.views.some(view => view.area.width !== view.width || view.ratio !== devicePixelRatio);
      if (changed) this.layOut();
      else this.paint();
    });
  }

  change() {
    this.look += 1;
    this.refresh();
  }

  paint() {
    for (const view of this.views) view.paint();
    this.readOut();
  }

  // A new table of greys: black at `low`, white at `high`.
  grey(low, high) {
    const { low: least, high: most, levels } = this.image;
    this.window = [low, high];
    this.greys = Uint32Array.from({ length: 256 }, (_, n) => {
      const value = least + (n / (levels - 1)) * (most - least);
      return 0xff000000 + 0x010101 * Math.round(255 * clamp((value - low) / (high - low), 0, 1));
    });
  }

  millimetres() {
    return this.affine.map(row => tenth(row[0] * this.at[0] + row[1] * this.at[1] + row[2] * this.at[2] + row[3]));
  }

  position(world) {
    if (world === null) return "";
    const mm = this.millimetres()[world];
    return `${this.letters[world][mm >= 0 ? 1 : 0]} ${Math.abs(mm).toFixed(1)} mm`;
  }

  readOut() {
    const { low, high, levels } = this.image, grey = valueAt(this.image, this.at);
    const said = this.known ? [0, 1, 2].map(world => this.position(world)) : [];
    said.push(`index ${this.at.join(", ")}`, `intensity about ${short(low + (grey / (levels - 1)) * (high - low))}`);
    this.find("where").textContent = said.join(" · ");
    this.find("what").textContent = this.maps.map(({ layer, dashed }) => {
      const index = valueAt(layer, this.at);
      const names = this.structures.filter(s => s.indices.includes(index)).map(s => s.name);
      return `${dashed ? "Reference" : "Prediction"}: ${names.join(", ") || "none"}`;
    }).join(" · ");
  }

  // The panel --------------------------------------------------------------------------------

  fillPanel() {
    const list = this.find("structures");
    const boxes = this.structures.map((structure, n) => this.row(list, structure, n));
    const all = on => {
      boxes.forEach(box => { box.checked = on; });
      this.on.fill(on);
      this.change();
    };
    this.find("all").addEventListener("click", () => all(true));
    this.find("none").addEventListener("click", () => all(false));
    this.switch("cross", "crossOn");
    this.switch("reference", "referenceOn");
    this.find("reference").parentElement.hidden = this.maps.length < 2;
    this.find("zoom").addEventListener("input", event => {
      this.zoom = Number(event.target.value);
      this.centre = this.at.map(index => index + 0.5);
      this.change();
    });
    this.fillPlaces();
    this.followLinks();
    this.fillWindow();
  }

  row(list, structure, n) {
    const item = this.find("structure").content.firstElementChild.cloneNode(true);
    const box = item.querySelector("input"), button = item.querySelector("button");
    item.querySelector(".viewer-name").textContent = structure.name;
    item.querySelector(".viewer-swatch").style.backgroundColor = structure.colour;
    box.addEventListener("change", () => {
      this.on[n] = box.checked;
      this.change();
    });
    button.setAttribute("aria-label", `go to ${structure.name}`);
    if (structure.at) button.addEventListener("click", () => this.move(structure.at));
    else {
      button.disabled = true;
      button.textContent = "no voxels";
    }
    list.append(item);
    return box;
  }

  switch(name, what) {
    const box = this.find(name);
    box.addEventListener("change", () => {
      this[what] = box.checked;
      this.change();
    });
  }

  // Links of the page that name a voxel lead to it.
  followLinks() {
    for (const link of document.querySelectorAll('a[href^="#voxel-"]')) {
      link.addEventListener("click", event => {
        event.preventDefault();
        this.move(link.hash.split("-").slice(1).map(Number));
        this.root.scrollIntoView({ block: "nearest" });
      });
    }
  }

  fillPlaces() {
    for (const { name, at } of this.places) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.addEventListener("click", () => this.move(at));
      this.find("places").append(button);
    }
    this.find("places").hidden = !this.places.length;
  }

  fillWindow() {
    const [low, high] = this.window, { low: least, high: most } = this.image;
    const step = (most - least) / 256, [black, white] = [this.find("black"), this.find("white")];
    const show = () => {
      [[black, this.window[0]], [white, this.window[1]]].forEach(([slider, value]) => {
        slider.value = value;
        slider.setAttribute("aria-valuetext", short(value));
      });
      this.find("window").textContent = `${short(this.window[0])} to ${short(this.window[1])}`;
    };
    const set = (from, to) => {
      this.grey(from, to);
      show();
      this.refresh();
    };
    for (const slider of [black, white]) Object.assign(slider, { min: least, max: most, step: "any" });
    black.addEventListener("input", () => set(Math.min(Number(black.value), this.window[1] - step), this.window[1]));
    white.addEventListener("input", () => set(this.window[0], Math.max(Number(white.value), this.window[0] + step)));
    this.find("reset").addEventListener("click", () => set(low, high));
    show();
  }
}

async function start(root) {
  const find = name => root.querySelector(`.viewer-${name}`);
  root.hidden = false;
  if (!("DecompressionStream" in window)) {
    find("say").textContent = "This browser is too old for the slice viewer. The page shows its pictures without the viewer.";
    return;
  }
  try {
    const settings = JSON.parse(find("settings").content.textContent);
    const layers = await Promise.all(["image", "labels", "reference"].map(
      name => settings[name] && unpack(find(`${name}-data`), settings[name])));
    find("grid").hidden = false;
    new Viewer(root, settings, ...layers);
    find("say").hidden = true;
    root.dataset.ready = "yes";
  } catch (error) {
    find("grid").hidden = true;
    find("say").textContent = "The slices could not be loaded. The page shows its pictures without the viewer.";
    console.error(error);
  }
}

for (const root of document.querySelectorAll(".viewer")) start(root);
})();
