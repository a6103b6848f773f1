// What can be taken out of the page: any table as CSV, any chart as PNG. Nothing is asked of a server.
const Save = (() => {
  "use strict";
  const DENSITY = 2, MARGIN = 16;

  // A cell that a spreadsheet would take for a formula is quoted, as in tpubench show --csv.
  function quoted(value) {
    const safe = /^[=+\-@\t\r]/.test(value) && !Number.isFinite(Number(value)) ? `'${value}` : value;
    return /[",\n\r]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
  }
  const lines = (rows) => rows.map((row) => row.map(quoted).join(",")).join("\r\n");

  // The tables of a box; a strip that is only drawn has no column, a cost is the exact one.
  function csv(box) {
    const text = (cell) => (cell.dataset.usd || cell.textContent).replace(/\s+/g, " ").trim();
    const drawn = (cell) => !cell.classList.contains("axis");
    const tables = [...box.querySelectorAll("table")].filter((table) => table.tHead);
    const head = [...tables[0].tHead.rows[0].cells].filter(drawn).map((cell) => cell.textContent.trim());
    const rows = tables.flatMap((table) => [...table.tBodies[0].rows])
      .map((row) => [...row.cells].filter(drawn).map(text));
    return lines([head, ...rows]);
  }

  // The box as it is shown, folded parts aside: its markup and the page's style as an SVG picture,
  // which a canvas turns into points.
  async function png(box) {
    const copy = box.cloneNode(true);
    for (const part of copy.querySelectorAll("details, button, .saving, .vh, .readout")) part.remove();
    const frame = document.createElement("div");
    frame.append(copy);
    const width = Math.ceil(box.getBoundingClientRect().width);
    // As high as it is without what was left out.
    frame.setAttribute("style", `position:absolute;left:-9999px;width:${width}px`);
    document.body.append(frame);
    const height = Math.ceil(frame.getBoundingClientRect().height);
    frame.remove();
    const paper = getComputedStyle(document.body);
    frame.setAttribute("style", `width:${width}px;font:${paper.font};color:${paper.color};margin:0`);
    const style = document.createElement("style");
    style.textContent = document.querySelector("style").textContent;
    frame.prepend(style);
    const markup = new XMLSerializer().serializeToString(frame);
    const [wide, high] = [width + 2 * MARGIN, height + 2 * MARGIN];
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${wide}" height="${high}">`
      + `<foreignObject x="${MARGIN}" y="${MARGIN}" width="${width}" height="${height}">${markup}`
      + "</foreignObject></svg>";
    const image = new Image();
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [wide * DENSITY, high * DENSITY];
    const pen = canvas.getContext("2d");
    pen.fillStyle = paper.backgroundColor;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    return new Promise((done) => canvas.toBlob(done, "image/png"));
  }

  function file(name, blob) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    URL.revokeObjectURL(link.href);
  }

  function button(text, label, act) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.setAttribute("aria-label", label);
    made.addEventListener("click", act);
    return made;
  }
  for (const box of document.querySelectorAll("[data-save]")) {
    const name = box.dataset.save, said = box.dataset.saveLabel || name;
    const row = document.createElement("p");
    row.className = "saving";
    if (box.querySelector("table")) {
      row.append(button("CSV", `Save ${said} as CSV`, () => {
        file(`${name}.csv`, new Blob([csv(box)], { type: "text/csv" }));
      }));
    }
    row.append(button("PNG", `Save ${said} as a picture`, async () => file(`${name}.png`, await png(box))));
    box.append(row);
  }
  return { csv, file, lines, png, quoted };
})();
