{{/* The Serve application: what `serveConfigV2` holds, as a dictionary. */}}

{{/* One entry of `deployments`. Call with (dict "root" $ "name" stage "stage" values). */}}
{{- define "qzoom.deployment" -}}
{{- $auto := .root.Values.autoscaling -}}
name: {{ .name }}
{{- with .stage.maxOngoing }}
max_ongoing_requests: {{ . }}
{{- end }}
graceful_shutdown_timeout_s: {{ .root.Values.edge.requestTimeoutSeconds }}
{{- if eq .name "gateway" }}
user_config: {{ include "qzoom.gatewaySettings" (dict "root" .root "live" true) }}
{{- end }}
autoscaling_config:
  min_replicas: {{ .stage.replicas.min }}
  max_replicas: {{ .stage.replicas.max }}
  target_ongoing_requests: {{ .stage.targetOngoing }}
  look_back_period_s: {{ $auto.lookBackSeconds }}
  upscale_delay_s: {{ $auto.upscaleDelaySeconds }}
  downscale_delay_s: {{ $auto.downscaleDelaySeconds }}
ray_actor_options:
  num_cpus: {{ .stage.cpus }}
  {{- if .stage.gpus }}
  num_gpus: {{ .stage.gpus }}
  {{- end }}
  {{- if gt (len .root.Values.groups) 1 }}
  label_selector: {"qzoom.io/group": {{ .stage.group | quote }}}
  {{- end }}
{{- end -}}

{{/* Settings of the gateway that change in place: `LIVE` of gateway/live.py. Any change among the
     arguments of the application starts every replica of every stage again. */}}
{{- define "qzoom.liveSettings" -}}
tau_gate
requests_per_minute visual_tokens_per_minute generated_tokens_per_minute concurrency
admit_requests admit_visual_tokens admit_kv_mib admit_store_mib admit_waiting admit_tenant_share
brownout_steps brownout_starts_at brownout_max_tau_gate brownout_min_roi_share
brownout_max_loss
max_images max_messages max_prompt_chars max_tokens default_max_tokens
max_visual_tokens max_deadline_ms default_deadline_ms
{{- end -}}

{{/* As JSON, those settings of the gateway that change in place, or the others. Call with
     (dict "root" $ "live" bool). */}}
{{- define "qzoom.gatewaySettings" -}}
{{- $names := include "qzoom.liveSettings" .root | replace "\n" " " | splitList " " -}}
{{- $chosen := dict -}}
{{- $wanted := .live -}}
{{- range $key, $value := .root.Values.stages.gateway.settings -}}
{{- if eq $wanted (has $key $names) }}{{ $_ := set $chosen $key $value }}{{ end -}}
{{- end -}}
{{- if and .live (not (hasKey $chosen "admit_requests")) -}}
{{- /* What all llm replicas can decode at once when they are as many as they may be. */ -}}
{{- $llm := .root.Values.stages.llm -}}
{{- $_ := set $chosen "admit_requests" (mul $llm.replicas.max (dig "max_slots" 16 $llm.settings)) -}}
{{- end -}}
{{- toJson $chosen -}}
{{- end -}}

{{- define "qzoom.serveConfig" -}}
proxy_location: EveryNode
http_options:
  host: 0.0.0.0
  port: {{ .Values.edge.httpPort }}
  request_timeout_s: {{ .Values.edge.requestTimeoutSeconds }}
  keep_alive_timeout_s: {{ .Values.edge.keepAliveTimeoutSeconds }}
grpc_options:
  port: {{ .Values.edge.grpcPort }}
  request_timeout_s: {{ .Values.edge.requestTimeoutSeconds }}
  grpc_servicer_functions:
    - gateway.rpc.servicer.add_servicer
    - grpc_health.v1.health_pb2_grpc.add_HealthServicer_to_server
logging_config:
  encoding: JSON
  enable_access_log: false
applications:
  - name: qzoom
    route_prefix: /
    import_path: deploy.app:build
    {{- if eq .Values.autoscaling.policy "flow" }}
    autoscaling_policy: {policy_function: "deploy.autoscaling:FlowPolicy"}
    {{- end }}
    args:
      {{- include "qzoom.appArgs" . | nindent 6 }}
    deployments:
      {{- range $name, $stage := .Values.stages }}
      - {{- include "qzoom.deployment" (dict "root" $ "name" $name "stage" $stage) | nindent 8 }}
      {{- end }}
{{- end -}}

{{/* Fields of deploy.config.AppConfig. What Ray reserves is told to the settings as well, so that a
     service knows its share. */}}
{{- define "qzoom.appArgs" -}}
{{- with .Values.model -}}
model: {{ .path | quote }}
{{- with .name }}
model_name: {{ . | quote }}
{{- end }}
{{- with .base }}
base: {{ . | quote }}
{{- end }}
{{- with .preset }}
preset: {{ . }}
{{- end }}
device: {{ .device }}
dtype: {{ .dtype }}
{{- end }}
{{- range $name, $stage := .Values.stages }}
{{ $name }}:
  cpus: {{ $stage.cpus }}
  {{- if $stage.gpus }}
  gpus: {{ $stage.gpus }}
  {{- end }}
  {{- $fixed := $stage.settings }}
  {{- if eq $name "gateway" }}
  {{- $fixed = include "qzoom.gatewaySettings" (dict "root" $ "live" false) | fromJson }}
  {{- end }}
  {{- with $fixed }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}
