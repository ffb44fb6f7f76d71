{{/* The chart's name, for labels. */}}
{{- define "registry.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of all objects, with room for the suffix `-metrics`. */}}
{{- define "registry.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 55 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default "registry" .Values.nameOverride -}}
{{- contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) | trunc 55 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels of every object, except for pod templates: these labels change with each version. */}}
{{- define "registry.labels" -}}
{{- $own := include "registry.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service -}}
{{- $_ := set $own "app.kubernetes.io/version" .Chart.AppVersion -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") -}}
{{- merge $own .Values.commonLabels | toYaml -}}
{{- end -}}

{{/* Selector of the pods. Immutable in a Deployment, so these labels may not change between versions. */}}
{{- define "registry.selectorLabels" -}}
app.kubernetes.io/name: {{ include "registry.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: registry
{{- end -}}

{{/* Labels of the pod of `helm test`, which no Service may select. */}}
{{- define "registry.testLabels" -}}
app.kubernetes.io/name: {{ include "registry.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end -}}

{{/* Labels of the nodes that can run the image. */}}
{{- define "registry.nodeSelector" -}}
{{- with .Values.architecture -}}
{{- merge (dict "kubernetes.io/arch" .) ($.Values.nodeSelector | default dict) | toYaml -}}
{{- else -}}
{{- .Values.nodeSelector | default dict | toYaml -}}
{{- end -}}
{{- end -}}

{{- define "registry.serviceAccountName" -}}
{{- default (.Values.serviceAccount.create | ternary (include "registry.fullname" .) "default") .Values.serviceAccount.name -}}
{{- end -}}

{{- define "registry.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* "true" if the content is in a bucket. */}}
{{- define "registry.hasBucket" -}}
{{- if ne .Values.storage.type "filesystem" }}true{{ end -}}
{{- end -}}

{{/* "true" if several pods may serve the storage at once: a bucket, or a volume that none of them writes to. */}}
{{- define "registry.isShared" -}}
{{- if or (include "registry.hasBucket" .) .Values.readOnly }}true{{ end -}}
{{- end -}}

{{/* "true" if the registry has users. */}}
{{- define "registry.hasUsers" -}}
{{- $auth := .Values.config.auth | default "none" -}}
{{- if .Values.auth.htpasswd.existingSecret -}}
true
{{- else if kindIs "map" $auth -}}
{{- if omit $auth "none" }}true{{ end -}}
{{- else if ne (toString $auth) "none" -}}
true
{{- end -}}
{{- end -}}

{{/* The name of the PersistentVolumeClaim, empty without one. */}}
{{- define "registry.claim" -}}
{{- if not (or (include "registry.hasBucket" .) .Values.storage.filesystem.ephemeral) -}}
{{- default (include "registry.fullname" .) .Values.storage.filesystem.existingClaim -}}
{{- end -}}
{{- end -}}

{{/* Registry, as `helm test` names it. */}}
{{- define "registry.testRegistry" -}}
{{- default (printf "%s.%s.svc:%v" (include "registry.fullname" .) .Release.Namespace .Values.service.port) .Values.test.registry -}}
{{- end -}}

{{/* Ends the rendering if the values contradict each other in a way that no schema expresses in words. */}}
{{- define "registry.check" -}}
{{- $storage := .Values.storage -}}
{{- if gt (int .Values.replicas) 1 -}}
{{- if not (include "registry.isShared" .) -}}
{{- fail "replicas: a volume has one writer; use a bucket (storage.type), or set readOnly" -}}
{{- end -}}
{{- if and (include "registry.claim" .) (not $storage.filesystem.existingClaim) -}}
{{- if not (or (has "ReadWriteMany" $storage.filesystem.accessModes) (has "ReadOnlyMany" $storage.filesystem.accessModes)) -}}
{{- fail "replicas: pods on several nodes need storage.filesystem.accessModes with ReadWriteMany or ReadOnlyMany" -}}
{{- end -}}
{{- end -}}
{{- if and (include "registry.hasUsers" .) (not .Values.httpSecret.existingSecret) -}}
{{- fail (printf "httpSecret.existingSecret: several replicas with users need one secret; create it: kubectl --namespace %s create secret generic NAME --from-literal=%s=\"$(openssl rand -hex 32)\"" .Release.Namespace .Values.httpSecret.key) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.readOnly (not (include "registry.hasBucket" .)) $storage.filesystem.ephemeral -}}
{{- fail "readOnly: an emptyDir begins empty, so that there would be nothing to serve; set storage.filesystem.ephemeral to false" -}}
{{- end -}}
{{- if and .Values.auth.htpasswd.existingSecret .Values.config.auth -}}
{{- fail "config.auth: there is one kind of users; leave out either this or auth.htpasswd.existingSecret" -}}
{{- end -}}
{{- $type := dig "credentials" "type" "" $storage.azure -}}
{{- if and (eq $storage.type "azure") (has $type (list "shared_key" "client_secret")) (not $storage.credentials.existingSecret) -}}
{{- fail (printf "storage.credentials.existingSecret: credentials of type %s are in a Secret; name it" $type) -}}
{{- end -}}
{{- if and (eq $storage.type "azure") $storage.credentials.existingSecret (not (has $type (list "shared_key" "client_secret"))) -}}
{{- fail "storage.azure.credentials.type: shared_key or client_secret says what the Secret of storage.credentials holds" -}}
{{- end -}}
{{- range list
  (list (list "version") "it is always 0.1; leave it out")
  (list (list "http" "addr") "the chart sets it; use service.port")
  (list (list "http" "net") "the chart sets it; leave it out")
  (list (list "http" "debug") "the chart sets it; leave it out")
  (list (list "http" "draintimeout") "use shutdown.drainSeconds")
  (list (list "http" "secret") "it would be readable in the ConfigMap; use httpSecret.existingSecret")
  (list (list "http" "tls" "certificate") "use tls.existingSecret")
  (list (list "http" "tls" "key") "use tls.existingSecret")
  (list (list "log" "level") "use log.level")
  (list (list "log" "formatter") "use log.format")
  (list (list "log" "accesslog") "use log.access")
  (list (list "storage" "delete" "enabled") "use storage.deletes")
  (list (list "storage" "filesystem") "use storage.type and storage.filesystem")
  (list (list "storage" "inmemory") "use storage.filesystem.ephemeral")
  (list (list "storage" "s3") "use storage.s3")
  (list (list "storage" "gcs") "use storage.gcs")
  (list (list "storage" "azure") "use storage.azure")
  -}}
{{- $path := index . 0 -}}
{{- $node := $.Values.config -}}
{{- $found := true -}}
{{- range $path -}}
{{- if and (kindIs "map" $node) (hasKey $node .) }}{{ $node = get $node . }}{{ else }}{{ $found = false }}{{ $node = "" }}{{ end -}}
{{- end -}}
{{- if and $found (not (kindIs "invalid" $node)) -}}
{{- fail (printf "config.%s: %s" (join "." $path) (index . 1)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The registry's configuration file. */}}
{{- define "registry.config" -}}
{{- $values := .Values -}}
{{- $driver := dict "rootdirectory" "/data" -}}
{{- if include "registry.hasBucket" . -}}
{{- $driver = dict -}}
{{- range $key, $value := index $values.storage $values.storage.type -}}
{{- /* Numbers of values are floats, and a large one would be written with an exponent. */ -}}
{{- if kindIs "float64" $value }}{{ $value = int64 $value }}{{ end -}}
{{- $_ := set $driver $key $value -}}
{{- end -}}
{{- if and (eq $values.storage.type "gcs") $values.storage.credentials.existingSecret -}}
{{- $_ := set $driver "keyfile" (printf "/etc/quinistry/bucket/%s" $values.storage.credentials.keys.keyfile) -}}
{{- end -}}
{{- end -}}
{{- $http := dict
  "addr" ":5000"
  "draintimeout" (printf "%vs" $values.shutdown.drainSeconds)
  "debug" (dict "addr" ":5001" "prometheus" (dict "enabled" true "path" "/metrics"))
-}}
{{- if $values.tls.existingSecret -}}
{{- $_ := set $http "tls" (dict "certificate" "/etc/quinistry/tls/tls.crt" "key" "/etc/quinistry/tls/tls.key") -}}
{{- end -}}
{{- $config := dict
  "version" 0.1
  "log" (dict "level" $values.log.level "formatter" $values.log.format "accesslog" (dict "disabled" (not $values.log.access)))
  "storage" (dict $values.storage.type $driver "delete" (dict "enabled" $values.storage.deletes))
  "http" $http
  "health" (dict "storagedriver" (dict "enabled" true))
-}}
{{- with $values.auth.htpasswd -}}
{{- if .existingSecret -}}
{{- $_ := set $config "auth" (dict "htpasswd" (dict "realm" .realm "path" (printf "/etc/quinistry/auth/%s" .key))) -}}
{{- end -}}
{{- end -}}
{{- mergeOverwrite $config (deepCopy $values.config) | toYaml -}}
{{- end -}}

{{/* Environment variables with the Secrets that the configuration file must not hold, and those of the values. */}}
{{- define "registry.env" -}}
{{- $credentials := .Values.storage.credentials -}}
{{- $secrets := list -}}
{{- with .Values.httpSecret -}}
{{- if .existingSecret -}}
{{- $secrets = append $secrets (list "HTTP_SECRET" .existingSecret .key) -}}
{{- end -}}
{{- end -}}
{{- if $credentials.existingSecret -}}
{{- $type := dig "credentials" "type" "" .Values.storage.azure -}}
{{- if eq .Values.storage.type "s3" -}}
{{- $secrets = append $secrets (list "STORAGE_S3_ACCESSKEY" $credentials.existingSecret $credentials.keys.accesskey) -}}
{{- $secrets = append $secrets (list "STORAGE_S3_SECRETKEY" $credentials.existingSecret $credentials.keys.secretkey) -}}
{{- else if and (eq .Values.storage.type "azure") (eq $type "shared_key") -}}
{{- $secrets = append $secrets (list "STORAGE_AZURE_ACCOUNTKEY" $credentials.existingSecret $credentials.keys.accountkey) -}}
{{- else if eq .Values.storage.type "azure" -}}
{{- $secrets = append $secrets (list "STORAGE_AZURE_CREDENTIALS_SECRET" $credentials.existingSecret $credentials.keys.clientsecret) -}}
{{- end -}}
{{- end -}}
{{- range $secrets }}
- name: REGISTRY_{{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ index . 1 }}
      key: {{ index . 2 }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
