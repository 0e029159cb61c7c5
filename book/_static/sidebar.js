// Die ausklappbaren Verzeichnisse: Ein Knopf und ein Sprung auf der Seite schließen sie, und der Knopf, der sie öffnet, nennt ihren Stand.
(() => {
  const wide = matchMedia("(min-width: 960px)");
  for (const side of ["primary", "secondary"]) {
    const box = document.querySelector(`#pst-${side}-sidebar-checkbox`);
    const button = document.querySelector(`.${side}-toggle`);
    const sidebar = document.querySelector(`.bd-sidebar-${side}`);
    if (!button || !sidebar) continue;
    // Am breiten Schirm klappt der Haken die Seitenleiste weg, sonst zeigt er sie.
    const tell = () =>
      button.setAttribute("aria-expanded", String(box.checked !== (side === "primary" && wide.matches)));
    const later = () => setTimeout(tell); // nach dem Theme, das den Haken setzt, ohne es zu melden
    button.addEventListener("click", later);
    sidebar.addEventListener("keydown", later);
    box.addEventListener("change", tell);
    wide.addEventListener("change", tell);
    // Das Theme setzt dabei den Fokus auf den Knopf, der das Verzeichnis geöffnet hat.
    sidebar.querySelector(".sidebar-close")?.addEventListener("click", () => box.click());
    sidebar.addEventListener("click", (event) => {
      if (!event.target.closest('a[href^="#"]')) return;
      box.checked = false;
      tell();
    });
    tell();
  }
})();
