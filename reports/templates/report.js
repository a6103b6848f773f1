(() => {
  "use strict";
  // A chart with marks: the arrow keys go from one to the next, and the line below says it.
  for (const area of document.querySelectorAll("[data-plane]")) {
    const marks = [...area.querySelectorAll("[data-hover]")];
    const readout = area.closest(".planebox").querySelector(".readout");
    let at = -1;
    const show = (index) => {
      if (at >= 0) marks[at].classList.remove("at-mark");
      at = index;
      if (at >= 0) marks[at].classList.add("at-mark");
      readout.textContent = at < 0 ? "" : marks[at].dataset.hover;
    };
    area.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step || !marks.length) return;
      event.preventDefault();
      show((at + step + marks.length) % marks.length);
    });
    area.addEventListener("pointerover", (event) => {
      const mark = event.target.closest("[data-hover]");
      if (mark) show(marks.indexOf(mark));
    });
    area.addEventListener("blur", () => show(-1));
  }
})();
