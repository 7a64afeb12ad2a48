"use strict";
const tip = document.getElementById("tip");

for (const area of document.querySelectorAll("[data-plot]")) {
  const plot = JSON.parse(area.dataset.plot);
  const svg = area.querySelector("svg");
  let cursor = null;
  const leave = () => {
    tip.hidden = true;
    if (cursor) cursor.remove();
    cursor = null;
  };
  area.addEventListener("pointermove", (event) => {
    const box = area.getBoundingClientRect();
    const at = plot.low + ((event.clientX - box.left) / box.width) * (plot.high - plot.low);
    let near = 0;
    plot.x.forEach((x, index) => {
      if (Math.abs(x - at) < Math.abs(plot.x[near] - at)) near = index;
    });
    const share = (plot.x[near] - plot.low) / (plot.high - plot.low);
    if (!cursor) {
      cursor = document.createElementNS("http://www.w3.org/2000/svg", "path");
      cursor.setAttribute("class", "cursor");
      svg.append(cursor);
    }
    cursor.setAttribute("d", `M${1000 * share} 0v1000`);
    const lines = plot.series
      .filter((each) => each.y[near] !== null)
      .map((each) => `${each.label ? each.label + "  " : ""}${each.y[near]}${plot.unit}`);
    tip.textContent = [`${plot.x[near]} s`, ...lines.reverse()].join("\n");
    tip.hidden = false;
    const left = window.scrollX + box.left + share * box.width + 12;
    const most = window.scrollX + document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.min(left, most)}px`;
    tip.style.top = `${window.scrollY + box.top + 4}px`;
  });
  area.addEventListener("pointerleave", leave);
  area.addEventListener("pointercancel", leave);
}

for (const row of document.querySelectorAll(".pictures")) {
  row.addEventListener("click", () => row.classList.toggle("large"));
}

for (const table of document.querySelectorAll(".sortable")) {
  let sorted = -1;
  let rising = false;
  table.tHead.addEventListener("click", (event) => {
    const heading = event.target.closest("th");
    if (!heading) return;
    let column = 0;
    for (const each of heading.parentElement.cells) {
      if (each === heading) break;
      column += each.colSpan;
    }
    rising = column === sorted ? !rising : true;
    sorted = column;
    const value = (row) => {
      const cell = row.cells[column];
      const text = cell.dataset.sort ?? cell.textContent.trim();
      const number = parseFloat(text);
      return Number.isNaN(number) ? text : number;
    };
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
      return rising ? order : -order;
    });
    table.tBodies[0].append(...rows);
  });
}
