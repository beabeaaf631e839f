"use strict";
// Draws the plotly figures of the tutorials, which stand in the page as JSON.
document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll(".figure")) {
    const figure = JSON.parse(element.querySelector("script").textContent);
    const text = getComputedStyle(document.body).color;
    const layout = {
      ...figure.layout, template: undefined, autosize: true, font: { color: text, size: 12 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    };
    for (const name of Object.keys(layout)) {
      if (/^[xy]axis/.test(name)) layout[name] = { ...layout[name], gridcolor: "rgba(128,128,128,.25)" };
    }
    if (!layout.height) layout.height = 400;
    element.textContent = "";
    Plotly.newPlot(element, figure.data, layout, { displayModeBar: false, responsive: true });
  }
});
