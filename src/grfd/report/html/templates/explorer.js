"use strict";
(() => {
  const { explorer, sprite, charts } = JSON.parse(document.getElementById("data").textContent);

  // --- charts -------------------------------------------------------------------------------------------------------
  const drawn = charts.map(({ place, spec }) => {
    const element = document.getElementById(place);
    const described = { ...spec, description: element.dataset.title };
    const options = {
      ast: true, actions: false, renderer: "svg", defaultStyle: false, mode: "vega-lite",
      tooltip: { disableDefaultStyle: true },
    };
    return window.vegaEmbed(element, described, options).catch((error) => console.error(place, error));
  });
  const ready = (what) => document.documentElement.setAttribute(`data-${what}`, "ready");
  Promise.all(drawn).then(() => ready("charts"));
  if (!explorer.examples || !explorer.examples.length || !explorer.cases.length) return;

  // --- what is shown ------------------------------------------------------------------------------------------------
  const PAGE = 48;
  const FIELDS = ["run", "model", "protocol", "threat", "attack"];
  const TITLES = { run: explorer.runs, model: explorer.titles, attack: explorer.attacks };
  const OUTCOMES = {
    all: "all", fooled: "fooled by the attack", withstands: "withstands the attack",
    wrong: "wrong without an attack", missing: "not attacked",
  };
  const [channels, height, width] = explorer.size;
  const select = (name) => document.getElementById(`by-${name}`);
  const make = (tag, text = "", name = "") => {
    const element = document.createElement(tag);
    element.textContent = text;
    if (name) element.className = name;
    return element;
  };
  const className = (number) => {
    if (number === null || number === undefined) return "not judged";
    if (number < 0) return "no answer";
    return explorer.classes[number] ?? (number === explorer.classes.length ? "rejected" : String(number));
  };
  const outcomeOf = (one, place) => {
    const label = explorer.labels[place];
    if (one.after[place] === undefined) return "missing";
    if (one.before[place] !== label) return "wrong";
    return one.after[place] === label ? "withstands" : "fooled";
  };
  const marginOf = (one, place) => one.margins?.[place] ?? explorer.models[one.of].margins?.[place] ?? null;
  document.documentElement.style.setProperty("--aspect", `${width} / ${height}`);

  let current = explorer.cases[0];
  let shown = PAGE;
  let listed = [];
  let opened = null;

  // --- pictures -----------------------------------------------------------------------------------------------------
  const sheet = new Image();
  let whole = null;
  const tile = (number) => {
    const columns = explorer.columns;
    const left = width * (number % columns), top = height * Math.floor(number / columns);
    return whole.getImageData(left, top, width, height).data;
  };
  const paint = (canvas, value) => {
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    for (let place = 0; place < image.data.length; place += 4) {
      for (let colour = 0; colour < 3; colour += 1) image.data[place + colour] = value(place + colour);
      image.data[place + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  };
  const blank = (label) => {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
    return canvas;
  };
  const has = (tiles, place) => whole !== null && tiles && tiles[place] >= 0;
  const attacked = (one, place) => {
    const clean = tile(explorer.tiles[place]), change = tile(one.tiles[place]);
    return clean.map((value, index) => (value + change[index]) & 255);
  };

  // --- filters ------------------------------------------------------------------------------------------------------
  const fill = (element, values, title) => {
    element.replaceChildren(...values.map((value) => {
      const option = make("option", title(value));
      option.value = String(value);
      return option;
    }));
    element.parentElement.hidden = values.length < 2;
  };
  const prepareFilters = () => {
    for (const name of FIELDS) {
      const values = [...new Set(explorer.cases.map((one) => one[name]))];
      fill(select(name), values, (value) => (TITLES[name] ? TITLES[name][value] : value) ?? String(value));
    }
    const present = [...new Set(explorer.labels)].sort((a, b) => a - b);
    fill(select("class"), ["all", ...present], (value) => (value === "all" ? "all" : className(value)));
    const short = explorer.cases.some((one) => one.after.length < explorer.examples.length);
    fill(select("outcome"), Object.keys(OUTCOMES).filter((name) => short || name !== "missing"), (name) => OUTCOMES[name]);
    const orders = { index: "number of the example", near: "distance, smallest first", far: "distance, largest first" };
    if (explorer.models.some((model) => model.margins)) {
      orders.close = "margin, smallest first";
      orders.wide = "margin, largest first";
    }
    fill(select("order"), Object.keys(orders), (name) => orders[name]);
  };
  const showFilters = () => { for (const name of FIELDS) select(name).value = String(current[name]); };
  // the case with the wanted value that agrees in most of the other fields with the present one
  const nearest = (name, value) => {
    const fitting = explorer.cases.filter((one) => String(one[name]) === value);
    const agreement = (one) => FIELDS.filter((field) => one[field] === current[field]).length;
    return fitting.reduce((best, one) => (agreement(one) > agreement(best) ? one : best));
  };
  const ORDERS = {
    index: (place) => explorer.examples[place],
    near: (place) => current.distances[place] ?? Infinity,
    far: (place) => -(current.distances[place] ?? -Infinity),
    close: (place) => marginOf(current, place) ?? Infinity,
    wide: (place) => -(marginOf(current, place) ?? -Infinity),
  };
  const list = () => {
    const label = select("class").value, outcome = select("outcome").value, key = ORDERS[select("order").value];
    listed = explorer.labels.map((_, place) => place)
      .filter((place) => label === "all" || String(explorer.labels[place]) === label)
      .filter((place) => outcome === "all" || outcomeOf(current, place) === outcome);
    const keys = new Map(listed.map((place) => [place, key(place)]));
    listed.sort((a, b) => (keys.get(a) === keys.get(b) ? a - b : keys.get(a) < keys.get(b) ? -1 : 1));
  };

  // --- the list -----------------------------------------------------------------------------------------------------
  const address = (place) => {
    const words = new URLSearchParams({ example: explorer.examples[place] });
    for (const name of FIELDS) words.set(name, current[name]);
    return `#${words}`;
  };
  const card = (place) => {
    const item = make("li"), link = make("a");
    link.href = address(place);
    const number = explorer.examples[place], outcome = outcomeOf(current, place);
    if (has(explorer.tiles, place)) {
      const canvas = blank(`Picture of example ${number}`);
      const pixels = has(current.tiles, place) ? attacked(current, place) : tile(explorer.tiles[place]);
      paint(canvas, (index) => pixels[index]);
      link.append(canvas);
    }
    const word = { fooled: "✗ fooled", withstands: "✓ withstands", wrong: "✗ wrong", missing: "not attacked" }[outcome];
    const kind = outcome === "withstands" ? "mark right" : outcome === "missing" ? "mark" : "mark fooled";
    link.append(make("div", `${number}: ${className(explorer.labels[place])} → ${className(current.after[place])}`), make("div", word, kind));
    if (place === opened) link.setAttribute("aria-current", "true");
    item.append(link);
    return item;
  };
  const show = () => {
    list();
    const total = listed.length, part = Math.min(shown, total);
    document.getElementById("count").textContent = total
      ? `${total.toLocaleString("en")} of ${explorer.labels.length.toLocaleString("en")} examples, ${part.toLocaleString("en")} shown`
      : "No example has these properties.";
    document.getElementById("examples").replaceChildren(...listed.slice(0, shown).map(card));
    document.getElementById("more").hidden = shown >= total;
  };

  // --- one example --------------------------------------------------------------------------------------------------
  const picture = (title, canvas) => {
    const figure = make("figure");
    figure.append(canvas, make("figcaption", title));
    return figure;
  };
  const plain = (title, number) => {
    const canvas = blank(title), pixels = tile(number);
    paint(canvas, (index) => pixels[index]);
    return picture(title, canvas);
  };
  const pictures = (place) => {
    const box = make("div", "", "pictures"), model = explorer.models[current.of];
    if (!has(explorer.tiles, place)) return box;
    box.append(plain("x, the clean image", explorer.tiles[place]));
    if (has(current.tiles, place)) {
      const clean = tile(explorer.tiles[place]), pixels = attacked(current, place);
      const title = "x′, the adversarial image", canvas = blank(title);
      paint(canvas, (index) => pixels[index]);
      let largest = 1;
      for (let index = 0; index < pixels.length; index += 1) {
        if (index % 4 !== 3) largest = Math.max(largest, Math.abs(pixels[index] - clean[index]));
      }
      const factor = 127 / largest, words = `x′ − x, amplified ${factor.toFixed(1)} times; grey means no change`;
      const difference = blank(words);
      paint(difference, (index) => 128 + factor * (pixels[index] - clean[index]));
      box.append(picture(title, canvas), picture(words, difference));
    }
    const range = model.signed ? " (black −1, white 1)" : "";
    if (has(model.seen, place)) box.append(plain(`what the classifier sees of x${range}`, model.seen[place]));
    if (has(current.seen, place)) box.append(plain(`what the classifier sees of x′${range}`, current.seen[place]));
    return box;
  };
  const answer = (title, predicted, top, place) => {
    const box = make("div");
    box.append(make("h4", title));
    const right = predicted === explorer.labels[place];
    box.append(make("p", `Predicted: ${className(predicted)} (${right ? "correct" : "wrong"})`, right ? "right" : "fooled"));
    if (!top) return box;
    const bars = make("ol");
    for (let rank = 0; rank < top.length; rank += 2) {
      const line = make("li"), bar = make("div", "", "bar"), inner = make("span");
      bar.setAttribute("aria-hidden", "true");
      inner.style.setProperty("--share", `${top[rank + 1] / 10}%`);
      bar.append(inner);
      line.append(make("span", className(top[rank])), bar, make("span", `${(top[rank + 1] / 10).toFixed(1)} %`));
      bars.append(line);
    }
    box.append(bars);
    return box;
  };
  const steps = (place) => {
    const box = make("p", "", "steps"), here = listed.indexOf(place);
    for (const [word, other] of [["Previous example", listed[here - 1]], ["Next example", listed[here + 1]]]) {
      const button = make("button", word);
      button.type = "button";
      button.disabled = here < 0 || other === undefined;
      button.addEventListener("click", () => { location.hash = address(other); });
      box.append(button);
    }
    return box;
  };
  const facts = (place) => {
    const about = [`True class: ${className(explorer.labels[place])}`];
    const distance = current.distances[place];
    if (distance !== undefined) about.push(`length of the perturbation (${current.measure}): ${distance}`);
    const margin = marginOf(current, place);
    if (margin !== null) about.push(`margin: ${margin.toFixed(3)}`);
    return make("p", `${about.join("; ")}.`);
  };
  const everywhere = (place) => {
    const box = make("details"), table = make("table"), head = make("tr");
    box.append(make("summary", "This example under every attack"));
    for (const title of ["model", "protocol", "threat model", "attack", "prediction", "outcome"]) {
      const cell = make("th", title);
      cell.scope = "col";
      head.append(cell);
    }
    table.append(head);
    for (const one of explorer.cases) {
      const line = make("tr"), outcome = outcomeOf(one, place);
      const run = explorer.runs.length > 1 ? ` (${explorer.runs[one.run]})` : "";
      const words = [explorer.titles[one.model] + run, one.protocol, one.threat, explorer.attacks[one.attack], className(one.after[place])];
      line.append(...words.map((word) => make("td", word)), make("td", OUTCOMES[outcome], outcome === "withstands" ? "right" : "fooled"));
      table.append(line);
    }
    const scroll = make("div", "", "scroll");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", "This example under every attack");
    scroll.append(table);
    box.append(scroll);
    return box;
  };
  const open = (place, move) => {
    opened = place;
    const box = document.getElementById("example"), model = explorer.models[current.of];
    const where = `${explorer.titles[current.model]}, ${current.protocol}, ${current.threat}, ${explorer.attacks[current.attack]}`;
    const title = make("h3", `Example ${explorer.examples[place]}: ${where}`);
    title.id = "example-title";
    const answers = make("div", "", "answers");
    answers.append(
      answer("Clean image", current.before[place], model.top?.[place], place),
      answer("Under attack", current.after[place], current.top?.[place], place),
    );
    box.replaceChildren(title, facts(place), pictures(place), answers, steps(place), everywhere(place));
    box.hidden = false;
    if (move) {
      box.scrollIntoView({ block: "start" });
      box.focus({ preventScroll: true });
    }
  };
  const follow = (move) => {
    const words = new URLSearchParams(location.hash.slice(1));
    const place = explorer.examples.indexOf(Number(words.get("example") ?? NaN));
    if (place < 0) return;
    const named = explorer.cases.find((one) => FIELDS.every((name) => !words.has(name) || String(one[name]) === words.get(name)));
    if (named) current = named;
    showFilters();
    opened = place;
    show();
    open(place, move);
  };

  // --- start --------------------------------------------------------------------------------------------------------
  const start = () => {
    prepareFilters();
    showFilters();
    document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
    document.getElementById("filters").addEventListener("change", (event) => {
      if (FIELDS.includes(event.target.name)) current = nearest(event.target.name, event.target.value);
      showFilters();
      shown = PAGE;
      show();
      if (opened !== null) open(opened, false);
    });
    document.getElementById("more").addEventListener("click", () => {
      const before = shown;
      shown += PAGE;
      show();
      document.getElementById("examples").children[before]?.querySelector("a").focus();
    });
    window.addEventListener("hashchange", () => follow(true));
    show();
    follow(true);
    ready("explorer");
  };
  if (!sprite) {
    start();
  } else {
    sheet.addEventListener("load", () => {
      const canvas = document.createElement("canvas");
      canvas.width = sheet.naturalWidth;
      canvas.height = sheet.naturalHeight;
      whole = canvas.getContext("2d", { willReadFrequently: true });
      whole.drawImage(sheet, 0, 0);
      start();
    });
    sheet.addEventListener("error", start);
    sheet.src = sprite;
  }
})();
