"use strict";
(() => {
  const box = document.getElementById("explorer");
  if (!box) return;
  const list = box.querySelector(".problems");
  const all = Array.from(list.children);
  const get = (id) => document.getElementById("x-" + id);
  const words = new Map();
  const text = (item) => {
    if (!words.has(item)) words.set(item, item.textContent.toLowerCase());
    return words.get(item);
  };

  const filter = () => {
    const wanted = get("search").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const kind = get("verdict").value;
    const [group, value] = get("state").value.split(":");
    let count = 0;
    for (const item of all) {
      const fits =
        wanted.every((word) => text(item).includes(word)) &&
        (!kind || item.dataset.kinds.split(" ").includes(kind)) &&
        (!group || item.dataset[group] === value);
      item.hidden = !fits;
      count += fits;
      if (!fits) continue;
      for (const sample of item.querySelectorAll(".sample")) {
        sample.hidden = Boolean(kind) && sample.dataset.kind !== kind;
      }
    }
    get("count").textContent = count + " of " + all.length + " problems";
  };

  const orders = {
    given: () => 0,
    fewest: (a, b) => a.dataset.share - b.dataset.share,
    most: (a, b) => b.dataset.share - a.dataset.share,
    changed: (a, b) => Math.abs(b.dataset.moved) - Math.abs(a.dataset.moved),
  };
  const sort = () => {
    const order = orders[get("order").value];
    const place = new Map(all.map((item, index) => [item, index]));
    list.append(...Array.from(all).sort((a, b) => order(a, b) || place.get(a) - place.get(b)));
  };

  let waiting = 0;
  get("search").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 80);
  });
  get("verdict").addEventListener("change", filter);
  get("state").addEventListener("change", filter);
  get("order").addEventListener("change", sort);
  get("toggle").addEventListener("click", () => {
    const visible = all.filter((item) => !item.hidden);
    const open = visible.some((item) => !item.open);
    for (const item of visible) item.open = open;
    get("toggle").textContent = open ? "Close all" : "Open all";
  });
  get("controls").hidden = false;
  filter();
})();
