// Filters, sorting, keys and the picture viewer of a report.
document.addEventListener("DOMContentLoaded", () => {
  const list = find("cards");
  const cards = [...list.children];

  const readFilters = () => {
    const ends = [Number(value("f-low")), Number(value("f-high"))].sort((a, b) => a - b);
    return {
      words: wordsOf("f-text"),
      low: ends[0],
      high: ends[1],
      status: value("f-status"),
      failed: value("f-failed"),
      kind: value("f-kind"),
      editor: value("f-editor"),
      disagrees: Boolean(find("f-disagrees")?.checked),
    };
  };

  const passes = (card, filter) => {
    const data = card.dataset;
    const narrowed = filter.low > 0 || filter.high < 10;
    if (narrowed && !(Number(data.score ?? NaN) >= filter.low && Number(data.score) <= filter.high)) return false;
    if (filter.status && data.status !== filter.status) return false;
    if (filter.failed === "any" && !data.failed) return false;
    if (filter.failed && filter.failed !== "any" && !data.failed.split(" ").includes(filter.failed)) return false;
    if (filter.kind && data.kind !== filter.kind) return false;
    if (filter.editor && data.editor !== filter.editor) return false;
    if (filter.disagrees && !("disagrees" in data)) return false;
    return holds(card, filter.words);
  };

  const applyFilters = () => {
    const filter = readFilters();
    showOnly(cards, (card) => passes(card, filter));
    find("f-range").textContent = `${filter.low} to ${filter.high}`;
  };

  // Cards without the number that is sorted by come last, whichever way the rest goes.
  const byNumber = (key, sign) => (a, b) => {
    const [x, y] = [a.dataset[key], b.dataset[key]];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    return sign * (Number(x) - Number(y));
  };
  const orders = {
    number: byNumber("number", 1),
    "score-up": byNumber("score", 1),
    "score-down": byNumber("score", -1),
    disagreement: byNumber("disagreement", -1),
    spread: byNumber("spread", -1),
    id: byId,
  };
  const applyOrder = () => arrange(cards, orders[value("f-sort")]);

  // Viewer: the pictures of one card on the same spot, so that flipping between them shows what changed.
  const viewer = find("viewer");
  let pictures = [];
  let current = 0;
  const view = (index) => {
    current = (index + pictures.length) % pictures.length;
    const picture = pictures[current];
    const large = find("viewer-picture");
    large.src = picture.src;
    large.alt = picture.alt;
    large.width = picture.width;
    large.height = picture.height;
    large.classList.toggle("pixels", picture.classList.contains("pixels"));
    const figure = picture.closest("figure");
    const title = picture.closest(".card").querySelector("h3").textContent;
    find("viewer-caption").textContent = `${figure.querySelector("figcaption").textContent} · ${title}`;
  };
  list.addEventListener("click", (event) => {
    const button = event.target.closest(".zoom");
    if (!button) return;
    pictures = [...button.closest(".pictures").querySelectorAll("img")];
    view(pictures.indexOf(button.querySelector("img")));
    viewer.showModal();
  });
  viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());
  find("viewer-previous").addEventListener("click", () => view(current - 1));
  find("viewer-next").addEventListener("click", () => view(current + 1));

  // Keys: arrows flip pictures in the viewer; elsewhere / searches, j and k walk through the edits.
  const walk = (step) => {
    const visible = [...list.children].filter((card) => !card.hidden);
    const here = visible.indexOf(document.activeElement?.closest(".card"));
    const next = visible[here < 0 ? 0 : Math.min(Math.max(here + step, 0), visible.length - 1)];
    next?.focus({ preventScroll: true });
    next?.scrollIntoView({ block: "start" });
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (viewer.open) {
      if (event.key === "ArrowLeft") view(current - 1);
      if (event.key === "ArrowRight") view(current + 1);
      return;
    }
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    if (event.key === "/") {
      event.preventDefault();
      find("f-text").closest("details").open = true;
      find("f-text").focus();
    }
    if (event.key === "j") walk(1);
    if (event.key === "k") walk(-1);
  });

  const applyAll = () => {
    applyOrder();
    applyFilters();
  };
  run(applyAll, (event) => (event.target.id === "f-sort" ? applyOrder() : applyFilters()));
});
