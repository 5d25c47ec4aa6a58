// Controls and drawings of the page; every number comes from explorer.js.
(() => {
  const get = (name) => document.getElementById(`explorer-${name}`);
  const data = JSON.parse(get("data").textContent);
  const FIELDS = Object.keys(data.names), SIDES = ["a", "b"];
  const count = (value) => value.toLocaleString("en");
  const percent = (value, digits = 1) => `${(100 * value).toFixed(digits)} %`;

  for (const {cells, victims, points} of Object.values(data.profiles)) for (const cell of cells) {
    const own = cell.victims.map((i) => victims[i]);
    Object.assign(cell, {seeds: own.map((v) => v.seed), codes: own.map((v) => v.codes), index: points[own[0].points]});
  }
  const cells = () => data.profiles[get("profile").value].cells;
  const find = (address) => cells().find((cell) => cell.key.join("/") === address);
  const chosen = (side) => FIELDS.map((field) => get(`${side}-${field}`).value);

  // Offer what there is: each choice narrows the next. `wanted` is kept where it exists.
  function fill(side, wanted) {
    let left = cells();
    for (const [i, field] of FIELDS.entries()) {
      const values = [...new Set(left.map((cell) => cell.key[i]))];
      const value = values.includes(wanted[i]) ? wanted[i] : values[0];
      const options = values.map((v) => new Option(data.names[field][v], v, false, v === value));
      get(`${side}-${field}`).replaceChildren(...options);
      left = left.filter((cell) => cell.key[i] === value);
    }
  }

  // A cell is called by what sets it apart from the other one. A is drawn solid, B dashed and thinner.
  function selections() {
    const keys = SIDES.map(chosen), apart = FIELDS.filter((_, i) => keys[0][i] !== keys[1][i]);
    const names = (key, fields) => fields.map((field) => data.names[field][key[FIELDS.indexOf(field)]]).join(", ");
    return SIDES.map((side, i) => {
      const key = keys[i], colour = data.colours[key[FIELDS.indexOf("trainer")]];
      const rest = side === "a" ? 'stroke-width="3"' : 'stroke-width="2" stroke-dasharray="7 4"';
      const label = `${side.toUpperCase()}: ${names(key, apart.length ? apart : ["attack"])}`;
      const line = `stroke="${colour}" fill="none" ${rest}`;
      return {side, cell: find(key.join("/")), label, full: names(key, FIELDS), colour, line};
    });
  }

  // Numbers that are chosen, in a field and on its slider: alpha and n in tenths of decades, rounded to two digits.
  const at = {}, ends = {};
  const decade = (v) => Number((10 ** (v / 10)).toPrecision(2)), decades = (x) => 10 * Math.log10(x);
  const SLIDERS = {
    alpha: {value: decade, place: decades},
    n: {value: (v) => Math.round(decade(v)), place: decades},
    radius: {value: (v) => v / 100, place: (x) => 100 * x},
  };
  function choose(name, value) {  // what is no number changes nothing
    const [low, high] = ends[name], place = (x) => Math.round(SLIDERS[name].place(x));
    const whole = name === "n" ? Math.floor(value) : value;
    if (Number.isFinite(value)) at[name] = Math.min(high, Math.max(low, whole));
    get(name).value = at[name];
    const slider = Object.assign(get(`${name}-slider`), {min: place(low), max: place(high), value: place(at[name])});
    slider.setAttribute("aria-valuetext", at[name]);
  }
  function slide(name) {
    const slider = get(`${name}-slider`), {value, max} = slider;
    choose(name, value === max ? ends[name][1] : SLIDERS[name].value(value));
    slider.value = value;  // where the hand left it, or a key would not get past a number that rounds back
  }

  // The ranges of the numbers follow the cells; all draws stay all draws.
  function limits() {
    const both = selections().map(({cell}) => cell), most = Math.min(...both.map((cell) => cell.n));
    const end = Math.max(...both.map((cell) => cell.sigma * explorer.normalQuantile(0.5 ** (1 / cell.n))));
    const all = !ends.n || at.n === ends.n[1];
    Object.assign(ends, {alpha: [1e-6, 0.5], n: [1, most], radius: [0, Math.ceil(100 * end) / 100]});
    choose("alpha", at.alpha);
    choose("n", all ? most : at.n);
    choose("radius", at.radius);
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
      const values = radii.map((r) => explorer.accuracy(now.radius, r));
      const inside = (value) => Math.min(1, Math.max(0, value));
      const edge = (sign) => values.map(({mean, half}, i) => [radii[i], inside(mean + sign * (half || 0))]);
      const all = radii.map((r) => [r, explorer.accuracy(committed.radius, r).mean]);
      drawn += path([...edge(1), ...edge(-1).reverse()], `fill="${colour}" opacity="0.18"`) +
        path(all, `opacity="0.45" ${line.replace(/width="./, 'width="1.2')}`) +
        path(values.map(({mean}, i) => [radii[i], mean]), line);
    }
    const dot = ({now, colour, side}) =>
      `<circle cx="${x(at)}" cy="${y(explorer.accuracy(now.radius, at).mean)}" r="5" stroke="${colour}" ` +
      `stroke-width="2" fill="${side === "a" ? colour : "#fff"}"/>`;
    drawn += `<path d="M${x(at)} 12V212" stroke="#555" stroke-dasharray="1 3"/>` + shown.map(dot).join("");
    const share = (now, r) => percent(explorer.accuracy(now.radius, r).mean);
    show(get("curve"), axes + drawn, "Certified accuracy against radius. " + shown.map(({label, now}) =>
      `${label}: ${share(now, 0)} at radius 0, ${share(now, at)} at ${at.toFixed(2)}.`).join(" "));
  }

  function drawShare(shown, n) {
    const range = [-1.6, explorer.normalQuantile((n + 0.5) / (n + 1)) + 0.1];
    const shares = [0.1, 0.5, 0.9, 0.99, n > 10000 ? 0.9999 : 0.999];
    const places = shares.map((p) => [explorer.normalQuantile(p), p]);
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
      const [half, most] = [0.5, 0.99].map((p) => percent(at(values, explorer.normalQuantile(p))));
      return `${label}: ${half} at or below 0.5, ${most} at or below 0.99.`;
    }).join(" "));
  }

  function tell(shown) {
    get("at").textContent = at.radius;
    const number = (value, digits = 3) => `<data value="${value}">${value.toFixed(digits)}</data>`;
    get("numbers").innerHTML = shown.map(({label, line, now, committed}) => {
      const acr = explorer.acr(now.radius), spread = acr.half >= 0 ? ` <small>± ${acr.half.toFixed(3)}</small>` : "";
      const swatch = `<svg class="swatch" viewBox="0 0 34 10" aria-hidden="true"><path d="M0 5H34" ${line}/></svg>`;
      return `<tr><th scope="row">${swatch}<br>${label}</th>` +
        `<td>${number(acr.mean)}${spread}</td><td>${number(explorer.acr(committed.radius).mean)}</td>` +
        `<td>${percent(explorer.accuracy(now.radius, at.radius).mean)}</td>` +
        `<td>${now.stopped ? "≥ " : ""}${percent(now.abstention)}</td></tr>`;
    }).join("");
    get("drop").innerHTML = dropText(...shown);
    get("about").textContent = shown.map(({side, full, cell, now}) =>
      `${side.toUpperCase()}: ${full}; ${cell.seeds.length} victims, ${cell.index.length} test points each; ` +
      `the rows hold n = ${count(cell.n)} draws of noise seed ${cell.noise_seed}, certified at α = ${cell.alpha}` +
      (now.stopped ? `; ${percent(now.stopped)} of the points have no draws because their guess was wrong.` : ".")
    ).join("\n");
  }

  function dropText(a, b) {
    const apart = Object.keys(a.cell.same).find((name) => a.cell.same[name] !== b.cell.same[name]);
    if (apart) {
      const values = `${a.cell.same[apart]} and ${b.cell.same[apart]}`;
      return `There is no paired drop between cells of different ${apart.replace("_", " ")}: ${values}.`;
    }
    const seeds = a.cell.seeds.filter((seed) => b.cell.seeds.includes(seed));
    if (!seeds.length || `${a.cell.index}` !== `${b.cell.index}`) {
      return "Without common victims and test points there is no paired drop.";
    }
    const [clean, poisoned] = [a, b].map(({cell, now}) => seeds.map((seed) => now.radius[cell.seeds.indexOf(seed)]));
    if (!(explorer.acr(clean).mean > 0)) return "The ACR of A is 0, so its relative drop has no meaning.";
    const {drop, halfSeeds, half} = explorer.pairedDrop(clean, poisoned);
    const whole = (value) => `${Math.round(100 * value) || 0}`.replace("-", "−");
    const between = (h) => `${whole(drop - h)} to ${whole(drop + h)} %`;
    const sure = halfSeeds >= 0 && half >= 0  // not with a single victim
      ? `, 95 % intervals ${between(halfSeeds)} (other victims) ` +
        `and ${between(half)} (other victims and test points)` : "";
    const value = `<data value="${drop}">${whole(drop)} %</data>`;
    return `ACR drop from A to B, paired over ${seeds.length} victims: ${value}${sure}.`;
  }

  function draw() {
    const shown = selections().map((selection) => ({
      ...selection,
      now: explorer.certify(selection.cell, at.n, at.alpha),
      committed: explorer.certify(selection.cell, selection.cell.n, selection.cell.alpha),
    }));
    tell(shown);
    drawCurve(shown, ends.radius[1], at.radius);
    drawShare(shown, Math.max(...shown.map(({cell}) => cell.n)));
  }

  // The whole choice as the part of an address after its #.
  const address = () => Object.entries({
    profile: get("profile").value, ...Object.fromEntries(SIDES.map((side) => [side, chosen(side).join("/")])), ...at,
  }).map((pair) => pair.join("=")).join("&");

  function select(profile, a, b, numbers) {
    get("profile").value = profile;
    fill("a", a);
    fill("b", b);
    delete ends.n;  // all draws
    Object.assign(at, numbers);
    limits();
  }

  // The first clean cell of a profile, beside the first-order attack on it.
  function begin(profile) {
    const {cells} = data.profiles[profile], clean = cells.find((cell) => cell.key.at(-1) === "clean") || cells[0];
    select(profile, clean.key, [...clean.key.slice(0, -1), "PACD"], {alpha: clean.alpha, radius: clean.sigma});
  }

  // Take a selection from a link; the name of what does not fit these rows, if anything.
  function follow(link) {
    if (!Object.hasOwn(data.profiles, link.get("profile"))) return "profile";
    begin(link.get("profile"));
    const [a, b] = SIDES.map((side) => find(link.get(side)));
    if (!a || !b) return a ? "b" : "a";
    select(link.get("profile"), a.key, b.key, {});
    for (const name of Object.keys(SLIDERS).filter((name) => link.has(name))) {
      choose(name, Number(link.get(name)));
      if (at[name] !== Number(link.get(name))) return name;
    }
  }

  const say = (fault) => { get("fault").textContent = fault; };
  const first = Object.keys(data.profiles)[0];
  function restore() {
    const link = new URLSearchParams(location.hash.slice(1));
    if (!link.has("profile")) return;  // no link of ours, but to a heading
    const fault = follow(link);
    if (fault) begin(first);
    say(fault ? `The rows do not hold this link's “${fault}”, so the first selection is shown.` : "");
    draw();
  }

  const remember = () => history.replaceState(null, "", `#${address()}`);
  function changed() {
    say("");
    draw();
    remember();
  }
  get("profile").addEventListener("change", () => {
    begin(get("profile").value);
    changed();
  });
  for (const side of SIDES) get(side).addEventListener("change", () => {
    fill(side, chosen(side));
    limits();
    changed();
  });
  for (const name of Object.keys(SLIDERS)) {
    get(name).addEventListener("change", () => {
      choose(name, parseFloat(get(name).value));
      changed();
    });
    get(`${name}-slider`).addEventListener("input", () => {
      slide(name);
      draw();
    });
    get(`${name}-slider`).addEventListener("change", remember);
  }
  begin(first);
  draw();
  restore();
  window.addEventListener("hashchange", restore);
})();
