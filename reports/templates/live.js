// The first screen again, under other settings: the arithmetic of reports/answers/money.py and
// verdicts.py, and the words of words.py. Tested against them in a real browser.
const Live = (() => {
  "use strict";
  const ROOT = Math.SQRT2;
  const TERMS = [["default", "on demand"], ["1y", "1-year contract"], ["3y", "3-year contract"]];

  // erfc: the series of erf where that loses nothing, Lentz's continued fraction beyond.
  function erfc(x) {
    if (x < 0) return 2 - erfc(-x);
    const tail = Math.exp(-x * x);
    if (x < 3) {
      let term = x, sum = x;
      for (let n = 1; term > sum * 1e-17; n++) sum += term *= (2 * x * x) / (2 * n + 1);
      return 1 - (2 / Math.sqrt(Math.PI)) * tail * sum;
    }
    let f = x, c = x, d = 0;
    for (let n = 1; n < 200; n++) {
      d = 1 / (x + (n / 2) * d);
      c = x + n / 2 / c;
      f *= c * d;
      if (Math.abs(c * d - 1) < 1e-16) break;
    }
    return tail / (Math.sqrt(Math.PI) * f);
  }

  function costs(work, s, z) {
    return work.ways.map((way, index) => {
      const who = work.contenders[way.contender];
      const factor = who.tpu ? s["price[tpu]*"] : s["price[gpu]*"];
      let share = who.tpu ? s.readiness : 1;
      if (way.every_hour) share *= s.utilisation;
      const hours = who.hours / share;
      const dearer = way.power * (s["electricity*"] - 1);
      const usd = (way.usd + dearer) * factor;
      const point = usd * hours;
      const wide = Math.exp(z * who.spread);
      return {
        ...way, index, who, tpu: who.tpu, usd, point, low: point / wide, high: point * wide,
        price_low: (way.low + dearer) * factor * hours,
        price_high: (way.high + dearer) * factor * hours,
        asked: [(way.low + dearer) * factor, (way.high + dearer) * factor],
      };
    });
  }

  function compare(tpu, gpu, z) {
    const difference = Math.log(gpu.point / tpu.point);
    const both = tpu.who.spread + gpu.who.spread;
    let p = difference === 0 ? 0.5 : Number(difference > 0);
    if (both > 0) p = 0.5 * erfc(-difference / both / ROOT);
    let word = difference > 0 ? "tpu" : "gpu";
    if (Math.abs(difference) <= z * both) word = "close";
    const half = z * both;
    const ratio = gpu.point / tpu.point;
    return {
      ratio, low: Math.exp(difference - half), high: Math.exp(difference + half), p, word,
      times: Math.max(ratio, 1 / ratio),
    };
  }

  const cheapest = (ways) => ways.reduce((a, b) => (b.point < a.point ? b : a));

  function verdicts(work, ways, z) {
    const found = [];
    for (const [term, name] of TERMS) {
      if (term !== "default" && !ways.some((way) => way.term === term)) continue;
      const best = {};
      for (let number = 0; number < work.contenders.length; number++) {
        const mine = ways.filter((way) => way.contender === number);
        const at = term === "default" ? [] : mine.filter((way) => way.term === term);
        const chosen = at.length ? at : mine.filter((way) => way.default);
        if (!chosen.length) continue;
        const way = cheapest(chosen);
        if (!best[way.tpu] || way.point < best[way.tpu].point) best[way.tpu] = way;
      }
      const [tpu, gpu] = [best[true], best[false]];
      if (!tpu || !gpu) continue;
      const at = term === "default" ? [...new Set([tpu.label, gpu.label])].join(" and ") : name;
      found.push({ at, tpu, gpu, compared: compare(tpu, gpu, z) });
    }
    return found;
  }

  function flips(work, ways, verdict, s) {
    const { tpu, gpu } = verdict, ratio = verdict.compared.ratio, found = [];
    for (const [way, path, at, wins] of [
      [tpu, "price[tpu]", s["price[tpu]*"] * ratio, "below"],
      [gpu, "price[gpu]", s["price[gpu]*"] / ratio, "above"],
    ]) {
      const usd = (way.usd * at) / s[`${path}*`];
      const asked = ways
        .filter((other) => other.contender === way.contender && !other.aside)
        .flatMap((other) => [other.usd, ...other.asked]);
      const [least, most] = [Math.min(...asked), Math.max(...asked)];
      found.push({
        input: `${way.tpu ? "TPU" : "GPU"} prices`, at, wins, device: way.who.device,
        now_usd: way.usd, at_usd: usd, plausible: least <= usd && usd <= most,
      });
    }
    const ready = s.readiness / ratio;
    found.push({
      input: "readiness", now: s.readiness, at: ready, wins: "above",
      plausible: ready <= 1 + Math.max(0, tpu.who.doubt),
    });
    for (const [side, other, wins] of [[true, gpu, "above"], [false, tpu, "below"]]) {
      const contracts = ways.filter((w) => w.tpu === side && w.every_hour && !w.aside);
      if (!contracts.length || other.every_hour) continue;
      const best = cheapest(contracts);
      const at = (s.utilisation * best.point) / other.point;
      found.push({
        input: `utilisation of ${best.who.name}, ${best.label}, against ${other.who.name}`,
        now: s.utilisation, at, wins, plausible: at <= 1,
      });
    }
    return found;
  }

  function span(ways, verdict) {
    const ends = (chosen) => ways
      .filter((way) => way.contender === chosen.contender && !way.aside)
      .flatMap((way) => [way.price_low, way.price_high]);
    const [tpu, gpu] = [ends(verdict.tpu), ends(verdict.gpu)];
    const low = Math.min(...gpu) / Math.max(...tpu), high = Math.max(...gpu) / Math.min(...tpu);
    if (low < 1 && 1 < high) return "the price decides: at some list price the other one is cheaper";
    return `${low >= 1 ? "TPU" : "GPU"} cheaper at every list price of the two`;
  }

  function answer(model, work, s) {
    const ways = costs(work, s, model.z);
    const found = verdicts(work, ways, model.z);
    return {
      ways, verdicts: found,
      flips: found.length ? flips(work, ways, found[0], s) : [],
      span: found.length ? span(ways, found[0]) : "",
    };
  }

  // Cost at a service level: reports/answers/service.py.
  function service(curve, s, level) {
    const share = curve.tpu ? s.readiness : 1;
    const points = curve.points.map(([pace, rate]) => [pace * share, rate * share]);
    const fast = points.filter(([pace]) => pace >= level);
    if (!fast.length) {
      const most = Math.max(...points.map(([pace]) => pace));
      return { how: `not reached: ${short(most)} tok/s a user at most` };
    }
    let rate = Math.max(...fast.map(([, r]) => r)), how = "measured";
    const slow = points.filter(([pace]) => pace < level);
    if (slow.length) {
      const [[x0, y0], [x1, y1]] = [slow[slow.length - 1], fast[0]];
      const between = y0 * (y1 / y0) ** (Math.log(level / x0) / Math.log(x1 / x0));
      if (between > rate) [rate, how] = [between, "interpolated"];
    }
    const factor = s[curve.tpu ? "price[tpu]*" : "price[gpu]*"];
    const usd = curve.usd === null ? null : (curve.usd + curve.power * (s["electricity*"] - 1)) * factor;
    return {
      rate, how, usd: usd === null ? null : (usd * 1e6) / (3600 * rate),
      per_mw: curve.chip_w ? (rate / curve.chip_w) * 1e6 : null,
      per_musd: curve.capex ? (rate / curve.capex) * 1e6 : null,
    };
  }
  // Three digits, as Python's :.3g.
  const short = (value) => {
    const text = Number(value.toPrecision(3));
    return text >= 1000 ? value.toExponential(2).replace(/e([+-])(\d)$/, "e$10$2") : String(text);
  };

  // Words.
  // Rounds to ``places`` as Python does: an exact tie goes to the even digit.
  function rounded(value, places) {
    const scaled = value * 10 ** places;
    if (Math.abs(scaled % 1) === 0.5 && Number.isInteger(value * 2 ** (places + 1))) {
      return (2 * Math.round(scaled / 2)) / 10 ** places;
    }
    return places < 0 ? Math.round(scaled) / 10 ** places : Number(value.toFixed(places));
  }
  function grouped(value, places) {
    const [whole, rest] = Math.abs(rounded(value, places)).toFixed(places).split(".");
    const text = whole.replace(/\B(?=(\d{3})+$)/g, ",") + (rest ? `.${rest}` : "");
    return value < 0 ? `-${text}` : text;
  }
  function number(value) {
    if (value === 0) return "0";
    const size = Math.floor(Math.log10(Math.abs(value)));
    if (size <= -5 || size >= 15) return value.toExponential(2).replace(/e([+-])(\d)$/, "e$10$2");
    const short = rounded(value, 2 - size);
    const places = 2 - Math.floor(Math.log10(Math.abs(short)));
    return grouped(short, Math.max(0, places));
  }
  const usd = (amount) => (amount >= 0.1 ? `$${grouped(amount, 2)}` : `$${number(amount)}`);
  function chance(p) {
    if (p < 0.001) return "< 0.1 %";
    if (p > 1 - 0.001) return "> 99.9 %";
    const percent = 100 * p;
    return `${grouped(percent, percent < 10 || percent > 90 ? 1 : 0)} %`;
  }
  const winner = (v) => (v.compared.ratio > 1 ? v.tpu : v.gpu).who.maker;
  function head(v) {
    if (v.compared.word === "close") return "Too close to call";
    return `${winner(v)} ${number(v.compared.times)} × cheaper`;
  }
  function tone(v) {
    if (v.compared.word === "close") return "close";
    return `c-${(v.compared.word === "tpu" ? v.tpu : v.gpu).who.colour}`;
  }
  function sure(v) {
    const text = `P(TPU cheaper) ${chance(v.compared.p)}`;
    const { word, times, ratio } = v.compared;
    if (word === "close" && times < 1.005) return `level on the figures; ${text}`;
    if (word === "close") return `${winner(v)} ${number(times)} × cheaper on the figures; ${text}`;
    let { low, high } = v.compared;
    if (ratio < 1) [low, high] = [1 / high, 1 / low];
    return `${number(low)} to ${number(high)} ×; ${text}`;
  }
  const sides = (v) => [v.tpu, v.gpu].map((way) => {
    const how = v.at.includes(way.label) ? "" : ` ${way.label}`;
    return `${way.who.device} ${usd(way.usd)}/h${how}`;
  }).join(", ");
  function flipped(flip) {
    if (flip.at_usd === undefined) {
      return `${flip.input} ${flip.wins} ${number(flip.at)} (now ${number(flip.now)})`;
    }
    return `${flip.device} ${flip.wins} ${usd(flip.at_usd)} an hour (now ${usd(flip.now_usd)}):`
      + ` ${flip.input} × ${number(flip.at)}`;
  }
  function setting(flip) {
    const value = digits(flip.at);
    if (flip.at_usd !== undefined) return `price[${flip.input.slice(0, 3).toLowerCase()}]*=${value}`;
    return `${flip.input.split(" ")[0]}=${value}`;
  }
  // Six digits, trailing zeros gone, as Python's :.6g.
  const digits = (value) => String(Number(value.toPrecision(6)));

  return { answer, service, erfc, head, tone, sure, sides, flipped, setting, number, usd, chance, digits };
})();
