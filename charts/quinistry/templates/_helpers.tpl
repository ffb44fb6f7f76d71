{{/* The chart's name, for labels. */}}
{{- define "quinistry.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of all objects. "-operator", since users call their resource quinistry, and its DaemonSet has the same name. */}}
{{- define "quinistry.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "quinistry.name" . -}}
{{- $base := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- printf "%s-operator" ($base | trunc 54 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{/* The name of cluster-wide objects. It contains the watched namespace, since several operators may watch one each. */}}
{{- define "quinistry.clusterName" -}}
{{- $name := include "quinistry.fullname" . -}}
{{- not (empty .Values.watchNamespace) | ternary (printf "%s-%s" $name .Values.watchNamespace) $name -}}
{{- end -}}

{{/* Labels of every object, except for pod templates: these labels change with each version. */}}
{{- define "quinistry.labels" -}}
{{- $own := include "quinistry.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service -}}
{{- $_ := set $own "app.kubernetes.io/version" .Chart.AppVersion -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") -}}
{{- merge $own .Values.commonLabels | toYaml -}}
{{- end -}}

{{/* Selector of the operator's pod. Immutable in a Deployment, so these labels may not change between versions. */}}
{{- define "quinistry.selectorLabels" -}}
app.kubernetes.io/name: {{ include "quinistry.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* Labels of the pod of `helm test`, which the Service must not select. */}}
{{- define "quinistry.testLabels" -}}
app.kubernetes.io/name: {{ include "quinistry.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end -}}

{{/* Labels of the nodes that can run the image. */}}
{{- define "quinistry.nodeSelector" -}}
{{- with .Values.architecture -}}
{{- merge (dict "kubernetes.io/arch" .) ($.Values.nodeSelector | default dict) | toYaml -}}
{{- else -}}
{{- .Values.nodeSelector | default dict | toYaml -}}
{{- end -}}
{{- end -}}

{{- define "quinistry.serviceAccountName" -}}
{{- default (.Values.serviceAccount.create | ternary (include "quinistry.fullname" .) "default") .Values.serviceAccount.name -}}
{{- end -}}

{{- define "quinistry.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Rules in the namespaces of the resources, for a Role or a ClusterRole. */}}
{{- define "quinistry.namespacedRules" -}}
# The desired state.
- apiGroups: [quinistry.dev]
  resources: [quinistries]
  verbs: [get, list, watch]
# The operator patches the status subresource with the observed state, and never replaces it as a whole.
- apiGroups: [quinistry.dev]
  resources: [quinistries/status]
  verbs: [patch]
# One DaemonSet per generation. Server-side apply needs create and patch; shrinking deletes the highest.
- apiGroups: [apps]
  resources: [daemonsets]
  verbs: [get, list, watch, create, patch, delete]
# Pods show which nodes are proven. The operator deletes pods that never started and wait in a back-off of
# minutes although their predecessor serves by now.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, delete]
# Events report what the operator did, and why; a repeated Event is a patch of the first one. The operator
# reads Events because only these report that Pod Security refuses a DaemonSet's pods.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [list, watch, create, patch]
{{- if .Values.store.enabled }}
# An annotation on pods lets their kubelets read new names of images at once, instead of within two minutes.
- apiGroups: [""]
  resources: [pods]
  verbs: [patch]
# The names and digests of delivered images.
- apiGroups: [quinistry.dev]
  resources: [bundles]
  verbs: [get, list, watch]
# The operator patches the status subresource with what nodes can serve.
- apiGroups: [quinistry.dev]
  resources: [bundles/status]
  verbs: [patch]
{{- end }}
{{- if .Values.seed.enabled }}
# The seed parts of generation 0's executable: lost or altered parts are created again, those of older
# executables are deleted. Also the names of delivered images.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, delete]
{{- else if .Values.store.enabled }}
# The names of delivered images, which stores and generations read.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch]
{{- end }}
{{- if .Values.store.enabled }}
# The Service of a resource's stores, whose address the generations ask. The operator reads it by name.
# Server-side apply needs create and patch; a Service without an address, or without stores, is deleted.
- apiGroups: [""]
  resources: [services]
  verbs: [get, create, patch, delete]
# The policy that leads to the stores' reading port alone; deleted with the stores.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, create, patch, delete]
{{- end }}
# The Lease by which one of several operators claims a namespace. RBAC cannot limit create to a name.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
# Renews the claim, and takes over one that its holder does not renew.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [quinistry-claim]
  verbs: [get, update]
{{- end -}}

{{/* Rules for cluster-wide objects. */}}
{{- define "quinistry.clusterRules" -}}
# Readiness and architecture of the nodes determine where generations are expected. Nodes are cluster-wide, so
# that only a ClusterRole can grant this.
- apiGroups: [""]
  resources: [nodes]
  verbs: [list, watch]
{{- if .Values.seed.enabled }}
# The label that names the image in which generation 0 runs on a node, and the annotation that lists the
# images tried on a node without one. An admission policy refuses all other changes.
- apiGroups: [""]
  resources: [nodes]
  verbs: [patch]
# Pods of all namespaces show which images the nodes have.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
{{- end }}
{{- end -}}
