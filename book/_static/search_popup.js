// Die Suche über der Seite: Wer sie schließt, steht wieder dort, wo er war; wer weitergeht, schließt sie.
(() => {
  const popup = document.querySelector(".search-button__wrapper");
  const input = popup?.querySelector("input");
  let before = null;
  // Safari gibt einem angeklickten Knopf keinen Fokus; zurück geht es trotzdem zu ihm.
  document.addEventListener("click", (event) => {
    if (!popup?.contains(event.target)) before = event.target.closest(".search-button__button");
  }, true);
  input?.addEventListener("focus", (event) => { before = event.relatedTarget ?? before; });
  // Das Theme blendet erst aus und nimmt dann den Fokus weg, bei Escape wie bei Strg+K.
  input?.addEventListener("blur", (event) => {
    if (!event.relatedTarget && !popup.classList.contains("show")) before?.focus();
  });
  popup?.addEventListener("focusout", (event) => event.relatedTarget && popup.classList.remove("show"));
})();
