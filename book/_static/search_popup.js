// Die Suche über der Seite: Wer sie schließt, steht wieder dort, wo er war; wer weitergeht, schließt sie.
(() => {
  const popup = document.querySelector(".search-button__wrapper");
  const input = popup?.querySelector("input");
  let before = null;
  input?.addEventListener("focus", (event) => { before = event.relatedTarget; });
  input?.addEventListener("keydown", (event) => event.key === "Escape" && before?.focus());
  popup?.addEventListener("focusout", (event) => event.relatedTarget && popup.classList.remove("show"));
})();
