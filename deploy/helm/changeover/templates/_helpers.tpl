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

{{/* Keys of secrets as files of one volume; of each its ref and the path. Those that name no secret are left out. */}}
{{- define "changeover.keysVolume" -}}
- name: {{ .name }}
  projected:
    defaultMode: 0440
    sources:
      {{- range .keys }}
      {{- if .ref.secret }}
      - secret:
          name: {{ .ref.secret }}
          items:
            - key: {{ .ref.key }}
              path: {{ .path }}
      {{- end }}
      {{- end }}
{{- end }}

{{/* The container of the service, and that of the check, which sees what the service sees: environment, mounts, volumes. */}}
{{- define "changeover.serverEnv" -}}
- name: CHANGEOVER_DATABASE_URL_FILE
  value: /run/secrets/changeover/database/url
{{- if .Values.database.listenUrl.secret }}
- name: CHANGEOVER_DATABASE_LISTEN_URL_FILE
  value: /run/secrets/changeover/database/listenUrl
{{- end }}
{{- if .Values.login.clientSecret.secret }}
- name: CHANGEOVER_AUTH_LOGIN_CLIENT_SECRET_FILE
  value: /run/secrets/changeover/login/clientSecret
{{- end }}
{{- if .Values.login.stateSecret.secret }}
- name: CHANGEOVER_AUTH_LOGIN_STATE_SECRET_FILE
  value: /run/secrets/changeover/login/stateSecret
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "changeover.serverMounts" -}}
- {name: config, mountPath: /etc/changeover, readOnly: true}
- {name: database, mountPath: /run/secrets/changeover/database, readOnly: true}
{{- if or .Values.login.clientSecret.secret .Values.login.stateSecret.secret }}
- {name: login, mountPath: /run/secrets/changeover/login, readOnly: true}
{{- end }}
{{- if .Values.tls.secret }}
- {name: tls, mountPath: /run/secrets/changeover/tls, readOnly: true}
{{- end }}
{{- include "changeover.secretMounts" . }}
{{- end }}

{{- define "changeover.serverVolumes" -}}
- name: config
  secret:
    secretName: {{ include "changeover.name" . }}
    defaultMode: 0440
{{- $d := .Values.database }}
{{ include "changeover.keysVolume" (dict "name" "database" "keys" (list (dict "ref" $d.url "path" "url") (dict "ref" $d.listenUrl "path" "listenUrl"))) }}
{{- $l := .Values.login }}
{{- if or $l.clientSecret.secret $l.stateSecret.secret }}
{{ include "changeover.keysVolume" (dict "name" "login" "keys" (list (dict "ref" $l.clientSecret "path" "clientSecret") (dict "ref" $l.stateSecret "path" "stateSecret"))) }}
{{- end }}
{{- if .Values.tls.secret }}
- name: tls
  secret:
    secretName: {{ .Values.tls.secret }}
    defaultMode: 0440
{{- end }}
{{- include "changeover.secretVolumes" . }}
{{- end }}

{{/* Nine tenths of the memory limit, in bytes: Go collects garbage harder before the kernel ends the process. Empty without a limit. (Of
limits.cpu Go knows by itself.) */}}
{{- define "changeover.memoryLimit" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 -}}
{{- $limit := dig "limits" "memory" "" .Values.resources | toString -}}
{{- if $limit -}}
{{- if not (regexMatch "^[0-9]+(\\.[0-9]+)?(k|M|G|Ki|Mi|Gi)?$" $limit) }}{{ fail (printf "resources.limits.memory: %q is not an amount such as 2Gi or 1500Mi" $limit) }}{{ end -}}
{{- mulf (regexFind "^[0-9.]+" $limit | float64) (get $units (regexFind "[kKMGi]+$" $limit)) 0.9 | int64 -}}
{{- end -}}
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
{{- if and (dig "auth" "login" "clientId" "" $v.config) (not $v.login.clientSecret.secret) (not $v.login.stateSecret.secret) }}
{{- fail "login.stateSecret is required with config.auth.login.clientId, or login.clientSecret where the identity provider gave one: the replicas have to share what they encrypt a sign-in with" }}{{ end -}}
{{- if and $v.autoscaling.enabled (lt (int $v.autoscaling.maxReplicas) (int $v.autoscaling.minReplicas)) }}{{ fail "autoscaling.maxReplicas is less than autoscaling.minReplicas" }}{{ end -}}
{{- end }}
