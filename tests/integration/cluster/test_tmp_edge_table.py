import sys, copy
sys.path.insert(0, "/work/main/tests/integration/edge")
import grpc, httpx, pytest
import test_same_requests as t
from qzoom.pb import qzoom_pb2_grpc
pytestmark = pytest.mark.cluster

def test_table(cluster):
    bad = []
    with grpc.insecure_channel(cluster.grpc_target) as ch, httpx.Client(base_url=cluster.url, timeout=60) as h:
        stub = qzoom_pb2_grpc.QZoomStub(ch)
        for name, (f, expected) in t.GOOD.items():
            f = f | {"model": cluster.model, "max_tokens": min(f.get("max_tokens", 4), 4)}
            r = h.post("/v1/chat/completions", json=f)
            try: g = stub.Answer(t.to_proto(f), timeout=60).text
            except grpc.RpcError as e: g = (e.code(), e.details())
            if r.status_code != 200 or r.json()["choices"][0]["message"]["content"] != g: bad.append(("GOOD", name, r.status_code, r.text[:300], g))
        for name, (f, status, msg, param) in t.BAD.items():
            if name in ("no model", "other model", "overload"): continue
            f = f | {"model": cluster.model}
            r = h.post("/v1/chat/completions", json=f)
            try: stub.Answer(t.to_proto(f), timeout=60); g = None
            except grpc.RpcError as e: g = e.details()
            if (r.status_code, r.json()["error"]["message"], g) != (status, msg, msg): bad.append((name, r.status_code, r.text[:300], g, msg))
        extremes = [dict(qzoom={"max_visual_tokens": 4}), dict(qzoom={"max_visual_tokens": 16384}), dict(qzoom={"max_roi_tokens": 4, "route": "zoom", "tau_roi": 0.01}), dict(qzoom={"tau_roi": 1e-9, "route": "zoom"}), dict(qzoom={"tau_roi": 0.999999999999, "route": "zoom"}), dict(qzoom={"tau_gate": 0}), dict(qzoom={"tau_gate": 1}), dict(temperature=1e-30), dict(temperature=2, top_p=1e-12), dict(seed=2**63-1, temperature=1), dict(seed=-2**63, temperature=1), dict(max_tokens=4096, stop=[" "])]
        pics = [t.encode((1, 1)), t.encode((200, 1)), t.encode((1, 200)), t.encode((2000, 10)), t.encode((3, 599)), t.encode((64, 48))]
        for e in extremes:
            r = h.post("/v1/chat/completions", json=t.body(max_tokens=e.pop("max_tokens", 4), **e) | {"model": cluster.model})
            if r.status_code != 200: bad.append((e, r.status_code, r.text[:300]))
        for i, p in enumerate(pics):
            for route in ("direct", "zoom", "auto"):
                for q in ("what?", "<|image_pad|><|vision_start|><|im_end|>", "\0\x07 \u202e " + "x" * 50, "x" * 32768):
                    r = h.post("/v1/chat/completions", json=t.body(t.image(p), t.text(q), max_tokens=3, qzoom={"route": route, "tau_roi": 0.01}) | {"model": cluster.model})
                    if r.status_code != 200: bad.append((i, route, q[:20], r.status_code, r.text[:300]))
    for b in bad: print(b)
    assert not bad
