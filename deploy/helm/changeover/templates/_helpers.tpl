{{- define "changeover.name" -}}
{{- contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) | trunc 48 | trimSuffix "-" }}
{{- end }}

{{- define "changeover.selector" -}}
app.kubernetes.io/name: changeover
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "changeover.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "changeover.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "changeover.image" -}}
{{- $i := .Values.image -}}
{{- if $i.digest }}{{ $i.repository }}@{{ $i.digest }}{{ else }}{{ $i.repository }}:{{ $i.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "changeover.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "changeover.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{/* The service's configuration: the values' config with what the chart decides. */}}
{{- define "changeover.config" -}}
{{- $http := dict "listen" "0.0.0.0:8080" "metricsListen" (printf "0.0.0.0:%v" .Values.metrics.port) -}}
{{- if .Values.tls.secret }}{{ $http = merge $http (dict "tlsCert" "/run/secrets/changeover/tls/tls.crt" "tlsKey" "/run/secrets/changeover/tls/tls.key") }}{{ end -}}
{{- $database := dict "migrate" false -}}
{{- $config := deepCopy .Values.config -}}
{{- $_ := set $config "http" (merge $http ($config.http | default dict)) -}}
{{- $_ := set $config "database" (merge $database ($config.database | default dict)) -}}
{{- toYaml $config }}
{{- end }}

{{/* Seconds from SIGTERM to SIGKILL: stream.drain, rounded up, and 45 s for the steps of a stop that are bounded by themselves
(the last frames, requests under way, the lease, connections). */}}
{{- define "changeover.gracePeriod" -}}
{{- $drain := dig "stream" "drain" "20s" .Values.config | toString -}}
{{- $epoch := toDate "2006-01-02" "1970-01-02" -}}
{{- $after := mustDateModify "+999999999ns" (mustDateModify (printf "+%s" $drain) $epoch) -}}
{{- $seconds := sub (unixEpoch $after) (unixEpoch $epoch) -}}
{{- add $seconds 45 }}
{{- end }}

{{- define "changeover.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "changeover.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where a secret of the database is mounted. */}}
{{- define "changeover.databaseVolume" -}}
- name: database
  projected:
    defaultMode: 0440
    sources:
      {{- range . }}
      - secret:
          name: {{ .ref.secret }}
          items:
            - key: {{ .ref.key }}
              path: {{ .path }}
      {{- end }}
{{- end }}

{{- define "changeover.secretVolumes" -}}
{{- range .Values.secretFiles }}
- name: secret-{{ .name }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
{{- end }}
{{- end }}

{{- define "changeover.secretMounts" -}}
{{- range .Values.secretFiles }}
- name: secret-{{ .name }}
  mountPath: /run/secrets/changeover/{{ .name }}
  readOnly: true
{{- end }}
{{- end }}

{{/* Out of the pods: names, the database. */}}
{{- define "changeover.egressDatabase" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
- ports:
    {{- range .Values.networkPolicy.database.ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .Values.networkPolicy.database.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* What no schema can say. */}}
{{- define "changeover.check" -}}
{{- $v := .Values -}}
{{- $auth := $v.config.auth | default dict -}}
{{- if not (or $auth.issuer $auth.jwksUrl $auth.jwksFile) }}{{ fail "config.auth.issuer is required (or jwksUrl, jwksFile): whose tokens are good; docs/security.md" }}{{ end -}}
{{- if and (or $v.ingress.enabled $v.httpRoute.enabled) (not (dig "http" "trustedProxies" (list) $v.config)) }}
{{- fail "config.http.trustedProxies is required with ingress or httpRoute: the networks from which the proxy calls, such as [10.0.0.0/16]; without it all callers share the proxy's address and its rate limit" }}{{ end -}}
{{- if and $v.serviceAccount.roleArn $v.serviceAccount.podIdentity }}{{ fail "serviceAccount.roleArn (IRSA) and serviceAccount.podIdentity are two ways to the same role; set one" }}{{ end -}}
{{- if and (not $v.serviceAccount.create) $v.serviceAccount.roleArn }}{{ fail "serviceAccount.roleArn needs serviceAccount.create; annotate your own account with eks.amazonaws.com/role-arn instead" }}{{ end -}}
{{- if and $v.autoscaling.enabled (lt (int $v.autoscaling.maxReplicas) (int $v.autoscaling.minReplicas)) }}{{ fail "autoscaling.maxReplicas is less than autoscaling.minReplicas" }}{{ end -}}
{{- end }}
