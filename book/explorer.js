// Certificates from counts, the numbers of pacd.certify and study.intervals in a browser. Nothing here knows the page.
const explorer = (() => {
  // ln Gamma(z) less Stirling's (z - 1/2) ln z - z + ln(2 pi) / 2: its asymptotic series, by recurrence below z = 10.
  function stirlingRest(z) {
    let rest = 0;
    for (; z < 10; z++) rest += (z + 0.5) * Math.log1p(1 / z) - 1;
    const w = 1 / (z * z);
    return rest + (1 / 12 - w * (1 / 360 - w * (1 / 1260 - w * (1 / 1680 - w / 1188)))) / z;
  }

  // x^a (1 - x)^b / B(a, b), written so that large terms do not cancel at a, b = 100,000.
  function betaTerm(x, a, b) {
    const s = a + b, rest = stirlingRest(s) - stirlingRest(a) - stirlingRest(b);
    const power = a * Math.log(x * s / a) + b * Math.log((1 - x) * s / b);
    return Math.sqrt(a * b / (2 * Math.PI * s)) * Math.exp(power + rest);
  }

  // Regularised incomplete beta I_x(a, b), 0 < x < 1, by its continued fraction
  // (Abramowitz and Stegun 26.5.8, Lentz's algorithm).
  function incompleteBeta(x, a, b) {
    const swap = x > (a + 1) / (a + b + 2);  // the fraction converges fast on this side only
    if (swap) [x, a, b] = [1 - x, b, a];
    let c = 1, d = 1 / (1 - (a + b) * x / (a + 1)), fraction = d;
    for (let m = 1; Math.abs(c * d - 1) > 1e-15 && m < 10000; m++) {
      const even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
      const odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
      for (const t of [even, odd]) {
        d = 1 / (1 + t * d);
        c = 1 + t / c;
        fraction *= c * d;
      }
    }
    const value = betaTerm(x, a, b) * fraction / a;
    return swap ? 1 - value : value;
  }

  // The x with I_x(a, b) = p: Newton on ln I, which is concave for a, b >= 1, inside a bracket.
  function betaQuantile(p, a, b) {
    let low = 0, high = 1, x = a / (a + b);
    for (let i = 0; i < 200; i++) {
      const value = incompleteBeta(x, a, b), error = Math.log(value / p);
      const next = x - error * value * x * (1 - x) / betaTerm(x, a, b);
      if (Math.abs(next - x) < 1e-13 * x) return next;
      if (error > 0) high = x; else low = x;
      x = next > low && next < high ? next : (low + high) / 2;
    }
    return x;
  }

  // Clopper-Pearson: p is above this with probability at least 1 - alpha, given k successes of n.
  const lowerBound = (k, n, alpha) => k > 0 ? betaQuantile(alpha, k, n - k + 1) : 0;

  const normalDensity = (x) => Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);

  function normalCdf(x) {  // Marsaglia's series (2004)
    let sum = x, term = x;
    for (let i = 3; Math.abs(term) > 1e-17 * Math.abs(sum); i += 2) sum += term *= x * x / i;
    return 0.5 + normalDensity(x) * sum;
  }

  function normalQuantile(p) {
    if (p < 0.5) return -normalQuantile(1 - p);
    let x = 0, step = 1;
    while (step > 1e-9) x += step = (p - normalCdf(x)) / normalDensity(x);  // the cdf is concave here: never too far
    return x;
  }

  function tQuantile(p, freedom) {  // p > 1/2
    const x = betaQuantile(2 * (1 - p), freedom / 2, 0.5);
    return Math.sqrt(freedom * (1 - x) / x);
  }

  // Uniform numbers in (0, 1): a 32-bit counter through a mixing function (mulberry32).
  function generator(seed) {
    return () => {
      seed = (seed + 0x6d2b79f5) | 0;
      let z = Math.imul(seed ^ (seed >>> 15), seed | 1);
      z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
      return (((z ^ (z >>> 14)) >>> 0) + 0.5) / 2 ** 32;
    };
  }

  // How many of the `wins` among `total` draws are in a random subset of n draws: the hypergeometric quantile at u.
  function hypergeometric(total, wins, n, u) {
    const least = Math.max(0, n + wins - total), most = Math.min(n, wins);
    let first = Math.floor((n + 1) * (wins + 1) / (total + 2));  // the mode; weights are relative to it
    first = Math.min(most, Math.max(least, first));
    const weights = [1], negligible = 1e-20;
    for (let k = first, w = 1; k < most && w > negligible; k++) {
      weights.push(w *= (wins - k) * (n - k) / ((k + 1) * (total - wins - n + k + 1)));
    }
    const below = [];
    for (let w = 1; first > least && w > negligible; first--) {
      below.push(w *= first * (total - wins - n + first) / ((wins - first + 1) * (n - first + 1)));
    }
    const all = [...below.reverse(), ...weights];
    let left = u * all.reduce((sum, w) => sum + w, 0), i = 0;
    while (i < all.length - 1 && left > all[i]) left -= all[i++];
    return first + i;
  }

  // One cell at another n and alpha. A code is the lost draws of a right guess, -1 - them of a wrong one,
  // null if stopped. A victim's seed starts its generator, and every point takes one number: the same one
  // in every cell and at every n.
  function certify(cell, n, alpha) {
    const known = new Map();
    const result = {k: [], radius: [], probit: [], abstention: 0, stopped: 0};
    const points = cell.codes.length * cell.index.length;
    for (const [victim, codes] of cell.codes.entries()) {
      const uniform = generator(cell.seeds[victim]), k = [], radius = [], probit = [];
      for (const code of codes) {
        const u = uniform(), right = code !== null && code >= 0;
        const kept = code === null ? null : hypergeometric(cell.n, cell.n - (right ? code : -1 - code), n, u);
        if (kept === null) result.stopped += 1 / points;
        else if (!known.has(kept)) {
          const p = lowerBound(kept, n, alpha);
          const radius = p > 0.5 ? cell.sigma * normalQuantile(p) : 0;
          known.set(kept, {sure: p > 0.5, radius, probit: normalQuantile((kept + 0.5) / (n + 1))});
        }
        if (kept !== null && !known.get(kept).sure) result.abstention += 1 / points;
        k.push(kept);
        radius.push(right ? known.get(kept).radius : 0);
        probit.push(right ? known.get(kept).probit : -Infinity);
      }
      result.k.push(k);
      result.radius.push(radius);
      result.probit.push(probit);
    }
    return result;
  }

  const mean = (values) => values.reduce((sum, v) => sum + v, 0) / values.length;
  // Variance of the mean of independent values.
  function meanVariance(values) {
    const centre = mean(values);
    return mean(values.map((v) => (v - centre) ** 2)) / (values.length - 1);
  }
  function interval(values) {  // mean and half of its 95 % t interval; NaN for a single value
    const half = values.length < 2 ? NaN : tQuantile(0.975, values.length - 1) * Math.sqrt(meanVariance(values));
    return {mean: mean(values), half};
  }
  // Over victims; radii are (seeds, points).
  const acr = (radius) => interval(radius.map(mean));
  const share = (row, at) => row.filter((r) => r > 0 && r >= at).length / row.length;
  const accuracy = (radius, at) => interval(radius.map((row) => share(row, at)));

  // study.intervals.paired_drop of two radii, (seeds, points) of the same seeds and points.
  function pairedDrop(clean, poisoned) {
    const base = mean(clean.map(mean)), ratio = mean(poisoned.map(mean)) / base;
    const influence = poisoned.map((row, s) => row.map((r, p) => (r - ratio * clean[s][p]) / base));
    const columns = influence[0].map((_, p) => influence.map((row) => row[p]));
    const seeds = influence.length, points = columns.length;
    const vSeeds = meanVariance(influence.map(mean)), vPoints = meanVariance(columns.map(mean));
    const variance = vSeeds + vPoints;
    const squares = vSeeds ** 2 / (seeds - 1) + vPoints ** 2 / (points - 1);
    const freedom = variance > 0 ? variance ** 2 / squares : 1;
    const halfSeeds = tQuantile(0.975, seeds - 1) * Math.sqrt(vSeeds);
    const half = Math.max(halfSeeds, tQuantile(0.975, freedom) * Math.sqrt(variance));
    return {drop: 1 - ratio, halfSeeds, half};
  }

  return {lowerBound, normalQuantile, generator, hypergeometric, certify, acr, accuracy, pairedDrop};
})();
