"use strict";
// The gallery: filters, sorts and draws samples with their answers.
(() => {
  const data = JSON.parse(document.getElementById("payload").textContent);
  const form = document.getElementById("filters");
  const { h } = boxrl;
  const UNREADABLE = ["malformed", "missing"];

  for (const evaluation of data.evaluations) {
    for (const row of Object.values(evaluation.rows)) row.missed ||= [];  // left out where empty
  }
  const words = (kind) => kind.replace("_", " ");
  const view = () => data.views[form.view.value].map((number) => data.evaluations[number]);
  const judged = () => view().at(-1);  // filters and scores read the rightmost evaluation

  // ---- choosing ----

  const SIZES = { small: [0, 32 ** 2], medium: [32 ** 2, 96 ** 2], large: [96 ** 2, Infinity] };
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);

  function hasOutcome(row, outcome) {
    if (row.said !== undefined) return outcome === (row.score === 1 ? "faultless" : "mistake");
    const faulty = row.missed.length > 0 || row.boxes.some((box) => !["right", "crowd"].includes(box[5]));
    const unreadable = UNREADABLE.includes(row.status);
    if (outcome === "faultless") return !faulty && !unreadable;
    if (outcome === "mistake") return faulty || unreadable;
    if (outcome === "malformed") return unreadable;
    if (outcome === "missed") return row.missed.length > 0;
    if (outcome === "unasked") return row.boxes.some((box) => box[7]);
    return row.boxes.some((box) => box[5] === outcome);
  }

  const SCORES = { "0": (x) => x === 0, low: (x) => x < 0.5, high: (x) => x >= 0.5, "1": (x) => x === 1 };

  function passes(number, row) {
    const sample = data.samples[number];
    const boxes = [...sample.targets, ...row.boxes];
    if (form.outcome.value && !hasOutcome(row, form.outcome.value)) return false;
    if (form.score.value && !SCORES[form.score.value](row.score)) return false;
    if (form.label.value !== "") {
      const label = Number(form.label.value);
      if (!sample.asked.includes(label) && !boxes.some((box) => box[4] === label)) return false;
    }
    if (form.size.value) {
      const [low, high] = SIZES[form.size.value];
      if (!boxes.some((box) => low <= area(box) && area(box) < high)) return false;
    }
    const find = form.find.value.trim().toLowerCase();
    return !find || sample.id.toLowerCase().includes(find) || row.text.toLowerCase().includes(find);
  }

  function choose() {
    const rows = judged().rows;
    const before = view()[0].rows;
    const gain = (n) => rows[n].score - (before[n] ? before[n].score : rows[n].score);
    const orders = {
      worst: (a, b) => rows[a].score - rows[b].score,
      best: (a, b) => rows[b].score - rows[a].score,
      file: () => 0,
      gained: (a, b) => gain(b) - gain(a),
      lost: (a, b) => gain(a) - gain(b),
      long: (a, b) => (rows[b].tokens ?? 0) - (rows[a].tokens ?? 0),
    };
    const shown = Object.keys(rows).map(Number).filter((n) => passes(n, rows[n]));
    shown.sort((a, b) => orders[form.sort.value](a, b) || a - b);
    const total = Object.keys(rows).length.toLocaleString("en");
    document.getElementById("count").textContent =
      `${shown.length.toLocaleString("en")} of ${total} samples; filters and score (mean F1) read “${judged().title}”`;
    clear.hidden = FILTERS.every((name) => form[name].value.trim() === "");
    show(shown);
  }

  // ---- drawing ----

  function card(number) {
    const sample = data.samples[number];
    const rows = view().map((evaluation) => evaluation.rows[number]);
    return h("button", { type: "button", className: "card", "aria-label": `Open ${sample.id}` },
      h("div", { className: "panes" }, ...rows.map((row) => h("div", { className: "pane" }, scene(sample, row)))),
      h("div", { className: "asked", dir: "auto" }, h("span", null, "asked: "), askedFor(sample)),
      h("div", { className: "caption" }, ...rows.map((row, i) =>
        h("div", null, h("b", null, view()[i].title), h("span", null, summary(sample, row))))));
  }

  const askedFor = (sample) => sample.question || sample.asked.map((label) => data.labels[label]).join("; ");

  function summary(sample, row) {
    if (!row) return "no answer yet";
    if (UNREADABLE.includes(row.status)) return row.status;
    if (row.said !== undefined) return `${row.score === 1 ? "right" : "wrong"}: ${row.said}`;
    const counts = {};
    for (const box of row.boxes) counts[box[5]] = (counts[box[5]] || 0) + 1;
    if (row.missed.length) counts.missed = row.missed.length;
    const parts = Object.entries(counts).map(([kind, count]) => `${count} ${words(kind)}`);
    if (!parts.length) return "says None, rightly";
    return parts.join(", ");
  }

  function scene(sample, row) {
    const url = sample.picture === undefined ? null : data.pictures[sample.picture];
    const missed = row ? row.missed : [];
    const boxes = row ? row.boxes : [];
    const name = (box) => data.labels[box[4]];
    const told = (box, kind) => kind === "right" ? [name(box), name(box)] : [words(kind), `${words(kind)}: ${name(box)}`];
    return boxrl.scene(sample, url, [
      ...sample.targets.map((box, i) => [box, `target ${box[5] ? "crowd" : ""} ${missed.includes(i) ? "k-missed" : ""}`]),
      ...boxes.map((box) => [box, `k-${box[5]}`]),
    ], [
      ...boxes.map((box) => [box, `k-${box[5]}`, ...told(box, box[5])]),
      ...missed.map((i) => [sample.targets[i], "k-missed", ...told(sample.targets[i], "missed")]),
    ]);
  }

  // ---- one sample ----

  function detail(number) {
    const sample = data.samples[number];
    return [
      sample.id,
      h("p", { className: "note", dir: "auto" }, "asked: ", askedFor(sample)),
      h("div", { className: "pair" }, ...view().map((evaluation) => side(sample, evaluation, evaluation.rows[number]))),
      h("h4", null, "Prompt"), h("pre", { tabIndex: 0, dir: "auto" }, judged().prompt.join(judged().rows[number].prompt) || "(not known)"),
    ];
  }

  function side(sample, evaluation, row) {
    const root = h("div", null, h("h3", null, evaluation.title), h("div", { className: "pane" }, scene(sample, row)));
    if (!row) { root.append(h("p", { className: "note" }, "No answer yet.")); return root; }
    const facts = [`reads ${row.status}`, `mean F1 ${row.score.toFixed(3)}`, `${row.tokens?.toLocaleString("en") ?? "?"} tokens`];
    if (row.finish) facts.push(row.finish === "length" ? "cut at the length limit" : `failed: ${row.error || ""}`);
    root.append(h("p", { className: "note" }, facts.join(" · ")), boxTable(sample, row));
    root.append(h("h4", null, "Rewards"), rewardTable(row));
    root.append(h("h4", null, "Thinking"), h("pre", { tabIndex: 0, dir: "auto" }, row.think === undefined ? "(none)" : row.think || "(empty)"));
    root.append(h("h4", null, "Raw completion"), h("pre", { tabIndex: 0, dir: "auto" }, row.text || "(empty)"));
    return root;
  }

  function boxTable(sample, row) {
    if (row.said !== undefined) return h("p", { dir: "auto" }, `said ${row.said}, right is ${sample.answer}`);
    const lines = row.boxes.map((box) => [box, box[5], box[6] ? box[6].toFixed(2) : "–", box[7] ? " (on an unasked object)" : ""]);
    for (const i of row.missed) lines.push([sample.targets[i], "missed", "–", ""]);
    if (!lines.length) return h("p", { className: "note" }, "No boxes, and none was to be found.");
    const head = h("thead", null, h("tr", null, ...["Label", "Verdict", "IoU", "x1, y1, x2, y2 (px)"].map((name) => h("th", { scope: "col" }, name))));
    const body = h("tbody", null, ...lines.map(([box, kind, overlap, besides]) => h("tr", null,
      h("th", { scope: "row", dir: "auto" }, data.labels[box[4]]),
      h("td", { className: `k-${kind}` }, h("span", { className: "swatch" }), words(kind) + besides),
      h("td", null, overlap), h("td", null, box.slice(0, 4).map((x) => Math.round(x)).join(", ")))));
    return h("div", { className: "scroll" }, h("table", null, head, body));
  }

  function rewardTable(row) {
    const lines = data.rewards.map(([name, part, trained], i) => [name, part, trained, row.rewards[i]]);
    const known = lines.filter((line) => line[3] !== null);
    return h("dl", { className: "rewards" }, ...known.map(([name, part, trained, value]) =>
      h("div", { className: `${part ? "part" : ""} ${trained ? "trained" : ""}` },
        h("dt", { title: trained ? "trained on" : "" }, name), h("dd", null, value.toFixed(3)))));
  }

  // ---- events ----

  data.views.forEach((numbers, i) => form.view.append(
    h("option", { value: i }, numbers.map((number) => data.evaluations[number].title).join("  |  "))));
  const used = new Set(data.samples.flatMap((sample) => [...sample.asked, ...sample.targets.map((box) => box[4])]));
  [...used].sort((a, b) => data.labels[a].localeCompare(data.labels[b]))
    .forEach((label) => form.label.append(h("option", { value: label }, data.labels[label])));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", choose);
  const FILTERS = ["outcome", "label", "size", "score", "find"];
  const clear = document.getElementById("clear");
  clear.addEventListener("click", () => {
    FILTERS.forEach((name) => { form[name].value = ""; });
    choose();
  });
  if (view().length > 1) form.sort.value = "gained";  // what changed comes first
  const { show, openLinked } = boxrl.gallery(card, detail);
  choose();
  openLinked();
})();
