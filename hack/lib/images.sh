# shellcheck shell=bash
# Images in the registry and on the nodes.

# push_image and tag_image leave the arguments to the registry program, which knows them all.
push_image() { "$BIN/prepull-registry" push --registry "$REGISTRY" "$@"; }
tag_image() { "$BIN/prepull-registry" tag --registry "$REGISTRY" "$@"; }

# on_node NUMBER ARGS... runs ctr against the node's containerd.
on_node() {
	local number=$1
	shift
	# Its warnings are about the machine, and would come with every call.
	CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1 in_node "$number" "$BIN/ctr" --namespace k8s.io "$@"
}

# forget_images NUMBER [IMAGE...] takes images off a node, with every name and all content; without
# images all but the sandbox's. A pull after that transfers everything again.
forget_images() {
	local number=$1
	shift
	local listed going staying names blobs
	listed=$(on_node "$number" images ls | awk 'NR > 1 { print $1, $3 }')
	going=$(digests_to_forget "$listed" "$@")
	[[ -n $going ]] || return 0
	# containerd knows an image by its digest, and any one of its names would keep the content.
	names=$(awk 'NR == FNR { going[$1]; next } $2 in going { print $1 }' <(echo "$going") <(echo "$listed"))
	staying=$(awk 'NR == FNR { going[$1]; next } !($2 in going) { print $2 }' <(echo "$going") <(echo "$listed"))
	warn_of_use "$number" "$names"
	blobs=$(blobs_of "$number" "$going")
	# shellcheck disable=SC2086 # It is a list.
	on_node "$number" images rm --sync $names >/dev/null
	wait_until 30 "the removal of the content on node$number" "containerd-node$number" \
		are_gone "$number" "$blobs" "$staying"
	# shellcheck disable=SC2086 # It is a list.
	printf "node$number: forgot %s\n" $names
}

# digests_to_forget LISTED [IMAGE...]
digests_to_forget() {
	local listed=$1 pause image
	shift
	pause=$(awk -v name="$PAUSE_IMAGE" '$1 == name { print $2 }' <<<"$listed")
	if (($# == 0)); then
		awk -v pause="$pause" 'NF && $2 != pause { print $2 }' <<<"$listed" | sort -u
		return
	fi
	for image in "$@"; do
		awk -v name="$(full_name "$image")" -v pause="$pause" \
			'$1 == name && $2 != pause { print $2 }' <<<"$listed"
	done | sort -u
}

# full_name completes an image name as the node does: docker.io, library and latest.
full_name() {
	local name=$1 first=${1%%/*}
	if [[ $name != */* || ! ($first == *.* || $first == *:* || $first == localhost) ]]; then
		name=docker.io/$name
	fi
	if [[ $name == docker.io/* && ${name#docker.io/} != */* ]]; then
		name=docker.io/library/${name#docker.io/}
	fi
	# With a digest the tag does not count.
	if [[ $name == *@* ]]; then
		local before=${name%@*}
		if [[ ${before##*/} == *:* ]]; then before=${before%:*}; fi
		name=$before@${name#*@}
	elif [[ ${name##*/} != *:* ]]; then
		name=$name:latest
	fi
	echo "$name"
}

warn_of_use() {
	local number=$1 names=$2 used
	used=$(on_node "$number" containers ls | awk 'NR > 1 { print $2 }' | sort -u | grep -Fx "$names" || true)
	# containerd fetches no layer whose unpacked files it still has.
	[[ -z $used ]] ||
		say "warning: node$number has containers of ${used//$'\n'/, }, so their files stay, and a pull transfers no layer; delete the pods first"
}

# are_gone NUMBER BLOBS DIGESTS: the node has none of the blobs but what the digests need as well.
are_gone() {
	local number=$1 blobs=$2 digests=$3 left
	left=$(on_node "$number" content ls --quiet | grep -Fx "$blobs" || true)
	[[ -n $left ]] || return 0
	left=$(grep -vFx "$(blobs_of "$number" "$digests")" <<<"$left" || true)
	[[ -z $left ]]
}

# blobs_of NUMBER DIGESTS prints the digests, and those of everything below them.
blobs_of() {
	local number=$1 digests=$2 digest manifest
	for digest in $digests; do
		echo "$digest"
		manifest=$(on_node "$number" content get "$digest" 2>/dev/null) || continue
		jq -r '.config.digest // empty, (.layers // [])[].digest' <<<"$manifest"
		blobs_of "$number" "$(jq -r '(.manifests // [])[].digest' <<<"$manifest")"
	done
}
