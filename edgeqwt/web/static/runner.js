// Loads .tflite files into LiteRT.js and runs them. Used by the demo's page and by `bench --on browser`.
import { loadLiteRt, loadAndCompile, Tensor } from "./litert/index.js";

const ARRAYS = { float32: Float32Array, int32: Int32Array };
const BATCH_MS = 4; // one clock reading spans at least this: browsers round their clocks

let runtime = null;

export function start() {
  runtime ??= loadLiteRt(new URL("./litert/wasm/", import.meta.url).href);
  return runtime;
}

export class Runner {
  // accelerator: "wasm" (XNNPACK) or "webgpu".
  static async load(url, accelerator = "wasm") {
    await start();
    const model = await loadAndCompile(new URL(url, import.meta.url).href, { accelerator });
    return new Runner(model, accelerator);
  }

  constructor(model, accelerator) {
    this.model = model;
    this.accelerator = accelerator;
    this.inputs = model.getInputDetails();
  }

  // Typed arrays in the order of the model's inputs -> typed arrays of its outputs.
  async run(values) {
    const tensors = this.inputs.map((input, i) => {
      const Wanted = ARRAYS[input.dtype];
      if (!Wanted) throw new Error(`input ${input.name} has type ${input.dtype}, which LiteRT.js does not take`);
      const data = values[i] instanceof Wanted ? values[i] : Wanted.from(values[i]);
      return new Tensor(data, Array.from(input.shape));
    });
    const found = await this.model.run(tensors);
    tensors.forEach((tensor) => tensor.delete());
    const answers = [];
    for (const tensor of found) {
      const near = tensor.accelerator === "wasm" ? tensor : await tensor.moveTo("wasm");
      answers.push(near.toTypedArray().slice());
      near.delete();
    }
    return answers;
  }

  // Milliseconds of one run: minimum, median and 90th percentile over batches, within about so many milliseconds.
  async measure(values, { runs = 50, milliseconds = 3000 } = {}) {
    await this.run(values);
    const first = performance.now();
    await this.run(values);
    const batch = Math.max(1, Math.ceil(BATCH_MS / Math.max(performance.now() - first, 0.01)));
    const times = [];
    const end = performance.now() + milliseconds;
    while (times.length < runs && (times.length < 5 || performance.now() < end)) {
      const begin = performance.now();
      for (let i = 0; i < batch; i++) await this.run(values);
      times.push((performance.now() - begin) / batch);
    }
    times.sort((a, b) => a - b);
    const at = (share) => times[Math.min(times.length - 1, Math.floor(share * times.length))];
    return { min: times[0], median: at(0.5), p90: at(0.9), runs: times.length * batch };
  }

  delete() {
    this.model.delete();
  }
}

// A real number as the integer that TFLite's QUANTIZE makes of it: halves away from zero, saturated.
export function quantized(value, port) {
  const ratio = Math.fround(Math.fround(value) / Math.fround(port.scale));
  const steps = Math.trunc(ratio + (ratio < 0 ? -0.5 : 0.5)) + port.zero_point;
  return Math.min(port.highest, Math.max(port.lowest, steps));
}

// Raw little-endian bytes of a test vector as numbers.
export function decoded(buffer, dtype) {
  const Kinds = { int8: Int8Array, uint8: Uint8Array, int16: Int16Array, int32: Int32Array, float32: Float32Array };
  if (!Kinds[dtype]) throw new Error(`no numbers of type ${dtype}`);
  return new Kinds[dtype](buffer);
}

// What a file with float inputs takes of a vector's integers: exactly the values that QUANTIZE makes these integers of.
export function real(values, port) {
  if (port.scale === null || port.lowest === null) return values;
  return Float32Array.from(values, (q) => Math.fround(port.scale * (q - port.zero_point)));
}

// How many of an output's integers differ from the expected ones, and by how many steps at most.
export function difference(found, expected, port) {
  let differing = 0, largest = 0;
  for (let i = 0; i < expected.length; i++) {
    const value = port.lowest === null ? found[i] : quantized(found[i], port);
    const steps = Math.abs(value - expected[i]);
    if (steps > 0) differing++;
    largest = Math.max(largest, steps);
  }
  return { differing, largest, elements: expected.length };
}
