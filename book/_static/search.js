// Die Suche: läuft im Browser, findet auch gebeugte, vertippte und mit ue geschriebene Wörter.
import MiniSearch from "./minisearch.js";

const EXCERPT = 220;
const SHOWN = 10;
const LEAD = 700;
const input = document.querySelector("#search-query");
const status = document.querySelector("#search-status");
const list = document.querySelector("#search-results");
/* global GermanStemmer, stopwords: aus language_data.js von Sphinx */
const stemmer = new GermanStemmer();
const asking = ["warum", "wann", "wohin", "wieso", "eigentlich"];
const ignored = new Set([...stopwords, ...asking].map(fold));
const stems = new Map();

function fold(word) {
  const plain = word.toLowerCase().replace(/ä|ae/g, "a").replace(/ö|oe/g, "o").replace(/ß/g, "ss");
  // Nach a, e und q ist „ue“ kein Umlaut: „neuen“ würde zu „neun“, und „bauen“ fände „Bau“ nicht.
  return plain.replace(/(^|[^aeq])ue/g, "$1u").replace(/ü/g, "u");
}

function stem(word) {
  if (!stems.has(word)) {
    const folded = fold(word);
    stems.set(word, folded.length < 2 || ignored.has(folded) ? null : stemmer.stemWord(folded));
  }
  return stems.get(word);
}

function words(text) {
  return text.match(/[\p{L}\p{N}]+/gu) ?? [];
}

async function prepare() {
  const response = await fetch(new URL("search.json", import.meta.url));
  const pages = await response.json();
  let known = new Set();
  const index = new MiniSearch({
    fields: ["title", "keywords", "headings", "lead", "text", "code"],
    idField: "number",
    tokenize: words,
    processTerm: stem,
    searchOptions: {
      boost: { title: 4, keywords: 4, headings: 3, code: 0.5 },
      // Vertippt ist nur, was in keinem Text steht; sonst träfe „Rechte“ auch „Rechner“.
      fuzzy: (term) => (term.length > 4 && !known.has(term) ? 0.2 : false),
      prefix: (term) => term.length > 3,
      weights: { fuzzy: 0.25, prefix: 0.2 },
      boostDocument: (number) => pages[number].weight,
    },
  });
  // In Häppchen, damit die Seite währenddessen auf Eingaben antwortet.
  await index.addAllAsync(pages.map((page, number) => ({
    number,
    title: page.title,
    keywords: page.keywords,
    headings: page.sections.slice(1).map(([, heading]) => heading).join(" "),
    // Die ersten Sätze nennen, worum es geht; sie zählen doppelt.
    lead: page.sections[0][2].slice(0, LEAD),
    text: page.sections.map(([, , text]) => text).join(" "),
    code: page.code,
  })), { chunkSize: 2 });
  known = new Set(stems.values());
  return { pages, index, known };
}

/* Der Abschnitt mit den meisten verschiedenen Fundwörtern; bei Gleichstand der erste. */
function bestSection(sections, found) {
  const rank = ([, heading, text]) =>
    new Set(words(`${heading} ${text}`).map(stem).filter((word) => found.has(word))).size;
  return sections.map((section) => [rank(section), section]).reduce((best, next) => (next[0] > best[0] ? next : best))[1];
}

/* Der Ausschnitt beginnt kurz vor dem ersten Fundwort; Fundwörter sind markiert. */
function excerpt(text, found) {
  const hits = [...text.matchAll(/[\p{L}\p{N}]+/gu)].filter((match) => found.has(stem(match[0])));
  const paragraph = document.createElement("p");
  const first = Math.max(0, (hits[0]?.index ?? 0) - 60);
  const start = first && text.indexOf(" ", first) + 1;
  let position = start;
  const end = Math.min(text.length, start + EXCERPT);
  if (start) paragraph.append("… ");
  for (const hit of hits.filter((match) => match.index + match[0].length <= end)) {
    const mark = document.createElement("mark");
    mark.textContent = hit[0];
    paragraph.append(text.slice(position, hit.index), mark);
    position = hit.index + hit[0].length;
  }
  paragraph.append(text.slice(position, end), end < text.length ? " …" : "");
  return paragraph;
}

/* „Dockerimage“ heißt im Buch „Docker-Image“: Ein unbekanntes Wort gilt auch als zwei bekannte. */
function guess(query, known) {
  return query.replace(/[\p{L}\p{N}]+/gu, (word) => {
    if (known.has(stem(word))) return word;
    // Oft sind nur zwei Buchstaben vertauscht; das wären zwei Fehler, erlaubt ist meist einer.
    for (let at = 1; word.length > 3 && at < word.length; at++) {
      const swapped = word.slice(0, at - 1) + word[at] + word[at - 1] + word.slice(at + 1);
      if (stem(swapped) && known.has(stem(swapped))) return `${word} ${swapped}`;
    }
    for (let at = word.length - 3; at > 2; at--) {
      const halves = [word.slice(0, at), word.slice(at)];
      if (halves.every((half) => stem(half) && known.has(stem(half)))) return [word, ...halves].join(" ");
    }
    return word;
  });
}

function show({ pages, index, known }, query) {
  const results = index.search(guess(query, known));
  list.replaceChildren(...results.slice(0, SHOWN).map(({ id, terms }) => {
    const page = pages[id];
    const found = new Set(terms);
    const [anchor, heading, text] = bestSection(page.sections, found);
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = page.url;
    link.textContent = page.title;
    item.append(link);
    if (heading !== page.title) {
      const part = document.createElement("a");
      part.href = `${page.url}#${anchor}`;
      part.textContent = heading;
      part.className = "search-section";
      item.append(" ", part);
    }
    item.append(excerpt(text, found));
    return item;
  }));
  if (!results.length) {
    status.textContent = `Nichts gefunden zu „${query}“. Andere Wörter helfen oft weiter, auch englische oder der Name eines Werkzeugs.`;
  } else {
    status.textContent = results.length > SHOWN
      ? `Die ${SHOWN} besten Treffer von ${results.length}:`
      : results.length === 1 ? "Ein Treffer:" : `${results.length} Treffer:`;
  }
  document.documentElement.dataset.searched = query;
}

let ready;
async function search() {
  const query = input.value.normalize("NFC").trim();
  const address = new URL(location);
  if (query) address.searchParams.set("q", query);
  else address.searchParams.delete("q");
  history.replaceState(null, "", address);
  if (!query) {
    list.replaceChildren();
    status.textContent = "";
    return;
  }
  if (!ready) status.textContent = "Die Suche lädt …";
  try {
    show(await (ready ??= prepare()), query);
  } catch (error) {
    ready = undefined;
    status.textContent = "Die Suche ließ sich nicht laden. Abhilfe: die Seite neu laden.";
    throw error;
  }
}

input.form.addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});
input.value = new URLSearchParams(location.search).get("q") ?? "";
if (input.value) search();
else input.focus();
