"use strict";
// What browses rows: filters, a table, points, trajectories and texts. What the data holds only ever becomes text.
//
// It stands over a store that answers with promises:
//   about() -> { columns, facets, steps, rows, hard, noise, reducible }
//   rows({ query, page, size, sort, descending }) -> { data, total, last_page }
//   points({ query }) -> [[number, tokens, difficulty, hard]], losses({ query }) -> [[number, hard, [loss]]]
//   ids({ query }) -> [example_id], row({ n }) -> { row, parent, losses, losses_of }
const browseRows = async (store) => {
  const element = (id) => document.getElementById(id);
  const FLAGS = ["hard", "reducible", "noise"], CHOICES = ["origin", "cluster", "source_label"];
  const SELECTS = [...FLAGS, ...CHOICES, "only_marked"];
  const HARD = "#d1582f", EASY = "#3a83c5", GREY = "#7d8590";
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const touch = window.matchMedia("(pointer: coarse)").matches;
  const MOST_ASKED = 20000; // ids in one question
  const marked = new Set();
  let chosen = null; // numbers inside the lasso
  let open = null; // number of the row that is shown whole
  let table = null;

  const about = await store.about();

  const query = () => {
    const asked = {};
    for (const name of [...FLAGS, ...CHOICES]) {
      const value = element(name).value;
      if (value) asked[name] = FLAGS.includes(name) ? value === "true" : value;
    }
    if (element("search").value.trim()) asked.search = element("search").value.trim();
    if (element("only_marked").value) asked.ids = [...marked];
    if (chosen) asked.numbers = chosen;
    return asked;
  };

  const number = (value) => value === null || value === undefined ? "–" : Number(value).toPrecision(4);
  const counted = (value) => value.toLocaleString("en");

  // Characters that act instead of showing, such as bidirectional overrides, are spelled out.
  const visible = (text) => text.replace(/\r\n/g, "\n").replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (character) => {
    if ("\n\t\u200c\u200d".includes(character)) return character;
    const code = character.codePointAt(0);
    if (code < 0x20) return String.fromCodePoint(0x2400 + code);
    return `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });

  const addText = (parent, tag, text, kind) => {
    const made = document.createElement(tag);
    made.textContent = visible(String(text));
    if (kind) made.className = kind;
    parent.append(made);
    return made;
  };

  const addTexts = (parent, row) => {
    row.cells.forEach((text, k) => {
      if (text === null) return;
      addText(parent, "h3", about.columns[k]);
      addText(parent, "pre", text).dir = "auto";
    });
  };

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const draw = (place, data, x, y, more) => Plotly.newPlot(place, data, {
    xaxis: { title: { text: x }, automargin: true, gridcolor: style("--line"), linecolor: style("--line"), zeroline: false, ...(more || {}) },
    yaxis: { title: { text: y }, automargin: true, gridcolor: style("--line"), linecolor: style("--line"), zeroline: false },
    margin: { l: 45, r: 8, t: 8, b: 40 }, font: { size: 12, color: style("--text"), family: getComputedStyle(document.body).fontFamily },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
    hoverlabel: { bgcolor: style("--paper"), bordercolor: style("--line"), font: { color: style("--text") } },
    dragmode: touch ? false : "lasso", hovermode: "closest", paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
  }, { displayModeBar: false, responsive: true });

  const showRow = async (n) => {
    const { row, parent, losses, losses_of } = await store.row({ n });
    open = n;
    const detail = element("detail");
    detail.textContent = "";
    addText(detail, "h2", row.example_id);
    const side = row.hard === null ? "not judged" : row.hard ? "hard" : "easy";
    const kinds = [row.noise ? ", loss stays high" : "", row.hard && row.reducible === false ? ", not learned from the others" : ""];
    addText(detail, "p", `${side}, difficulty ${number(row.difficulty)}, ${row.origin}${kinds.join("")}`, row.hard ? "hard" : "easy");
    const says = () => marked.has(row.example_id) ? "Unmark this row" : "Mark this row";
    const mark = addText(detail, "button", says());
    mark.type = "button";
    mark.addEventListener("click", () => { toggle(row.example_id); mark.textContent = says(); });
    const pair = addText(detail, "div", "", parent ? "pair" : "");
    if (parent) {
      const before = addText(pair, "div", "");
      addText(before, "h2", `from ${parent.example_id}`);
      addTexts(before, parent);
    }
    const own = addText(pair, "div", "");
    if (parent) addText(own, "h2", row.origin === "duplicate" ? "the copy" : "the new row");
    addTexts(own, row);
    if (losses) {
      if (losses_of !== row.example_id) addText(detail, "p", `Losses are those of ${losses_of}, which it was made from.`, "note");
      const curve = addText(detail, "div", "");
      curve.id = "curve";
      draw(curve, [{ type: "scatter", mode: "lines+markers", x: about.steps, y: losses, line: { color: row.hard ? HARD : EASY },
        hovertemplate: "step %{x}: %{y:.3f} nats per token<extra></extra>" }], "optimizer step", "loss (nats per token)");
    }
    detail.dataset.n = n;
    table.getRows().forEach((each) => each.getElement().classList.toggle("open", each.getData().n === n));
    detail.scrollIntoView({ block: "nearest" });
  };

  // Ticks of a log axis, at least three between the extremes where there can be: as figures.py has them.
  const ticksBetween = (least, most) => {
    const powers = [...Array(9).keys()].map((power) => 10 ** power);
    const scales = [[1, 3], [1, 2, 5], [1, 2, 3, 4, 5, 6, 8]].map((digits) => powers.flatMap((power) => digits.map((digit) => digit * power)));
    const steps = Math.max(1, Math.floor((most - least) / 4));
    scales.push(Array.from({ length: Math.floor((most - least) / steps) + 1 }, (_, k) => least + k * steps));
    const chosen = scales.find((ticks) => ticks.filter((tick) => tick >= least && tick <= most).length >= 3) || scales.at(-1);
    return chosen.filter((tick) => tick >= least / 2 && tick <= most * 2);
  };

  const showPoints = async () => {
    const asked = query();
    delete asked.numbers; // the plot stays as it is while some of it is listed
    const points = await store.points({ query: asked });
    const clouds = [["easy", false, EASY, "square-open"], ["hard", true, HARD, "circle"]].map(([name, hard, color, symbol]) => {
      const part = points.filter((point) => Boolean(point[3]) === hard);
      return { type: "scatter", mode: "markers", name, x: part.map((p) => p[1]), y: part.map((p) => p[2]),
        customdata: part.map((p) => p[0]), marker: { color, size: 5, opacity: 0.6, symbol },
        hovertemplate: "%{x} tokens, difficulty %{y:.3f}<extra></extra>" };
    });
    const place = element("points");
    place.parentElement.hidden = !points.length; // new rows, for one, have no count of tokens
    if (!points.length) return;
    const lengths = points.map((point) => point[1]);
    const [least, most] = lengths.reduce(([low, high], each) => [Math.min(low, each), Math.max(high, each)], [Infinity, 0]);
    const ticks = ticksBetween(least, most);
    await draw(place, clouds, "completion tokens (log scale)", "difficulty", { type: "log", tickvals: ticks, ticktext: ticks.map(counted) });
    place.removeAllListeners?.("plotly_click");
    place.removeAllListeners?.("plotly_selected");
    place.on("plotly_click", (event) => showRow(event.points[0].customdata));
    place.on("plotly_selected", (event) => {
      if (!event || !event.points.length) return;
      choose(event.points.map((point) => point.customdata));
    });
  };

  const showCurves = async () => {
    if (!about.steps.length) return;
    element("trajectories_of_chosen").hidden = false;
    const asked = chosen ? { numbers: chosen } : marked.size ? { ids: [...marked].slice(0, MOST_ASKED) } : null;
    const found = asked ? await store.losses({ query: asked }) : [];
    const of = chosen ? `${counted(chosen.length)} rows inside the lasso` : `${counted(marked.size)} marked rows`;
    element("chosen").textContent = !asked ? "Those inside a lasso, or marked." : `${counted(found.length)} of ${of}.`;
    element("curves").hidden = !found.length;
    if (!found.length) return;
    const lines = found.map(([n, hard, losses]) => ({ type: "scatter", mode: "lines", x: about.steps, y: losses, customdata: losses.map(() => n),
      line: { color: hard ? HARD : hard === null ? GREY : EASY, width: 1.5 }, opacity: 0.7, showlegend: false,
      hovertemplate: `row ${n}, step %{x}: %{y:.3f} nats per token<extra></extra>` }));
    await draw(element("curves"), lines, "optimizer step", "loss (nats per token)");
    element("curves").removeAllListeners?.("plotly_click");
    element("curves").on("plotly_click", (event) => showRow(event.points[0].customdata));
  };

  const choose = (numbers) => {
    chosen = numbers;
    element("unselect").hidden = !numbers;
    table.setData();
    showCurves();
  };

  const toggle = (identity) => {
    if (!marked.delete(identity)) marked.add(identity);
    showMarked();
  };

  const showMarked = () => {
    element("marked").textContent = `${counted(marked.size)} marked`;
    element("only_marked").disabled = marked.size > MOST_ASKED;
    if (element("only_marked").disabled) element("only_marked").value = "";
    element("export").disabled = element("unmark").disabled = !marked.size;
    table.getRows().forEach((row) => row.reformat());
    if (element("only_marked").value) changed();
    else if (!chosen) showCurves();
  };

  const changed = () => {
    chosen = null;
    element("unselect").hidden = true;
    table.setData();
    showPoints();
    showCurves();
  };

  for (const name of CHOICES) {
    const select = element(name);
    for (const { value, rows } of about.facets[name]) {
      if (value === null) continue;
      const option = addText(select, "option", `${value} (${counted(rows)})`);
      option.value = value;
    }
    select.parentElement.hidden = select.options.length < 3;
  }
  element("noise").parentElement.hidden = !about.noise;
  element("reducible").parentElement.hidden = about.reducible === null;

  const plain = (cell) => { const made = document.createElement("span"); made.textContent = visible(String(cell.getValue() ?? "")); return made; };
  const named = (name) => () => { const made = document.createElement("span"); made.textContent = visible(name); return made; };
  const split = CHOICES.filter((name) => !element(name).parentElement.hidden && name !== "origin");
  const facts = [
    { title: "hard", field: "hard", width: 84, formatter: (cell) => cell.getValue() ? "hard" : cell.getValue() === null ? "" : "easy" },
    { title: "tokens", field: "tokens", width: 98, formatter: plain },
  ];
  const width = (k) => k ? 130 : window.innerWidth < 600 ? 170 : 260; // the first is what is read most
  const texts = about.columns.map((name, k) => ({ title: "", titleFormatter: named(name), field: `text_${k}`, minWidth: width(k), formatter: plain }));
  const columns = [
    { title: "✓", field: "example_id", headerSort: false, width: 42, formatter: (cell) => {
      const box = document.createElement("input");
      box.type = "checkbox"; box.checked = marked.has(cell.getValue()); box.setAttribute("aria-label", "mark");
      return box;
    }, cellClick: (event, cell) => { event.stopPropagation(); toggle(cell.getValue()); } },
    { title: "difficulty", field: "difficulty", width: 112, formatter: (cell) => {
      const made = document.createElement("span");
      made.textContent = number(cell.getValue()); made.className = cell.getData().hard ? "hard" : "easy";
      return made;
    } },
    ...(window.innerWidth < 600 ? [...texts, ...facts] : [...facts, ...texts]), // on a phone, what is read comes first
    { title: "origin", field: "origin", width: 105, formatter: plain },
    ...split.filter((name) => name === "cluster").map(() => ({ title: "cluster", field: "cluster", width: 98, formatter: plain })),
  ];
  const built = new Promise((resolve) => {
    table = new Tabulator("#rows", {
      layout: "fitColumns", columns, pagination: true, paginationMode: "remote", paginationSize: 50,
      paginationSizeSelector: [25, 50, 100, 200], sortMode: "remote", ajaxURL: "/api/rows", placeholder: "No row is left by these filters.",
      ajaxRequestFunc: async (url, config, asked) => {
        const sorter = asked.sort && asked.sort[0];
        const field = sorter ? sorter.field : null;
        const found = await store.rows({ query: query(), page: asked.page, size: asked.size, descending: sorter ? sorter.dir === "desc" : false,
          sort: field && field.startsWith("text_") ? about.columns[Number(field.slice(5))] : field });
        element("total").textContent = `${counted(found.total)} of ${counted(about.rows)} rows`;
        found.data.forEach((row) => row.cells.forEach((text, k) => { row[`text_${k}`] = text; }));
        return { data: found.data, last_page: found.last_page, last_row: found.total };
      },
    });
    table.on("rowClick", (event, row) => showRow(row.getData().n));
    table.on("dataProcessed", () => { table.getRows().forEach((row) => row.getElement().classList.toggle("open", row.getData().n === open)); });
    table.on("tableBuilt", () => { document.body.dataset.ready = "yes"; resolve(); });
  });

  let waiting = null;
  element("search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(changed, 250); });
  SELECTS.forEach((name) => element(name).addEventListener("change", changed));
  element("clear").addEventListener("click", () => {
    SELECTS.forEach((name) => { element(name).value = ""; });
    element("search").value = "";
    changed();
  });
  element("unselect").addEventListener("click", () => choose(null));
  element("unmark").addEventListener("click", () => { marked.clear(); showMarked(); });
  element("mark_all").addEventListener("click", async () => {
    (await store.ids({ query: query() })).forEach((identity) => marked.add(identity));
    showMarked();
  });
  element("export").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([[...marked].join("\n") + "\n"], { type: "text/plain" }));
    link.download = "ids.txt";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  dark.addEventListener("change", () => {
    showPoints();
    showCurves();
    if (open !== null) showRow(open);
  });
  await built;
  await showPoints();
  await showCurves();
  return { showRow };
};
