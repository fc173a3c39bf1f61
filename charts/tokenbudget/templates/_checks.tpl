{{/* What would go wrong on the cluster only. Each says what to do. */}}
{{- define "tokenbudget.checks" -}}
{{- $v := .Values -}}
{{- $server := eq $v.mode "server" -}}
{{- $c := include "tokenbudget.userConfig" . | fromYaml -}}
{{- if not $c.budgets -}}
  {{- fail "config has no budgets: name at least one, such as {name: everyone-day, limit: 1M tokens, period: day}" -}}
{{- end -}}
{{- if hasKey $c "listen" -}}
  {{- fail "listen (of config or configText) is the chart's: set extproc.port, admin.port, admin.expose and tls instead" -}}
{{- end -}}
{{- if hasKey (default dict (default dict $c.store).file) "dir" -}}
  {{- fail "store.file.dir (of config or configText) is the chart's: set persistence instead, and leave it out" -}}
{{- end -}}
{{- range $what, $secret := dict "admin_token" $c.admin_token "api_keys.secret" (default dict $c.api_keys).secret -}}
  {{- if and $secret (not (regexMatch "^[$][{][A-Za-z_][A-Za-z0-9_]*[}]$" (toString $secret))) -}}
    {{- fail (printf "%s (of config or configText) would be readable in a ConfigMap: put it into a Secret, name that in env, and write ${NAME}" $what) -}}
  {{- end -}}
{{- end -}}
{{- /* A label twice is one too many for some readers of YAML; and other ones than the selector's, and no pod is found. */ -}}
{{- range $what, $labels := dict "commonLabels" $v.commonLabels "podLabels" $v.podLabels -}}
  {{- range $label := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" -}}
    {{- if hasKey (default dict $labels) $label }}{{ fail (printf "%s: the label %s is the chart's: leave it out, or set nameOverride" $what $label) }}{{ end -}}
  {{- end -}}
{{- end -}}
{{- if hasKey (default dict $v.podAnnotations) "tokenbudget/restart" -}}
  {{- fail "podAnnotations: tokenbudget/restart is the chart's: leave it out" -}}
{{- end -}}
{{- /* Not put in quotes here: Helm has made 1e+06 of 1000000 by now, and true of yes. */}}
{{- range $v.env -}}
  {{- if and (hasKey . "value") (not (kindIs "invalid" .value)) (not (kindIs "string" .value)) -}}
    {{- fail (printf "env: the value of %s is no text, and Kubernetes takes nothing else: put it in quotes" .name) -}}
  {{- end -}}
{{- end -}}
{{- range $v.extraVolumes -}}
  {{- if has (toString .name) (list (include "tokenbudget.volume" (list $ "config")) (include "tokenbudget.volume" (list $ "data"))) -}}
    {{- fail (printf "extraVolumes: %s is the name of a volume of the chart's: choose another" .name) -}}
  {{- end -}}
{{- end -}}
{{- if eq (int $v.extproc.port) (int $v.admin.port) -}}
  {{- fail "extproc.port and admin.port are the same: choose two" -}}
{{- end -}}
{{- $open := or $server $v.admin.expose -}}
{{- if and $open (not $v.tls.secretName) (not (eq (toString $c.insecure) "true")) (or (not $server) (not $v.networkPolicy.enabled) (hasKey $c "insecure")) -}}
  {{- fail "everybody in the cluster could reach the server: set tls.secretName, or in mode server networkPolicy.enabled, or say insecure: true in config" -}}
{{- end -}}
{{- if and $v.tls.clientCASecretName (not $v.tls.secretName) -}}
  {{- fail "tls.clientCASecretName has no effect without tls.secretName: name the Secret of the server's certificate" -}}
{{- end -}}
{{- if and $v.tls.secretName (or (eq $v.tls.clientCAKey "tls.key") (and (eq $v.tls.clientCAKey "tls.crt") (not $v.tls.clientCASecretName))) -}}
  {{- fail (printf "tls.clientCAKey: %s of this Secret is %s: name the key that has the authorities of Envoy's certificates, such as ca.crt, or their Secret in tls.clientCASecretName" $v.tls.clientCAKey (ternary "a private key" "the server's own certificate" (eq $v.tls.clientCAKey "tls.key"))) -}}
{{- end -}}
{{- $grace := int (include "tokenbudget.grace" .) -}}
{{- $least := add (int (include "tokenbudget.drain" .)) 10 -}}
{{- if lt $grace (int $least) -}}
  {{- fail (printf "terminationGracePeriodSeconds: %d is too short: the drain (config.timeouts.drain) and the last write need %d; leave it out, and it is computed" $grace $least) -}}
{{- end -}}
{{- if $server -}}
  {{- $most := ternary (int $v.autoscaling.maxReplicas) (int $v.replicas) $v.autoscaling.enabled -}}
  {{- $counted := include "tokenbudget.counted" . -}}
  {{- if and (gt $most 1) (not $v.budgetsPerReplica) -}}
    {{- fail (printf "%d servers would each allow the whole of %s, since the file store belongs to one server: set replicas: 1 and autoscaling.enabled: false (one server carries thousands of streams); or divide the amounts by the number of servers and set budgetsPerReplica: true" $most (default "every budget" $counted)) -}}
  {{- end -}}
  {{- if and (gt $most 1) $v.persistence.existingClaim -}}
    {{- fail "persistence.existingClaim: several servers cannot share a volume, which the first one locks; leave it out, and each gets a claim of its own" -}}
  {{- end -}}
  {{- if and $v.autoscaling.enabled (gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) -}}
    {{- fail "autoscaling.minReplicas is more than maxReplicas" -}}
  {{- end -}}
  {{- if and $v.persistence.existingClaim (not $v.persistence.enabled) -}}
    {{- fail "persistence.existingClaim has no effect with persistence.enabled: false: set one of the two" -}}
  {{- end -}}
  {{- if and $v.serviceMonitor.enabled (not $v.admin.expose) -}}
    {{- fail "serviceMonitor.enabled: Prometheus cannot reach the admin port: set admin.expose: true" -}}
  {{- end -}}
  {{- if and $v.serviceMonitor.enabled $v.tls.secretName (not $v.serviceMonitor.tlsConfig) -}}
    {{- fail "serviceMonitor.tlsConfig is needed with tls: say which authority signs the server (ca), and cert and keySecret, or authorization with the admin token" -}}
  {{- end -}}
  {{- if and $v.networkPolicy.enabled (not $v.networkPolicy.envoy) -}}
    {{- fail "networkPolicy.envoy: a rule that names nobody lets everybody in: name who may use the server, or set networkPolicy.enabled: false" -}}
  {{- end -}}
  {{- if and $v.service.headless (ne $v.service.type "ClusterIP") -}}
    {{- fail (printf "service.headless: a Service of the type %s has an address: set service.type: ClusterIP, or leave headless out" $v.service.type) -}}
  {{- end -}}
  {{- $resources := default dict $v.resources -}}
  {{- if and $v.autoscaling.enabled (not (default dict $resources.requests).cpu) (not (default dict $resources.limits).cpu) -}}
    {{- fail "autoscaling.enabled: the use of CPU is in percent of what is requested: set resources.requests.cpu" -}}
  {{- end -}}
  {{- if and $v.networkPolicy.enabled $v.serviceMonitor.enabled (not $v.networkPolicy.prometheus) -}}
    {{- fail "networkPolicy.prometheus lets nobody read the metrics: name your Prometheus there" -}}
  {{- end -}}
{{- else -}}
  {{- range $what, $on := dict "autoscaling.enabled" $v.autoscaling.enabled "podDisruptionBudget.enabled" $v.podDisruptionBudget.enabled "serviceMonitor.enabled" $v.serviceMonitor.enabled "tls.secretName" $v.tls.secretName "budgetsPerReplica" $v.budgetsPerReplica -}}
    {{- if $on }}{{ fail (printf "%s is for mode: server; leave it out, the pods are Envoy's" $what) }}{{ end -}}
  {{- end -}}
{{- end -}}
{{- end -}}
