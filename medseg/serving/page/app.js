// The page of a service: a scan in, its labels out, corrected by hand where they are wrong.

import { Planes } from "./planes.js";
import { BACKGROUND, packed, unpacked, Volume } from "./volume.js";

const $ = id => document.getElementById(id);
const STEPS = {
  queued: "waiting", load: "loading the model", read: "reading", prepare: "preparing", tiles: "segmenting", restore: "restoring",
  objects: "finding objects", check: "checking", report: "writing the report", write: "writing", refine: "spreading the scribbles",
};
const FILES = [["labels", "labels"], ["report", "report"], ["summary", "volumes and findings (JSON)"], ["dicom-seg", "DICOM SEG"], ["dicom-sr", "DICOM SR"]];

const CONFLICT = 409;

let writesDicom = false, files = [], job = null, volume = null, structures = [], tool = "look", value = 0, busy = false, last = null, base = "";

const planes = new Planes([...document.querySelectorAll("canvas")], act);

// Asking the service -----------------------------------------------------------------------

async function ask(path, options = {}) {
  const answer = await fetch(path, options);
  if (answer.status === 401) {
    $("main").hidden = true;
    $("login").hidden = false;
    $("token").focus();
    throw new Error("a token is needed");
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  const text = answer.status === CONFLICT ? said.fault : [said.fault || `the service answered ${answer.status}`, said.hint].filter(Boolean).join("; ");
  throw Object.assign(new Error(text), { status: answer.status });
}

const asked = async (path, options) => (await ask(path, options)).json();

// Waits for the end of a job, and says how far it is.
async function ended(id, progress) {
  for (;;) {
    const said = await asked(`api/jobs/${id}?wait=20`);
    if (said.state === "done") return said;
    if (said.state === "failed") throw new Error([said.fault, said.hint].filter(Boolean).join("; "));
    if (said.state === "cancelled") throw new Error("it was cancelled");
    progress(said.step || said.state, said.share || 0);
  }
}

// Sending a scan -----------------------------------------------------------------------------

function choose(list) {
  files = [...list].filter(file => !file.name.startsWith("."));
  $("chosen").textContent = files.length > 1 ? `${files.length} files` : files.length ? files[0].name : "";
  $("start").disabled = !files.length;
  $("fault").textContent = "";
}

// The files of folders that were dropped, and their folders.
async function dropped(items) {
  const entries = [...items].map(item => item.webkitGetAsEntry && item.webkitGetAsEntry()).filter(Boolean);
  const found = [];
  while (entries.length) {
    const entry = entries.pop();
    if (entry.isFile) found.push(await new Promise((good, bad) => entry.file(good, bad)));
    else {
      const reader = entry.createReader();
      for (let part; (part = await new Promise((good, bad) => reader.readEntries(good, bad))).length;) entries.push(...part);
    }
  }
  return found;
}

async function start() {
  const series = files.length > 1 || /\.(dcm|ima)$/i.test(files[0].name) || !files[0].name.includes(".");
  const form = new FormData();
  for (const file of files) form.append("scan", file, file.name);
  const query = new URLSearchParams({ model: $("model").value, report: true, view: true, dicom: series && writesDicom });
  setBusy(true);
  $("result").hidden = true;
  $("fault").textContent = "";
  try {
    const sent = await asked(`api/jobs?${query}`, { method: "POST", body: form, headers: { "Idempotency-Key": crypto.randomUUID() } });
    job = sent.id;
    await open((await ended(job, tell)).files);
  } catch (fault) {
    $("fault").textContent = fault.message;
  }
  setBusy(false);
}

async function cancel() {
  if (job) await ask(`api/jobs/${job}`, { method: "DELETE" }).catch(() => {});
}

function tell(step, share) {
  $("bar").value = share;
  $("step").textContent = STEPS[step] || step;
}

function setBusy(on) {
  busy = on;
  $("progress").hidden = !on;
  $("cancel").hidden = !on;
  $("start").disabled = on || !files.length;
  tell("queued", 0);
  refresh();
}

// Showing a result ---------------------------------------------------------------------------

async function open(there) {
  const at = `api/jobs/${job}`;
  const [view, summary] = await Promise.all([asked(`${at}/view`), asked(`${at}/summary`)]);
  const [image, labels] = await Promise.all([
    ask(`${at}/view-image`).then(answer => unpacked(answer, Uint8Array)),
    ask(`${at}/view-labels`).then(answer => unpacked(answer, Uint16Array)),
  ]);
  volume = new Volume(view, image, labels);
  structures = view.structures.map(s => ({ ...s, accepted: false }));
  value = structures[0].value;
  last = job;
  $("result").hidden = false;
  $("saved").textContent = "";
  await tellKept(there);
  tellFindings(summary);
  planes.show(volume, structures);
  list();
  links(there);
  refresh();
  $("planes").scrollIntoView({ block: "nearest" });
}

// What somebody made of this scan before, which may be looked at, and which a correction replaces.
async function tellKept(there) {
  const kept = there.includes("kept");
  base = kept ? (await asked(`api/jobs/${job}/kept`)).digest : "";
  $("kept").hidden = !kept;
}

async function openKept() {
  await work(async () => {
    volume.replace(await unpacked(await ask(`api/jobs/${job}/view-kept`), Uint16Array));
    $("kept").hidden = true;
    planes.draw();
    changed();
  });
}

function tellFindings(summary) {
  const said = (summary.findings || []).map(finding => {
    const line = document.createElement("li");
    line.className = finding.severity;
    line.textContent = finding.sentence;
    return line;
  });
  if (summary.quality && summary.quality.flag === "doubtful") {
    const line = document.createElement("li");
    line.className = "doubt";
    line.textContent = "This result is doubtful:";
    said.unshift(line);
  }
  $("findings").replaceChildren(...said);
}

function list() {
  const counts = volume.counts();
  const background = { value: 0, name: "background", colour: "#00000000" };
  $("structures").tBodies[0].replaceChildren(...[background, ...structures].map(structure => {
    const row = document.createElement("tr");
    const name = document.createElement("button"), chip = document.createElement("span");
    chip.className = "chip";
    chip.style.background = structure.colour;
    name.append(chip, structure.name);
    name.dataset.value = structure.value;
    name.setAttribute("aria-pressed", structure.value === value);
    name.onclick = () => { value = structure.value; list(); };
    if (!structure.value) {
      row.insertCell().append(name);
      return row;
    }
    const shown = box(!planes.hidden.has(structure.value), `${structure.name} is shown`, on => {
      on ? planes.hidden.delete(structure.value) : planes.hidden.add(structure.value);
      planes.draw();
    });
    const accepted = box(structure.accepted, `${structure.name} is accepted`, on => { structure.accepted = on; refresh(); });
    for (const part of [name, `${volume.ml(counts.get(structure.value) || 0).toFixed(3)} ml`, shown, accepted]) {
      row.insertCell().append(part);
    }
    return row;
  }));
}

function box(checked, label, change) {
  const input = document.createElement("input");
  input.type = "checkbox";
  input.checked = checked;
  input.setAttribute("aria-label", label);
  input.onchange = () => change(input.checked);
  return input;
}

function links(there) {
  $("downloads").replaceChildren("Download: ", ...FILES.filter(([what]) => there.includes(what)).map(([what, name]) => {
    const link = document.createElement("a");
    link.href = `api/jobs/${last}/${what}`;
    link.textContent = name;
    if (what === "report") link.target = "_blank";
    return link;
  }));
}

// Correcting it ------------------------------------------------------------------------------

function act(point, axis, phase) {
  if (tool === "look" || busy) {
    planes.point = point;
    planes.draw();
    return;
  }
  if (phase === "begin") volume.begin(tool === "scribble" ? "scribble" : "paint");
  if (!volume.stroke) return;
  const drawn = tool === "erase" ? 0 : value;
  const radius = tool === "scribble" ? 0.5 * Math.max(...volume.spacing) : Number($("radius").value);
  volume.dab(point, radius, drawn || (tool === "scribble" ? BACKGROUND : 0), axis, tool !== "scribble" && $("ball").checked);
  if (phase === "end") {
    volume.end();
    changed();
  }
  planes.draw();
}

function changed() {
  $("saved").textContent = "";
  list();
  refresh();
}

async function spread() {
  const form = new FormData();
  form.append("start", await packed(volume.labels), "start");
  form.append("scribbles", await packed(volume.seeds()), "scribbles");
  await work(async () => {
    const sent = await asked(`api/jobs/${job}/refine`, { method: "POST", body: form });
    await ended(sent.id, tell);
    volume.replace(await unpacked(await ask(`api/jobs/${sent.id}/view-labels`), Uint16Array));
    planes.draw();
    changed();
  });
}

async function save(replace = false) {
  const form = new FormData();
  form.append("labels", await packed(volume.labels), "labels");
  const accepted = structures.filter(s => s.accepted).map(s => s.name);
  await work(async () => {
    const query = new URLSearchParams({ accepted: JSON.stringify(accepted), base, replace });
    const sent = await asked(`api/jobs/${job}/correct?${query}`, { method: "POST", body: form });
    const { files: there } = await ended(sent.id, tell);
    last = sent.id;
    base = (await asked(`api/jobs/${last}/kept`)).digest;
    const changes = Object.entries(await asked(`api/jobs/${last}/changes`)).filter(([, c]) => c.added + c.removed);
    const said = changes.map(([name, c]) => `${name} +${c.added} \u2212${c.removed} voxels`).join(", ");
    $("saved").textContent = `Saved: ${said || "nothing was changed"}.`;
    links(there);
  });
}

async function work(task) {
  setBusy(true);
  $("fault").textContent = "";
  $("replace").hidden = true;
  try {
    await task();
  } catch (fault) {
    $("fault").textContent = fault.message;
    $("replace").hidden = fault.status !== CONFLICT;
    $("fault").scrollIntoView({ block: "nearest" });
  }
  setBusy(false);
}

function refresh() {
  $("undo").disabled = busy || !volume || !volume.done.length;
  $("spread").disabled = busy || !volume || !volume.scribbles.size;
  $("save").disabled = busy || !volume || !(volume.done.length || structures.some(s => s.accepted));
  $("radius-mm").textContent = `${$("radius").value} mm`;
}

function take(name) {
  tool = name;
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === name);
  for (const canvas of document.querySelectorAll("canvas")) canvas.style.touchAction = name === "look" ? "pan-y" : "none";
}

function undo() {
  volume.undo();
  planes.draw();
  changed();
}

// The page -----------------------------------------------------------------------------------

for (const button of document.querySelectorAll("[data-tool]")) button.onclick = () => take(button.dataset.tool);
for (const input of [$("file"), $("folder")]) input.onchange = () => choose(input.files);
$("drop").onkeydown = event => (event.key === "Enter" || event.key === " ") && $("file").click();
$("drop").ondragover = event => { event.preventDefault(); $("drop").classList.add("over"); };
$("drop").ondragleave = () => $("drop").classList.remove("over");
$("drop").ondrop = async event => {
  event.preventDefault();
  $("drop").classList.remove("over");
  choose(await dropped(event.dataTransfer.items));
};
$("start").onclick = start;
$("cancel").onclick = cancel;
$("spread").onclick = spread;
$("save").onclick = () => save();
$("replace").onclick = () => save(true);
$("show-kept").onclick = openKept;
$("undo").onclick = undo;
$("radius").oninput = refresh;
$("opacity").oninput = () => { planes.opacity = Number($("opacity").value); planes.draw(); };
document.onkeydown = event => {
  if (/input|select|textarea/i.test(event.target.tagName) && event.target.type !== "checkbox" && event.target.type !== "range") return;
  const tools = ["look", "paint", "erase", "scribble"];
  if ((event.ctrlKey || event.metaKey) && event.key === "z" && !$("undo").disabled) undo();
  else if (!event.ctrlKey && tools[event.key - 1]) take(tools[event.key - 1]);
};
take("look");
window.onbeforeunload = event => { if (volume && volume.done.length && !$("saved").textContent) event.preventDefault(); };

$("login").onsubmit = async event => {
  event.preventDefault();
  const answer = await fetch("login", { method: "POST", body: $("token").value });
  if (answer.ok) location.reload();
  else $("login-fault").textContent = "this is not the token of the service";
};

asked("api/models").then(async models => {
  writesDicom = (await asked("health")).dicom;
  $("model").replaceChildren(...models.map(model => new Option(model.name)));
  $("main").hidden = false;
  refresh();
}).catch(() => {});
