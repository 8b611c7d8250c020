"use strict";
// Everything here only adds to a page that is whole without it.
(() => {
  const all = (where, what) => Array.from(where.querySelectorAll(what));
  document.documentElement.classList.add("js");

  // Tables: a click on a title sorts (numbers by value, missing ones last), search and list narrow.
  const value = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    const text = cell.textContent.trim();
    return text === "" || text === "null" ? null : text;
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number"
    ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  const sort = (table, column, descending) => {
    const rows = all(table.tBodies[0], "tr").map((row, n) => [value(row, column), n, row]);
    rows.sort((a, b) => {
      if (a[0] === null || b[0] === null) return (a[0] === null) - (b[0] === null) || a[1] - b[1];
      return (descending ? -1 : 1) * compare(a[0], b[0]) || a[1] - b[1];
    });
    table.tBodies[0].append(...rows.map((row) => row[2]));
    all(table, "th").forEach((th, n) => {
      if (n === column) th.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
    });
  };
  for (const table of all(document, "table")) {
    all(table, "th").forEach((th, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...th.childNodes);
      th.append(button);
      button.addEventListener("click", () => {
        const before = th.getAttribute("aria-sort");
        sort(table, column, before ? before === "ascending" : th.classList.contains("n"));
      });
    });
    const tools = document.querySelector(`[data-for="${table.id}"]`);
    const search = tools.querySelector("input");
    const list = tools.querySelector("select");
    const narrow = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of all(table.tBodies[0], "tr")) {
        const text = row.textContent.toLowerCase();
        const fits = words.every((word) => text.includes(word)) &&
          (!list || !list.value || row.cells[Number(list.dataset.column)].textContent.trim() === list.value);
        row.hidden = !fits;
        shown += fits;
      }
      tools.querySelector("output").textContent = `${shown} of ${table.tBodies[0].rows.length}`;
    };
    search.addEventListener("input", narrow);
    if (list) list.addEventListener("change", narrow);
    narrow();
  }

  // Figures: what lies under the pointer or finger is said below.
  for (const figure of all(document, "figure")) {
    const readout = figure.querySelector(".readout");
    if (!readout) continue;
    const say = (event) => {
      const title = event.target.closest("[data-tip]")?.querySelector("title");
      if (title) readout.textContent = title.textContent;
    };
    figure.addEventListener("pointerover", say);
    figure.addEventListener("click", say);
  }

  // Timeline: wider in its own box; a bar has its name where there is room for it.
  for (const zoom of all(document, "[data-zoom]")) {
    const drawing = document.getElementById(zoom.dataset.zoom);
    const name = () => {
      for (const bar of all(drawing, ".bar")) {
        const box = bar.getBoundingClientRect();
        bar.classList.toggle("named", bar.querySelector("text").getComputedTextLength() + 8 < box.width);
      }
    };
    for (const button of all(zoom, "button")) {
      button.addEventListener("click", () => {
        drawing.style.width = `${100 * Number(button.value)}%`;
        for (const other of all(zoom, "button")) other.setAttribute("aria-pressed", other === button);
        name();
      });
    }
    addEventListener("resize", name);
    name();
  }

  // Photographs: from which score a box is shown.
  for (const slider of all(document, "input[type=range]")) {
    slider.addEventListener("input", () => {
      const least = Number(slider.value);
      let shown = 0;
      for (const box of all(document.getElementById(slider.dataset.photos), ".found > g")) {
        const fits = Number(box.dataset.score) >= least;
        box.classList.toggle("below", !fits);
        shown += fits;
      }
      slider.parentElement.querySelector("output").textContent = `${least.toFixed(2)}: ${shown} boxes`;
    });
  }

  // Paper has everything: folded parts open, hidden rows come back.
  let folded = [], hidden = [];
  addEventListener("beforeprint", () => {
    folded = all(document, "details:not([open])");
    folded.forEach((part) => { part.open = true; });
    hidden = all(document, "tr[hidden]");
    hidden.forEach((row) => { row.hidden = false; });
  });
  addEventListener("afterprint", () => {
    folded.forEach((part) => { part.open = false; });
    hidden.forEach((row) => { row.hidden = true; });
  });
})();
