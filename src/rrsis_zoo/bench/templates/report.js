"use strict";
for (const gallery of document.querySelectorAll(".gallery")) {
  const list = gallery.querySelector(".samples");
  const cards = [...list.children];
  const [order, kind, category] = ["order", "kind", "category"].map((name) => gallery.querySelector(`[name=${name}]`));
  const outline = gallery.querySelector("[name=outline]");
  const said = gallery.querySelector("[role=status]");
  const iou = new Map(cards.map((card) => [card, JSON.parse(card.dataset.iou)]));
  // what has no IoU comes last
  const known = (card) => Object.values(iou.get(card)).filter((value) => value !== null);
  const keys = {
    chosen: (card) => cards.indexOf(card),
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
      card.hidden = !(fits(kind, "kind") && fits(category, "category"));
      count += card.hidden ? 0 : 1;
      list.append(card);
    }
    list.classList.toggle("outlined", outline.checked);
    said.textContent = `${count} of ${cards.length} samples`;
  };
  for (const control of gallery.querySelectorAll("select, input")) control.addEventListener("change", show);
  gallery.querySelector(".controls").hidden = false;
  show();
}
// regions that scroll can be reached with the keyboard
for (const region of document.querySelectorAll(".scroll")) {
  if (region.scrollWidth > region.clientWidth) region.tabIndex = 0;
}
