{{/* What the values say of the configuration file, as YAML. */}}
{{- define "tokenbudget.userConfig" -}}
{{- $c := .Values.config -}}
{{- if .Values.configText -}}
  {{- /* What is between the marks of documents, without comments and directives. */}}
  {{- $documents := 0 -}}
  {{- range regexSplit "(?m)^(?:---|[.][.][.])(?:[ \t\r]|$)" .Values.configText -1 -}}
    {{- if regexReplaceAll "(?m)^(?:[ \t]*#|%).*$" . "" | trim }}{{ $documents = add1 $documents }}{{ end -}}
  {{- end -}}
  {{- if gt (int $documents) 1 -}}
    {{- fail (printf "configText has %d YAML documents, of which the server takes one only: put all into one, or take the others out" (int $documents)) -}}
  {{- end -}}
  {{- $c = fromYaml .Values.configText -}}
  {{- if and (hasKey $c "Error") (not (hasKey $c "budgets")) -}}
    {{- fail "configText is no YAML mapping; check the file with: tokenbudget validate -config FILE" -}}
  {{- end -}}
{{- end -}}
{{- toYaml $c -}}
{{- end -}}

{{/* The configuration file: what the values say, the addresses and the folder of the store. */}}
{{- define "tokenbudget.config" -}}
{{- $c := include "tokenbudget.userConfig" . | fromYaml -}}
{{- $server := eq .Values.mode "server" -}}
{{- $extproc := printf "%s:%d" (ternary "" "127.0.0.1" $server) (int .Values.extproc.port) -}}
{{- $admin := printf "%s:%d" (ternary "" "127.0.0.1" .Values.admin.expose) (int .Values.admin.port) -}}
{{- $listen := dict "extproc" $extproc "admin" $admin -}}
{{- if .Values.tls.secretName -}}
  {{- $ca := printf "/etc/tokenbudget/%s/%s" (ternary "client-ca" "tls" (ne .Values.tls.clientCASecretName "")) .Values.tls.clientCAKey -}}
  {{- $tls := dict "cert" "/etc/tokenbudget/tls/tls.crt" "key" "/etc/tokenbudget/tls/tls.key" "client_ca" $ca -}}
  {{- if .Values.admin.expose -}}
    {{- $_ := set $listen "tls" $tls -}}
  {{- else -}}
    {{- $_ := set $listen "extproc" (dict "address" $extproc "tls" $tls) -}}
  {{- end -}}
{{- else if and $server .Values.networkPolicy.enabled (not (hasKey $c "insecure")) -}}
  {{/* Strangers are kept out by the NetworkPolicy. */}}
  {{- $_ := set $c "insecure" true -}}
{{- end -}}
{{- $_ := set $c "listen" $listen -}}
{{- $store := default dict $c.store -}}
{{- $_ := set $store "file" (set (default dict $store.file) "dir" "/var/lib/tokenbudget/data") -}}
{{- $_ := set $c "store" $store -}}
{{- toYaml $c -}}
{{- end -}}

{{/* What takes effect at a start only: a change of it must replace the pods. The rest is loaded while the server runs. */}}
{{- define "tokenbudget.restart" -}}
{{- $c := include "tokenbudget.config" . | fromYaml -}}
{{- $start := pick $c "listen" "insecure" "store" "max_request_body" -}}
{{- range $key, $value := pick (default dict $c.timeouts) "connection_age" -}}
  {{- $_ := set $start (print "timeouts." $key) $value -}}
{{- end -}}
{{- $start | toJson | sha256sum | trunc 16 -}}
{{- end -}}

{{/* timeouts.drain in whole seconds, rounded up. */}}
{{- define "tokenbudget.drain" -}}
{{- $timeouts := default dict (include "tokenbudget.userConfig" . | fromYaml).timeouts -}}
{{- $drain := toString (ternary $timeouts.drain "25s" (hasKey $timeouts "drain")) | trimPrefix "+" -}}
{{- if contains "$" $drain -}}
  {{- fail "config.timeouts.drain is a variable, so the grace period cannot be computed from it: write a time such as 25s" -}}
{{- end -}}
{{- $t := toDate "2006-01-02" "2000-01-01" -}}
{{- $seconds := 0 -}}
{{- if ne $drain "0" -}}
  {{- $seconds = sub (int64 (unixEpoch (mustDateModify (printf "+%s" $drain) $t))) (int64 (unixEpoch $t)) -}}
  {{- if regexMatch "(ms|us|µs|μs|ns|[.])" $drain }}{{ $seconds = add1 $seconds }}{{ end -}}
{{- end -}}
{{- $seconds -}}
{{- end -}}

{{/* Seconds between SIGTERM and SIGKILL: the drain, 4 s after its cuts, the last write of the balances. */}}
{{- define "tokenbudget.grace" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- add (int (include "tokenbudget.drain" .)) (ternary 20 30 (eq .Values.mode "server")) -}}
{{- else -}}
{{- int .Values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end -}}

{{/* The budgets with a counter, which a second server would double; a comma between. */}}
{{- define "tokenbudget.counted" -}}
{{- $names := list -}}
{{- range (include "tokenbudget.userConfig" . | fromYaml).budgets -}}
  {{- if not (has (toString .per) (list "request" "[request]")) }}{{ $names = append $names .name }}{{ end -}}
{{- end -}}
{{- join ", " $names -}}
{{- end -}}
