"use strict";
// The gallery of samples: what is asked, what is taught, and what else the image holds.
(() => {
  const data = JSON.parse(document.getElementById("payload").textContent);
  const form = document.getElementById("filters");
  const { h, area, count } = boxrl;
  const COLOURS = 6;  // style.css has them as c0 to c5

  const name = (box) => data.labels[box[4]];
  const fact = (sample, key) => (sample.facts.find((pair) => pair[0] === key) || ["", ""])[1];
  const counted = (sample) => sample.targets.filter((box) => !box[5]);
  const askedFor = (sample) => sample.question || sample.asked.map((label) => data.labels[label]).join("; ");

  const KINDS = {
    boxes: (sample) => counted(sample).length > 0,
    negative: (sample) => sample.negative === 1,
    crowd: (sample) => [...sample.targets, ...sample.others].some((box) => box[5]),
    others: (sample) => sample.others.length > 0,
  };

  function passes(sample) {
    const boxes = [...sample.targets, ...sample.others];
    if (form.kind.value && !KINDS[form.kind.value](sample)) return false;
    if (form.task.value && sample.task !== form.task.value) return false;
    if (form.label.value !== "") {
      const label = Number(form.label.value);
      if (!sample.asked.includes(label) && !boxes.some((box) => box[4] === label)) return false;
    }
    if (form.size.value && !boxrl.hasSize(boxes, form.size.value)) return false;
    const find = form.find.value.trim().toLowerCase();
    return !find || [sample.id, fact(sample, "image"), sample.question || ""].some((text) => text.toLowerCase().includes(find));
  }

  const least = (sample) => Math.min(Infinity, ...counted(sample).map(area));
  const ORDERS = {
    file: () => 0,
    most: (a, b) => counted(b).length - counted(a).length,
    fewest: (a, b) => counted(a).length - counted(b).length,
    small: (a, b) => (least(a) === least(b) ? 0 : least(a) - least(b)),
    long: (a, b) => b.gold.length - a.gold.length,
  };

  function choose() {
    const shown = data.samples.map((_, number) => number).filter((number) => passes(data.samples[number]));
    shown.sort((a, b) => ORDERS[form.sort.value](data.samples[a], data.samples[b]) || a - b);
    document.getElementById("count").textContent =
      `${count(shown.length)} of ${count(data.samples.length)} samples`;
    show([["", shown]]);
  }

  // One colour for each label of the sample, in the order in which it asks for them.
  function colour(sample, box) {
    const place = sample.asked.indexOf(box[4]);
    return `c${(place < 0 ? sample.asked.length : place) % COLOURS}`;
  }

  function scene(sample) {
    const url = sample.picture === undefined ? null : data.pictures[sample.picture];
    const names = (box) => (box[5] ? "crowd k-crowd" : colour(sample, box));
    return boxrl.scene(sample, url, [
      ...sample.others.map((box) => [box, "target"]),
      ...sample.targets.map((box) => [box, names(box)]),
    ], sample.targets.map((box) => [box, names(box), name(box), box[5] ? `crowd: ${name(box)}` : name(box)]));
  }

  function summary(sample) {
    if (sample.negative) return "None: nothing of it is in the image";
    const counts = new Map();
    for (const box of counted(sample)) counts.set(name(box), (counts.get(name(box)) || 0) + 1);
    const parts = [...counts].map(([label, count]) => `${count} ${label}`);
    const crowd = sample.targets.length - counted(sample).length;
    if (crowd) parts.push(`${crowd} crowd region${crowd > 1 ? "s" : ""}`);
    return parts.join(", ") || sample.task;
  }

  function card(number) {
    const sample = data.samples[number];
    return h("button", { type: "button", className: "card", "aria-label": `Open ${sample.id}` },
      h("div", { className: "panes" }, h("div", { className: "pane" }, scene(sample))),
      h("div", { className: "asked", dir: "auto" }, h("span", null, "asked: "), askedFor(sample)),
      h("div", { className: "caption" }, h("div", { dir: "auto" }, h("b", null, sample.id), h("span", null, summary(sample)))));
  }

  function boxTable(sample) {
    const lines = [
      ...sample.targets.map((box) => [box, box[5] ? "crowd region" : "target", box[5] ? "k-crowd" : colour(sample, box)]),
      ...sample.others.map((box) => [box, box[5] ? "crowd region, not asked for" : "not asked for", "k-missed"]),
    ];
    if (!lines.length) return h("p", { className: "note" }, "No boxes.");
    const head = h("thead", null, h("tr", null, ...["Label", "What", "Area (px²)", "x1, y1, x2, y2 (px)"].map((text) => h("th", { scope: "col" }, text))));
    const body = h("tbody", null, ...lines.map(([box, what, names]) => h("tr", null,
      h("th", { scope: "row", dir: "auto" }, name(box)),
      h("td", { className: names }, h("span", { className: "swatch" }), what),
      h("td", null, count(Math.round(area(box)))), h("td", null, box.slice(0, 4).map((x) => Math.round(x)).join(", ")))));
    return h("div", { className: "scroll" }, h("table", null, head, body));
  }

  function detail(number) {
    const sample = data.samples[number];
    const facts = sample.facts.map(([key, value]) => h("div", null, h("dt", null, key), h("dd", { dir: "auto" }, value)));
    return [
      sample.id,
      h("p", { className: "note", dir: "auto" }, "asked: ", askedFor(sample)),
      h("div", { className: "pair" },
        h("div", null, h("div", { className: "pane" }, scene(sample)), h("dl", { className: "facts" }, ...facts)),
        h("div", null, boxTable(sample),
          h("h3", null, "Gold answer"), h("pre", { tabIndex: 0, dir: "auto" }, sample.gold))),
      h("h3", null, "Prompt"), h("pre", { tabIndex: 0, dir: "auto" }, data.prompt.join(sample.prompt)),
    ];
  }

  boxrl.fillLabels(form.label, data.samples.flatMap((sample) =>
    [...sample.asked, ...[...sample.targets, ...sample.others].map((box) => box[4])]), data.labels);
  const { show, openLinked } = boxrl.gallery({
    card,
    fill: detail,
    link: (number) => `#sample=${encodeURIComponent(data.samples[number].id)}`,
    find: (address) => data.samples.findIndex((sample) => sample.id === address.get("sample")),
  });
  boxrl.filters(form, ["kind", "task", "label", "size", "find"], choose)();
  openLinked();
})();
