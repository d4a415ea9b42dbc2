# shellcheck shell=bash disable=SC2034
# A cluster of simulated nodes beside the real one, or without it: etcd, API server, controllers and
# scheduler are real, and kwok says what kubelets would say (stages.yaml).
#
# This takes the place of network.sh: everything is on the loopback, so there is no network to make.

CLUSTER=$CACHE/simulated
LOGS=$CACHE/simulated-logs

HOST_IP=127.0.0.1
SERVICE_IP=10.96.0.1
SERVICE_RANGE=10.96.0.0/16
# Away from the ports that a Kubernetes of the machine's own has.
API_PORT=26443
ETCD_PORT=22379
KWOK_PORT=26444
# Nothing is pulled.
REGISTRY=

remove_network() { :; }
our_links() { :; }
our_mounts() { :; }

KWOK=$TOOLS/kwok-$KWOK_VERSION/kwok
SIMULATED_DAEMONS=(etcd kube-apiserver kube-controller-manager kube-scheduler kwok)

command_simulated() {
	local command=${1:-}
	(($# == 1)) || misused "simulated takes one of up, down, status, env; see hack/cluster --help"
	case $command in
	up | down | status | env) "simulated_$command" ;;
	*) misused "simulated takes up, down, status or env, and not \`$command\`" ;;
	esac
}

simulated_up() {
	need_root "simulated up"
	with_lock
	need_simulated_packages
	need_simulated_tools

	if [[ -z $(why_simulated_is_unhealthy) ]]; then
		say "the cluster of simulated nodes is up already: Kubernetes $KUBERNETES_VERSION"
		return
	fi
	if [[ -e $CLUSTER ]]; then say "replacing what is there: $(why_simulated_is_unhealthy)"; fi
	clean
	local began=$SECONDS
	mkdir -p "$CLUSTER"
	rm -rf "$LOGS"
	mkdir -p "$LOGS"
	start_simulated
	simulated_identity >"$CLUSTER/identity"
	say "the cluster of simulated nodes is up: Kubernetes $KUBERNETES_VERSION, $((SECONDS - began)) s"
}

start_simulated() {
	# The machine has more memory than processors; Go trades one for the other.
	export GOGC=400
	make_cgroup control
	start_etcd
	make_certificates
	make_tokens 0
	add_user kwok system:masters
	local gates=() minor=${KUBERNETES_VERSION#1.}
	# Tolerations that compare numbers (KEP-5471) exist since 1.35, where they are off by default.
	if ((${minor%%.*} >= 35)); then gates=(--feature-gates TaintTolerationComparisonOperators=true); fi
	# Whoever deletes thousands of pods at once need not wait for one after the other.
	start_api_server --delete-collection-workers 16 "${gates[@]}"
	# By default these send 20 and 50 requests a second, and a thousand nodes would take minutes.
	# Without a port of their own they need none of the machine's.
	local flags=(--kube-api-qps 1000 --kube-api-burst 2000 --secure-port 0 "${gates[@]}")
	# Simulated nodes send no heartbeats, and are not lost for that. Nodes that are not ready get
	# their second taint one in ten seconds by default.
	start_controller_manager "${flags[@]}" --concurrent-daemonset-syncs 8 \
		--node-monitor-grace-period 24h --node-eviction-rate 1000 --secondary-node-eviction-rate 1000
	start_scheduler "${flags[@]}"
	start_daemon kwok control "$KWOK" \
		--config "$HACK/lib/stages.yaml" --kubeconfig "$PKI/kwok.kubeconfig" \
		--server-address "$HOST_IP:$KWOK_PORT"
	wait_until 30 "kwok's readiness" kwok \
		curl --noproxy '*' --silent --fail --max-time 2 "http://$HOST_IP:$KWOK_PORT/healthz"
	wait_until 30 "the default service account" kube-controller-manager \
		kubectl get serviceaccount default
}

simulated_down() {
	need_root "simulated down"
	with_lock
	clean
	say "the cluster of simulated nodes is down"
}

simulated_status() {
	local name state broken=0
	if [[ ! -s $CLUSTER/identity ]]; then
		echo "there is no cluster of simulated nodes"
		return 1
	fi
	for name in "${SIMULATED_DAEMONS[@]}"; do
		state=running
		is_running "$name" || state="NOT RUNNING, see $LOGS/$name.log" broken=1
		printf '%-26s %s\n' "$name" "$state"
	done
	return "$broken"
}

simulated_env() {
	[[ -s $CLUSTER/identity ]] ||
		fail "there is no cluster of simulated nodes; start one with: hack/cluster simulated up"
	printf 'export %s=%q\n' \
		KUBECONFIG "$CLUSTER/kubeconfig" \
		KUBECACHEDIR "$CLUSTER/kubectl" \
		PREPULL_CLUSTER_API "$API" \
		PREPULL_CLUSTER_AUDIT "$AUDIT" \
		PREPULL_CLUSTER_LOGS "$LOGS"
	# The variable is the user's to expand, not ours.
	printf 'export PATH=%q:"%s"\n' "$BIN" "\$PATH"
}

simulated_identity() {
	readlink "$BIN/kubernetes"
	echo "$KWOK"
	cat "$HACK"/lib/{control-plane.sh,simulated.sh,stages.yaml} | sha256sum
}

why_simulated_is_unhealthy() {
	local name
	if [[ ! -s $CLUSTER/identity ]]; then
		echo "its start broke off"
		return
	elif [[ $(<"$CLUSTER/identity") != "$(simulated_identity)" ]]; then
		echo "it is made of other programs"
		return
	fi
	for name in "${SIMULATED_DAEMONS[@]}"; do
		if ! is_running "$name"; then
			echo "its $name has ended"
			return
		fi
	done
}
