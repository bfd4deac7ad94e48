"use strict";
// The slider of a front: what every task gets at a preference, and how to use it.
(() => {
  const source = document.getElementById("pareto-front");
  const box = document.querySelector("[data-knobs]");
  if (!source || !box) return;
  const front = JSON.parse(source.textContent);
  const sliders = [...box.querySelectorAll("[data-knob]")];
  const find = (name) => box.querySelector(`[data-${name}]`);
  const line = front.names.length === 2;

  // Shares of the knobs: of two, one slider says both.
  function wanted() {
    const values = sliders.map((slider) => Number(slider.value) / 100);
    if (line) return [values[0], 1 - values[0]];
    const sum = values.reduce((a, b) => a + b, 0);
    return values.map((value) => (sum > 0 ? value / sum : 1 / values.length));
  }

  // The evaluated points around a preference, with their weights: two of a line, else the nearest one.
  function around(shares) {
    if (!line) {
      const distance = (point) => point.reduce((sum, share, k) => sum + (share - shares[k]) ** 2, 0);
      const nearest = front.preferences.reduce(
        (best, point, k) => (distance(point) < distance(front.preferences[best]) ? k : best), 0);
      return [[nearest, 1]];
    }
    const order = front.preferences.map((point, k) => [point[0], k]).sort((a, b) => a[0] - b[0]);
    const above = order.findIndex(([share]) => share >= shares[0]);
    if (above <= 0) return [[order[above === 0 ? 0 : order.length - 1][1], 1]];
    const [low, first] = order[above - 1];
    const [high, second] = order[above];
    const part = (shares[0] - low) / (high - low);
    return [[first, 1 - part], [second, part]];
  }

  const mixed = (values, points) => points.reduce(
    (sum, [k, part]) => (sum === null || values[k] === null ? null : sum + part * values[k]), 0);
  const written = (value) => {
    if (value === null) return "–";
    return (Math.abs(value) < 100 ? value.toFixed(4) : value.toPrecision(5)).replace("-", "−");
  };
  // Thousandths that sum to 1: what rounding leaves goes to the largest share.
  function rounded(shares) {
    const parts = shares.map((share) => Math.round(share * 1000));
    parts[shares.indexOf(Math.max(...shares))] += 1000 - parts.reduce((a, b) => a + b, 0);
    return parts.map((part) => part / 1000);
  }

  function place(meter, name, task, value, to = value) {
    const mark = meter.querySelector(`.${name}`);
    const at = (x) => Math.min(100, Math.max(0, (100 * (x - task.worst)) / (task.best - task.worst || 1)));
    mark.hidden = value === null || to === null;
    if (mark.hidden) return;
    mark.style.left = `${Math.min(at(value), at(to))}%`;
    if (name === "range") mark.style.width = `${Math.abs(at(to) - at(value))}%`;
  }

  function update() {
    const points = around(wanted());
    const shares = rounded(line ? wanted() : front.preferences[points[0][0]]);
    const named = front.names.map((name, k) => [name, shares[k]]);
    find("preference").textContent = `Preference: ${named.map(([name, share]) => `${name} ${share.toFixed(2)}`).join(", ")}`;
    front.tasks.forEach((task, t) => {
      const value = mixed(task.metric, points);
      const [low, high] = [mixed(task.low, points), mixed(task.high, points)];
      box.querySelector(`[data-value="${t}"]`).textContent = written(value);
      const meter = box.querySelector(`[data-meter="${t}"]`);
      place(meter, "range", task, low, high);
      place(meter, "here", task, value);
      place(meter, "equal", task, task.equal);
      place(meter, "alone", task, task.single);
      meter.setAttribute("aria-label", `${task.name}: ${written(value)}, equal weights ${written(task.equal)}`);
    });
    const dictionary = named.map(([name, share]) => `${JSON.stringify(name)}: ${share}`).join(", ");
    find("code").textContent = `manifold(inputs, {${dictionary}})`;
    const asked = named.map(([name, share]) => `${name}=${share}`).join(",");
    const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\"'\"'")}'`);
    find("command").textContent = `cotrain front ${front.folder} --preference ${quoted(asked)}`;
    const picture = document.querySelector('[data-figure="pareto"]');
    const { kind, marker } = front.picture;
    if (!picture || marker === null) return;
    const at = front.tasks.map((task) => mixed(task.metric, points));
    const places = front.tasks.map(
      (task, t) => (at[t] === null ? null : (at[t] - task.worst) / (task.best - task.worst || 1)));
    Plotly.restyle(picture, kind === "plane" ? { x: [[at[0]]], y: [[at[1]]] } : { y: [places] }, [marker]);
  }

  sliders.forEach((slider) => slider.addEventListener("input", update));
  document.addEventListener("figures-drawn", update);
  box.querySelectorAll("[data-copy]").forEach((button) => button.addEventListener("click", () => {
    const code = find(button.dataset.copy);
    getSelection().selectAllChildren(code);
    if (navigator.clipboard) navigator.clipboard.writeText(code.textContent).catch(() => {});
  }));
  update();
})();
