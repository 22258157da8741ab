#!/usr/bin/env bash
# Asks a question about a picture; prints the server-sent events as they come.
#   stream.sh PICTURE QUESTION
set -euo pipefail
picture=$1 question=$2 url=${QZOOM_URL:-http://127.0.0.1:8000}
auth=(${QZOOM_API_KEY:+-H "authorization: Bearer $QZOOM_API_KEY"})
quote() { python3 -c 'import json, sys; print(json.dumps(sys.argv[1]), end="")' "$1"; }

model=$(curl -sS --fail-with-body "${auth[@]}" "$url/v1/models" |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["data"][0]["id"])')

{
  printf '{"model": %s, "stream": true, "messages": [{"role": "user", "content": [' \
    "$(quote "$model")"
  printf '{"type": "image_url", "image_url": {"url": "data:image/png;base64,'
  base64 <"$picture" | tr -d '\n'
  printf '"}}, {"type": "text", "text": %s}]}]}' "$(quote "$question")"
} | curl -sSN --fail-with-body "${auth[@]}" -H 'content-type: application/json' -d @- \
  "$url/v1/chat/completions"
