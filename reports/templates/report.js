(() => {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const mouse = matchMedia("(hover: hover) and (pointer: fine)").matches;
  for (const box of document.querySelectorAll("[data-chart]")) {
    const { data, layout } = figures[box.dataset.chart];
    layout.dragmode = mouse ? "zoom" : false;
    // Labels at the points of a crowded chart would only cover each other on a phone.
    if (layout.meta.crowded && box.clientWidth < 560) {
      for (const trace of data) trace.mode = trace.mode.replace("+text", "");
    }
    const plot = document.createElement("div");
    plot.className = "plot";
    box.prepend(plot);
    box.classList.add("drawn");
    Plotly.newPlot(plot, data, layout, { displayModeBar: false, responsive: true });
  }
  const folded = [];
  addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details:not([open])")) {
      part.open = true;
      folded.push(part);
    }
  });
  addEventListener("afterprint", () => {
    for (const part of folded.splice(0)) part.open = false;
  });
})();
