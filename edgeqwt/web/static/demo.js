// The demo: the float, the plain and the compensated file side by side, on the packaged test vectors, a camera, a
// photo or a microphone. Texts from files are only ever set as text.
import { Runner, decoded, difference, real } from "./runner.js";

const $ = (id) => document.getElementById(id);
const TOP = 3;
const state = { demo: null, runners: [], cards: [], stop: null, result: null };

function element(kind, text = "", className = "") {
  const found = document.createElement(kind);
  if (text) found.textContent = text;
  if (className) found.className = className;
  return found;
}

const label = (i) => state.demo.labels[i] ?? `class ${i}`;
const milliseconds = (value) => (value < 10 ? value.toFixed(2) : value.toFixed(1)) + " ms";
const kilobytes = (bytes) => (bytes < 1e6 ? `${Math.round(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

// -- what the models answer --------------------------------------------------------

const isScores = (port) => port.shape.filter((size) => size !== 1).length === 1 && port.shape.at(-1) > 1;

function best(values, count) {
  return Array.from(values, (value, i) => [value, i]).sort((a, b) => b[0] - a[0]).slice(0, count);
}

// SQNR in dB of an answer against the float model's.
function sqnr(reference, found) {
  let signal = 0, noise = 0;
  for (let i = 0; i < reference.length; i++) {
    signal += reference[i] ** 2;
    noise += (reference[i] - found[i]) ** 2;
  }
  return noise === 0 ? Infinity : 10 * Math.log10(signal / noise);
}

function show(answers) {
  state.demo.models.forEach((model, k) => {
    const card = state.cards[k];
    const port = model.ports.outputs[0];
    const values = answers[k][0];
    card.answers.replaceChildren();
    if (isScores(port)) {
      const scale = Math.max(...values.map(Math.abs), 1e-9);
      for (const [value, i] of best(values, TOP)) {
        const item = element("li"), row = element("div", "", "row"), meter = element("meter");
        row.append(element("span", label(i), "name"), element("span", value.toPrecision(4), "number"));
        meter.value = Math.max(0, value / scale);
        item.append(row, meter);
        card.answers.append(item);
      }
    } else {
      answers[k].forEach((output, i) => {
        const name = model.ports.outputs[i].name;
        const text = `${name}: ${Array.from(output.slice(0, 4), (v) => v.toPrecision(4)).join(", ")} …`;
        card.answers.append(element("li", text, "soft"));
      });
    }
    if (k === 0) return;
    const close = sqnr(answers[0][0], values);
    const same = !isScores(port) || best(values, 1)[0][1] === best(answers[0][0], 1)[0][1];
    card.badge.textContent = same ? (isScores(port) ? "same answer as float" : "") : "another answer than float";
    card.badge.className = `badge ${same ? "good" : "bad"}`;
    card.sqnr.textContent = Number.isFinite(close) ? `${close.toFixed(1)} dB` : "exact";
  });
}

async function answer(inputs) {
  const answers = [];
  for (const runner of state.runners) answers.push(await runner.run(inputs));
  show(answers);
  return answers;
}

function makeCards() {
  $("models").replaceChildren();
  state.cards = state.demo.models.map((model, k) => {
    const card = element("article", "", "model"), head = element("h2", model.name), badge = element("span", "", "badge");
    const facts = element("dl", "", "facts"), answers = element("ol", "", "answers");
    const fact = (name, text = "–") => {
      const value = element("dd", text);
      facts.append(element("dt", name), value);
      return value;
    };
    head.append(badge);
    fact("file", kilobytes(model.bytes));
    const latency = fact("latency, minimum"), spread = fact("median to 90 %"), runs = fact("ran on");
    const close = k === 0 ? null : fact("against float, this input");
    card.append(head, facts, answers);
    $("models").append(card);
    return { badge, latency, spread, runs, sqnr: close, answers };
  });
}

// -- test vectors -------------------------------------------------------------------

async function bytes(name) {
  const found = await fetch(name);
  if (!found.ok) throw new Error(`${name}: ${found.status}`);
  return found.arrayBuffer();
}

async function vectorInputs(vector) {
  const ports = state.demo.models.at(-1).ports.inputs;
  const data = await Promise.all(vector.inputs.map(bytes));
  return data.map((buffer, i) => real(decoded(buffer, ports[i].dtype), ports[i]));
}

async function runVectors() {
  const last = state.demo.models.length - 1, ports = state.demo.models[last].ports.outputs;
  const rows = [], agreed = state.demo.models.map(() => 0);
  for (const [n, vector] of state.demo.vectors.entries()) {
    const inputs = await vectorInputs(vector);
    const answers = await answer(inputs);
    answers.forEach((found, k) => {
      agreed[k] += best(found[0], 1)[0][1] === best(answers[0][0], 1)[0][1];
    });
    const expected = await Promise.all(vector.outputs.map(bytes));
    const found = expected.map((e, i) => difference(answers[last][i], decoded(e, ports[i].dtype), ports[i]));
    rows.push({
      vector: n,
      elements: found.reduce((sum, d) => sum + d.elements, 0),
      differing: found.reduce((sum, d) => sum + d.differing, 0),
      largest: Math.max(...found.map((d) => d.largest)),
    });
  }
  showVectors(rows, agreed);
  return rows;
}

function showVectors(rows, agreed) {
  const head = element("tr");
  for (const text of ["vector", "values", "differ", "largest, steps"]) head.append(element("th", text));
  const lines = rows.map((row) => {
    const line = element("tr");
    line.append(element("td", String(row.vector)), element("td", String(row.elements)));
    line.append(element("td", String(row.differing), row.largest > 1 ? "bad" : "good"), element("td", String(row.largest)));
    return line;
  });
  $("table").replaceChildren(head, ...lines);
  const names = state.demo.models.map((model, k) => `${model.name} ${agreed[k]}`).slice(1).join(", ");
  const scores = isScores(state.demo.models[0].ports.outputs[0]);
  $("agreement").textContent = scores ? `Same answer as the float file, of ${rows.length}: ${names}.` : "";
  $("checks").hidden = false; // one step is rounding: kernels of another machine multiply in another order
}

// -- latency ------------------------------------------------------------------------

async function measure() {
  const demo = state.demo;
  const inputs = demo.vectors.length
    ? await vectorInputs(demo.vectors[0])
    : demo.models[0].ports.inputs.map((port) => new Float32Array(port.shape.reduce((a, b) => a * b, 1)));
  const models = [];
  for (const [k, runner] of state.runners.entries()) {
    const found = await runner.measure(inputs, { runs: 30, milliseconds: 1500 });
    const card = state.cards[k];
    card.latency.textContent = milliseconds(found.min);
    card.spread.textContent = `${milliseconds(found.median)} to ${milliseconds(found.p90)}`;
    card.runs.textContent = runner.accelerator === "wasm" ? "CPU (XNNPACK)" : "WebGPU";
    models.push({ name: demo.models[k].name, bytes: demo.models[k].bytes, accelerator: runner.accelerator, ...found });
  }
  return models;
}

// -- pictures and sounds ----------------------------------------------------------------

function pixels(source, width, height) {
  const { input } = state.demo, canvas = $("preview"), side = Math.min(width, height);
  canvas.hidden = false;
  canvas.width = input.width;
  canvas.height = input.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const share = Math.min(width / input.width, height / input.height);
  const cut = side === 0 ? [0, 0] : [input.width * share, input.height * share];
  context.drawImage(source, (width - cut[0]) / 2, (height - cut[1]) / 2, ...cut, 0, 0, input.width, input.height);
  const data = context.getImageData(0, 0, input.width, input.height).data;
  const count = input.width * input.height, values = new Float32Array(count * input.channels);
  for (let i = 0; i < count; i++) {
    const rgb = [data[4 * i], data[4 * i + 1], data[4 * i + 2]];
    const taken = input.channels === 1 ? [0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]] : rgb;
    for (let c = 0; c < input.channels; c++) {
      const mean = input.mean[c % input.mean.length], std = input.std[c % input.std.length];
      values[i * input.channels + c] = (taken[c] * input.scale - mean) / std;
    }
  }
  return values;
}

async function camera() {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  const video = document.createElement("video");
  video.srcObject = stream;
  video.playsInline = true;
  await video.play();
  let running = true;
  state.stop = () => {
    running = false;
    stream.getTracks().forEach((track) => track.stop());
  };
  while (running) {
    await answer([pixels(video, video.videoWidth, video.videoHeight)]);
    await new Promise((next) => requestAnimationFrame(next));
  }
}

async function photo(file) {
  const bitmap = await createImageBitmap(file);
  await answer([pixels(bitmap, bitmap.width, bitmap.height)]);
  bitmap.close();
}

async function microphone() {
  const { input } = state.demo;
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const context = new AudioContext({ sampleRate: input.rate });
  const analyser = context.createAnalyser();
  analyser.fftSize = Math.min(32768, 2 ** Math.ceil(Math.log2(input.samples)));
  context.createMediaStreamSource(stream).connect(analyser);
  let running = true;
  state.stop = () => {
    running = false;
    stream.getTracks().forEach((track) => track.stop());
    context.close();
  };
  const heard = new Float32Array(analyser.fftSize), values = new Float32Array(input.samples);
  while (running) {
    analyser.getFloatTimeDomainData(heard);
    values.fill(0);
    values.set(heard.subarray(Math.max(0, heard.length - values.length)), Math.max(0, values.length - heard.length));
    await answer([values]);
    await new Promise((next) => setTimeout(next, 100));
  }
}

// -- the page -----------------------------------------------------------------------------

function pressed(id) {
  state.stop?.();
  state.stop = null;
  for (const name of ["vectors", "camera", "microphone"]) $(name).setAttribute("aria-pressed", String(name === id));
}

function guarded(work) {
  return async (...values) => {
    try {
      await work(...values);
    } catch (error) {
      say(`That did not work: ${error && error.message ? error.message : error}`);
    }
  };
}

function say(text) {
  $("state").textContent = text;
}

async function load(accelerator) {
  state.runners.forEach((runner) => runner.delete());
  state.runners = [];
  for (const model of state.demo.models) state.runners.push(await Runner.load(model.file, accelerator));
  makeCards();
  const models = await measure();
  const vectors = state.demo.vectors.length ? await runVectors() : [];
  state.result = {
    schema: "edgeqwt.demo.result", version: 1, agent: navigator.userAgent, isolated: crossOriginIsolated,
    cores: navigator.hardwareConcurrency, models, vectors,
  };
  say(`Ready. ${state.demo.models.length} files, ${vectors.length} test vectors.`);
  window.result = state.result; // for whoever drives the page
}

function setUp() {
  const { input, vectors, report } = state.demo;
  const image = input.kind === "image", safe = window.isSecureContext;
  $("title").textContent = report.model ? `edgeqwt demo: ${report.model}` : "edgeqwt demo";
  $("vectors").hidden = vectors.length === 0;
  $("gallery").hidden = !image;
  $("camera").hidden = !(image && safe);
  $("microphone").hidden = !(input.kind === "audio" && safe);
  const hints = [];
  if (image && !input.known) hints.push("Pixels go in as value / 255: start the demo with --pixels if training did otherwise.");
  if (!safe && input.kind !== "none") hints.push("Browsers give camera and microphone to pages of https or of this computer only; Photo opens a phone's camera all the same.");
  $("hint").textContent = hints.join(" ");
  for (const name of ["wasm", ...(navigator.gpu ? ["webgpu"] : [])]) {
    $("accelerator").append(new Option(name === "wasm" ? "CPU" : "GPU", name));
  }
  $("device").textContent = navigator.userAgent;
  $("vectors").onclick = guarded(async () => { pressed("vectors"); await runVectors(); });
  $("camera").onclick = guarded(async () => {
    const off = state.stop !== null;
    pressed(off ? null : "camera");
    if (!off) await camera();
  });
  $("microphone").onclick = guarded(async () => {
    const off = state.stop !== null;
    pressed(off ? null : "microphone");
    if (!off) await microphone();
  });
  $("photo").onchange = guarded(async (event) => { pressed(null); await photo(event.target.files[0]); });
  $("accelerator").onchange = guarded(async (event) => { pressed(null); await load(event.target.value); });
  $("send").onclick = guarded(async () => {
    const body = JSON.stringify(state.result);
    const done = await fetch("result", { method: "POST", body, headers: { "Content-Type": "application/json" } });
    say(done.ok ? "The computer has the result." : "Nobody takes results here.");
  });
  $("send").hidden = !state.demo.takes_results;
}

guarded(async () => {
  state.demo = await (await fetch("demo.json")).json();
  setUp();
  await load("wasm");
})();
