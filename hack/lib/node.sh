# shellcheck shell=bash
# A node: a network namespace, a containerd and a kubelet.

# prepare_node NUMBER: everything that needs no API server.
prepare_node() {
	local number=$1
	make_node_network "$number"
	make_cgroup "node$number/daemons"
	make_cgroup "node$number"
	write_cni_config "$number"
	write_containerd_config "$number"
	start_containerd "$number"
}

# start_containerd gives the node its namespaces; kubelet then joins them.
start_containerd() {
	local number=$1 folder=$CLUSTER/node$1
	# containerd looks for its shim, and the shim for runc, in the PATH.
	PATH=$BIN:$PATH start_daemon "containerd-node$number" "node$number" \
		nsenter --net="$folder/netns" \
		unshare --mount --propagation private --cgroup \
		"$HACK/lib/enter-node" "$folder" \
		"$BIN/containerd" --config "$folder/containerd.toml"
}

# start_kubelet NUMBER [SETTING...]: settings are lines of its configuration, such as 'maxPods: 2'.
start_kubelet() {
	local number=$1 folder=$CLUSTER/node$1
	shift
	write_kubelet_config "$number"
	if (($# > 0)); then printf '%s\n' "$@" >>"$folder/kubelet.yaml"; fi
	start_daemon "kubelet-node$number" "node$number/daemons" \
		nsenter --target "$(pid_of "containerd-node$number")" --mount --net --cgroup \
		"$BIN/kubernetes" kubelet \
		--config "$folder/kubelet.yaml" \
		--kubeconfig "$PKI/system:node:node$number.kubeconfig" \
		--hostname-override "node$number" --node-ip "$(node_ip "$number")"
}

# pull_pause makes the sandbox image part of the node, as on a machine image, so that a test may
# break the registry without breaking every pod.
pull_pause() {
	local number=$1
	wait_until 30 "the start of containerd on node$number" "containerd-node$number" \
		in_node "$number" "$BIN/ctr" version
	in_node "$number" "$BIN/ctr" --namespace k8s.io images pull --hosts-dir "$CLUSTER/hosts" \
		"$PAUSE_IMAGE" >>"$LOGS/containerd-node$number.log" 2>&1 ||
		fail "cannot pull $PAUSE_IMAGE on node$number; see $LOGS/containerd-node$number.log"
}

# in_node NUMBER COMMAND... runs a command with the node's network and mounts.
in_node() {
	local number=$1
	shift
	is_running "containerd-node$number" ||
		fail "containerd of node$number does not run; look at $LOGS/containerd-node$number.log"
	nsenter --target "$(pid_of "containerd-node$number")" --mount --net --cgroup "$@"
}

# === Configuration ===

write_cni_config() {
	local number=$1 folder=$CLUSTER/node$1/cni
	mkdir -p "$folder"
	# Pods reach the API server under the node's address (ipMasq), so nobody needs a route to them.
	cat >"$folder/10-prepull.conflist" <<-EOT
		{"cniVersion": "1.0.0", "name": "prepull", "plugins": [
		  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
		   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$(pod_range "$number")"}]],
		            "routes": [{"dst": "0.0.0.0/0"}]}}]}
	EOT
}

# write_registry_hosts makes our registry answer for every name there is.
write_registry_hosts() {
	mkdir -p "$CLUSTER/hosts/_default"
	cat >"$CLUSTER/hosts/_default/hosts.toml" <<-EOT
		server = "http://$REGISTRY"
		[host."http://$REGISTRY"]
		  capabilities = ["pull", "resolve"]
	EOT
}

write_containerd_config() {
	local number=$1 folder=$CLUSTER/node$1
	cat >"$folder/containerd.toml" <<-EOT
		version = 3
		root = "/var/lib/containerd"
		state = "/run/containerd"
		# It would make a folder /opt/containerd.
		disabled_plugins = ["io.containerd.internal.v1.opt"]

		[grpc]
		  address = "/run/containerd/containerd.sock"

		[plugins."io.containerd.cri.v1.images"]
		  # Five minutes by default, in which one pull that hangs keeps all others of the node waiting.
		  image_pull_progress_timeout = "6s"
		[plugins."io.containerd.cri.v1.images".pinned_images]
		  sandbox = "$PAUSE_IMAGE"
		[plugins."io.containerd.cri.v1.images".registry]
		  config_path = "$CLUSTER/hosts"

		[plugins."io.containerd.cri.v1.runtime"]
		  # Without CAP_SYS_RESOURCE, as in most sandboxes, the lower scores of sandboxes are refused.
		  restrict_oom_score_adj = true
		[plugins."io.containerd.cri.v1.runtime".cni]
		  bin_dirs = ["$(cni_folder)"]
		  conf_dir = "$folder/cni"
		[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
		  runtime_type = "io.containerd.runc.v2"
		[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
		  BinaryName = "$BIN/runc"
		  SystemdCgroup = false
	EOT
}

# write_kubelet_config leaves everything that a test may look at as kubelet has it by default.
write_kubelet_config() {
	local number=$1
	cat >"$CLUSTER/node$number/kubelet.yaml" <<-EOT
		apiVersion: kubelet.config.k8s.io/v1beta1
		kind: KubeletConfiguration
		containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
		# The API server fetches logs without a client certificate.
		authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
		authorization: {mode: AlwaysAllow}
		# The groups of several kubelets on one machine would be the same ones.
		cgroupDriver: cgroupfs
		cgroupsPerQOS: false
		enforceNodeAllocatable: []
		failCgroupV1: false
		failSwapOn: false
		resolvConf: ""
		# Tests that run at a time pull more images a second than anybody else.
		registryPullQPS: 0
		volumePluginDir: /var/lib/kubelet/volume-plugins
		# The machine's disk is nobody's business here: no eviction, no collection of images.
		evictionHard: {imagefs.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%"}
		imageGCHighThresholdPercent: 100
	EOT
}
