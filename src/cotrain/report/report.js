"use strict";
// Draws every picture of the page in the colours of the screen or of paper, and again when these change.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const figures = read("figures");
  const palettes = read("palettes");
  const places = [...document.querySelectorAll("[data-figure]")];
  const darkScreen = matchMedia("(prefers-color-scheme: dark)");
  const paperWidth = 680; // A4 between its margins, in CSS pixels
  const shown = {}; // figure -> number of the chosen view
  let onPaper = false;

  // A colour is written "@role" in a figure, so that one figure serves every palette.
  function paint(value, palette, key = "") {
    if (typeof value === "string") {
      return /color(scale)?$/.test(key) && value.startsWith("@") ? palette[value.slice(1)] : value;
    }
    if (Array.isArray(value)) {
      return /color|^(data|shapes)$/.test(key) ? value.map((item) => paint(item, palette, key)) : value;
    }
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, paint(item, palette, name)]));
  }

  function draw(place) {
    const name = place.dataset.figure;
    const palette = palettes[darkScreen.matches && !onPaper ? "dark" : "light"];
    const { data, layout } = paint({ data: figures[name].data, layout: figures[name].layout }, palette);
    const { height, min_width: narrowest, max_width: widest, views } = figures[name];
    const column = Number(place.dataset.columns || 1);
    const room = onPaper ? Math.floor(paperWidth / column) - 12 : place.parentElement.clientWidth;
    const width = Math.min(onPaper ? room : Math.max(room, narrowest), widest);
    const margin = layout.margin;
    if (views.length) data.forEach((trace, view) => { trace.visible = view === (shown[name] || 0); });
    Plotly.react(place, data, {
      paper_bgcolor: palette.page,
      plot_bgcolor: palette.page,
      hoverlabel: { bgcolor: palette.ink, font: { color: palette.page, size: 12 }, align: "left" },
      dragmode: false,
      ...layout,
      width,
      height: height || width - margin.l - margin.r + margin.t + margin.b,
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: palette.ink, ...layout.font },
    }, { displayModeBar: false, responsive: false });
  }

  const drawAll = () => {
    places.forEach(draw);
    document.dispatchEvent(new Event("figures-drawn")); // for what the reader has moved on a picture
  };
  drawAll();

  document.querySelectorAll("[data-views]").forEach((choice) => choice.addEventListener("change", (event) => {
    shown[choice.dataset.views] = Number(event.target.value);
    places.filter((place) => place.dataset.figure === choice.dataset.views).forEach(draw);
  }));

  let drawnWidth = window.innerWidth;
  window.addEventListener("resize", () => requestAnimationFrame(() => {
    if (onPaper || window.innerWidth === drawnWidth) return;
    drawnWidth = window.innerWidth;
    drawAll();
  }));
  const turn = (toPaper) => { onPaper = toPaper; drawAll(); };
  darkScreen.addEventListener("change", drawAll);
  window.addEventListener("beforeprint", () => turn(true));
  window.addEventListener("afterprint", () => turn(false));
})();
