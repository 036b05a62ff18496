// Filters and order of the pictures.
document.addEventListener("DOMContentLoaded", () => {
  const cards = [...find("cards").children];
  const gaps = new Map(cards.map((card) => [card, JSON.parse(card.dataset.gaps)]));

  // How far the two chosen runs are apart on an item, or the two that are furthest apart.
  const gapOf = (card) => {
    const pair = value("f-pair");
    return pair ? (gaps.get(card)[pair] ?? 0) : Math.max(...Object.values(gaps.get(card)));
  };

  run(() => {
    const words = wordsOf("f-text");
    const category = value("f-category");
    const passes = (card) =>
      gapOf(card) > 0 && (!category || card.dataset.category === category) && holds(card, words);
    showOnly(cards, passes);
    arrange(cards, value("f-sort") === "id" ? byId : (a, b) => gapOf(b) - gapOf(a));
  });
});
