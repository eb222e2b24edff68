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

  const SIZES = { small: [0, 32 ** 2], medium: [32 ** 2, 96 ** 2], large: [96 ** 2, Infinity] };
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  const hasSize = (boxes, size) => boxes.some((box) => SIZES[size][0] <= area(box) && area(box) < SIZES[size][1]);
  const count = (number) => number.toLocaleString("en");

  // The named filters of a form: `choose` is called when one changes, and by the function returned;
  // a button empties them, and is there while one of them is set.
  function filters(form, names, choose) {
    const clear = document.getElementById("clear");
    const run = () => {
      clear.hidden = names.every((name) => form[name].value.trim() === "");
      choose();
    };
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", run);
    clear.addEventListener("click", () => {
      names.forEach((name) => { form[name].value = ""; });
      run();
    });
    return run;
  }

  function fillLabels(select, numbers, labels) {
    [...new Set(numbers)].sort((a, b) => labels[a].localeCompare(labels[b]))
      .forEach((label) => select.append(h("option", { value: label }, labels[label])));
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
  // All are written, then all measured, then all moved: a browser lays a page out once for that.
  function placeChips(roots) {
    const sized = [...roots].map((root) => [root, root.clientWidth, root.clientHeight]);
    const written = sized.filter(([, width]) => width).map(([root, width, height]) => {
      root.classList.add("placed");
      const small = width < 260;  // a card shows what is wrong, the dialog also under which name
      const hidden = width < 120 || (small && root.chips.length > MAX_CHIPS);
      const chips = (hidden ? [] : root.chips).map(([box, name, short, long]) =>
        [box, h("span", { className: `chip ${name}`, dir: "auto" }, small ? short : long)]);
      root.append(...chips.map(([, chip]) => chip));
      return [root, width, height, chips];
    });
    const measured = written.map(([root, width, height, chips]) =>
      [root, width, height, chips.map(([box, chip]) => [box, chip, chip.offsetWidth, chip.offsetHeight])]);
    for (const [root, width, height, chips] of measured) {
      const taken = [];
      for (const [box, chip, w, tall] of chips) {
        const [x, y] = findSpot(box, [width / root.sample.w, height / root.sample.h], [w, tall], [width, height], taken);
        chip.style.left = `${x}px`;
        chip.style.top = `${y}px`;
        taken.push([x, y, w, tall]);
      }
    }
  }

  // The first place at its box that is free, else the first.
  function findSpot(box, [sx, sy], [w, tall], [width, height], taken) {
    const x1 = box[0] * sx, x2 = box[2] * sx, y1 = box[1] * sy, y2 = box[3] * sy;
    const spots = [];
    for (const y of [y1 - tall, y2, y1 + 2, y2 - tall - 2]) for (const x of [x1, x2 - w]) spots.push([x, y]);
    for (let step = 1; step <= 4; step++) spots.push([x1, y2 + step * tall], [x1, y1 - (step + 1) * tall]);
    const inside = spots.map(([x, y]) => [
      Math.max(0, Math.min(x, width - w)), Math.max(0, Math.min(y, height - tall))]);
    return inside.find(([x, y]) => !taken.some((t) =>
      x < t[0] + t[2] && t[0] < x + w && y < t[1] + t[3] && t[1] < y + tall)) || inside[0];
  }

  // Cards in groups, and the dialog. Of a sample, `card` gives the button, `fill` what stands in
  // the dialog and `link` the address that opens it; `find` gives the sample of such an address.
  function gallery({ card, fill, link, find }) {
    const dialog = document.getElementById("detail");
    let shown = [];           // samples in the order of their cards
    let opened = [[], -1];    // those that the dialog steps through, and the place of the open one

    // groups: [title, samples, how many of them at first]; every one has its own button for more.
    function show(groups) {
      const filled = groups.filter(([, numbers]) => numbers.length);
      shown = filled.flatMap(([, numbers]) => numbers);
      const root = document.getElementById("cards");
      root.replaceChildren();
      for (const [title, numbers, first = PAGE] of filled) {
        if (title) root.append(h("h3", null, title));
        addCards(root, numbers, shown, first);
      }
    }

    function addCards(root, numbers, among, first, draw = card) {
      const grid = h("div", { className: "cards" });
      const more = h("button", { type: "button", className: "more" }, "Show more");
      let drawn = 0;
      const drawMore = (page) => {
        grid.append(...numbers.slice(drawn, drawn + page).map((number) => {
          const button = draw(number);
          button.addEventListener("click", () => open(among, among.indexOf(number)));
          return button;
        }));
        drawn += page;
        more.hidden = drawn >= numbers.length;
        placeChips(grid.querySelectorAll(".scene:not(.placed)"));
      };
      more.addEventListener("click", () => drawMore(PAGE));
      root.append(grid, more);
      drawMore(first);
    }

    function open(numbers, place) {
      opened = [numbers, place];
      const [title, ...body] = fill(numbers[place]);
      document.getElementById("detail-title").textContent = `${title} – ${place + 1} of ${numbers.length}`;
      document.getElementById("detail-body").replaceChildren(...body);
      document.getElementById("previous").disabled = place === 0;
      document.getElementById("next").disabled = place === numbers.length - 1;
      if (!dialog.open) dialog.showModal();
      document.getElementById("link").href = link(numbers[place]);
      history.replaceState(null, "", link(numbers[place]));
      dialog.scrollTop = 0;
      placeChips(dialog.querySelectorAll(".scene"));
    }

    // What the address names, even where the filters leave it out.
    function openLinked() {
      const number = find(new URLSearchParams(location.hash.slice(1)));
      if (number < 0) return;
      const place = shown.indexOf(number);
      if (place < 0) open([number], 0);
      else open(shown, place);
    }

    dialog.addEventListener("close", () => history.replaceState(null, "", "#gallery"));
    window.addEventListener("hashchange", openLinked);
    const step = (by) => {
      const [numbers, place] = opened;
      if (numbers[place + by] !== undefined) open(numbers, place + by);
    };
    document.getElementById("previous").addEventListener("click", () => step(-1));
    document.getElementById("next").addEventListener("click", () => step(1));
    document.getElementById("close").addEventListener("click", () => dialog.close());
    const replaceChips = () => {
      document.querySelectorAll(".chip").forEach((chip) => chip.remove());
      placeChips(document.querySelectorAll(".scene"));
    };
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
    return { show, addCards, openLinked };
  }

  return { h, scene, gallery, filters, fillLabels, hasSize, area, count };
})();
