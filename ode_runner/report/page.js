"use strict";
// Tables that are sorted, filtered and searched by click, and curves that say what they are under the pointer.

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

const textOf = (cell) => cell.textContent.trim();

// What a cell is sorted by: the number that it shows, without its deviation, or its text.
function valueOf(cell) {
  const text = textOf(cell).replace(/,/g, "");
  const number = cell.classList.contains("number") ? parseFloat(text) : Number(text || "text");
  return Number.isNaN(number) ? textOf(cell) : number;
}

const isAbsent = (value) => value === "" || value === "-";
const isNumber = (value) => typeof value === "number";

function compare(a, b, sign) {
  if (isAbsent(a) || isAbsent(b)) return isAbsent(a) - isAbsent(b); // last, whichever way
  if (isNumber(a) !== isNumber(b)) return isNumber(b) - isNumber(a);
  return sign * (isNumber(a) ? a - b : a.localeCompare(b, undefined, { numeric: true }));
}

const BATCH = 60; // rows that a table is given at a time: the browser lays out what is near, and the rest as one scrolls

// Returns what brings a row into view.
function interactive(table, onChange) {
  const head = [...table.tHead.rows[0].cells];
  const rows = [...table.tBodies[0].rows];
  const columns = head.map((th, column) => ({
    th,
    values: rows.map((row) => valueOf(row.cells[column])),
    texts: rows.map((row) => textOf(row.cells[column])),
    isPlain: "plain" in th.dataset, // links and pictures
    fits: () => true, // by the number of a row
  }));
  const whole = rows.map((row) => row.textContent.toLowerCase());
  const body = table.tBodies[0];
  let order = [...rows.keys()];
  let left = []; // rows that fit and that the table has not been given yet
  const search = make("input", { type: "search", placeholder: "search: every word must occur" });
  const count = make("span", { className: "small count" });

  function show() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((row, i) => {
      row.hidden = !words.every((word) => whole[i].includes(word)) || !columns.every((column) => column.fits(i));
    });
    refill();
    count.textContent = `${body.rows.length + left.length} of ${rows.length}`;
    onChange();
  }

  function refill() {
    left = order.map((place) => rows[place]).filter((row) => !row.hidden);
    body.replaceChildren();
    extend(BATCH);
  }

  function extend(most) {
    body.append(...left.splice(0, most));
  }

  function sort({ th, values }) {
    const first = th.dataset.first || "ascending"; // of a measurement: the best first
    const other = first === "ascending" ? "descending" : "ascending";
    const direction = th.getAttribute("aria-sort") === first ? other : first;
    head.forEach((cell) => cell.removeAttribute("aria-sort"));
    th.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    order = [...rows.keys()].sort((a, b) => compare(values[a], values[b], sign));
    refill();
  }

  head.map((th) => th.offsetWidth).forEach((width, i) => { head[i].style.minWidth = `${width}px`; }); // of all rows
  const filters = make("tr", { className: "filters" });
  columns.forEach((column) => {
    const cell = make("th", { className: column.th.className });
    filters.append(cell);
    if (column.isPlain) return;
    const button = make("button", { type: "button", title: "sort" }, ...column.th.childNodes);
    button.addEventListener("click", () => sort(column));
    column.th.append(button);
    cell.append(filterBox(column, show));
  });
  table.tHead.append(filters);
  const frame = make("div", { className: "scroll" });
  table.replaceWith(make("p", { className: "tools" }, search, count), frame);
  frame.append(table);
  frame.addEventListener("scroll", () => {
    if (frame.scrollTop + 2 * frame.clientHeight > frame.scrollHeight) extend(BATCH);
  });
  window.addEventListener("beforeprint", () => extend(Infinity));
  search.addEventListener("input", show);
  show();
  return (row) => {
    if (left.includes(row)) extend(left.indexOf(row) + BATCH);
    row.scrollIntoView({ block: "center" });
  };
}

// A list of the texts where they are few, or else a field that takes a part of a text, or a bound such as < 0.1.
function filterBox(column, show) {
  const words = [...new Set(column.texts)];
  if (words.length < 2) return "";
  if (words.length <= 20 && !column.th.classList.contains("number")) {
    words.sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
    const list = make("select", { title: "show only" }, make("option", { value: "" }, "all"));
    list.append(...words.map((word) => make("option", { value: word }, word)));
    column.fits = (i) => !list.value || column.texts[i] === list.value;
    list.addEventListener("change", show);
    return list;
  }
  const numeric = column.values.some(isNumber);
  const box = make("input", { placeholder: numeric ? "< or >" : "part of it", title: numeric ? "< 0.1 or >= 90" : "" });
  let test = () => true;
  column.fits = (i) => test(column.values[i]);
  box.addEventListener("input", () => { test = numeric ? bound(box.value) : holds(box.value); show(); });
  return box;
}

const holds = (text) => (value) => String(value).toLowerCase().includes(text.toLowerCase());

function bound(text) {
  const found = text.match(/^\s*(<=?|>=?|=)?\s*([-+]?[\d.]+(?:e[-+]?\d+)?)\s*$/i);
  if (!found) return () => true;
  const limit = parseFloat(found[2]);
  const tests = { "<": (v) => v < limit, "<=": (v) => v <= limit, ">": (v) => v > limit, ">=": (v) => v >= limit };
  return tests[found[1]] || ((v) => v === limit);
}

// Curves of the runs that their table shows; `data` is what page_curves.py writes.
function curves(section, data, table, reveal) {
  const rows = [...table.tBodies[0].rows]; // before any sorting: in the order of data.runs
  const columns = [...table.tHead.rows[0].cells].map((th) => th.textContent);
  const words = rows.map((row) => [...row.cells].map((cell) => cell.textContent.trim()));
  const isFew = (column) => {
    const found = new Set(words.map((row) => row[column])).size;
    return found > 1 && found <= data.colours.length;
  };
  const colourable = columns.map((_, column) => column).filter((column) => column < data.colourable && isFew(column));
  const option = (value, text) => make("option", { value }, text);
  const scalar = make("select", { className: "scalar" }, ...data.scalars.map((item, i) => option(i, item.name)));
  const colour = make("select", { className: "colour" }, ...colourable.map((i) => option(i, columns[i])), option(-1, "nothing"));
  const log = make("input", { type: "checkbox" });
  const [drawing, over] = [make("canvas"), make("canvas")];
  const tip = make("div", { className: "tip", hidden: true });
  const keys = make("p", { className: "tools keys small" });
  const plot = make("div", { className: "plot" }, drawing, over, tip);
  section.append(
    make("p", { className: "tools" }, make("label", {}, "curves of ", scalar), make("label", {}, "colour by ", colour),
      make("label", {}, log, " logarithmic")),
    plot, keys,
  );
  const margin = { left: 70, right: 15, top: 10, bottom: 42 };
  let shown = []; // {row, x, y, px, py, colour}
  let axes;

  function colourOf(row, groups) {
    return groups ? data.colours[groups.indexOf(words[row][colour.value])] : data.colours[0];
  }

  function draw() {
    const groups = colour.value >= 0 ? [...new Set(words.map((row) => row[colour.value]))].sort() : null;
    keys.replaceChildren(...(groups || []).map((word, i) => {
      const key = make("span", {}, word);
      key.style.setProperty("--colour", data.colours[i]);
      return key;
    }));
    shown = data.scalars[scalar.value].curves
      .filter((curve) => !rows[curve.row].hidden)
      .map((curve) => ({ ...curve, colour: colourOf(curve.row, groups) }));
    axes = fit(shown, plot.clientWidth, plot.clientHeight, margin, log.checked);
    const pen = prepared(drawing, plot);
    drawAxes(pen, axes, margin, plot);
    pen.globalAlpha = shown.length > 60 ? 0.45 : 0.9;
    shown.forEach((curve) => {
      curve.px = curve.x.map(axes.x.place);
      curve.py = curve.y.map(axes.y.place);
      line(pen, curve, 1.4);
    });
    point(null);
  }

  function point(found) {
    const pen = prepared(over, plot);
    rows.forEach((row) => row.classList.remove("pointed"));
    tip.hidden = !found;
    if (!found) return;
    const { curve, i } = found;
    rows[curve.row].classList.add("pointed");
    line(pen, { ...curve, colour: "#000" }, 2.5);
    pen.beginPath();
    pen.arc(curve.px[i], curve.py[i], 4, 0, 7);
    pen.fill();
    tip.textContent = `${data.runs[curve.row]} · epoch ${short(curve.x[i])}: ${short(curve.y[i])}`;
    const left = Math.min(curve.px[i] + 12, plot.clientWidth - tip.offsetWidth - 4);
    Object.assign(tip.style, { left: `${Math.max(0, left)}px`, top: `${Math.max(0, curve.py[i] - 34)}px` });
  }

  function nearest(event) {
    const frame = plot.getBoundingClientRect();
    const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
    let [found, least] = [null, 30 ** 2]; // pixels
    for (const curve of shown) {
      for (let i = 0; i < curve.px.length; i++) {
        const [distance, share] = apart(curve, i, x, y);
        if (distance < least) [found, least] = [{ curve, i: share < 0.5 ? i : i + 1 }, distance];
      }
    }
    return found;
  }

  plot.addEventListener("mousemove", (event) => point(nearest(event)));
  plot.addEventListener("mouseleave", () => point(null));
  plot.addEventListener("click", (event) => {
    const found = nearest(event);
    if (found) reveal(rows[found.curve.row]);
  });
  scalar.addEventListener("change", () => { log.checked = data.scalars[scalar.value].log; draw(); });
  [colour, log].forEach((control) => control.addEventListener("change", draw));
  window.addEventListener("resize", draw);
  log.checked = data.scalars[0].log;
  return draw;
}

const short = (value) => (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)
  ? value.toExponential(2) : String(parseFloat(value.toPrecision(4))));

// How far a place is from the line between a point and the next, squared, and which share of it lies before the place.
function apart(curve, i, x, y) {
  const [x0, y0] = [curve.px[i], curve.py[i]];
  const [dx, dy] = [curve.px[i + 1] - x0, curve.py[i + 1] - y0];
  const along = ((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy);
  const share = Number.isFinite(along) ? Math.min(1, Math.max(0, along)) : 0; // 0 of the last point, or of a gap
  return [(x0 + (share && share * dx) - x) ** 2 + (y0 + (share && share * dy) - y) ** 2, share];
}

function prepared(canvas, plot) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = plot.clientWidth * scale; // which also clears it
  canvas.height = plot.clientHeight * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  return pen;
}

function line(pen, curve, width) {
  Object.assign(pen, { strokeStyle: curve.colour, fillStyle: curve.colour, lineWidth: width });
  pen.beginPath();
  curve.px.forEach((x, i) => (Number.isFinite(curve.py[i]) ? pen.lineTo(x, curve.py[i]) : undefined));
  pen.stroke();
  if (curve.px.length > 1 || !Number.isFinite(curve.py[0])) return;
  pen.arc(curve.px[0], curve.py[0], 2 * width, 0, 7); // a line through one point is not to be seen
  pen.fill();
}

// Where values stand on the drawing; on a logarithmic axis, those that are not above 0 stand nowhere.
function fit(shown, width, height, margin, isLog) {
  const range = (values) => {
    let [least, most] = [Infinity, -Infinity];
    for (const value of values) {
      if (Number.isFinite(value)) [least, most] = [Math.min(least, value), Math.max(most, value)];
    }
    if (least > most) return [0, 1];
    return least < most ? [least, most] : [least - 0.5, most + 0.5];
  };
  const scaled = isLog ? (value) => (value > 0 ? Math.log10(value) : NaN) : (value) => value;
  const x = range(shown.flatMap((curve) => curve.x));
  const y = range(shown.flatMap((curve) => curve.y.map(scaled)));
  const across = (width - margin.left - margin.right) / (x[1] - x[0]);
  const down = (height - margin.top - margin.bottom) / (y[1] - y[0]);
  return {
    x: { ticks: ticks(...x, x[1] >= 1 ? 1 : 0), place: (value) => margin.left + (value - x[0]) * across },
    y: {
      ticks: isLog ? powers(...y) : ticks(...y),
      place: (value) => height - margin.bottom - (scaled(value) - y[0]) * down,
    },
  };
}

function ticks(least, most, smallest = 0) {
  const rough = (most - least) / 6;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(smallest, [1, 2, 5, 10].find((factor) => factor * power >= rough) * power);
  const found = [];
  for (let i = Math.ceil(least / step); i * step <= most + step * 1e-9; i++) found.push(i * step);
  return found;
}

function powers(least, most) {
  if (most - least < 1) return ticks(10 ** least, 10 ** most).filter((value) => value > 0);
  const step = Math.ceil((most - least) / 8);
  const found = [];
  for (let i = Math.ceil(least); i <= most; i += step) found.push(10 ** i);
  return found;
}

function drawAxes(pen, axes, margin, plot) {
  const [width, height] = [plot.clientWidth, plot.clientHeight];
  Object.assign(pen, { font: "13px system-ui, sans-serif", fillStyle: "#444", strokeStyle: "#ddd", lineWidth: 1 });
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  axes.y.ticks.forEach((value) => {
    const y = axes.y.place(value);
    pen.strokeRect(margin.left, y, width - margin.left - margin.right, 0);
    pen.fillText(short(value), margin.left - 8, y);
  });
  pen.textAlign = "center";
  pen.textBaseline = "top";
  axes.x.ticks.forEach((value) => pen.fillText(short(value), axes.x.place(value), height - margin.bottom + 6));
  pen.fillText("epoch", (margin.left + width - margin.right) / 2, height - 18);
}

const tables = [...document.querySelectorAll("table")];
const runs = document.querySelector("#runs table");
const stored = document.querySelector("#curve-data");
let reveal; // known once the table is made, which draws the curves
const redraw = stored
  ? curves(document.querySelector("#curves"), JSON.parse(stored.textContent), runs, (row) => reveal(row)) : () => {};
tables.filter((table) => table !== runs).forEach((table) => interactive(table, () => {}));
reveal = interactive(runs, redraw);
