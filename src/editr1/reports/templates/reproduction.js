// Tables and figures, by words and by how much of them there is.
document.addEventListener("DOMContentLoaded", () => {
  const cards = [...find("cards").children];
  run(() => {
    const words = wordsOf("f-text");
    const state = value("f-state");
    showOnly(cards, (card) => (!state || card.dataset.state === state) && holds(card, words));
  });
});
