"use strict";
// Draws the plotly figures of the tutorials, which stand in the page as JSON, and keeps options on one line.
document.addEventListener("DOMContentLoaded", () => {
  for (const code of document.querySelectorAll("article :not(pre) > code")) {
    if (code.children.length) continue;
    const parts = code.textContent.split(/(--?[a-z][a-z-]*)/); // a browser breaks lines after dashes
    code.replaceChildren(...parts.map((part, k) => {
      if (k % 2 === 0) return part;
      const word = document.createElement("span");
      word.className = "word";
      word.textContent = part;
      return word;
    }));
  }
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
