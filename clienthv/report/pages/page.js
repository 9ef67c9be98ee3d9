(function () {
  "use strict";
  var root = document.documentElement, panel = document.getElementById("details"), from = null, asked;
  var cards = Array.prototype.slice.call(document.querySelectorAll("a.card"));
  root.classList.add("js");
  function seen() {
    return cards.filter(function (card) { return card.getClientRects().length > 0; });
  }
  function show(name) {
    var open = name && document.getElementById(name);
    panel.querySelectorAll("article.open").forEach(function (a) { a.classList.remove("open"); });
    cards.forEach(function (card) { card.removeAttribute("aria-current"); });
    panel.classList.toggle("some", Boolean(open));
    if (!open) { return; }
    open.classList.add("open");
    panel.scrollTop = 0;
    cards.forEach(function (card) {
      if (card.dataset.for === name) { card.setAttribute("aria-current", "true"); }
    });
  }
  function point(link) {
    var card = seen().filter(function (c) { return c.dataset.for === link.dataset.for; })[0];
    if (!card) { return; }
    if (getComputedStyle(panel).position !== "fixed") { card.scrollIntoView({block: "center"}); }
    if (panel.contains(link)) { from = card; card.focus({preventScroll: true}); }
  }
  function close() {
    show(null);
    if (from) { from.focus(); }
  }
  document.addEventListener("click", function (event) {
    var link = event.target.closest("a[data-for]");
    if (event.target.closest(".close")) { close(); return; }
    if (!link) { return; }
    event.preventDefault();
    show(link.dataset.for);
    from = link;
    if (!link.classList.contains("card")) { point(link); }
  });
  document.addEventListener("keydown", function (event) {
    var card = document.activeElement && document.activeElement.closest("a.card"), all, next;
    if (event.key === "Escape") { close(); return; }
    if (!card || event.altKey || event.ctrlKey || event.metaKey) { return; }
    if (event.key === " " || event.key === "Enter") {
      event.preventDefault();
      from = card;
      show(card.dataset.for);
    } else if (event.key === "ArrowRight") {
      event.preventDefault();
      from = card;
      show(card.dataset.for);
      panel.querySelector("article.open .close").focus();
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      all = seen();
      next = all[all.indexOf(card) + (event.key === "ArrowDown" ? 1 : -1)];
      if (next) { event.preventDefault(); next.focus(); }
    }
  });
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details:not([open])").forEach(function (d) { d.open = true; d.dataset.shut = "1"; });
  });
  window.addEventListener("afterprint", function () {
    document.querySelectorAll("details[data-shut]").forEach(function (d) { d.open = false; delete d.dataset.shut; });
  });
  asked = document.getElementById(location.hash.slice(1));
  if (asked && panel.contains(asked)) { show(asked.id); }
})();
