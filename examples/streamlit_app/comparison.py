"""Zählt, was Cache und Fragment sparen; ein Versuch, kein Vorbild für Anwendungen.

Starten: `python -m streamlit run examples/streamlit_app/comparison.py --server.port 8112`
"""

import time
from collections import Counter, defaultdict

import joblib
import streamlit as st
from sklearn.pipeline import Pipeline

from examples.price_model.predict import ARTIFACTS, PriceModel, load_model


@st.cache_resource
def loads() -> Counter:
    """Wie oft je Bauart geladen wurde; ein Objekt für alle Sitzungen."""
    return Counter()


@st.cache_resource
def models() -> dict[str, list]:
    """Jedes Modell je Bauart; festgehalten, damit sich keine `id` wiederholt."""
    return defaultdict(list)


def load(kind: str) -> Pipeline:
    """Lädt die Pipeline aus der Datei und zählt mit."""
    loads()[kind] += 1
    return joblib.load(ARTIFACTS / "price_model.joblib")


@st.cache_data
def load_onnx(kind: str) -> PriceModel:
    """Was nicht geht: Im Modell steckt eine innere Funktion; sie lässt sich nicht kopieren."""
    return load_model()


KINDS = {
    "none": load,
    "cache_data": st.cache_data(load),
    "cache_resource": st.cache_resource(load),
    "cache_data, ONNX": load_onnx,
}


@st.fragment
def fragment() -> None:
    """Ein Teil der Seite, der allein neu läuft, wenn nur sein Bedienelement sich ändert."""
    st.toggle("Umschalten", key="toggle")
    st.session_state.fragment_runs = st.session_state.get("fragment_runs", 0) + 1
    st.metric("fragment_runs", st.session_state.fragment_runs)


st.session_state.page_runs = st.session_state.get("page_runs", 0) + 1
st.metric("page_runs", st.session_state.page_runs)
fragment()
kind = st.radio("Bauart", KINDS, index=None, key="kind")
if kind:
    started = time.perf_counter()
    model = KINDS[kind](kind)
    st.metric("milliseconds", f"{1000 * (time.perf_counter() - started):.2f}")
    models()[kind].append(model)
    st.metric("loads", loads()[kind])
    st.metric("models", len({id(model) for model in models()[kind]}))
