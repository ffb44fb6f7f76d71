{{/* The chart's name, for labels. */}}
{{- define "quinistry.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of all objects. "-operator", because the resource that people make is called quinistry, and so is its DaemonSet. */}}
{{- define "quinistry.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "quinistry.name" . -}}
{{- $base := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- printf "%s-operator" ($base | trunc 54 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{/* The name of cluster-wide objects. Several operators may each watch their own namespace, so it carries that. */}}
{{- define "quinistry.clusterName" -}}
{{- $name := include "quinistry.fullname" . -}}
{{- not (empty .Values.watchNamespace) | ternary (printf "%s-%s" $name .Values.watchNamespace) $name -}}
{{- end -}}

{{/* Labels of every object. Never in a pod template: they change with each version. */}}
{{- define "quinistry.labels" -}}
{{- $own := include "quinistry.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service -}}
{{- $_ := set $own "app.kubernetes.io/version" .Chart.AppVersion -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") -}}
{{- merge $own .Values.commonLabels | toYaml -}}
{{- end -}}

{{/* What finds the operator's pod. Immutable in a Deployment, so nothing here may change between versions. */}}
{{- define "quinistry.selectorLabels" -}}
app.kubernetes.io/name: {{ include "quinistry.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* The same for the pod of `helm test`, which no Service may lead to. */}}
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

{{/* The rights in the namespaces where resources live: the rules of a Role or of a ClusterRole. */}}
{{- define "quinistry.namespacedRules" -}}
# What is wanted.
- apiGroups: [quinistry.dev]
  resources: [quinistries]
  verbs: [get, list, watch]
# What is observed is written into the status, which is a resource of its own; never read back, never replaced whole.
- apiGroups: [quinistry.dev]
  resources: [quinistries/status]
  verbs: [patch]
# One DaemonSet per generation. Server-side apply needs create and patch; shrinking deletes the highest.
- apiGroups: [apps]
  resources: [daemonsets]
  verbs: [get, list, watch, create, patch, delete]
# Pods tell which nodes are proven. Delete is for those that never started and wait in a back-off of minutes although
# their predecessor serves by now.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, delete]
# What the operator did, and why. A repeated Event is a patch of the first one. Read, because only an Event says that
# Pod Security refuses a DaemonSet's pods.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [list, watch, create, patch]
{{- if .Values.seed.enabled }}
# The pieces of generation 0's executable: what was lost or altered is made anew, and those of an older executable go.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
# The Lease by which one of several operators claims a namespace. Creating cannot be limited to a name.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
# Renewing the claim, and taking it over from one that does not.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [quinistry-claim]
  verbs: [get, update]
{{- end -}}

{{/* The rights beyond namespaces. */}}
{{- define "quinistry.clusterRules" -}}
# Nodes come and go, are ready or not, and have an architecture: that decides where generations are expected. Nodes
# belong to no namespace, so only a ClusterRole can grant this.
- apiGroups: [""]
  resources: [nodes]
  verbs: [list, watch]
{{- if .Values.seed.enabled }}
# The label that names the image in which generation 0 runs on a node, and the annotation that says which were tried
# where there is none. An admission policy refuses any other change.
- apiGroups: [""]
  resources: [nodes]
  verbs: [patch]
# Pods of all namespaces tell which images the nodes have.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
{{- end }}
{{- end -}}
