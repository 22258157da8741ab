"""`qzoom.client`, which knows the whole answer: `with_qzoom.py PICTURE QUESTION`."""

import os
import sys

from qzoom.client import Client
from qzoom.errors import QZoomError

picture, question = sys.argv[1:]
try:
    with Client(os.environ.get("QZOOM_URL", "http://127.0.0.1:8000")) as client:
        answer = client.ask(picture, question, explain=True)
except QZoomError as error:
    sys.exit(f"{error.code}: {error.message}")

print(answer.text)
print("route", answer.route, "p(refine)", answer.p_refine, "boxes", answer.boxes)
print("tokens", answer.visual_tokens)
answer.overlay(picture, question).save("where-it-looked.png")
