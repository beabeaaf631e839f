"use strict";
// Rows, points and single rows are asked of the server page by page. What the data holds only ever becomes text.
(() => {
  const element = (id) => document.getElementById(id);
  const FILTERS = ["hard", "noise", "origin", "cluster", "source_label"];
  const HARD = "#d1582f", EASY = "#3a83c5", GREY = "#7d8590";
  const marked = new Set();
  let chosen = null; // numbers inside the lasso
  let about = null;
  let table = null;

  const ask = async (name, body) => {
    const answer = await fetch(`/api/${name}`, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
    });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    return found;
  };

  const query = () => {
    const asked = {};
    for (const name of FILTERS) {
      const value = element(name).value;
      if (value) asked[name] = name === "hard" || name === "noise" ? value === "true" : value;
    }
    if (element("search").value.trim()) asked.search = element("search").value.trim();
    if (chosen) asked.numbers = chosen;
    return asked;
  };

  const number = (value) => value === null ? "–" : Number(value).toPrecision(4);

  const addText = (parent, tag, text, kind) => {
    const made = document.createElement(tag);
    made.textContent = text;
    if (kind) made.className = kind;
    parent.append(made);
    return made;
  };

  const texts = (parent, row) => {
    row.cells.forEach((text, k) => {
      if (text === null) return;
      addText(parent, "h3", about.columns[k]);
      addText(parent, "pre", text).dir = "auto";
    });
  };

  const showRow = async (n) => {
    const { row, parent, losses } = await ask("row", { n });
    const detail = element("detail");
    detail.textContent = "";
    addText(detail, "h2", row.example_id);
    const side = row.hard === null ? "not judged" : row.hard ? "hard" : "easy";
    const noise = row.noise ? ", loss stays high" : "";
    addText(detail, "p", `${side}, difficulty ${number(row.difficulty)}, ${row.origin}${noise}`, row.hard ? "hard" : "easy");
    const mark = addText(detail, "button", marked.has(row.example_id) ? "Unmark this row" : "Mark this row");
    mark.addEventListener("click", () => { toggle(row.example_id); mark.textContent = marked.has(row.example_id) ? "Unmark this row" : "Mark this row"; });
    if (losses) {
      const curve = addText(detail, "div", "");
      curve.id = "curve";
      draw(curve, [{ type: "scatter", mode: "lines+markers", x: about.steps, y: losses, line: { color: row.hard ? HARD : EASY },
        hovertemplate: "step %{x}: %{y:.3f} nats per token<extra></extra>" }], "optimizer step", "loss (nats per token)");
    }
    const pair = addText(detail, "div", "", parent ? "pair" : "");
    if (parent) {
      const before = addText(pair, "div", "");
      addText(before, "h2", `from ${parent.example_id}`);
      texts(before, parent);
    }
    const own = addText(pair, "div", "");
    if (parent) addText(own, "h2", row.origin === "duplicate" ? "the copy" : "the new row");
    texts(own, row);
    detail.dataset.n = n;
  };

  const draw = (place, data, x, y, more) => Plotly.newPlot(place, data, {
    xaxis: { title: { text: x }, automargin: true, ...(more || {}) }, yaxis: { title: { text: y }, automargin: true },
    margin: { l: 45, r: 8, t: 8, b: 40 }, font: { size: 11 }, legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
    dragmode: "lasso", hovermode: "closest", paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
  }, { displayModeBar: false, responsive: true });

  const showPoints = async () => {
    const asked = query();
    delete asked.numbers; // the plot stays as it is while some of it is listed
    const points = await ask("points", { query: asked });
    const clouds = [["easy", false, EASY], ["hard", true, HARD]].map(([name, hard, color]) => {
      const part = points.filter((point) => Boolean(point[3]) === hard);
      return { type: "scatter", mode: "markers", name, x: part.map((p) => p[1]), y: part.map((p) => p[2]),
        customdata: part.map((p) => p[0]), marker: { color, size: 5, opacity: 0.6 },
        hovertemplate: "%{x} tokens, difficulty %{y:.3f}<extra></extra>" };
    });
    const place = element("points");
    await draw(place, clouds, "completion tokens (log scale)", "difficulty", { type: "log" });
    place.removeAllListeners?.("plotly_click");
    place.on("plotly_click", (event) => showRow(event.points[0].customdata));
    place.on("plotly_selected", (event) => {
      if (!event || !event.points.length) return;
      choose(event.points.map((point) => point.customdata));
    });
  };

  const choose = (numbers) => {
    chosen = numbers;
    element("unselect").hidden = !numbers;
    table.setData();
  };

  const toggle = (identity) => {
    if (!marked.delete(identity)) marked.add(identity);
    showMarked();
    table.getRows().forEach((row) => row.reformat());
  };

  const showMarked = () => {
    element("marked").textContent = `${marked.size.toLocaleString("en")} marked`;
    element("export").disabled = element("unmark").disabled = !marked.size;
  };

  const changed = () => { chosen = null; element("unselect").hidden = true; table.setData(); showPoints(); };

  const start = async () => {
    about = await ask("about", {});
    for (const name of ["origin", "cluster", "source_label"]) {
      const select = element(name);
      for (const { value, rows } of about.facets[name]) {
        if (value === null) continue;
        const option = addText(select, "option", `${value} (${rows.toLocaleString("en")})`);
        option.value = value;
      }
      select.parentElement.hidden = select.options.length < 3;
    }
    element("noise").parentElement.hidden = !about.noise;
    const plain = (cell) => { const made = document.createElement("span"); made.textContent = cell.getValue() ?? ""; return made; };
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
      { title: "hard", field: "hard", width: 84, formatter: (cell) => cell.getValue() ? "hard" : cell.getValue() === null ? "" : "easy" },
      { title: "tokens", field: "tokens", width: 100 },
      { title: "origin", field: "origin", width: 105, formatter: plain },
      ...about.columns.map((name, k) => ({ title: "", titleFormatter: () => {
        const made = document.createElement("span"); made.textContent = name; return made;
      }, field: `text_${k}`, minWidth: 150, formatter: plain })),
    ];
    table = new Tabulator("#rows", {
      layout: "fitColumns", columns, pagination: true, paginationMode: "remote", paginationSize: 50,
      paginationSizeSelector: [25, 50, 100, 200], sortMode: "remote", ajaxURL: "/api/rows", placeholder: "No row is left by these filters.",
      ajaxRequestFunc: async (url, config, asked) => {
        const sorter = asked.sort && asked.sort[0];
        const field = sorter ? sorter.field : null;
        const found = await ask("rows", { query: query(), page: asked.page, size: asked.size, descending: sorter ? sorter.dir === "desc" : false,
          sort: field && field.startsWith("text_") ? about.columns[Number(field.slice(5))] : field });
        element("total").textContent = `${found.total.toLocaleString("en")} of ${about.rows.toLocaleString("en")}`;
        found.data.forEach((row) => row.cells.forEach((text, k) => { row[`text_${k}`] = text; }));
        return { data: found.data, last_page: found.last_page, last_row: found.total };
      },
    });
    table.on("rowClick", (event, row) => showRow(row.getData().n));
    table.on("tableBuilt", () => { document.body.dataset.ready = "yes"; });
    await showPoints();
  };

  let waiting = null;
  element("search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(changed, 250); });
  FILTERS.forEach((name) => element(name).addEventListener("change", changed));
  element("filters").addEventListener("submit", (event) => event.preventDefault());
  element("filters").addEventListener("reset", () => setTimeout(changed));
  element("unselect").addEventListener("click", () => choose(null));
  element("unmark").addEventListener("click", () => { marked.clear(); showMarked(); table.getRows().forEach((row) => row.reformat()); });
  element("export").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([[...marked].join("\n") + "\n"], { type: "text/plain" }));
    link.download = "ids.txt";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  start().catch((error) => { element("total").textContent = String(error.message); });
})();
