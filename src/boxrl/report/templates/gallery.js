"use strict";
// The gallery: filters, sorts and draws samples with their answers.
(() => {
  const data = JSON.parse(document.getElementById("payload").textContent);
  const form = document.getElementById("filters");
  const { h, count } = boxrl;
  const UNREADABLE = ["malformed", "missing"];

  for (const evaluation of data.evaluations) {
    for (const row of Object.values(evaluation.rows)) row.missed ||= [];  // left out where empty
  }
  const words = (kind) => kind.replace("_", " ");
  const view = () => data.views[form.view.value].map((number) => data.evaluations[number]);
  const judged = () => view().at(-1);  // filters and scores read the rightmost evaluation

  // ---- choosing ----

  function hasOutcome(row, outcome) {
    if (outcome === "faultless") return row.ok === 1;
    if (outcome === "mistake") return row.ok !== 1;
    if (outcome === "malformed") return row.said === undefined && UNREADABLE.includes(row.status);
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
    if (form.size.value && !boxrl.hasSize(boxes, form.size.value)) return false;
    const find = form.find.value.trim().toLowerCase();
    return !find || sample.id.toLowerCase().includes(find) || row.text.toLowerCase().includes(find);
  }

  // What the rightmost evaluation gained on the leftmost: samples that it alone answers without
  // fault; lost ones the other way round. `by` is the change of mean F1.
  function change(number) {
    const [old, now] = [view()[0].rows[number], judged().rows[number]];
    if (view().length < 2 || !old) return null;
    const kind = old.ok === now.ok ? "same" : now.ok ? "gained" : "lost";
    return { kind, by: now.score - old.score };
  }

  const ORDERS = {
    worst: (a, b) => a.score - b.score,
    best: (a, b) => b.score - a.score,
    file: () => 0,
    long: (a, b) => (b.tokens ?? 0) - (a.tokens ?? 0),
  };

  function choose() {
    const rows = judged().rows;
    const numbers = Object.keys(rows).map(Number).filter((n) => passes(n, rows[n]));
    document.getElementById("count").textContent =
      `${count(numbers.length)} of ${count(Object.keys(rows).length)} samples; filters and score (mean F1) read “${judged().title}”`;
    form.sort.options[0].disabled = view().length < 2;
    if (form.sort.value === "change" && view().length < 2) form.sort.value = "worst";
    if (form.sort.value === "change") show(byChange(numbers));
    else show([["", numbers.sort((a, b) => ORDERS[form.sort.value](rows[a], rows[b]) || a - b)]]);
  }

  // Gains and losses apart, as the table of metrics counts them; the largest change first.
  function byChange(numbers) {
    const groups = { gained: [], lost: [], same: [] };
    for (const number of numbers) groups[change(number)?.kind || "same"].push(number);
    const size = (number) => Math.abs(change(number)?.by || 0);
    const last = judged().title;
    const changed = groups.gained.length + groups.lost.length;
    const first = changed ? 3 : undefined;
    return Object.entries({
      gained: `Gained: only “${last}” answers without fault`,
      lost: `Lost: only “${view()[0].title}” answers without fault`,
      same: "Neither gained nor lost",
    }).map(([kind, title]) => [
      `${title} (${count(groups[kind].length)})`, groups[kind].sort((a, b) => size(b) - size(a) || a - b), first]);
  }

  // ---- drawing ----

  function card(number) {
    const sample = data.samples[number];
    const rows = view().map((evaluation) => evaluation.rows[number]);
    const captions = rows.map((row, i) =>
      h("div", null, h("b", null, view()[i].title), h("span", null, summary(sample, row))));
    return h("button", { type: "button", className: "card", "aria-label": `Open ${sample.id}` },
      ...pictured(sample, rows, badge(number)), h("div", { className: "caption" }, ...captions));
  }

  // One of the first six: as small as it is clear.
  function smallCard(number) {
    const sample = data.samples[number];
    const rows = view().map((evaluation) => evaluation.rows[number]);
    const found = badge(number) || h("b", { className: "badge" }, `F1 ${judged().rows[number].score.toFixed(2)}`);
    return h("button", { type: "button", className: "card", "aria-label": `Open ${sample.id}` },
      ...pictured(sample, rows, found));
  }

  const pictured = (sample, rows, mark) => [
    h("div", { className: "panes" }, ...rows.map((row) => h("div", { className: "pane" }, scene(sample, row)))),
    h("div", { className: "asked", dir: "auto" }, mark, h("span", null, "asked: "), askedFor(sample)),
  ];

  function badge(number) {
    const found = change(number);
    if (!found) return null;
    const [sign, names] = found.by > 0 ? ["▲ +", "better"] : found.by < 0 ? ["▼ −", "worse"] : ["= ", ""];
    return h("b", { className: `badge ${names}` }, `${sign}${Math.abs(found.by).toFixed(2)} F1`);
  }

  // Six samples before everything else: what changed most, both ways; or from worst to best.
  function highlights() {
    const numbers = Object.keys(judged().rows).map(Number);
    const root = document.getElementById("highlights");
    root.className = view().length > 1 ? "" : "alone";
    let said = "From the worst answer to the best";
    let chosen = [];
    if (view().length > 1) {
      const changed = numbers.filter((n) => change(n)?.by).sort((a, b) => change(b).by - change(a).by);
      const lost = distinct(changed.filter((n) => change(n).by < 0).reverse(), 2).reverse();
      const gained = distinct(changed.filter((n) => change(n).by > 0), 6 - lost.length);
      chosen = [...gained, ...lost];
      said = `${view().map((one) => one.title).join(" | ")}: what changed most, ${gained.length} gains and ${lost.length} losses of mean F1`;
    } else {
      numbers.sort((a, b) => judged().rows[a].score - judged().rows[b].score || a - b);
      const places = [0, 1, 2, 3, 4, 5].map((i) => Math.round(i * (numbers.length - 1) / 5));
      chosen = [...new Set(places)].map((place) => numbers[place]);
    }
    document.getElementById("highlights-note").textContent = chosen.length ? said : "";
    addCards(root, chosen, chosen, 6, smallCard);
  }

  // The first so many, each under another question and at most one of them a negative, where there
  // are enough.
  function distinct(numbers, most) {
    const asked = new Map();
    for (const number of numbers) {
      const sample = data.samples[number];
      const question = sample.targets.length ? askedFor(sample) : "";
      if (!asked.has(question)) asked.set(question, number);
    }
    return [...new Set([...asked.values(), ...numbers])].slice(0, most);
  }

  const askedFor = (sample) => sample.question || sample.asked.map((label) => data.labels[label]).join("; ");

  function summary(sample, row) {
    if (!row) return "no answer yet";
    if (row.said !== undefined) return `${row.score === 1 ? "right" : "wrong"}: ${row.said}`;
    if (UNREADABLE.includes(row.status)) return row.status;
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
      h("p", { className: "note", dir: "auto" }, badge(number), "asked: ", askedFor(sample)),
      h("div", { className: "pair" }, ...view().map((evaluation) => side(sample, evaluation, evaluation.rows[number]))),
      h("h4", null, "Rewards"), rewardTable(view().map((evaluation) => evaluation.rows[number]).filter(Boolean)),
      h("h4", null, "Prompt"), h("pre", { tabIndex: 0, dir: "auto" }, judged().prompt.join(judged().rows[number].prompt) || "(not known)"),
    ];
  }

  function side(sample, evaluation, row) {
    const root = h("div", null, h("h3", null, evaluation.title), h("div", { className: "pane" }, scene(sample, row)));
    if (!row) { root.append(h("p", { className: "note" }, "No answer yet.")); return root; }
    const verdict = row.said === undefined ? [`reads ${row.status}`, `mean F1 ${row.score.toFixed(3)}`] : [summary(sample, row)];
    const facts = [...verdict, `${row.tokens?.toLocaleString("en") ?? "?"} tokens`];
    if (row.finish) facts.push(row.finish === "length" ? "cut at the length limit" : `failed: ${row.error || ""}`);
    root.append(h("p", { className: "note" }, facts.join(" · ")), boxTable(sample, row));
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
      h("td", { className: `k-${kind}` }, h("span", { className: "verdict" }, h("span", { className: "swatch" }), words(kind)), besides),
      h("td", null, overlap), h("td", null, box.slice(0, 4).map((x) => Math.round(x)).join(", ")))));
    return h("div", { className: "scroll" }, h("table", null, head, body));
  }

  // Every reward with its parts: one value for each answer, and what the last differs by.
  function rewardTable(rows) {
    const lines = data.rewards.map(([name, part, trained, meaning], i) => [name, part, trained, rows.map((row) => row.rewards[i]), meaning]);
    return h("dl", { className: "rewards" }, ...lines.filter((line) => !line[3].includes(null)).map(([name, part, trained, values, meaning]) => {
      const by = values.at(-1) - values[0];
      return h("div", { className: `${part ? "part" : ""} ${trained ? "trained" : ""}` },
        h("dt", { title: [meaning, trained ? "Trained on." : ""].join(" ").trim() }, name),
        h("dd", null, values.map((value) => value.toFixed(3)).join(" → "),
          by ? h("b", { className: by > 0 ? "better" : "worse" }, ` ${by > 0 ? "+" : "−"}${Math.abs(by).toFixed(3)}`) : null));
    }));
  }

  // ---- events ----

  data.views.forEach((numbers, i) => form.view.append(
    h("option", { value: i }, numbers.map((number) => data.evaluations[number].title).join("  |  "))));
  boxrl.fillLabels(form.label, data.samples.flatMap((sample) =>
    [...sample.asked, ...sample.targets.map((box) => box[4])]), data.labels);
  form.sort.value = "change";  // what changed comes first
  const { show, addCards, openLinked } = boxrl.gallery({
    card,
    fill: detail,
    link: (number) => `#${new URLSearchParams({ sample: data.samples[number].id, view: form.view.value })}`,
    find: (address) => {
      const known = [...form.view.options].some((option) => option.value === address.get("view"));
      if (known && address.get("view") !== form.view.value) {
        form.view.value = address.get("view");
        choose();
      }
      return data.samples.findIndex((sample, number) => sample.id === address.get("sample") && judged().rows[number]);
    },
  });
  const run = boxrl.filters(form, ["outcome", "label", "size", "score", "find"], choose);
  highlights();
  run();
  openLinked();
})();
