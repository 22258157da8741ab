"""gRPC without generated code: `reflect.py PICTURE QUESTION`.

The server describes its service by reflection, so any gRPC client can ask. Needs `pip install
grpcio-reflection`.
"""

import os
import sys
from pathlib import Path

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

picture, question = sys.argv[1:]
key = os.environ.get("QZOOM_API_KEY")
with grpc.insecure_channel(os.environ.get("QZOOM_GRPC", "127.0.0.1:9000")) as channel:
    service = DescriptorPool(ProtoReflectionDescriptorDatabase(channel)).FindServiceByName(
        "qzoom.v1.QZoom"
    )
    method = service.FindMethodByName("Answer")
    request = GetMessageClass(method.input_type)(model=os.environ.get("QZOOM_MODEL", "builtin"))
    message = request.messages.add(role="ROLE_USER")
    message.content.add().image_url.data = Path(picture).read_bytes()
    message.content.add(text=question)
    ask = channel.unary_unary(
        f"/{service.full_name}/{method.name}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    answer = ask(request, timeout=60, metadata=[("authorization", f"Bearer {key}")] if key else [])
print(json_format.MessageToJson(answer))
