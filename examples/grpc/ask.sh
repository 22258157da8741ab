#!/usr/bin/env bash
# Asks over gRPC with grpcurl, which learns the messages from the server's reflection.
#   ask.sh PICTURE QUESTION
set -euo pipefail
picture=$1 question=$2 address=${QZOOM_GRPC:-127.0.0.1:9000} model=${QZOOM_MODEL:-builtin}
auth=(${QZOOM_API_KEY:+-H "authorization: Bearer $QZOOM_API_KEY"})
quote() { python3 -c 'import json, sys; print(json.dumps(sys.argv[1]), end="")' "$1"; }

{
  printf '{"model": %s, "messages": [{"role": "ROLE_USER", "content": [' "$(quote "$model")"
  printf '{"image_url": {"data": "'
  base64 <"$picture" | tr -d '\n'
  printf '"}}, {"text": %s}]}]}' "$(quote "$question")"
} | grpcurl -plaintext "${auth[@]}" -d @ "$address" qzoom.v1.QZoom/Answer
