"use strict";
// a link to something folded opens it
const unfold = () => {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", unfold);
unfold();
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));

for (const gallery of document.querySelectorAll(".gallery")) {
  const list = gallery.querySelector(".samples");
  const cards = [...list.children];
  const [order, kind, category] = ["order", "kind", "category"].map((name) => gallery.querySelector(`[name=${name}]`));
  const outline = gallery.querySelector("[name=outline]");
  const said = gallery.querySelector("[role=status]");
  const more = gallery.querySelector(".more");
  const step = 4;
  let limit = step;
  const iou = new Map(cards.map((card) => [card, JSON.parse(card.dataset.iou)]));
  // what has no IoU comes last
  const known = (card) => Object.values(iou.get(card)).filter((value) => value !== null);
  const keys = {
    chosen: (card) => Number(card.dataset.chosen),
    all: (card) => (known(card).length ? Math.max(...known(card)) : 2),
    apart: (card) => (known(card).length ? Math.min(...known(card)) - Math.max(...known(card)) : 2),
  };
  const key = (card) => {
    if (order.value in keys) return keys[order.value](card);
    return iou.get(card)[order.value.slice("lowest ".length)] ?? 2;
  };
  const show = () => {
    const values = new Map(cards.map((card) => [card, key(card)]));
    const sorted = [...cards].sort((a, b) => values.get(a) - values.get(b) || cards.indexOf(a) - cards.indexOf(b));
    let count = 0;
    for (const card of sorted) {
      const fits = (select, name) => !select || !select.value || select.value === card.dataset[name];
      const wanted = fits(kind, "kind") && fits(category, "category");
      count += wanted ? 1 : 0;
      card.hidden = !wanted || count > limit;
      list.append(card);
    }
    list.classList.toggle("outlined", outline.checked);
    const shown = Math.min(count, limit);
    said.textContent = `${shown} of ${count === cards.length ? count : `${count} such samples, ${cards.length} in all`}`;
    more.hidden = shown === count;
    more.textContent = `Show ${Math.min(step, count - shown)} more`;
  };
  const restart = () => {
    limit = step;
    show();
  };
  for (const control of gallery.querySelectorAll("select, input")) control.addEventListener("change", restart);
  more.addEventListener("click", () => {
    limit += step;
    show();
  });
  gallery.querySelector(".controls").hidden = false;
  show();
}
// regions that scroll can be reached with the keyboard, also once they are unfolded
const reachable = () => {
  for (const region of document.querySelectorAll(".scroll")) {
    if (region.scrollWidth > region.clientWidth) region.tabIndex = 0;
  }
};
for (const part of document.querySelectorAll("details")) part.addEventListener("toggle", reachable);
reachable();
