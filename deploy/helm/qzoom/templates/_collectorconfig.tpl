{{/* Configuration of the OpenTelemetry collector. With one replica it sees whole traces and keeps
     the interesting ones; with several, the spans of a trace spread over them, so the decision is
     made from the trace's id alone, alike everywhere. */}}
{{- define "qzoom.collectorConfig" -}}
{{- $collector := .Values.collector -}}
{{- $tail := and (eq (int $collector.replicas) 1) (lt (int $collector.samplingPercent) 100) -}}
{{- $head := and (gt (int $collector.replicas) 1) (lt (int $collector.samplingPercent) 100) -}}
extensions:
  health_check: {endpoint: "0.0.0.0:13133"}
receivers:
  otlp:
    protocols:
      http: {endpoint: "0.0.0.0:4318"}
processors:
  memory_limiter: {check_interval: 1s, limit_percentage: 75, spike_limit_percentage: 15}
  batch: {timeout: 1s, send_batch_size: 512, send_batch_max_size: 1024}
  {{- if $tail }}
  tail_sampling:
    decision_wait: 20s
    num_traces: 20000
    policies:
      - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}
      - {name: slow, type: latency, latency: {threshold_ms: {{ $collector.slowMilliseconds }}}}
      - {name: degraded, type: string_attribute, string_attribute: {key: qzoom.degraded, values: [".+"], enabled_regex_matching: true}}
      - {name: share, type: probabilistic, probabilistic: {sampling_percentage: {{ $collector.samplingPercent }}}}
  {{- end }}
  {{- if $head }}
  probabilistic_sampler: {sampling_percentage: {{ $collector.samplingPercent }}}
  {{- end }}
exporters:
  otlp:
    endpoint: {{ $collector.endpoint | quote }}
    tls: {insecure: {{ $collector.insecure }}}
    {{- if $collector.authorizationSecret }}
    headers: {authorization: "${env:OTLP_AUTHORIZATION}"}
    {{- end }}
    sending_queue: {queue_size: 2048}
    retry_on_failure: {max_elapsed_time: 300s}
service:
  extensions: [health_check]
  telemetry:
    logs: {encoding: json}
  pipelines:
    traces:
      receivers: [otlp]
      processors: [memory_limiter{{ if $tail }}, tail_sampling{{ end }}{{ if $head }}, probabilistic_sampler{{ end }}, batch]
      exporters: [otlp]
{{- end -}}
