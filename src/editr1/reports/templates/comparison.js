"use strict";
// Filters and order of the pictures. The page is readable without any of it.
document.documentElement.classList.add("js");

document.addEventListener("DOMContentLoaded", () => {
  const find = (id) => document.getElementById(id);
  const list = find("cards");
  const form = find("filters");
  const value = (id) => find(id)?.value ?? "";
  const cards = [...list.children].map((element) => ({
    element,
    gaps: JSON.parse(element.dataset.gaps),
    text: [...element.querySelectorAll(".u")].map((part) => part.textContent).join("\n").toLowerCase(),
  }));

  // How far the two chosen runs are apart on an item, or the two that are furthest apart.
  const gapOf = (card) => {
    const pair = value("f-pair");
    return pair ? (card.gaps[pair] ?? 0) : Math.max(...Object.values(card.gaps));
  };

  const apply = () => {
    const words = value("f-text").toLowerCase().split(/\s+/).filter(Boolean);
    const category = value("f-category");
    let count = 0;
    for (const card of cards) {
      const passes =
        gapOf(card) > 0 &&
        (!category || card.element.dataset.category === category) &&
        words.every((word) => card.text.includes(word));
      card.element.hidden = !passes;
      count += passes ? 1 : 0;
    }
    const given = (a, b) => Number(a.element.dataset.number) - Number(b.element.dataset.number);
    const byId = (a, b) => a.element.dataset.id.localeCompare(b.element.dataset.id, "en", { numeric: true });
    const byGap = (a, b) => gapOf(b) - gapOf(a);
    const order = value("f-sort") === "id" ? byId : byGap;
    list.append(...[...cards].sort((a, b) => order(a, b) || given(a, b)).map((card) => card.element));
    find("shown").textContent = `${count} of ${cards.length} shown`;
    find("empty").hidden = count > 0;
  };

  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));

  // On paper everything is open.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const part of folded) part.open = true;
  });
  addEventListener("afterprint", () => folded.forEach((part) => (part.open = false)));

  if (matchMedia("(max-width: 60rem)").matches) document.querySelector(".fold").open = false;
  apply(); // a browser that comes back to the page may restore what was chosen
});
