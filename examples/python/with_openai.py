"""OpenAI's own client: `pip install openai`, then `with_openai.py PICTURE QUESTION`."""

import base64
import os
import sys
from pathlib import Path

from openai import OpenAI

picture, question = sys.argv[1:]
client = OpenAI(
    base_url=os.environ.get("QZOOM_URL", "http://127.0.0.1:8000") + "/v1",
    api_key=os.environ.get("QZOOM_API_KEY", "none"),
)
content = base64.b64encode(Path(picture).read_bytes()).decode()
answer = client.chat.completions.create(
    model=client.models.list().data[0].id,
    messages=[
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{content}"}},
                {"type": "text", "text": question},
            ],
        }
    ],
    extra_body={"qzoom": {"route": "auto"}},
)
print(answer.choices[0].message.content)
print("route", answer.qzoom["route"], "boxes", answer.qzoom["boxes"])
