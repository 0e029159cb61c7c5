// Der Selbsttest: prüft auf Knopfdruck und erklärt jede gewählte Antwort.

const forms = [...document.querySelectorAll("form.quiz")];

function enliven(form) {
  const result = form.querySelector(".quiz-result");
  const answers = [...form.querySelectorAll(".quiz-answer")].map((box) => {
    const why = box.querySelector(".quiz-why");
    // Angesagt wird nur, was in einen schon sichtbaren Bereich hineingeschrieben wird.
    return { box, input: box.querySelector("input"), why, text: [...why.childNodes] };
  });

  const hide = () => {
    for (const { box, why } of answers) {
      why.replaceChildren();
      delete box.dataset.verdict;
    }
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    hide();
    const chosen = answers.filter(({ input }) => input.checked);
    for (const { box, input, why, text } of chosen) {
      why.replaceChildren(...text);
      box.dataset.verdict = input.value;
    }
    const wrong = chosen.some(({ input }) => input.value === "wrong");
    const missing = answers.some(
      ({ input }) => input.value === "right" && input.type === "checkbox" && !input.checked,
    );
    if (!chosen.length) {
      form.removeAttribute("data-solved");
      result.textContent = "Noch ist keine Antwort gewählt.";
      return;
    }
    form.toggleAttribute("data-solved", !wrong && !missing);
    const solved = forms.filter((each) => each.hasAttribute("data-solved")).length;
    result.textContent = form.hasAttribute("data-solved")
      ? `Gelöst: ${solved} von ${forms.length} Fragen.`
      : wrong
        ? "Noch nicht gelöst."
        : "Noch nicht gelöst: Es fehlt eine richtige Antwort.";
  });
  // Gedruckt stehen alle Erklärungen da, danach wieder nur die gezeigten.
  addEventListener("beforeprint", () => {
    for (const { why, text } of answers) why.replaceChildren(...text);
  });
  addEventListener("afterprint", () => {
    for (const { box, why } of answers) if (!box.dataset.verdict) why.replaceChildren();
  });
  hide();
  form.querySelector("button").disabled = false;
  form.dataset.live = "";
}

forms.forEach(enliven);
