"use strict";
// The rows that this page holds, compressed: a store as `browseRows` asks it, in memory. See curate/report/embedded_rows.py.
{
  const MOST_PER_PAGE = 500, MOST_POINTS = 3000, MOST_CURVES = 60, CELL_CHARACTERS = 300;

  const unpacked = async (element) => {
    const bytes = Uint8Array.from(atob(element.textContent.trim()), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return JSON.parse(await new Response(stream).text());
  };
  // A column is a list, or { values, codes }: a code is a position in the values, -1 is null.
  const column = (packed) => Array.isArray(packed) ? packed : packed.codes.map((code) => code < 0 ? null : packed.values[code]);
  // Where a conversation begins in a list: not with a system prompt, which many rows share.
  const said = (text) => text.replace(/^(system|developer): [^]*?\n\nuser: /, "user: ");
  // A sample that does not change: numbers in an order that has nothing to do with theirs.
  const sampled = (numbers, most) => {
    if (numbers.length <= most) return numbers;
    const key = (n) => Math.imul(n + 1, 2654435761) >>> 0;
    return numbers.slice().sort((a, b) => key(a) - key(b)).slice(0, most);
  };

  const embedded = (packed) => {
    const own = Object.fromEntries(Object.entries(packed.own).map(([name, values]) => [name, column(values)]));
    const cells = packed.cells.map(column);
    const count = packed.place.length;
    const place = packed.place; // of the row that each was made from, in `losses`; -1: none
    const CHOICES = ["origin", "cluster", "source_label"];
    const numberOf = new Map();
    for (let n = 0; n < count; n += 1) numberOf.set(own.example_id[n], n);
    const lossesOf = (n) => {
      const k = packed.steps.length, from = place[n] * k;
      return k && place[n] >= 0 ? packed.losses.slice(from, from + k) : null;
    };

    const fits = (query) => {
      const tests = [];
      for (const name of ["hard", "reducible", "noise"]) if (name in query) tests.push((n) => Boolean(own[name][n]) === query[name]);
      for (const name of CHOICES) if (query[name] !== undefined) tests.push((n) => own[name][n] !== null && String(own[name][n]) === query[name]);
      if (query.numbers) { const chosen = new Set(query.numbers); tests.push((n) => chosen.has(n)); }
      if (query.ids) { const chosen = new Set(query.ids); tests.push((n) => chosen.has(own.example_id[n])); }
      if (query.search) {
        const wanted = query.search.toLowerCase();
        const holds = (text) => text !== null && text.toLowerCase().includes(wanted);
        tests.push((n) => holds(own.example_id[n]) || cells.some((column) => holds(column[n])));
      }
      const found = [];
      for (let n = 0; n < count; n += 1) if (tests.every((test) => test(n))) found.push(n);
      return found;
    };
    const row = (n, limit) => ({
      n, ...Object.fromEntries(Object.entries(own).map(([name, values]) => [name, values[n]])),
      cells: cells.map((values) => limit && values[n] !== null ? said(values[n]).slice(0, limit) : values[n]),
    });
    const facet = (values) => {
      const counts = new Map();
      values.forEach((value) => counts.set(value === null ? null : String(value), (counts.get(value === null ? null : String(value)) || 0) + 1));
      return [...counts].map(([value, rows]) => ({ value, rows })).sort((a, b) => b.rows - a.rows).slice(0, 200);
    };
    const trues = (values) => values.reduce((sum, value) => sum + (value ? 1 : 0), 0);

    return {
      about: async () => ({
        columns: packed.columns, steps: packed.steps, rows: count, hard: trues(own.hard), noise: trues(own.noise),
        reducible: own.reducible.every((value) => value === null) ? null : trues(own.reducible),
        facets: Object.fromEntries(CHOICES.map((name) => [name, facet(own[name])])),
      }),
      rows: async ({ query, page, size, sort, descending }) => {
        const found = fits(query);
        const values = sort && (packed.columns.includes(sort) ? cells[packed.columns.indexOf(sort)] : own[sort]);
        if (values) {
          const sign = descending ? -1 : 1;
          found.sort((a, b) => {
            const [left, right] = [values[a], values[b]];
            if (left === null || right === null) return (left === null) - (right === null) || a - b;
            return left < right ? -sign : left > right ? sign : a - b;
          });
        }
        const per = Math.max(1, Math.min(size, MOST_PER_PAGE)), from = per * Math.max(0, page - 1);
        return { total: found.length, last_page: Math.max(1, Math.ceil(found.length / per)),
          data: found.slice(from, from + per).map((n) => row(n, CELL_CHARACTERS)) };
      },
      points: async ({ query }) => {
        const drawn = fits(query).filter((n) => own.copy[n] === 0 && own.tokens[n] !== null && own.difficulty[n] !== null);
        return sampled(drawn, MOST_POINTS).map((n) => [n, own.tokens[n], own.difficulty[n], own.hard[n]]);
      },
      losses: async ({ query }) => sampled(fits(query).filter((n) => lossesOf(n)), MOST_CURVES).map((n) => [n, own.hard[n], lossesOf(n)]),
      ids: async ({ query }) => fits(query).map((n) => own.example_id[n]),
      row: async ({ n }) => {
        const found = row(n), from = numberOf.get(found.source_id);
        const other = found.copy || found.source_id !== found.example_id;
        const problem = packed.parents[found.source_id]; // where only new rows are in the result
        const stub = problem === undefined ? null : { example_id: found.source_id, cells: cells.map((_, k) => k === packed.problem ? problem : null) };
        return { row: found, parent: other && from !== undefined ? row(from) : stub, losses: lossesOf(n), losses_of: found.source_id };
      },
      numberAt: (position) => { for (let n = 0; n < count; n += 1) if (place[n] === position && own.example_id[n] === own.source_id[n]) return n; return null; },
    };
  };

  const start = async () => {
    const packed = document.getElementById("packed-rows");
    const store = embedded(await unpacked(packed));
    packed.remove();
    const { showRow } = await browseRows(store);
    // A point of the section on difficulty and length opens its row here.
    document.getElementById("plot-lengths")?.on?.("plotly_click", (event) => {
      const n = store.numberAt(event.points[0].customdata);
      if (n === null) return;
      showRow(n);
      document.getElementById("detail").scrollIntoView({ block: "center" });
    });
  };
  if (document.getElementById("packed-rows")) {
    start().catch((error) => { document.getElementById("total").textContent = `The rows cannot be shown: ${error.message}`; });
  }
}
