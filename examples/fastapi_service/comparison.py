"""Bauarten desselben Endpunkts, um sie zu vergleichen; kein Vorbild für Dienste.

Starten: uvicorn examples.fastapi_service.comparison:app --port 8114
"""

import time

import joblib
import pandas as pd
from fastapi import FastAPI

from examples.fastapi_service.app import BodyLimit, Price
from examples.price_model.predict import ARTIFACTS, load_model
from examples.price_model.schema import Question, Stone

app = FastAPI(title="Bauarten im Vergleich")
# Derselbe Rahmen und dieselbe Prüfung wie im Dienst, sonst hinkt der Vergleich. Gefragt wird
# immer nach einem Stein; eine Liste beantwortet keine dieser Bauarten.
app.add_middleware(BodyLimit)
onnx = load_model("onnx")
sklearn = load_model("sklearn")
pipeline = joblib.load(ARTIFACTS / "price_model.joblib")


@app.get("/health/ready")
async def ready() -> dict[str, str]:
    """Antwortet, sobald die Modelle geladen sind."""
    return {"status": "ready"}


@app.get("/cpu-seconds")
async def cpu_seconds() -> float:
    """Wie viel Rechenzeit der Prozess bisher verbraucht hat, in Sekunden.

    Anders als die Zeit auf der Uhr hängt sie kaum davon ab, was der Rechner nebenbei tut.
    """
    return time.process_time()


@app.post("/plain")
async def plain() -> Price | list[Price]:
    """Nur das Rahmenwerk: eine feste Antwort, die Frage bleibt ungelesen."""
    return Price(price_usd=1.0, model_version="0")


@app.post("/echo")
async def echo(question: Question) -> Price | list[Price]:
    """Rahmenwerk und Prüfung: die Frage lesen, prüfen und eine feste Antwort senden."""
    return Price(price_usd=1.0, model_version="0")


@app.post("/onnx-async")
async def onnx_async(stone: Question) -> Price | list[Price]:
    """ONNX in der Ereignisschleife."""
    return Price(price_usd=onnx.predict([stone])[0], model_version=onnx.version)


@app.post("/onnx-def")
def onnx_def(stone: Question) -> Price | list[Price]:
    """ONNX in einem Thread des Threadpools."""
    return Price(price_usd=onnx.predict([stone])[0], model_version=onnx.version)


@app.post("/sklearn-async")
async def sklearn_async(stone: Question) -> Price | list[Price]:
    """Scikit-learn in der Ereignisschleife: solange gerechnet wird, antwortet niemand."""
    return Price(price_usd=sklearn.predict([stone])[0], model_version=sklearn.version)


@app.post("/sklearn-def")
def sklearn_def(stone: Question) -> Price | list[Price]:
    """Scikit-learn in einem Thread."""
    return Price(price_usd=sklearn.predict([stone])[0], model_version=sklearn.version)


@app.post("/dataframe")
def dataframe(stone: Stone) -> dict[str, float]:
    """Die übliche Form aus Anleitungen: je Anfrage ein DataFrame für die Pipeline."""
    row = pd.DataFrame([stone.model_dump()])
    return {"price_usd": float(pipeline.predict(row)[0])}
