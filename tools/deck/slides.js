// Deutsche Beschriftungen, Notizen auf Tastendruck; `?print-pdf` druckt eine Seite je Folie.
const query = new URLSearchParams(location.search);
const printing = query.has("print-pdf");
Reveal.initialize({
  width: 1280,
  height: 720,
  margin: 0,
  center: false,
  hash: true,
  help: false,
  controls: false,
  transition: "none",
  backgroundTransition: "none",
  slideNumber: "c/t",
  pdfSeparateFragments: false,
  pdfMaxPagesPerSlide: 1,
  showNotes: query.has("notes") ? (printing ? "separate-page" : true) : false,
  keyboard: {
    78: () => {
      Reveal.configure({ showNotes: !Reveal.getConfig().showNotes });
      Reveal.layout();
    },
  },
}).then(() => {
  Reveal.layout(); // mit Notizen von Anfang an
  document.querySelector(".slide-number")?.setAttribute("aria-label", "Nummer der Folie");
  document.documentElement.dataset.ready = "yes";
});
