{{/* Parts of the pods that KubeRay makes: the same for the head and for every worker group. */}}

{{/* Environment of every Ray container. */}}
{{- define "qzoom.rayEnv" -}}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
- {name: RAY_SERVE_GRPC_MAX_MESSAGE_SIZE, value: {{ .Values.edge.maxMessageBytes | int64 | quote }}}
- {name: RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH, value: gateway.rest.proxy.proxy_middleware}
- {name: HOME, value: /tmp}
- {name: HF_HOME, value: /tmp/huggingface}
- {name: XDG_CACHE_HOME, value: /tmp/cache}
- {name: PYTHONDONTWRITEBYTECODE, value: "1"}
{{- if .Values.redis.enabled }}
# What gateways share (docs/operations.md); also for `qzoom keys` and `qzoom settings` in a pod.
- {name: QZOOM_GATEWAY_STORE, value: {{ include "qzoom.storeAddress" . | quote }}}
- {name: QZOOM_GATEWAY_STORE_NAMESPACE, value: {{ include "qzoom.fullname" . | quote }}}
{{- range $name := ternary (list "QZOOM_STORE_PASSWORD" "QZOOM_STORE_SENTINEL_PASSWORD") (list "QZOOM_STORE_PASSWORD") (not (empty .Values.redis.sentinel.set)) }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef: {name: {{ $.Values.redis.existingSecret }}, key: password}
{{- end }}
{{- end }}
{{- if .Values.collector.enabled }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: "http://{{ include "qzoom.fullname" . }}-collector:4318"}
- {name: OTEL_RESOURCE_ATTRIBUTES, value: "service.namespace={{ include "qzoom.fullname" . }},k8s.namespace.name={{ .Release.Namespace }}"}
{{- end }}
{{- with .Values.ray.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "qzoom.rayMounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: ray-logs, mountPath: /tmp/ray}
- {name: shared-mem, mountPath: /dev/shm}
{{- if .Values.modelCache.enabled }}
- {name: models, mountPath: /models, readOnly: true}
{{- end }}
{{- end -}}

{{/* Call with (dict "root" $ "sharedMemory" quantity). */}}
{{- define "qzoom.rayVolumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 4Gi}
- name: ray-logs
  emptyDir: {sizeLimit: 8Gi}
- name: shared-mem
  emptyDir: {medium: Memory, sizeLimit: {{ .sharedMemory | quote }}}
{{- if .root.Values.modelCache.enabled }}
- name: models
  persistentVolumeClaim: {claimName: {{ include "qzoom.modelClaim" .root }}, readOnly: true}
{{- end }}
{{- end -}}

{{/* Start only when the model is complete: a replica that finds half a model fails for ever. */}}
{{- define "qzoom.waitForModel" -}}
{{- if include "qzoom.fetches" . }}
initContainers:
  - name: wait-for-model
    image: {{ include "qzoom.image" (dict "root" . "target" "gateway") }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    command: [/bin/sh, -ceu]
    args:
      - |
        left={{ .Values.modelCache.fetch.deadlineSeconds | int64 }}
        until [ -e "/models/.complete-{{ include "qzoom.modelKey" . }}" ]; do
          if [ "$left" -le 0 ]; then echo "the model was not fetched in time" >&2; exit 1; fi
          sleep 5; left=$((left - 5))
        done
    resources:
      requests: {cpu: 10m, memory: 16Mi}
      limits: {cpu: 100m, memory: 64Mi}
    securityContext:
      {{- include "qzoom.containerSecurity" . | nindent 6 }}
    volumeMounts:
      - {name: models, mountPath: /models, readOnly: true}
{{- end }}
{{- end -}}

{{/* Pods apart from each other. Call with (dict "root" $ "group" name "spread" map). */}}
{{- define "qzoom.spread" -}}
topologySpreadConstraints:
  {{- range $key, $when := dict "kubernetes.io/hostname" .spread.hostname "topology.kubernetes.io/zone" .spread.zone }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: {{ $when }}
    labelSelector:
      matchLabels:
        {{- include "qzoom.selector" $.root | nindent 8 }}
        qzoom.io/group: {{ $.group }}
  {{- end }}
{{- end -}}
