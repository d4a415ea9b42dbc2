# shellcheck shell=bash
# etcd, the API server, the controllers, the scheduler, and the registry beside them.

API=https://$HOST_IP:$API_PORT
ETCD=http://$HOST_IP:$ETCD_PORT
AUDIT=$CLUSTER/audit.log
ACCESS=$CLUSTER/registry-access.log
PKI=$CLUSTER/pki
SYSTEM_USERS=(system:kube-controller-manager system:kube-scheduler)

start_control_plane() {
	local number_of_nodes=$1
	make_cgroup control
	start_etcd
	start_registry
	make_certificates
	make_tokens "$number_of_nodes"
	start_kubernetes
}

start_kubernetes() {
	start_api_server --kubelet-preferred-address-types InternalIP
	start_controller_manager --bind-address "$HOST_IP"
	start_scheduler --bind-address "$HOST_IP"
}

start_etcd() {
	local peer=http://$HOST_IP:$((ETCD_PORT + 1))
	start_daemon etcd control "$BIN/kubernetes" etcd \
		--name prepull --data-dir "$CLUSTER/etcd" --unsafe-no-fsync --log-level warn \
		--listen-client-urls "$ETCD" --advertise-client-urls "$ETCD" \
		--listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
		--initial-cluster "prepull=$peer"
}

start_registry() {
	start_daemon registry control "$BIN/prepull-registry" serve \
		--storage "$CLUSTER/registry" --access-log "$ACCESS" \
		--listen "$REGISTRY" --listen "127.0.0.1:${REGISTRY##*:}"
	wait_until 10 "an answer of the registry" registry \
		curl --noproxy '*' --silent --fail --max-time 2 "http://$REGISTRY/v2/"
}

# start_api_server [FLAG...]
start_api_server() {
	write_audit_policy
	start_daemon kube-apiserver control "$BIN/kubernetes" kube-apiserver \
		--etcd-servers "$ETCD" \
		--bind-address "$HOST_IP" --advertise-address "$HOST_IP" --secure-port "$API_PORT" \
		--tls-cert-file "$PKI/server.crt" --tls-private-key-file "$PKI/server.key" \
		--token-auth-file "$PKI/tokens.csv" \
		--authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
		--service-cluster-ip-range "$SERVICE_RANGE" \
		--service-account-issuer https://kubernetes.default.svc \
		--service-account-key-file "$PKI/accounts.key" \
		--service-account-signing-key-file "$PKI/accounts.key" \
		--allow-privileged \
		--audit-policy-file "$CLUSTER/audit-policy.yaml" \
		--audit-log-path "$AUDIT" --audit-log-maxsize 4096 "$@"
	wait_until 60 "the API server's readiness" kube-apiserver api_is_ready
}

api_is_ready() {
	curl --noproxy '*' --silent --fail --max-time 2 --cacert "$PKI/ca.crt" "$API/readyz"
}

# start_controller_manager [FLAG...]
start_controller_manager() {
	start_daemon kube-controller-manager control "$BIN/kubernetes" kube-controller-manager \
		--kubeconfig "$PKI/system:kube-controller-manager.kubeconfig" \
		--use-service-account-credentials --leader-elect=false \
		--service-account-private-key-file "$PKI/accounts.key" --root-ca-file "$PKI/ca.crt" "$@"
}

# start_scheduler [FLAG...]
start_scheduler() {
	start_daemon kube-scheduler control "$BIN/kubernetes" kube-scheduler \
		--kubeconfig "$PKI/system:kube-scheduler.kubeconfig" \
		--leader-elect=false "$@"
}

# === Who may talk to the API server ===

make_certificates() {
	mkdir -m 700 "$PKI"
	# The machine's own openssl configuration is left out, since it may add anything.
	local config=$PKI/openssl.cnf
	cat >"$config" <<-EOT
		[req]
		distinguished_name = name
		[name]
		[ca]
		basicConstraints = critical, CA:TRUE
		keyUsage = critical, keyCertSign, cRLSign
		subjectKeyIdentifier = hash
		[server]
		basicConstraints = critical, CA:FALSE
		extendedKeyUsage = serverAuth
		authorityKeyIdentifier = keyid
		subjectAltName = IP:$HOST_IP, IP:$SERVICE_IP, IP:127.0.0.1, DNS:localhost, DNS:kubernetes, DNS:kubernetes.default, DNS:kubernetes.default.svc, DNS:kubernetes.default.svc.cluster.local
	EOT
	local key
	for key in ca server accounts; do
		openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/$key.key"
	done
	openssl req -config "$config" -x509 -extensions ca -new -key "$PKI/ca.key" -days 3650 \
		-subj /CN=prepull-cluster -out "$PKI/ca.crt"
	openssl req -config "$config" -new -key "$PKI/server.key" -subj /CN=kube-apiserver |
		openssl x509 -req -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -CAcreateserial -days 3650 \
			-extfile "$config" -extensions server -out "$PKI/server.crt" 2>>"$LOGS/openssl.log"
}

make_tokens() {
	local number_of_nodes=$1 user number
	: >"$PKI/tokens.csv"
	add_user admin system:masters
	for user in "${SYSTEM_USERS[@]}"; do add_user "$user" ""; done
	for ((number = 1; number <= number_of_nodes; number++)); do
		add_user "system:node:node$number" system:nodes
	done
	cp "$PKI/admin.kubeconfig" "$CLUSTER/kubeconfig"
}

# add_user USER GROUP also writes a kubeconfig for it.
add_user() {
	local user=$1 group=$2 token
	token=$(openssl rand -hex 16)
	echo "$token,$user,$user,\"$group\"" >>"$PKI/tokens.csv"
	cat >"$PKI/$user.kubeconfig" <<-EOT
		apiVersion: v1
		kind: Config
		current-context: prepull
		contexts:
		- name: prepull
		  context: {cluster: prepull, user: $user}
		clusters:
		- name: prepull
		  cluster:
		    server: $API
		    certificate-authority-data: $(base64 --wrap=0 "$PKI/ca.crt")
		users:
		- name: $user
		  user: {token: $token}
	EOT
	chmod 600 "$PKI/$user.kubeconfig"
}

# === What the audit log holds ===

# write_audit_policy: the first rule that matches a request decides.
write_audit_policy() {
	cat >"$CLUSTER/audit-policy.yaml" <<-'EOT'
		apiVersion: audit.k8s.io/v1
		kind: Policy
		omitStages: [RequestReceived]
		rules:
		# Heartbeats and the system's own events are most of the traffic and tell nothing.
		- level: None
		  resources: [{group: coordination.k8s.io, resources: [leases]}]
		- level: None
		  users:
		  - system:kube-scheduler
		  - system:kube-controller-manager
		  - system:serviceaccount:kube-system:daemon-set-controller
		  - system:serviceaccount:kube-system:job-controller
		  - system:serviceaccount:kube-system:node-controller
		  - system:serviceaccount:kube-system:replicaset-controller
		  - system:serviceaccount:kube-system:deployment-controller
		  resources:
		  - {group: "", resources: [events]}
		  - {group: events.k8s.io, resources: [events]}
		- level: None
		  userGroups: [system:nodes]
		  resources:
		  - {group: "", resources: [events]}
		  - {group: events.k8s.io, resources: [events]}
		# kubelets report the status of pods all the time; that they did is enough.
		- level: Metadata
		  userGroups: [system:nodes]
		# Who wrote what to the objects that a run is made of.
		- level: Request
		  verbs: [create, update, patch, delete, deletecollection]
		  resources:
		  - {group: "", resources: [pods, pods/binding, pods/status]}
		  - {group: apps, resources: [daemonsets]}
		  - {group: batch, resources: [jobs]}
		- level: Metadata
	EOT
}
