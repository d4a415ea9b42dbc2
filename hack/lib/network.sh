# shellcheck shell=bash disable=SC2034
# One bridge, and one network namespace a node. Nothing is changed in the machine's own network but
# the bridge itself: no forwarding, no rule, no route, so nothing of the cluster leaves the machine.

BRIDGE=prepull0
HOST_IP=10.89.0.1
SERVICE_IP=10.96.0.1
SERVICE_RANGE=10.96.0.0/16
API_PORT=6443
ETCD_PORT=2379
REGISTRY=$HOST_IP:5000

node_ip() { echo "10.89.0.$((10 + $1))"; }
pod_range() { echo "10.90.$1.0/24"; }

make_bridge() {
	ip link add "$BRIDGE" type bridge
	# The alias tells whose it is, should somebody start a cluster with another cache folder.
	ip link set "$BRIDGE" alias "$CLUSTER"
	ip address add "$HOST_IP/24" dev "$BRIDGE"
	ip link set "$BRIDGE" up
}

# bridge_owner prints the folder of the cluster that the bridge belongs to, if there is one.
bridge_owner() {
	ip -json link show |
		jq --raw-output --arg bridge "$BRIDGE" '.[] | select(.ifname == $bridge) | .ifalias // empty'
}

# make_node_network NUMBER
make_node_network() {
	local number=$1
	local file=$CLUSTER/node$number/netns
	mkdir -p "$CLUSTER/node$number"
	touch "$file"
	unshare --net="$file" true
	ip link add "prepull-n$number" type veth peer name eth0 netns "$file"
	ip link set "prepull-n$number" master "$BRIDGE" up
	in_network "$number" ip link set lo up
	in_network "$number" ip address add "$(node_ip "$number")/24" dev eth0
	in_network "$number" ip link set eth0 up
	in_network "$number" ip route add unreachable default
	# A packet needs a route before the rule below gives it its real destination.
	in_network "$number" ip route add "$SERVICE_IP/32" via "$HOST_IP"
	local chain
	# Pods come in by PREROUTING; what runs in the node's own network starts at OUTPUT.
	for chain in PREROUTING OUTPUT; do
		in_network "$number" iptables --table nat --append "$chain" \
			--destination "$SERVICE_IP/32" --protocol tcp --dport 443 \
			--jump DNAT --to-destination "$HOST_IP:$API_PORT"
	done
}

# in_network uses nsenter, because `ip netns exec` mounts /sys anew and hides the control groups.
in_network() {
	local number=$1
	shift
	nsenter --net="$CLUSTER/node$number/netns" "$@"
}

remove_network() {
	local link mount
	while read -r mount; do
		umount "$mount"
	done < <(our_mounts)
	# A namespace takes its end of the pair with it, and so the other end, but not at once.
	while read -r link; do
		ip link delete "$link" 2>/dev/null || true
	done < <(our_links)
}

our_links() {
	ip -json link show | jq --raw-output --arg bridge "$BRIDGE" \
		'.[].ifname | select(. == $bridge or test("^prepull-n[0-9]+$"))'
}

# our_mounts prints the mounts below the cluster's folder, the innermost first.
our_mounts() {
	awk -v folder="$CLUSTER/" 'index($5, folder) == 1 { print $5 }' /proc/self/mountinfo | tac
}
