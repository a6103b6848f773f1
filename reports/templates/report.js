(() => {
  "use strict";
  const model = JSON.parse(document.getElementById("model").textContent);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);

  // ---- The first screen -------------------------------------------------------------------
  const inputs = all("[data-path]");
  const neutral = (input) => Number(input.dataset.neutral);
  function settings() {
    return Object.fromEntries(inputs.map((input) => [input.dataset.path, Number(input.value)]));
  }
  function tokenPrice() {
    const value = Number(one("[data-token-price]").value);
    return value > 0 ? value : null;
  }

  // The places of reports/tracks.py and the ticks of reports/figure.py.
  function scale(values) {
    const low = Math.min(...values) / 1.15, high = Math.max(...values) * 1.15;
    const place = (value) => {
      const share = Math.log(value / low) / Math.log(high / low);
      return 100 * Math.min(Math.max(share, 0), 1);
    };
    const ticks = [];
    const few = Math.log10(high / low) < 2.6;
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) {
      for (const lead of few ? [1, 2, 5] : [1]) {
        const at = lead * 10 ** e;
        if (low <= at && at <= high) ticks.push([place(at), `$${Number(at.toPrecision(4))}`]);
      }
    }
    return { place, ticks };
  }
  const SVG = "http://www.w3.org/2000/svg";
  function drawn(name, attributes) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  }
  const percent = (value) => `${value}%`;
  function bar(line, from, to) {
    line.setAttribute("x1", percent(from));
    line.setAttribute("x2", percent(to));
  }

  function redraw(table, answer) {
    const { place, ticks } = scale(
      answer.ways.flatMap((w) => [w.low, w.high, w.price_low, w.price_high]),
    );
    let last = -100;
    one(".ticks", table).replaceChildren(...ticks.map(([at, text]) => {
      const label = drawn("text", { x: percent(at), y: 12 });
      if (at - last < 24) label.setAttribute("class", "tight");
      else last = at;
      label.textContent = text;
      return label;
    }));
    const sold = tokenPrice();
    const deciding = new Set(answer.verdicts.flatMap((v) => [v.tpu.index, v.gpu.index]));
    for (const row of all("[data-way]", table)) {
      const way = answer.ways[Number(row.dataset.way)];
      const strip = one(".strip", row), dot = one(".dot", strip);
      row.classList.toggle("decides", deciding.has(way.index));
      one(".hour", row).textContent = Live.usd(way.usd);
      const cost = one(".cost", row);
      cost.dataset.usd = way.point;
      const margin = sold === null ? "" : ` (${Live.number(100 * (1 - way.point / sold))} %)`;
      cost.textContent = Live.usd(way.point) + margin;
      for (const line of all(".grid", strip)) line.remove();
      strip.prepend(...ticks.map(([at]) => drawn("line", {
        class: "grid", x1: percent(at), x2: percent(at), y1: 0, y2: 22,
      })));
      bar(one(".thin", strip), place(way.price_low), place(way.price_high));
      bar(one(".bar", strip), place(way.low), place(way.high));
      if (dot.tagName === "circle") dot.setAttribute("cx", percent(place(way.point)));
      else dot.parentNode.setAttribute("x", percent(place(way.point)));
      one(".vh", row).textContent = `${way.who.name}, ${way.label}: ${Live.usd(way.point)},`
        + ` performance interval ${Live.usd(way.low)} to ${Live.usd(way.high)}, price range`
        + ` ${Live.usd(way.price_low)} to ${Live.usd(way.price_high)}`;
    }
  }

  function say(cell, verdict) {
    const [head, sure, sides] = all("p", cell);
    head.className = `head ${Live.tone(verdict)}`;
    head.textContent = Live.head(verdict);
    head.dataset.ratio = verdict.compared.ratio;
    head.dataset.p = verdict.compared.p;
    sure.textContent = `${verdict.at}: ${Live.sure(verdict)}`;
    sides.textContent = Live.sides(verdict);
  }

  function flipItem(flip) {
    const item = document.createElement("li");
    item.className = flip.plausible ? "likely" : "unlikely";
    item.dataset.at = flip.at;
    const code = document.createElement("code");
    code.textContent = `--set '${Live.setting(flip)}'`;
    item.append(Live.flipped(flip), flip.plausible ? " " : " (not plausible) ", code);
    return item;
  }

  function basis(work, answer) {
    const ages = answer.verdicts.flatMap((v) => [v.tpu.age, v.gpu.age]);
    if (!ages.length) return work.evidence;
    const low = Math.min(...ages), high = Math.max(...ages);
    const days = low === high ? `${low}` : `${low}–${high}`;
    return `${work.evidence}; prices ${days} days old${high > model.stale_days ? ", stale" : ""}`;
  }

  // Costs at a service level, under the prices and readiness of the sliders.
  const level = one("[data-slo]");
  function serve(s) {
    if (!level || !(Number(level.value) > 0)) return;
    for (const row of all("[data-curve]")) {
      const found = Live.service(model.service[Number(row.dataset.curve)], s, Number(level.value));
      const cells = row.cells, missing = "—";
      const shown = (value, text) => (value === undefined || value === null ? missing : text(value));
      cells[2].dataset.usd = found.usd ?? "";
      cells[2].textContent = shown(found.usd, Live.usd);
      cells[3].textContent = shown(found.rate, Live.number);
      cells[4].textContent = shown(found.per_mw, Live.number);
      cells[5].textContent = shown(found.per_musd, Live.number);
      cells[6].textContent = found.how;
    }
  }
  const still = Object.fromEntries(Object.keys(model.settings ?? {}).map((path) => [path, 1]));
  if (level) {
    level.addEventListener("input", () => {
      if (one(".sliders")) update();
      else serve(still);
    });
  }

  function update() {
    const s = settings();
    serve(s);
    const answers = model.works.map((work) => Live.answer(model, work, s));
    for (const cell of all("[data-verdict]")) {
      const [work, index] = cell.dataset.verdict.split("-").map(Number);
      say(cell, answers[work].verdicts[index]);
    }
    for (const summary of all("[data-head]")) {
      const verdict = answers[Number(summary.dataset.head)].verdicts[0];
      if (verdict) summary.textContent = Live.head(verdict);
    }
    for (const table of all("[data-work]")) redraw(table, answers[Number(table.dataset.work)]);
    for (const list of all("[data-flips]")) {
      const answer = answers[Number(list.dataset.flips)];
      list.replaceChildren(...answer.flips.map(flipItem));
      one(".span", list.parentNode).textContent = `${answer.span}.`;
    }
    for (const text of all("[data-basis]")) {
      const at = Number(text.dataset.basis);
      text.textContent = basis(model.works[at], answers[at]);
    }
    for (const text of all("[data-more]")) {
      const others = text.dataset.more.split(",").map((i) => answers[Number(i)].verdicts[0]);
      const tones = others.map((verdict) => (verdict ? verdict.compared.word : "no price"));
      const names = { tpu: "TPU cheaper", gpu: "GPU cheaper", close: "too close", "no price": "none" };
      const counted = Object.entries(names)
        .map(([tone, name]) => [tones.filter((t) => t === tone).length, name])
        .filter(([count]) => count).map(([count, name]) => `${count} ${name}`);
      text.textContent = `${others.length} more: ${counted.join(", ")}`;
    }
    for (const input of inputs) {
      const times = input.dataset.path.endsWith("*") ? "× " : "";
      one("output", input.closest("label")).textContent = times + Live.digits(Number(input.value));
    }
    link(s);
  }

  // The link carries what is not neutral, by the names that --set knows.
  function link(s) {
    const turned = inputs.filter((input) => Number(input.value) !== neutral(input))
      .map((input) => [input.dataset.path, input.value]);
    if (tokenPrice() !== null) turned.push(["token_price", String(tokenPrice())]);
    if (level && Number(level.value) > 0 && level.value !== level.defaultValue) {
      turned.push(["slo", level.value]);
    }
    one(".asked").textContent = turned.length
      ? `tpubench report ${turned.map(([path, value]) => `--set '${path}=${value}'`).join(" ")}`
      : "";
    return turned.map(([path, value]) => `${encodeURIComponent(path)}=${value}`).join("&");
  }
  // Only when a slider is let go: browsers refuse to have the address changed all the time.
  function address() {
    const hash = link(settings());
    if (hash || location.hash.includes("=")) {
      history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
    }
  }
  function fromLink() {
    if (!location.hash.includes("=")) return;
    const asked = new Map(location.hash.slice(1).split("&").map((part) => {
      const [path, value] = part.split("=");
      let name = "";
      try { name = decodeURIComponent(path); } catch { /* no name of ours */ }
      return [name, Number(value)];
    }));
    for (const input of inputs) {
      const value = asked.get(input.dataset.path);
      input.value = value > 0 ? value : input.dataset.neutral;
    }
    const sold = asked.get("token_price");
    one("[data-token-price]").value = sold > 0 ? sold : "";
    if (level) level.value = asked.get("slo") > 0 ? asked.get("slo") : level.defaultValue;
  }

  const controls = one(".sliders");
  if (controls) {
    controls.hidden = false;
    document.documentElement.classList.add("live");
    fromLink();
    for (const input of inputs) {
      // A hand moves in steps; a link may say any value.
      input.addEventListener("input", () => {
        const steps = Math.round(Number(input.value) / Number(input.dataset.step));
        input.value = Live.digits(steps * Number(input.dataset.step));
        update();
      });
    }
    one("[data-token-price]").addEventListener("input", update);
    for (const input of [...inputs, one("[data-token-price]"), ...(level ? [level] : [])]) {
      input.addEventListener("change", address);
    }
    one(".reset").addEventListener("click", () => {
      for (const input of inputs) input.value = input.dataset.neutral;
      one("[data-token-price]").value = "";
      update();
      address();
    });
    addEventListener("hashchange", () => {
      if (!location.hash.includes("=")) return;
      fromLink();
      update();
    });
    update();
  }
  for (const anchor of all('a[href^="#w"]')) {
    anchor.addEventListener("click", () => {
      const part = document.getElementById(anchor.hash.slice(1));
      if (part && part.tagName === "DETAILS") part.open = true;
    });
  }

  // ---- Charts: the arrow keys go from mark to mark, and the line below says each ------------
  for (const area of all("[data-plane]")) {
    const marks = all("[data-hover]", area);
    const readout = one(".readout", area.closest(".planebox"));
    let at = -1;
    const show = (index) => {
      if (at >= 0) marks[at].classList.remove("at-mark");
      at = index;
      if (at >= 0) marks[at].classList.add("at-mark");
      readout.textContent = at < 0 ? "" : marks[at].dataset.hover;
    };
    area.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step || !marks.length) return;
      event.preventDefault();
      show((at + step + marks.length) % marks.length);
    });
    area.addEventListener("pointerover", (event) => {
      const mark = event.target.closest("[data-hover]");
      if (mark) show(marks.indexOf(mark));
    });
    area.addEventListener("blur", () => show(-1));
  }
})();
