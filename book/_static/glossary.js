// Erklärungen zu Fachwörtern: bei Zeiger, Tastatur und Finger; Escape schließt (WCAG 1.4.13).
(() => {
  let open = null;
  let line = 0;

  function place() {
    const lines = open.querySelector("a").getClientRects();
    const link = lines[line] ?? lines[0];
    const tip = open.querySelector(".glossary-tip");
    const width = document.documentElement.clientWidth;
    tip.style.left = `${Math.max(8, Math.min(link.left, width - tip.offsetWidth - 8))}px`;
    const below = link.bottom + tip.offsetHeight + 8 <= window.innerHeight;
    tip.style.top = `${below ? link.bottom : Math.max(0, link.top - tip.offsetHeight)}px`;
  }

  function hide() {
    if (open) open.querySelector(".glossary-tip").hidden = true;
    open = null;
  }

  function show(use, y = -1) {
    if (open === use) return;
    hide();
    open = use;
    // Bricht das Wort um, steht die Erklärung an der Zeile unter dem Zeiger; nur so erreicht er sie.
    const lines = [...use.querySelector("a").getClientRects()];
    line = Math.max(0, lines.findIndex((rect) => rect.top <= y && y <= rect.bottom));
    use.querySelector(".glossary-tip").hidden = false;
    place();
  }

  for (const use of document.querySelectorAll(".glossary-use")) {
    let touched = false;
    use.addEventListener("pointerenter", (event) => event.pointerType === "touch" || show(use, event.clientY));
    use.addEventListener("pointerleave", (event) => {
      if (event.pointerType !== "touch" && !use.contains(document.activeElement)) hide();
    });
    use.addEventListener("pointerdown", (event) => {
      // Der erste Finger zeigt die Erklärung, der zweite folgt dem Verweis.
      touched = event.pointerType === "touch" && open !== use;
    });
    use.addEventListener("focusin", () => show(use));
    use.addEventListener("focusout", hide);
    use.querySelector("a").addEventListener("click", (event) => {
      if (touched) {
        event.preventDefault();
        show(use);
      }
      touched = false;
    });
  }
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  document.addEventListener("pointerdown", (event) => open && !open.contains(event.target) && hide());
  window.addEventListener("scroll", () => open && place(), { passive: true });
  window.addEventListener("resize", hide);
})();
