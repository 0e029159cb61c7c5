// Der Preisrechner: lädt Rechenwerk und Modell erst auf Knopfdruck und rechnet im Browser.

const FOLDER = new URL("../lib/price_form/", import.meta.url);
const NUMBER = /^[+-]?(\d+[.,]?\d*|[.,]\d+)(e[+-]?\d+)?$/i;
let loading;
let ready = false;

// Holt eine gepackte Datei und meldet jedes angekommene Stück.
async function unpack(name, arrived) {
  const response = await fetch(new URL(name, FOLDER));
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  const count = new TransformStream({
    transform(chunk, controller) {
      arrived(chunk.length);
      controller.enqueue(chunk);
    },
  });
  const bytes = response.body.pipeThrough(count).pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(bytes).arrayBuffer());
}

async function start(arrived) {
  const [ort, wasm, model] = await Promise.all([
    import(new URL("onnxruntime.js", FOLDER)),
    unpack("onnxruntime.bin", arrived),
    unpack("price_model.bin", arrived),
  ]);
  ort.env.wasm.wasmBinary = wasm.buffer;
  // Mehr Threads verlangen besondere Kopfzeilen und bringen bei einer Zeile nichts.
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(model);
  ready = true;
  return { ort, session };
}

// Lädt einmal, auch wenn zweimal gedrückt wird; nach einem Fehler ist ein neuer Versuch möglich.
export function load(arrived = () => {}) {
  loading ??= start(arrived).catch((error) => {
    loading = undefined;
    throw error;
  });
  return loading;
}

// Gibt je Stein einen Preis in US-Dollar zurück.
export async function predict(stones) {
  const { ort, session } = await load();
  const feeds = {};
  for (const name of session.inputNames) {
    const values = stones.map((stone) => stone[name]);
    feeds[name] =
      typeof values[0] === "string"
        ? new ort.Tensor("string", values, [values.length, 1])
        : new ort.Tensor("float32", Float32Array.from(values), [values.length, 1]);
  }
  const output = await session.run(feeds);
  return Array.from(output[session.outputNames[0]].data);
}

// Prüft die Eingaben, Text je Merkmal, mit den Regeln und Worten des Schemas.
export function check({ schema, reasons }, texts) {
  const stone = {};
  const problems = {};
  for (const [name, rule] of Object.entries(schema.properties)) {
    const text = texts[name].trim();
    if (rule.enum) {
      stone[name] = text;
      continue;
    }
    const value = NUMBER.test(text) ? Number(text.replace(",", ".")) : NaN;
    stone[name] = value;
    if (text === "") problems[name] = reasons.missing;
    else if (Number.isNaN(value)) problems[name] = reasons.float_type;
    else if (!Number.isFinite(value)) problems[name] = reasons.finite_number;
    else if (value <= rule.exclusiveMinimum) problems[name] = reasons.greater_than;
    else if (value > rule.maximum) problems[name] = reasons.less_than_equal;
  }
  return { stone, problems };
}

function german(value, digits) {
  const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return value.toLocaleString("de-DE", options).replaceAll(".", "\u202f");
}

function showProblems(form, problems) {
  for (const input of form.querySelectorAll("input")) {
    const problem = problems[input.name];
    if (problem) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
    document.getElementById(`${input.id}-problem`).textContent = problem ?? "";
  }
}

async function loadVisibly(form, status, stone) {
  const progress = form.querySelector("progress");
  progress.value = 0;
  progress.hidden = false;
  status.textContent = "Das Modell wird geladen …";
  try {
    await load((bytes) => (progress.value += bytes));
    await predict([stone]); // der erste Lauf richtet Speicher ein und dauert länger
    form.querySelector(".price-form-size").textContent = "";
  } finally {
    progress.hidden = true;
  }
}

// Firefox und Safari runden ihre Uhr auf ganze Millisekunden.
function milliseconds(spent) {
  if (spent === 0) return "unter 1";
  return german(spent, Number.isInteger(spent) ? 0 : 1);
}

// Der Satz, mit dem eine gültige Frage beantwortet wird.
async function answer(data, stone) {
  const started = performance.now();
  const [price] = await predict([stone]);
  const spent = performance.now() - started;
  const outside = Object.entries(data.ranges).some(
    ([name, [low, high]]) => stone[name] < low || stone[name] > high,
  );
  return (
    `Geschätzter Preis: ${german(price, 0)} US-Dollar ` +
    `(Modell ${data.model_version}, gerechnet in ${milliseconds(spent)} ms).` +
    (outside ? " Achtung: Eine Angabe liegt außerhalb der Daten; so ein Preis ist geraten." : "")
  );
}

function enliven(form) {
  const status = form.querySelector("[role=status]");
  if (!("WebAssembly" in globalThis && "DecompressionStream" in globalThis)) {
    form.querySelector(".price-form-size").textContent = "";
    status.textContent =
      "Das Modell kann hier nicht rechnen: Dieser Browser ist zu alt oder führt kein WebAssembly " +
      "aus. Abhilfe: ein aktueller Browser, in dem WebAssembly nicht abgeschaltet ist.";
    return;
  }
  const data = JSON.parse(form.querySelector("script[type='application/json']").textContent);

  async function ask() {
    const { stone, problems } = check(data, Object.fromEntries(new FormData(form)));
    showProblems(form, problems);
    const count = Object.keys(problems).length;
    if (count) {
      status.textContent = `${count === 1 ? "Eine Angabe" : `${count} Angaben`} bitte ändern.`;
      return;
    }
    try {
      if (!ready) {
        await loadVisibly(form, status, stone);
        // Während des Ladens kann sich eine Angabe geändert haben; gefragt wird mit den jetzigen.
        return await ask();
      }
      status.textContent = await answer(data, stone);
    } catch (error) {
      console.error(error);
      status.textContent =
        "Das Modell ließ sich nicht laden. Ein Druck auf den Knopf versucht es noch einmal.";
    }
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    await ask();
    form.querySelector("[aria-invalid]")?.focus();
  });
  // Nach dem ersten Preis folgt der nächste jeder Änderung.
  form.addEventListener("change", () => ready && ask());
  form.querySelector("button").disabled = false;
}

const form = document.querySelector("form.price-form");
if (form?.querySelector("button")) enliven(form);
