// The table of all figures: sorted by a heading, filtered by column and text, saved as CSV.
(() => {
  "use strict";
  const box = document.querySelector(".allfigures");
  if (!box) return;
  const table = box.querySelector("table"), body = table.tBodies[0];
  const rows = [...body.rows];
  const text = (row, column) => row.cells[column].textContent.trim();
  const exact = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    const number = Number(cell.textContent.replace(/,/g, ""));
    return cell.textContent.trim() && Number.isFinite(number) ? number : null;
  };

  const search = box.querySelector("[data-search]");
  const selects = [...box.querySelectorAll("[data-filter]")];
  const shown = () => rows.filter((row) => !row.hidden);
  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const fits = selects.every(
        (select) => !select.value || text(row, Number(select.dataset.filter)) === select.value,
      );
      const all = words.length ? row.textContent.toLowerCase() : "";
      row.hidden = !(fits && words.every((word) => all.includes(word)));
    }
    box.querySelector(".count").textContent =
      `${shown().length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} figures`;
  }
  for (const select of selects) {
    const column = Number(select.dataset.filter);
    const values = [...new Set(rows.map((row) => text(row, column)))].sort();
    select.append(...values.map((value) => {
      const option = document.createElement("option");
      option.value = option.textContent = value;
      return option;
    }));
    select.addEventListener("input", filter);
  }
  search.addEventListener("input", filter);

  const headings = [...table.tHead.rows[0].cells];
  function sort(column) {
    const heading = headings[column];
    const up = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of headings) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    const keyed = rows.map((row) => [exact(row, column), text(row, column), row]);
    keyed.sort(([a, s], [b, t]) => {
      if (a !== null && b !== null) return up ? a - b : b - a;
      if (a !== null || b !== null) return a !== null ? -1 : 1;
      return (up ? 1 : -1) * s.localeCompare(t);
    });
    rows.splice(0, rows.length, ...keyed.map(([, , row]) => row));
    body.append(...rows);
  }
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(column));
    heading.append(button);
  });

  function csv() {
    const names = headings.map((heading) => heading.textContent.trim());
    const lines = shown().map((row) => [...row.cells].map((cell) => cell.textContent.trim())
      .concat(row.cells[7].dataset.v ?? ""));
    return Save.lines([[...names, "Exact value"], ...lines]);
  }
  box.querySelector(".csv").addEventListener("click", () => {
    Save.file("figures.csv", new Blob([csv()], { type: "text/csv" }));
  });
  box.querySelector(".filters").hidden = false;
  box.figuresCsv = csv;
  filter();
})();
