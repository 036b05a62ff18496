"use strict";
// The filter of tables and figures. The page is readable without it.
document.documentElement.classList.add("js");

document.addEventListener("DOMContentLoaded", () => {
  const find = (id) => document.getElementById(id);
  const form = find("filters");
  const cards = [...find("cards").children].map((element) => ({
    element,
    text: [...element.querySelectorAll(".u, .lack")].map((part) => part.textContent).join("\n").toLowerCase(),
  }));

  const apply = () => {
    const words = find("f-text").value.toLowerCase().split(/\s+/).filter(Boolean);
    const state = find("f-state").value;
    let count = 0;
    for (const card of cards) {
      const passes = (!state || card.element.dataset.state === state) && words.every((word) => card.text.includes(word));
      card.element.hidden = !passes;
      count += passes ? 1 : 0;
    }
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
