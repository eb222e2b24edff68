"use strict";
// What pages of images share: scenes with boxes, cards, and a dialog that steps through them.
// Text of models and of data reaches a page as text nodes only.
const boxrl = (() => {
  const PAGE = 12;
  const MAX_CHIPS = 8;  // in a card; more would hide the scene

  function h(tag, props, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(props || {})) {
      if (key === "style") Object.assign(element.style, value);
      else if (key in element) element[key] = value;
      else element.setAttribute(key, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  // boxes: [box, class names]; chips: [box, class name, text in a card, text in the dialog].
  function scene(sample, url, boxes, chips) {
    const place = (box) => ({
      left: `${100 * box[0] / sample.w}%`, top: `${100 * box[1] / sample.h}%`,
      width: `${100 * (box[2] - box[0]) / sample.w}%`, height: `${100 * (box[3] - box[1]) / sample.h}%`,
    });
    const root = h("div", { className: url ? "scene" : "scene blank", style: { aspectRatio: `${sample.w} / ${sample.h}` } });
    if (url) root.append(h("img", { src: url, alt: "", loading: url.startsWith("data:") ? "eager" : "lazy", decoding: "async" }));
    for (const [box, names] of boxes) root.append(h("div", { className: `box ${names}`, style: place(box) }));
    root.chips = chips;
    root.sample = sample;
    return root;
  }

  // Labels go where they cover no other label and stay inside: above, inside, below their box.
  function placeChips(root) {
    root.classList.add("placed");
    const width = root.clientWidth, height = root.clientHeight;
    if (!width) { root.classList.remove("placed"); return; }
    const sx = width / root.sample.w, sy = height / root.sample.h;
    const taken = [];
    const small = width < 260;  // a card shows what is wrong, the dialog also under which name
    if (small && root.chips.length > MAX_CHIPS) return;
    for (const [box, name, short, long] of root.chips) {
      const chip = h("span", { className: `chip ${name}`, dir: "auto" }, small ? short : long);
      root.append(chip);
      const w = chip.offsetWidth, tall = chip.offsetHeight;
      const x1 = box[0] * sx, x2 = box[2] * sx, y1 = box[1] * sy, y2 = box[3] * sy;
      const spots = [];
      for (const y of [y1 - tall, y2, y1 + 2, y2 - tall - 2]) for (const x of [x1, x2 - w]) spots.push([x, y]);
      for (let step = 1; step <= 4; step++) spots.push([x1, y2 + step * tall], [x1, y1 - (step + 1) * tall]);
      const inside = spots.map(([x, y]) => [
        Math.max(0, Math.min(x, width - w)), Math.max(0, Math.min(y, height - tall))]);
      const free = inside.find(([x, y]) => !taken.some((t) =>
        x < t[0] + t[2] && t[0] < x + w && y < t[1] + t[3] && t[1] < y + tall)) || inside[0];
      chip.style.left = `${free[0]}px`;
      chip.style.top = `${free[1]}px`;
      taken.push([free[0], free[1], w, tall]);
    }
  }

  // Cards of the chosen samples, and the dialog. `card` gives a sample's button, `fill` its title
  // and what stands in the dialog.
  function gallery(card, fill) {
    const cards = document.getElementById("cards");
    const more = document.getElementById("more");
    const dialog = document.getElementById("detail");
    let shown = [];  // numbers of the chosen samples, in order
    let drawn = 0;   // how many of them have a card
    let opened = -1; // place in `shown` of the sample in the dialog

    function show(numbers) {
      shown = numbers;
      drawn = 0;
      cards.replaceChildren();
      drawMore();
    }

    function drawMore() {
      const next = shown.slice(drawn, drawn + PAGE);
      cards.append(...next.map((number, i) => {
        const button = card(number), place = drawn + i;
        button.addEventListener("click", () => open(place));
        return button;
      }));
      drawn += next.length;
      more.hidden = drawn >= shown.length;
      cards.querySelectorAll(".scene:not(.placed)").forEach(placeChips);
    }

    function open(place) {
      opened = place;
      const [title, ...body] = fill(shown[place]);
      document.getElementById("detail-title").textContent = `${title} – ${place + 1} of ${shown.length}`;
      document.getElementById("detail-body").replaceChildren(...body);
      document.getElementById("previous").disabled = place === 0;
      document.getElementById("next").disabled = place === shown.length - 1;
      if (!dialog.open) dialog.showModal();
      history.replaceState(null, "", `#sample=${shown[place]}`);  // a link to this sample
      dialog.scrollTop = 0;
      dialog.querySelectorAll(".scene").forEach(placeChips);
    }

    // What the address names, once the first samples are shown.
    function openLinked() {
      const place = shown.indexOf(Number(location.hash.match(/^#sample=(\d+)$/)?.[1] ?? NaN));
      if (place >= 0) open(place);
    }

    more.addEventListener("click", drawMore);
    dialog.addEventListener("close", () => history.replaceState(null, "", "#gallery"));
    window.addEventListener("hashchange", openLinked);
    const step = (by) => { if (shown[opened + by] !== undefined) open(opened + by); };
    document.getElementById("previous").addEventListener("click", () => step(-1));
    document.getElementById("next").addEventListener("click", () => step(1));
    document.getElementById("close").addEventListener("click", () => dialog.close());
    const replaceChips = () => document.querySelectorAll(".scene").forEach((root) => {
      root.querySelectorAll(".chip").forEach((chip) => chip.remove());
      placeChips(root);
    });
    const wide = document.getElementById("wide");
    wide.addEventListener("click", () => {
      wide.setAttribute("aria-pressed", dialog.classList.toggle("wide"));
      replaceChips();
    });
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close();
      if (event.target.closest(".scene")) wide.click();
    });
    dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") step(-1);
      if (event.key === "ArrowRight") step(1);
      if (event.key === "f") wide.click();
    });
    let resizing = 0;
    window.addEventListener("resize", () => {
      clearTimeout(resizing);
      resizing = setTimeout(replaceChips, 150);
    });
    return { show, openLinked };
  }

  return { h, scene, gallery };
})();
