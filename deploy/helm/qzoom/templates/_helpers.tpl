{{/* Names, labels, images and security contexts that every template shares. */}}

{{- define "qzoom.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters: KubeRay adds suffixes to a RayService's name and allows 47. */}}
{{- define "qzoom.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "qzoom.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "qzoom.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Which pods are ours. KubeRay sets app.kubernetes.io/name on Ray pods and selects by it, so it
     is not part of the selector and never set on a Ray pod. */}}
{{- define "qzoom.selector" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: qzoom
{{- end -}}

{{- define "qzoom.labels" -}}
{{ include "qzoom.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* Image reference. Call with (dict "root" $ "target" "gateway" | "stage"). */}}
{{- define "qzoom.image" -}}
{{- $image := .root.Values.image -}}
{{- $target := index $image .target -}}
{{- $repository := $target.repository -}}
{{- if $image.registry }}{{ $repository = printf "%s/%s" (trimSuffix "/" $image.registry) $repository }}{{ end -}}
{{- $tag := default (printf "%s-ray%s" .root.Chart.AppVersion .root.Values.ray.version) $image.tag -}}
{{- if $target.digest }}{{ printf "%s:%s@%s" $repository $tag $target.digest }}{{ else }}{{ printf "%s:%s" $repository $tag }}{{ end -}}
{{- end -}}

{{- define "qzoom.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* What PodSecurity "restricted" asks of a pod. */}}
{{- define "qzoom.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.security.runAsUser }}
runAsGroup: {{ .Values.security.runAsGroup }}
fsGroup: {{ .Values.security.fsGroup }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* What PodSecurity "restricted" asks of a container, and a read-only root beyond it. */}}
{{- define "qzoom.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "qzoom.redisAddress" -}}
{{- default (printf "%s-redis:6379" (include "qzoom.fullname" .)) .Values.redis.externalAddress -}}
{{- end -}}

{{/* What the gateways share; Ray finds the primary behind a Sentinel by itself. */}}
{{- define "qzoom.storeAddress" -}}
{{- $address := include "qzoom.redisAddress" . -}}
{{- with .Values.redis.sentinel.set }}{{ printf "redis+sentinel://%s/%s" $address . }}{{ else }}{{ printf "redis://%s/0" $address }}{{ end -}}
{{- end -}}

{{- define "qzoom.modelClaim" -}}
{{- default (printf "%s-models" (include "qzoom.fullname" .)) .Values.modelCache.existingClaim -}}
{{- end -}}

{{/* Changes whenever another model is to be fetched, so that each fetch is a job of its own. */}}
{{- define "qzoom.modelKey" -}}
{{- with .Values.modelCache.fetch -}}
{{- printf "%s %s %s" .repository .revision .folder | sha256sum | trunc 10 -}}
{{- end -}}
{{- end -}}

{{/* True where something in the chart fetches the model. */}}
{{- define "qzoom.fetches" -}}
{{- if and .Values.modelCache.enabled .Values.modelCache.fetch.enabled }}true{{ end -}}
{{- end -}}
