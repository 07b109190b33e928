"""Our viewer beside NiiVue, in headless Chromium, on a scan of 256 voxels a side with labels.

    python benchmarks/viewer.py --niivue package/dist/index.js     (of the npm package @niivue/niivue)

Each shows three planes of the same scan and labels, which a server on the loopback hands out. Told are
seconds until the first picture, milliseconds of one step through the slices and of one dab of the brush
(medians, each until the second frame after it), and kilobytes of the program. Without a graphics card, as
here, Chromium computes WebGL on the processor. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import http.server
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from training import processor

import medseg
from medseg.data.phantom import STRUCTURES, write_phantom_scan

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

import chromium
from chromium import Browser, Page

chromium.ARGUMENTS = (
    *(word for word in chromium.ARGUMENTS if word != "--disable-gpu"),
    "--enable-unsafe-swiftshader",
)
"""WebGL, which NiiVue needs, computed on the processor."""

EDGE, STEPS, DABS = 256, 20, 10
OURS = ("planes.js", "volume.js")
FRAMES = "new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => r(1))))"
CANVASES = "".join(
    f'<canvas data-axis="{axis}" style="width:400px;height:400px"></canvas>' for axis in (2, 1, 0)
)

OUR_PAGE = f"""<!doctype html><body>{CANVASES}<script type="module">
import {{ Planes }} from "./planes.js";
import {{ unpacked, Volume }} from "./volume.js";
const [view, image, labels] = await Promise.all([
  fetch("view.json").then(a => a.json()),
  fetch("image.gz").then(a => unpacked(a, Uint8Array)),
  fetch("labels.gz").then(a => unpacked(a, Uint16Array))]);
const volume = new Volume(view, image, labels);
const planes = new Planes([...document.querySelectorAll("canvas")], () => {{}});
planes.show(volume, view.structures);
await {FRAMES};
window.step = async n => {{ planes.move(2, n % 2 ? 5 : -5); await {FRAMES}; }};
window.dab = async n => {{
  volume.begin("paint"); volume.dab(planes.point.map(p => p + n), 5, 1, 2, true); volume.end(); planes.draw();
  await {FRAMES}; }};
window.shown = performance.now();
</script></body>"""

THEIR_PAGE = f"""<!doctype html><body><canvas id="gl" style="width:1200px;height:400px"></canvas>
<script type="module">
import {{ Niivue }} from "./niivue.js";
const nv = new Niivue({{ isResizeCanvas: false, show3Dcrosshair: false }});
await nv.attachTo("gl");
nv.setMultiplanarLayout(3);
nv.opts.multiplanarShowRender = 0;
await nv.loadVolumes([{{ url: "scan.nii.gz" }}]);
await nv.loadDrawingFromUrl("labels.nii.gz");
nv.setSliceType(nv.sliceTypeMultiplanar);
await {FRAMES};
window.step = async n => {{ nv.moveCrosshairInVox(0, 0, n % 2 ? 5 : -5); await {FRAMES}; }};
window.dab = async n => {{
  const p = nv.frac2vox(nv.scene.crosshairPos);
  for (let k = -5; k <= 5; k++) for (let j = -5; j <= 5; j++) for (let i = -5; i <= 5; i++)
    if (i * i + j * j + k * k <= 25)
      nv.drawBitmap[(p[0] + n + i) + {EDGE} * ((p[1] + n + j) + {EDGE} * (p[2] + n + k))] = 1;
  nv.refreshDrawing(true); await {FRAMES}; }};
window.shown = performance.now();
</script></body>"""


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "site"
        folder.mkdir()
        sizes = prepared(folder, options.niivue)
        handler = functools.partial(Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = {}
        with Browser(Path(scratch)) as browser:
            for _ in range(options.runs):
                for name in ("ours", "niivue"):
                    page = browser.open(f"http://127.0.0.1:{server.server_port}/{name}.html", width=1280)
                    found.setdefault(name, []).append(timed(page))
        server.shutdown()
    print(
        json.dumps(
            {
                "benchmark": "viewer",
                "versions": {"medseg": medseg.__version__, "niivue": options.version},
                "processor": processor(),
                "scan": f"{EDGE}^3",
                "runs": options.runs,
                **{
                    name: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
                    | {"kilobytes": round(sizes[name] / 1000)}
                    for name, runs in found.items()
                },
            }
        )
    )


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Hands out files and says nothing."""

    def log_message(self, *_: object) -> None:
        """Nothing is said."""


def prepared(folder: Path, niivue: Path) -> dict[str, int]:
    """The scan for both, the two pages, and how large the programs are."""
    write_phantom_scan(
        folder / "scan.nii.gz", seed=0, shape=(EDGE,) * 3, labels_path=folder / "labels.nii.gz"
    )
    image = np.asarray(nib.load(folder / "scan.nii.gz").dataobj, np.float32)
    labels = np.asarray(nib.load(folder / "labels.nii.gz").dataobj).astype("<u2")
    grey = (255 * np.clip((image - image.min()) / np.ptp(image), 0, 1)).astype(np.uint8)
    for name, array in (("image.gz", grey), ("labels.gz", labels)):
        (folder / name).write_bytes(gzip.compress(array.tobytes(order="F"), 1))
    rows = [{"value": s.value, "name": s.name, "colour": s.colour or "#ff0000"} for s in STRUCTURES]
    view = {"shape": [EDGE] * 3, "spacing_mm": [1, 1, 1], "structures": rows}
    (folder / "view.json").write_text(json.dumps(view))
    page = Path(medseg.__file__).parent / "serving" / "page"
    for name in OURS:
        shutil.copy(page / name, folder)
    shutil.copy(niivue, folder / "niivue.js")
    (folder / "ours.html").write_text(OUR_PAGE)
    (folder / "niivue.html").write_text(THEIR_PAGE)
    ours = sum(path.stat().st_size for path in page.iterdir())
    return {"ours": ours, "niivue": niivue.stat().st_size}


def timed(page: Page) -> dict[str, Any]:
    """Seconds until the first picture; milliseconds of a step and of a dab."""
    until = time.monotonic() + 60
    while not page.evaluate("window.shown || 0"):
        if time.monotonic() > until:
            raise SystemExit(f"nothing is shown: {page.complaints()}")
        time.sleep(0.05)
    ask = "(async () => {{ const t = performance.now(); await {}({}); return performance.now() - t; }})()"
    steps = [float(page.evaluate(ask.format("step", n))) for n in range(STEPS)]
    dabs = [float(page.evaluate(ask.format("dab", n))) for n in range(DABS)]
    return {
        "seconds to the first picture": round(float(page.evaluate("window.shown")) / 1000, 2),
        "ms of a step": round(statistics.median(steps), 1),
        "ms of a dab": round(statistics.median(dabs), 1),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--niivue", type=Path, required=True, help="its dist/index.js")
    parser.add_argument("--version", default="0.69.0", help="of NiiVue, for the record")
    parser.add_argument("--runs", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
