// What `edgeqwt bench --on browser` runs: all files of job.json take turns, so that their latencies can be compared.
import { Runner, decoded, difference, real } from "./runner.js";

async function bytes(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  return answer.arrayBuffer();
}

async function main() {
  const job = await (await fetch("job.json")).json();
  const models = [];
  for (const entry of job.models) {
    const begin = performance.now();
    const runner = await Runner.load(entry.file, job.accelerator);
    const load = performance.now() - begin;
    const inputs = [];
    for (const [i, name] of entry.inputs.entries()) {
      inputs.push(real(decoded(await bytes(name), entry.ports.inputs[i].dtype), entry.ports.inputs[i]));
    }
    models.push({ entry, runner, inputs, load });
  }
  const found = [];
  for (const { entry, runner, inputs, load } of models) {
    const answers = await runner.run(inputs);
    const differences = [];
    for (const [i, name] of entry.outputs.entries()) {
      const port = entry.ports.outputs[i];
      differences.push(difference(answers[i], decoded(await bytes(name), port.dtype), port));
    }
    const rounds = [];
    for (let round = 0; round < 2; round++) rounds.push(await runner.measure(inputs, job));
    const best = rounds.reduce((a, b) => (a.min <= b.min ? a : b));
    found.push({ load, differences, ...best });
  }
  return { agent: navigator.userAgent, isolated: crossOriginIsolated, accelerator: job.accelerator, models: found };
}

main().then(
  (found) => { window.found = found; },
  (error) => { window.found = { error: String(error && error.message ? error.message : error) }; },
).finally(() => { document.getElementById("state").textContent = "done"; });
