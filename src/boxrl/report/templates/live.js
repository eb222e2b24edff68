"use strict";
// Load the page again when the run has changed, unless a sample is open; filters are kept.
(() => {
  const KEY = "boxrl-filters";
  const form = document.getElementById("filters");
  const kept = sessionStorage.getItem(KEY);
  if (form && kept) {
    for (const [name, value] of Object.entries(JSON.parse(kept))) {
      if (form.elements[name]) form.elements[name].value = value;
    }
    if (form.view.value === "") form.view.value = "0";
    form.dispatchEvent(new Event("input"));
  }
  let known = null;
  setInterval(async () => {
    try {
      const version = await (await fetch("/version", { cache: "no-store" })).text();
      known ??= version;
      if (version === known || document.querySelector("dialog[open]")) return;
      if (form) sessionStorage.setItem(KEY, JSON.stringify(Object.fromEntries(new FormData(form))));
      location.reload();
    } catch {
      document.title = `(stopped) ${document.title.replace("(stopped) ", "")}`;
    }
  }, 3000);
})();
