"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const touch = window.matchMedia("(pointer: coarse)").matches;
  const LIGHT = { text: "#1b1f24", grid: "#dfe3e8", paper: "#ffffff" };
  const DARK = { text: "#e4e7eb", grid: "#343b45", paper: "#1d2127" };
  const PRINT_WIDTH = 660; // what fits between the margins of A4 and Letter
  const font = { family: getComputedStyle(document.body).fontFamily, size: 13 };

  const colors = (theme) => ({
    "font.color": theme.text,
    "xaxis.gridcolor": theme.grid, "yaxis.gridcolor": theme.grid,
    "xaxis.linecolor": theme.grid, "yaxis.linecolor": theme.grid,
    "hoverlabel.bgcolor": theme.paper, "hoverlabel.bordercolor": theme.grid, "hoverlabel.font.color": theme.text,
  });
  const current = () => colors(dark.matches ? DARK : LIGHT);

  // Where there is little width, what would take much of it is drawn otherwise.
  const NARROW = 600;
  const fit = (element, figure) => {
    const narrow = element.clientWidth < NARROW;
    if (!figure.narrow || element.narrow === narrow) return;
    element.narrow = narrow;
    const usual = Object.fromEntries(Object.keys(figure.narrow).map((key) => [key, key === "annotations" ? [] : null]));
    Plotly.relayout(element, narrow ? figure.narrow : usual);
  };

  const drawn = [];
  for (const [name, figure] of Object.entries(figures)) {
    const element = document.getElementById(name);
    const layout = {
      ...figure.layout, font, autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      // On a touch screen a drag has to scroll the page.
      dragmode: touch ? false : "zoom",
    };
    Plotly.newPlot(element, figure.data, layout, { displayModeBar: false, responsive: true })
      .then(() => Plotly.relayout(element, current())).then(() => fit(element, figure));
    window.addEventListener("resize", () => fit(element, figure));
    drawn.push(element);
  }

  dark.addEventListener("change", () => drawn.forEach((element) => Plotly.relayout(element, current())));
  const closed = [...document.querySelectorAll("details[data-print]")].filter((element) => !element.open);
  window.addEventListener("beforeprint", () => {
    closed.forEach((element) => { element.open = true; });
    drawn.forEach((element) => Plotly.relayout(element, { ...colors(LIGHT), autosize: false, width: PRINT_WIDTH, height: Number(element.dataset.height) || 260 }));
  });
  window.addEventListener("afterprint", () => {
    closed.forEach((element) => { element.open = false; });
    drawn.forEach((element) => Plotly.relayout(element, { ...current(), autosize: true, width: null, height: null }));
  });
})();
