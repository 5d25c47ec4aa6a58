// Controls and drawings of the page; every number comes from recertify.js.
(() => {
  const get = (name) => document.getElementById(`recertify-${name}`);
  const data = JSON.parse(get("data").textContent);
  const FIELDS = ["trainer", "sigma", "attack"], SIDES = ["a", "b"];
  const nameOf = {trainer: (v) => data.trainers[v].name, sigma: (v) => v, attack: (v) => data.attacks[v].name};
  const count = (value) => value.toLocaleString("en");
  const percent = (value, digits = 1) => `${(100 * value).toFixed(digits)} %`;

  // Offer what there is: each choice narrows the next. `wanted` is kept where it exists.
  function fill(side, wanted) {
    let cells = data.cells;
    for (const field of FIELDS) {
      const values = [...new Set(cells.map((cell) => String(cell[field])))];
      const value = values.includes(wanted[field]) ? wanted[field] : values[0];
      const options = values.map((v) => new Option(nameOf[field](v), v, false, v === value));
      get(`${side}-${field}`).replaceChildren(...options);
      cells = cells.filter((cell) => String(cell[field]) === value);
    }
  }

  const chosen = (side) => Object.fromEntries(FIELDS.map((field) => [field, get(`${side}-${field}`).value]));
  function selections() {
    return SIDES.filter((side) => side === "a" || get("compare").checked).map((side) => {
      const wanted = chosen(side), cell = data.cells.find((c) => FIELDS.every((f) => String(c[f]) === wanted[f]));
      const names = `${nameOf.trainer(cell.trainer)}, σ = ${cell.sigma}, ${nameOf.attack(cell.attack)}`;
      const label = `${side.toUpperCase()}: ${names}`;
      // The second line is thinner, so that two selections of one trainer and attack differ too.
      const {colour} = data.trainers[cell.trainer], {dash} = data.attacks[cell.attack], width = side === "a" ? 3 : 2;
      const line = `stroke="${colour}" stroke-dasharray="${dash}" stroke-width="${width}" fill="none"`;
      return {side, cell, label, colour, line};
    });
  }

  // Sliders of alpha and n move in tenths of decades; what they show, rounded to two digits, is what is used.
  const rounded = (decades) => Number((10 ** (decades / 10)).toPrecision(2));
  function limits() {
    const cells = selections().map(({cell}) => cell), most = Math.min(...cells.map((cell) => cell.n));
    const end = Math.max(...cells.map((cell) => cell.sigma * recertify.normalQuantile(0.5 ** (1 / cell.n))));
    const ends = {alpha: [-60, -3], n: [10, Math.ceil(10 * Math.log10(most))], radius: [0, Math.ceil(100 * end)]};
    for (const [name, [low, high]] of Object.entries(ends)) {
      const slider = get(name), full = slider.value === slider.max;
      Object.assign(slider, {min: low, max: high});
      if (name === "n" && full) slider.value = high;  // all draws stay all draws
    }
    return {most, end};
  }

  // A panel: axes in a box of 340 x 260, and functions from values to places in it.
  function panel({range, ticks, xLabel, yLabel}) {
    const x = (v) => 50 + 285 * (v - range[0]) / (range[1] - range[0]), y = (v) => 212 - 200 * v;
    const text = (content, rest) => `<text font-size="13" fill="#222" text-anchor="middle" ${rest}>${content}</text>`;
    const tick = (path) => `<path d="${path}" stroke="#555"/>`;
    const below = ([at, label]) => tick(`M${x(at)} 212v5`) + text(label, `x="${x(at)}" y="231"`);
    const beside = (at) => tick(`M45 ${y(at)}h5`) + text(at, `x="32" y="${y(at) + 5}"`);
    const axes = `<path d="M50 12V212H335" stroke="#555" fill="none"/>` +
      ticks.map(below).join("") + [0, 0.2, 0.4, 0.6, 0.8, 1].map(beside).join("") +
      text(xLabel, 'x="192" y="252"') + text(yLabel, 'transform="translate(13 112) rotate(-90)"');
    const place = ([a, b]) => `${x(a).toFixed(1)} ${y(b).toFixed(1)}`;
    return {x, y, axes, path: (points, rest) => `<path d="M${points.map(place).join("L")}" ${rest}/>`};
  }

  function show(svg, content, label) {
    svg.setAttribute("viewBox", "0 0 340 260");
    svg.setAttribute("aria-label", label);
    svg.innerHTML = content;
  }

  function drawCurve(shown, end, at) {
    const step = [0.1, 0.2, 0.5, 1].find((s) => end / s < 7) || 2;
    const tick = (_, i) => [i * step, (i * step).toFixed(step < 1 ? 1 : 0)];
    const ticks = Array.from({length: Math.floor(end / step) + 1}, tick);
    const labels = {xLabel: "radius (pixel units, L2)", yLabel: "certified accuracy of the class"};
    const {x, y, axes, path} = panel({range: [0, end], ticks, ...labels});
    const radii = Array.from({length: 121}, (_, i) => i * end / 120);
    let drawn = "";
    for (const {now, committed, line, colour} of shown) {
      const values = radii.map((r) => recertify.accuracy(now.radius, r));
      const inside = (value) => Math.min(1, Math.max(0, value));
      const edge = (sign) => values.map(({mean, half}, i) => [radii[i], inside(mean + sign * (half || 0))]);
      const all = radii.map((r) => [r, recertify.accuracy(committed.radius, r).mean]);
      drawn += path([...edge(1), ...edge(-1).reverse()], `fill="${colour}" opacity="0.18"`) +
        path(all, `opacity="0.45" ${line.replace(/width="./, 'width="1.2')}`) +
        path(values.map(({mean}, i) => [radii[i], mean]), line);
    }
    const dot = ({now, colour, side}) =>
      `<circle cx="${x(at)}" cy="${y(recertify.accuracy(now.radius, at).mean)}" r="5" stroke="${colour}" ` +
      `stroke-width="2" fill="${side === "a" ? colour : "#fff"}"/>`;
    drawn += `<path d="M${x(at)} 12V212" stroke="#555" stroke-dasharray="1 3"/>` + shown.map(dot).join("");
    const share = (now, r) => percent(recertify.accuracy(now.radius, r).mean);
    show(get("curve"), axes + drawn, "Certified accuracy against radius. " + shown.map(({label, now}) =>
      `${label}: ${share(now, 0)} at radius 0, ${share(now, at)} at ${at.toFixed(2)}.`).join(" "));
  }

  function drawShare(shown, n) {
    const range = [-1.6, recertify.normalQuantile((n + 0.5) / (n + 1)) + 0.1];
    const shares = [0.1, 0.5, 0.9, 0.99, n > 10000 ? 0.9999 : 0.999];
    const places = shares.map((p) => [recertify.normalQuantile(p), p]);
    const ticks = places.filter(([z]) => z < range[1]);
    const xLabel = 'p<tspan dy="3" font-size="10">A</tspan><tspan dy="-3"> (probit scale)</tspan>';
    const {x, axes, path} = panel({range, ticks, xLabel, yLabel: "share of points at or below"});
    const at = (values, z) => values.filter((v) => v <= z).length / values.length;
    let drawn = `<path d="M${x(0)} 12V212" stroke="#999"/>`;
    for (const {now, line} of shown) {
      const values = now.probit.flat(), places = [...new Set(values.filter((v) => v > range[0]))].sort((a, b) => a - b);
      let height = at(values, range[0]);
      const steps = [[range[0], height]];
      for (const z of places) steps.push([z, height], [z, height = at(values, z)]);
      drawn += path([...steps, [range[1], 1]], line);
    }
    show(get("share"), axes + drawn, "Share of points at or below p_A. " + shown.map(({label, now}) => {
      const values = now.probit.flat();
      const [half, most] = [0.5, 0.99].map((p) => percent(at(values, recertify.normalQuantile(p))));
      return `${label}: ${half} at or below 0.5, ${most} at or below 0.99.`;
    }).join(" "));
  }

  function tell(shown, at) {
    get("at").textContent = at.toFixed(2);
    const number = (value, digits = 3) => `<data value="${value}">${value.toFixed(digits)}</data>`;
    get("numbers").innerHTML = shown.map(({label, line, now, committed}) => {
      const acr = recertify.acr(now.radius), spread = acr.half >= 0 ? ` <small>± ${acr.half.toFixed(3)}</small>` : "";
      const swatch = `<svg class="swatch" viewBox="0 0 34 10" aria-hidden="true"><path d="M0 5H34" ${line}/></svg>`;
      return `<tr><th scope="row">${swatch}<br>${label}</th>` +
        `<td>${number(acr.mean)}${spread}</td><td>${number(recertify.acr(committed.radius).mean)}</td>` +
        `<td>${percent(recertify.accuracy(now.radius, at).mean)}</td>` +
        `<td>${now.stopped ? "≥ " : ""}${percent(now.abstention)}</td></tr>`;
    }).join("");
    get("drop").innerHTML = shown.length < 2 ? "" : dropText(...shown);
    get("about").textContent = shown.map(({label, cell, now}) =>
      `${label}: ${cell.seeds.length} victims, ${cell.index.length} test points each; ` +
      `the rows hold n = ${count(cell.n)} draws of noise seed ${cell.noise_seed}, certified at α = ${cell.alpha}` +
      (now.stopped ? `; ${percent(now.stopped)} of the points have no draws because their guess was wrong.` : ".")
    ).join("\n");
  }

  function dropText(a, b) {
    const seeds = a.cell.seeds.filter((seed) => b.cell.seeds.includes(seed));
    if (!seeds.length || `${a.cell.index}` !== `${b.cell.index}`) {
      return "Without common victims and test points there is no paired drop.";
    }
    const [clean, poisoned] = [a, b].map(({cell, now}) => seeds.map((seed) => now.radius[cell.seeds.indexOf(seed)]));
    if (!(recertify.acr(clean).mean > 0)) return "The ACR of A is 0, so its relative drop has no meaning.";
    const {drop, halfSeeds, half} = recertify.pairedDrop(clean, poisoned);
    const whole = (value) => `${Math.round(100 * value) || 0}`.replace("-", "−");
    const between = (h) => `${whole(drop - h)} to ${whole(drop + h)} %`;
    const sure = halfSeeds >= 0 && half >= 0  // not with a single victim
      ? `, 95 % intervals ${between(halfSeeds)} (other victims) ` +
        `and ${between(half)} (other victims and test points)` : "";
    const value = `<data value="${drop}">${whole(drop)} %</data>`;
    return `ACR drop from A to B, paired over ${seeds.length} victims: ${value}${sure}.`;
  }

  function draw() {
    const {most, end} = limits(), alpha = rounded(get("alpha").value), at = get("radius").value / 100;
    const n = get("n").value === get("n").max ? most : Math.min(most, rounded(get("n").value));
    for (const [name, text] of [["alpha", `${alpha}`], ["n", count(n)], ["radius", at.toFixed(2)]]) {
      get(`${name}-value`).textContent = text;
      get(name).setAttribute("aria-valuetext", text);
    }
    const shown = selections().map((selection) => ({
      ...selection,
      now: recertify.certify(selection.cell, n, alpha),
      committed: recertify.certify(selection.cell, selection.cell.n, selection.cell.alpha),
    }));
    tell(shown, at);
    drawCurve(shown, end, at);
    drawShare(shown, Math.max(...shown.map(({cell}) => cell.n)));
  }

  const clean = data.cells.find((cell) => cell.attack === "none") || data.cells[0], first = {};
  for (const field of FIELDS) first[field] = String(clean[field]);
  const beside = (c) => c.trainer === clean.trainer && c.sigma === clean.sigma;
  const poisoned = data.cells.find((c) => c.attack === "first_order" && beside(c));
  fill("a", first);
  fill("b", {...first, attack: "first_order"});
  get("compare").checked = Boolean(poisoned);
  limits();
  get("alpha").value = Math.round(10 * Math.log10(clean.alpha));
  get("n").value = get("n").max;
  get("radius").value = Math.round(100 * clean.sigma);
  const enable = () => FIELDS.forEach((field) => { get(`b-${field}`).disabled = !get("compare").checked; });
  for (const side of SIDES) get(side).addEventListener("change", () => {
    fill(side, chosen(side));
    enable();
    draw();
  });
  for (const name of ["alpha", "n", "radius"]) get(name).addEventListener("input", draw);
  enable();
  draw();
})();
