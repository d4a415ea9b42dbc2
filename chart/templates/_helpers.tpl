{{/*
Says `true` where the release is to have the hook at all, else nothing.
*/}}
{{- define "prepull.enabled" -}}
{{- if and .Values.enabled (include "prepull.images" . | fromJsonArray) -}}
true
{{- end -}}
{{- end -}}

{{/*
The images as a JSON list in which every reference is rendered. What renders to several references
becomes as many entries, and what renders to nothing is left out.
*/}}
{{- define "prepull.images" -}}
{{- $images := list -}}
{{- range $entry := .Values.images -}}
{{- if kindIs "string" $entry -}}
{{- range regexSplit "\\s+" (tpl $entry $) -1 | compact -}}
{{- $images = append $images . -}}
{{- end -}}
{{- else -}}
{{- range regexSplit "\\s+" (tpl $entry.image $) -1 | compact -}}
{{- $images = append $images (set (deepCopy $entry) "image" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $images -}}
{{- $image := toString . -}}
{{- if kindIs "map" . -}}
{{- $image = .image -}}
{{- end -}}
{{- if regexMatch "^[:@/]|[:@/]$|//|<|map\\[" $image -}}
{{- printf "images: `%s` is no image reference: a template in it renders a map or nothing; it sees `.Values.global`, `.Release` and `.Capabilities`, but not your chart's other values" $image | fail -}}
{{- end -}}
{{- if eq (include "prepull.image" $) $image -}}
{{- printf "images: `%s` is prepull's own image; in a template here `.Values.image` is prepull's, so put yours into `global`" $image | fail -}}
{{- end -}}
{{- end -}}
{{- toJson $images -}}
{{- end -}}

{{/*
The structured settings of the binary: one JSON document in Kubernetes' own field names.
*/}}
{{- define "prepull.settings" -}}
{{- $images := include "prepull.images" . | fromJsonArray -}}
{{- $secrets := include "prepull.imagePullSecrets" (list $ .Values.puller) | fromJsonArray -}}
{{- $context := include "prepull.podSecurityContext" (list $ .Values.puller) | fromJson -}}
{{- $puller := deepCopy .Values.puller -}}
{{- $_ := set $puller "imagePullSecrets" $secrets -}}
{{- $_ := set $puller "podSecurityContext" $context -}}
{{- dict "images" $images "controlPlane" .Values.controlPlane "puller" $puller | toJson -}}
{{- end -}}

{{/*
The name of every object of ours in the release's namespace, and the beginning of the puller's.

The release's name and the chart's are always both in it. Most charts leave the chart's out where
the release's contains it, but helm deletes a hook object before it makes it anew: this name must
never be that of an object of the parent chart, or of another alias of this one.

It has at most 40 characters, which leaves room for what the binary and Kubernetes add to it.
*/}}
{{- define "prepull.fullname" -}}
{{- $name := printf "%s-%s" .Release.Name (default .Chart.Name .Values.nameOverride) -}}
{{- include "prepull.fit" (list (default $name .Values.fullnameOverride) 40) -}}
{{- end -}}

{{/*
The name of our cluster-wide objects. Neither part can contain a colon, so that two releases can
never share a name.
*/}}
{{- define "prepull.clusterName" -}}
{{- $name := printf "%s:%s" .Release.Namespace (include "prepull.fullname" .) -}}
{{- include "prepull.fit" (list $name 63) -}}
{{- end -}}

{{/*
Makes a valid name of at most so many characters. What had to be changed for it gets a checksum of
the whole, so that different names stay different: releases may have dots in their names, and
aliases of charts capitals and underscores.
*/}}
{{- define "prepull.fit" -}}
{{- $text := index . 0 -}}
{{- $limit := index . 1 -}}
{{- $name := regexReplaceAll "[^-:a-z0-9]" (lower $text) "-" -}}
{{- if and (eq $name $text) (le (len $name) $limit) -}}
{{- $name -}}
{{- else -}}
{{- $start := trunc (sub $limit 9 | int) $name | trimSuffix "-" -}}
{{- printf "%s-%s" $start (sha256sum $text | trunc 8) -}}
{{- end -}}
{{- end -}}

{{/*
The ServiceAccount of the hook.
*/}}
{{- define "prepull.serviceAccountName" -}}
{{- $made := ternary (include "prepull.fullname" .) "default" .Values.serviceAccount.create -}}
{{- default $made .Values.serviceAccount.name -}}
{{- end -}}

{{/*
Our own image, with its tag, its digest or both.
*/}}
{{- define "prepull.image" -}}
{{- $tag := .Values.image.tag -}}
{{- if not (or $tag .Values.image.digest) -}}
{{- $tag = .Chart.AppVersion -}}
{{- end -}}
{{- tpl .Values.image.repository . | trim -}}
{{- with $tag }}:{{ . }}{{ end -}}
{{- with .Values.image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/*
The labels of our objects. The name stays `prepull` under every alias and override, so that one
selector finds all that a killed helm has left.
*/}}
{{- define "prepull.labels" -}}
app.kubernetes.io/name: prepull
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- $chart := printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
helm.sh/chart: {{ $chart | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/*
The annotations that make an object a hook, with its weight. Helm sorts hooks of one weight by their
names and not by their kinds, so that each of our objects needs a weight of its own.
*/}}
{{- define "prepull.hook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{/*
The pull secrets of `job` or `puller` as a JSON list in which every name is rendered. What renders
to nothing is left out.
*/}}
{{- define "prepull.imagePullSecrets" -}}
{{- $root := index . 0 -}}
{{- $secrets := list -}}
{{- range (index . 1).imagePullSecrets -}}
{{- with tpl .name $root | trim -}}
{{- $secrets = append $secrets (dict "name" .) -}}
{{- end -}}
{{- end -}}
{{- toJson $secrets -}}
{{- end -}}

{{/*
The pod's security context of `job` or `puller` as JSON. OpenShift gives each namespace a range of
ids and refuses pods that ask for others, so that ours are left out there; those that the user has
chosen stay.
*/}}
{{- define "prepull.podSecurityContext" -}}
{{- $root := index . 0 -}}
{{- $context := deepCopy (default dict (index . 1).podSecurityContext) -}}
{{- if $root.Capabilities.APIVersions.Has "security.openshift.io/v1" -}}
{{- range $key, $value := $context -}}
{{- if eq (toString $value) "65532" -}}
{{- $_ := unset $context $key -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $context -}}
{{- end -}}
