{{/* The container, for the pod of its own and for sidecars. */}}
{{- define "tokenbudget.container" -}}
name: tokenbudget
image: {{ include "tokenbudget.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [serve, -config, /etc/tokenbudget/config.yaml]
{{- if and (eq .Values.mode "sidecar") .Values.sidecar.native }}
restartPolicy: Always
{{- end }}
{{- with .Values.env }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if or (eq .Values.mode "server") .Values.admin.expose }}
ports:
  {{- if eq .Values.mode "server" }}
  - name: grpc-extproc
    containerPort: {{ .Values.extproc.port }}
  {{- end }}
  {{- if .Values.admin.expose }}
  - name: http-admin
    containerPort: {{ .Values.admin.port }}
  {{- end }}
{{- end }}
# A large journal is read before anything is served.
startupProbe:
  {{- include "tokenbudget.probe" . | nindent 2 }}
  periodSeconds: 2
  failureThreshold: 60
readinessProbe:
  {{- include "tokenbudget.probe" . | nindent 2 }}
  periodSeconds: 5
# The same question: what makes a server that has started unready for minutes is a fault of its
# store, which is final until it is opened again. During the drain nobody asks.
livenessProbe:
  {{- include "tokenbudget.probe" . | nindent 2 }}
  periodSeconds: 10
  failureThreshold: 12
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
  seccompProfile:
    type: RuntimeDefault
volumeMounts:
  # Folders, not files in them: what is mounted by subPath never changes.
  - name: {{ include "tokenbudget.volume" (list . "config") }}
    mountPath: /etc/tokenbudget
    readOnly: true
  - name: {{ include "tokenbudget.volume" (list . "data") }}
    mountPath: /var/lib/tokenbudget
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Who is asked. The image has no shell, so it is the program itself where the kubelet cannot reach the port. */}}
{{- define "tokenbudget.probe" -}}
{{- if .Values.admin.expose -}}
httpGet:
  path: /readyz
  port: http-admin
  {{- if .Values.tls.secretName }}
  scheme: HTTPS
  {{- end }}
{{- else -}}
exec:
  command: [/tokenbudget, healthcheck, -admin, "127.0.0.1:{{ .Values.admin.port }}"]
{{- end }}
timeoutSeconds: 5
{{- end -}}

{{/* The name of a volume; in pods of others it must not collide with theirs. */}}
{{- define "tokenbudget.volume" -}}
{{- $root := index . 0 -}}
{{- ternary (index . 1) (printf "tokenbudget-%s" (index . 1)) (eq $root.Values.mode "server") -}}
{{- end -}}

{{/* The volumes; that of the balances only if no claim is made for it by the StatefulSet. */}}
{{- define "tokenbudget.volumes" -}}
- name: {{ include "tokenbudget.volume" (list . "config") }}
  projected:
    sources:
      - configMap:
          name: {{ include "tokenbudget.fullname" . }}
          items: [{key: config.yaml, path: config.yaml}]
      {{- if .Values.tls.secretName }}
      - secret:
          name: {{ .Values.tls.secretName }}
          items:
            - {key: tls.crt, path: tls/tls.crt}
            - {key: tls.key, path: tls/tls.key}
            {{- if not .Values.tls.clientCASecretName }}
            - {key: {{ .Values.tls.clientCAKey }}, path: tls/{{ .Values.tls.clientCAKey }}}
            {{- end }}
      {{- with .Values.tls.clientCASecretName }}
      - secret:
          name: {{ . }}
          items:
            - {key: {{ $.Values.tls.clientCAKey }}, path: client-ca/{{ $.Values.tls.clientCAKey }}}
      {{- end }}
      {{- end }}
{{- if .Values.persistence.existingClaim }}
- name: {{ include "tokenbudget.volume" (list . "data") }}
  persistentVolumeClaim:
    claimName: {{ .Values.persistence.existingClaim }}
{{- else if or (eq .Values.mode "sidecar") (not .Values.persistence.enabled) }}
- name: {{ include "tokenbudget.volume" (list . "data") }}
  emptyDir: {}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
