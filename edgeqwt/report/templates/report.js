"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const root = document.documentElement;
  const make = (tag, attributes = {}, ...children) => {
    const svg = ["svg", "rect", "path", "text", "title", "g"].includes(tag);
    const node = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);  // strings become text, never markup
    return node;
  };

  // -- theme -----------------------------------------------------------------------
  const theme = document.getElementById("theme");
  const isDark = () =>
    (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const label = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
  theme.hidden = false;
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; label(); });
  label();

  const source = document.getElementById("data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const last = data.series[data.series.length - 1];

  // -- the table -------------------------------------------------------------------
  const list = document.querySelector(".list");
  const body = list.querySelector("tbody");
  const rows = [...body.rows];
  const key = (row, column) => {
    const cell = row.cells[column];
    return "value" in cell.dataset ? (cell.dataset.value === "" ? null : Number(cell.dataset.value)) : cell.textContent.trim();
  };
  for (const button of list.querySelectorAll("th button")) {
    button.addEventListener("click", () => {
      const head = button.parentElement;
      const column = head.cellIndex;
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const order = (a, b) => {
        const [x, y] = [key(a, column), key(b, column)];
        if (x === null || y === null) return (x === null) - (y === null);  // what is not known comes last
        const found = typeof x === "number" ? x - y : x.localeCompare(y);
        return up ? found : -found;
      };
      body.append(...rows.slice().sort(order));
    });
  }
  const filter = document.getElementById("filter");
  filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase();
    for (const row of rows) row.hidden = !row.dataset.find.toLowerCase().includes(wanted);
  });

  // -- the op that is looked at ----------------------------------------------------
  const detail = document.getElementById("detail");
  const select = (k, scroll) => {
    const op = data.ops[k];
    if (!op) return;
    for (const row of rows) row.setAttribute("aria-selected", row.dataset.row === String(k));
    for (const dot of document.querySelectorAll(".dot")) dot.classList.toggle("selected", dot.dataset.row === String(k));
    detail.replaceChildren(...describe(op));
    if (scroll) detail.scrollIntoView({ block: "nearest", behavior: "smooth" });
  };
  for (const row of rows) {
    row.addEventListener("click", () => select(Number(row.dataset.row), false));
    row.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); row.click(); }
      const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
      let next = step && row[step];
      while (next && next.hidden) next = next[step];
      if (next) { event.preventDefault(); next.focus(); next.click(); }
    });
  }
  for (const node of document.querySelectorAll(".dot, .hints button")) {
    node.addEventListener("click", () => select(Number(node.dataset.row), true));
  }

  const number = (x) => (Math.abs(x) >= 1e5 || (x !== 0 && Math.abs(x) < 1e-3) ? x.toExponential(2) : String(Number(x.toPrecision(4))));
  const decibels = (x) => (x === null ? "not known" : x >= 999 ? "exact" : x <= -999 ? "nothing left" : `${x.toFixed(1)} dB`);
  const percent = (x) => (x > 0 && x < 0.0005 ? "< 0.1 %" : `${(100 * x).toFixed(1)} %`);

  function* describe(op) {
    yield make("h3", {}, op.op === null ? `Input ${op.tensor}` : `${op.kind} ${op.op}`);
    const facts = make("dl");
    const fact = (name, value) => facts.append(make("dt", {}, name), make("dd", {}, value));
    if (op.op !== null) fact("tensor", op.tensor);
    if (op.location) fact("source", op.location);
    fact("shape", `${op.shape.join(" × ") || "one number"}, ${op.dtype}`);
    if (op.scale !== null) fact("grid", `step ${number(op.scale)}, zero at ${op.zero_point}`);
    for (const name of data.series) {
      const error = op.errors[name];
      if (error) fact(name, `${error.moves ? "only moves values" : `${decibels(error.own_db)} by itself`}, ${decibels(error.accumulated_db)} with all before it`);
    }
    yield facts;
    if (!Object.keys(op.errors).length) yield make("p", { class: "faint" }, "The float model has no tensor to compare this one with; its error counts for the next op that has one.");
    const error = op.errors[last];
    if (error && !error.moves && error.own_db !== null && error.own_db < 999) {
      yield make("h4", {}, "What its own error is made of");
      yield parts(error);
    }
    if (op.values && op.values.counts.length && op.scale !== null) {
      yield make("h4", {}, "Values in the float model, on the grid of its integers");
      yield histogram(op);
      const v = op.values;
      yield make("p", { class: "faint" }, `${number(v.low)} to ${number(v.high)}; ${v.beyond ? percent(v.beyond) : "none"} beyond the range${used(op)}. ${op.range_reason}`);
    }
    const channels = op.channels;
    if (channels === null) yield make("p", { class: "faint" }, "Channels of this op are in details.json; this page has those of the worst ops.");
    else if (Object.keys(channels).length) {
      yield make("h4", {}, "Channels");
      if (channels.used) yield strip("steps that a channel uses", channels.used, null, (x) => `${Math.round(x)}`, (x) => `color-mix(in srgb, var(--cool) ${Math.round(100 * Math.min(1, x / levels(op)))}%, var(--neutral))`);
      if (channels.gain) yield strip("gain", channels.gain, (x) => Math.log(Math.abs(x) || 1e-9), number);
      if (channels.offset) yield strip("offset", channels.offset, (x) => x, number);
      for (const name of data.series) {
        const found = channels.own_db && channels.own_db[name];
        if (found) yield strip(`own error, ${name}`, found, null, (x) => (x === null ? "constant" : x >= 99 ? "exact" : `${x} dB`));
      }
    }
    if (op.skipped.length) {
      yield make("h4", {}, "Left alone by compensation");
      yield make("ul", {}, ...op.skipped.map(([count, reason]) => make("li", {}, `${count} channel${count === 1 ? "" : "s"}: ${reason}`)));
    }
  }

  function parts(error) {
    const chart = make("svg", { class: "parts", viewBox: "0 0 400 34", role: "img" });
    let x = 0;
    let free = 0; // where the label before ends
    for (const name of ["rounding", "clipping", "bias"]) {
      const width = 400 * error[name];
      if (width <= 0) continue;
      chart.append(make("rect", { class: name, x, y: 0, width, height: 14 }, make("title", {}, `${name} ${percent(error[name])}`)));
      const label = `${name} ${percent(error[name])}`;
      const start = Math.max(free, Math.min(x + 2, 398 - 6.5 * label.length)); // 11 px type
      if (width > 8 && start + 6.5 * label.length <= 400) {
        chart.append(make("text", { x: start, y: 28 }, label));
        free = start + 6.5 * label.length + 8;
      }
      x += width;
    }
    return chart;
  }

  const levels = (op) => (op.dtype.endsWith("16") ? 65536 : 256);

  // A range that is much wider than its values has coarse steps for nothing.
  function used(op) {
    const share = (op.values.high - op.values.low) / (op.scale * (levels(op) - 1));
    return share < 0.5 ? `, of which they use ${percent(share)}` : "";
  }

  function histogram(op) {
    const { counts, bins_beside: beside } = op.values;
    const [width, height, base] = [400, 120, 96];
    const chart = make("svg", { class: "histogram", viewBox: `0 0 ${width} ${height}`, role: "img" });
    const most = Math.log1p(Math.max(...counts));
    const bin = width / counts.length;
    const [left, right] = [beside * bin, width - beside * bin];
    chart.append(make("rect", { class: "reach", x: left, y: 0, width: right - left, height: base }));
    counts.forEach((count, k) => {
      const tall = most ? (Math.log1p(count) / most) * (base - 6) : 0;
      if (!tall) return;
      const out = k < beside || k >= counts.length - beside;
      chart.append(make("rect", { class: out ? "bar out" : "bar", x: k * bin + 0.3, y: base - tall, width: bin - 0.6, height: tall }, make("title", {}, `${count} values`)));
    });
    const all = levels(op);
    if (all === 256) {
      let ticks = "";
      for (let k = 0; k < all; k += 1) ticks += `M${(left + ((k + 0.5) * (right - left)) / all).toFixed(2)} ${base}v${k % 16 ? 3 : 6}`;
      chart.append(make("path", { class: "steps", d: ticks }));
    }
    const lowest = op.dtype === "uint8" ? 0 : -all / 2;
    const real = (q) => (q - op.zero_point) * op.scale;
    for (const [x, q, anchor] of [[left, lowest, "start"], [right, lowest + all - 1, "end"]]) {
      chart.append(make("path", { class: "edge", d: `M${x} 0V${base}` }));
      chart.append(make("text", { x, y: height - 6, "text-anchor": anchor }, number(real(q))));
    }
    const zero = left + ((op.zero_point - lowest + 0.5) * (right - left)) / all;
    if (zero > left + 60 && zero < right - 60) chart.append(make("text", { x: zero, y: height - 6, "text-anchor": "middle" }, "0"));
    return chart;
  }

  // One cell per channel. With `place` colours lie on both sides of nothing; `tone` gives them; else low decibels are warm.
  function strip(name, values, place, text, tone) {
    const known = values.filter((x) => x !== null);
    const chart = make("svg", { class: "strip", viewBox: "0 0 400 34", role: "img" });
    const most = place ? Math.max(...known.map((x) => Math.abs(place(x))), 1e-12) : 0;
    const cell = 400 / values.length;
    const colour = (x) => {
      if (x === null) return "var(--neutral)";
      if (tone) return tone(x);
      if (place) {
        const share = place(x) / most;
        return `color-mix(in srgb, var(${share < 0 ? "--cool" : "--warm"}) ${Math.round(100 * Math.abs(share))}%, var(--neutral))`;
      }
      return x < data.limits.min ? "var(--below)" : x < data.limits.warn ? "var(--poor)" : `color-mix(in srgb, var(--good) ${Math.round(Math.min(100, 40 + (x - data.limits.warn) * 2))}%, var(--neutral))`;
    };
    values.forEach((x, k) => {
      const box = make("rect", { x: k * cell, y: 14, width: Math.max(cell - (cell > 4 ? 0.6 : 0), 0.4), height: 18 }, make("title", {}, `channel ${k}: ${text(x)}`));
      box.style.fill = colour(x);
      chart.append(box);
    });
    const range = known.length ? `${text(Math.min(...known))} to ${text(Math.max(...known))}` : "";
    chart.append(make("text", { x: 0, y: 10 }, `${name}, ${values.length} channels: ${range}`));
    return chart;
  }

  const first = document.querySelector(".hints button");
  select(first ? Number(first.dataset.row) : rows.length ? Number(rows[0].dataset.row) : -1, false);
})();
