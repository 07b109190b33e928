// A scan with labels, voxels in RAS+ order, first axis fastest; what a brush does to them.

export const BACKGROUND = 255; // of scribbles

export async function unpacked(response, Kind) {
  const stream = response.body.pipeThrough(new DecompressionStream("gzip"));
  return new Kind(await new Response(stream).arrayBuffer());
}

export async function packed(array) {
  const stream = new Blob([array]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Response(stream).blob();
}

export class Volume {
  constructor(view, image, labels) {
    this.shape = view.shape;
    this.spacing = view.spacing_mm;
    this.strides = [1, this.shape[0], this.shape[0] * this.shape[1]];
    this.count = this.strides[2] * this.shape[2];
    if (image.length !== this.count || labels.length !== this.count) throw new Error("the voxels are not as many as stated");
    this.image = image;
    this.labels = labels;
    this.scribbles = new Map(); // from the voxel's number to its value
    this.done = []; // strokes that can be undone
    this.stroke = null;
  }

  begin(kind) {
    this.stroke = { kind, before: new Map() };
  }

  end() {
    if (this.stroke && this.stroke.before.size) this.done.push(this.stroke);
    this.stroke = null;
  }

  // Gives the voxels within a radius of a place a value; in one slice, or in all planes.
  dab(point, radius, value, axis, ball) {
    const reach = this.spacing.map((mm, n) => (n === axis && !ball ? 0 : Math.floor(radius / mm)));
    const [low, high] = [point.map((p, n) => Math.max(0, p - reach[n])), point.map((p, n) => Math.min(this.shape[n] - 1, p + reach[n]))];
    for (let k = low[2]; k <= high[2]; k++) for (let j = low[1]; j <= high[1]; j++) for (let i = low[0]; i <= high[0]; i++) {
      const [x, y, z] = [(i - point[0]) * this.spacing[0], (j - point[1]) * this.spacing[1], (k - point[2]) * this.spacing[2]];
      if (x * x + y * y + z * z <= radius * radius) this.put(i + j * this.strides[1] + k * this.strides[2], value);
    }
  }

  put(voxel, value) {
    const { kind, before } = this.stroke;
    if (kind === "scribble") {
      if (!before.has(voxel)) before.set(voxel, this.scribbles.get(voxel));
      if (value === undefined) this.scribbles.delete(voxel);
      else this.scribbles.set(voxel, value);
    } else if (this.labels[voxel] !== value) {
      if (!before.has(voxel)) before.set(voxel, this.labels[voxel]);
      this.labels[voxel] = value;
    }
  }

  replace(labels) {
    this.done.push({ kind: "all", before: this.labels, scribbles: this.scribbles });
    this.labels = labels;
    this.scribbles = new Map();
  }

  undo() {
    const last = this.done.pop();
    if (!last) return;
    if (last.kind === "all") {
      this.labels = last.before;
      this.scribbles = last.scribbles;
    } else if (last.kind === "scribble") {
      for (const [voxel, value] of last.before) value === undefined ? this.scribbles.delete(voxel) : this.scribbles.set(voxel, value);
    } else {
      for (const [voxel, value] of last.before) this.labels[voxel] = value;
    }
  }

  seeds() {
    const array = new Uint16Array(this.count);
    for (const [voxel, value] of this.scribbles) array[voxel] = value;
    return array;
  }

  // Voxels of each value.
  counts() {
    const found = new Map();
    let run = 0;
    for (let n = 1; n <= this.count; n++) {
      if (n < this.count && this.labels[n] === this.labels[run]) continue;
      found.set(this.labels[run], (found.get(this.labels[run]) || 0) + n - run);
      run = n;
    }
    return found;
  }

  ml(voxels) {
    return (voxels * this.spacing[0] * this.spacing[1] * this.spacing[2]) / 1000;
  }
}
