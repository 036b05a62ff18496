"use strict";
// What all pages share: a form that filters their cards, and a print that shows everything. A page's own script follows
// this one and is read with it as one; a page is readable without either.
document.documentElement.classList.add("js");

const find = (id) => document.getElementById(id);
const value = (id) => find(id)?.value ?? "";
const wordsOf = (id) => value(id).toLowerCase().split(/\s+/).filter(Boolean);

// What users and models wrote on a card, read once and only when something is searched for.
const texts = new Map();
const textOf = (card) => {
  if (!texts.has(card)) {
    const written = [...card.querySelectorAll(".u")].map((part) => part.textContent);
    texts.set(card, written.join("\n").toLowerCase());
  }
  return texts.get(card);
};
const holds = (card, words) => words.every((word) => textOf(card).includes(word));

// Hides the cards that do not pass, and says how many do.
const showOnly = (cards, passes) => {
  let count = 0;
  for (const card of cards) {
    card.hidden = !passes(card);
    count += card.hidden ? 0 : 1;
  }
  find("shown").textContent = `${count.toLocaleString("en")} of ${cards.length.toLocaleString("en")} shown`;
  find("empty").hidden = count > 0;
};

// Puts the cards into an order; those that it holds equal stay as they were given.
const arrange = (cards, order) => {
  const given = (a, b) => Number(a.dataset.number) - Number(b.dataset.number);
  find("cards").append(...[...cards].sort((a, b) => order(a, b) || given(a, b)));
};
const byId = (a, b) => a.dataset.id.localeCompare(b.dataset.id, "en", { numeric: true });

// Runs a page: `apply` takes the whole form into account, `onInput` a single change of it.
const run = (apply, onInput = apply) => {
  const form = find("filters");
  form.addEventListener("input", onInput);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply)); // only then have the fields their first values
  if (matchMedia("(max-width: 60rem)").matches) document.querySelector(".fold").open = false;
  apply(); // a browser that comes back to the page may restore what was chosen
};

// On paper everything is open.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const part of folded) part.open = true;
});
addEventListener("afterprint", () => folded.forEach((part) => (part.open = false)));
