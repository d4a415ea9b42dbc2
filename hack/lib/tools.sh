# shellcheck shell=bash
# The programs a cluster is made of, each in a folder of the cache named for its version.
#
# A need_* function makes sure that something is there and is fast when it is. What Debian has is
# installed by apt-get where that is possible; everything else is built by Go from its module.

# The folder of links that `hack/cluster env` puts first in the PATH.
BIN=$TOOLS/bin

need_tools() {
	need_kubernetes
	need_own registry
	need_own pause
	need_containerd
	need_runc
	need_go_program crane "$CRANE_VERSION" github.com/google/go-containerregistry/cmd/crane
	need_helm
}

need_simulated_tools() {
	need_kubernetes
	need_go_part kwok "$KWOK_VERSION" sigs.k8s.io/kwok/cmd/kwok
}

need_helm() {
	need_go_program helm3 "$HELM3_VERSION" helm.sh/helm/v3/cmd/helm
	need_go_program helm4 "$HELM4_VERSION" helm.sh/helm/v4/cmd/helm
}

# === From the distribution ===

# need_command COMMAND PACKAGE [FILE]: the command, or the file where it is no command, is there.
need_command() {
	local command=$1 package=$2 file=${3:-}
	if [[ -n $file && -e $file ]]; then return; fi
	if [[ -z $file ]] && command -v "$command" >/dev/null; then return; fi
	install_package "$package"
	if [[ -n $file && -e $file ]]; then return; fi
	if [[ -z $file ]] && command -v "$command" >/dev/null; then return; fi
	fail "$command is missing, and the package $package did not bring it"
}

install_package() {
	local package=$1
	if ! command -v apt-get >/dev/null || ((EUID != 0)); then
		fail "$package is missing; install it (Debian's name) with your package manager"
	fi
	say "installing $package"
	local log=$CACHE/apt.log
	mkdir -p "$CACHE"
	# The package lists may be missing or old, so a failure is followed by an update and a second try.
	apt_install "$package" >"$log" 2>&1 9>&- && return
	apt-get update >>"$log" 2>&1 9>&- || true
	apt_install "$package" >>"$log" 2>&1 9>&- && return
	show_end_of "$log"
	fail "apt-get cannot install $package; see $log"
}

apt_install() {
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$1"
}

# need_c_compiler: the compiler alone cannot link, and what it links with is only recommended.
need_c_compiler() {
	need_command gcc gcc
	need_command libc libc6-dev /usr/include/stdlib.h
}

need_rust() {
	# shellcheck disable=SC2016 # The reader's shell is to expand it.
	command -v cargo >/dev/null ||
		fail 'cargo is not in the PATH; install Rust by rustup (https://rustup.rs); with sudo, use: sudo env PATH="$PATH" ...'
	need_c_compiler
}

# need_c_packages: runc is the one part that is not Go alone.
need_c_packages() {
	need_c_compiler
	need_command pkg-config pkg-config
	pkg-config --exists libseccomp || install_package libseccomp-dev
}

need_simulated_packages() {
	need_command openssl openssl
	need_command jq jq
	need_command flock util-linux
	need_command curl curl
}

need_run_packages() {
	need_simulated_packages
	need_command ip iproute2
	need_command iptables iptables
	cni_folder >/dev/null || install_package containernetworking-plugins
	cni_folder >/dev/null ||
		fail "the CNI plugins bridge, host-local and loopback are missing; install containernetworking-plugins"
}

# cni_folder prints where the CNI plugins are: Debian's place, or everyone else's.
cni_folder() {
	local folder
	for folder in /usr/lib/cni /opt/cni/bin /usr/libexec/cni; do
		if [[ -x $folder/bridge && -x $folder/host-local && -x $folder/loopback ]]; then
			echo "$folder"
			return
		fi
	done
	return 1
}

need_go() {
	command -v go >/dev/null || fail "go is missing; install Go 1.26 or newer (https://go.dev/dl)"
	# The go command fetches a newer one by itself when a module asks for it, unless it is too old to.
	local version
	version=$(go env GOVERSION)
	[[ $version =~ ^go1\.([0-9]+) && ${BASH_REMATCH[1]} -ge 21 ]] ||
		fail "$version is too old to fetch the Go that the parts need; install Go 1.26 or newer"
}

# === From Go modules ===

need_kubernetes() {
	local parts=$HACK/parts/kubernetes
	KUBERNETES=$TOOLS/kubernetes-$KUBERNETES_VERSION-$(hash_of "$parts")
	have_tool "$KUBERNETES" || build "$KUBERNETES" build_kubernetes "$parts"
	link kubernetes "$KUBERNETES/kubernetes"
	link kubectl "$KUBERNETES/kubernetes"
}

build_kubernetes() {
	need_go
	local out=$1 parts=$2 minor=${KUBERNETES_VERSION#1.}
	cp "$parts"/*.go "$parts"/go.mod "$parts"/go.sum "$out"/
	cd "$out" || exit
	grep -q "k8s.io/kubernetes v$KUBERNETES_VERSION\$" go.mod || write_kubernetes_go_mod
	local stamp="-X k8s.io/component-base/version.gitVersion=v$KUBERNETES_VERSION"
	stamp+=" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=${minor%%.*}"
	stamp+=" -X k8s.io/client-go/pkg/version.gitVersion=v$KUBERNETES_VERSION"
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w $stamp" -o kubernetes .
	rm ./*.go go.mod go.sum
}

# write_kubernetes_go_mod makes go.mod from what Kubernetes' own says. Its staging modules are
# folders of the same repository there, and modules of their own for everyone else.
write_kubernetes_go_mod() {
	local module upstream etcd
	# With -json the go command tells its errors there, too.
	module=$(go mod download -json "k8s.io/kubernetes@v$KUBERNETES_VERSION") || {
		jq --raw-output .Error <<<"$module"
		return 1
	}
	upstream=$(jq --raw-output .GoMod <<<"$module")
	etcd=$(awk '$1 == "go.etcd.io/etcd/client/v3" { print $2; exit }' "$upstream")
	{
		printf 'module prepull.test/kubernetes\n\n'
		grep -E '^go ' "$upstream"
		printf '\nrequire (\n\tgo.etcd.io/etcd/server/v3 %s\n' "$etcd"
		printf '\tk8s.io/kubernetes v%s\n)\n\nreplace (\n' "$KUBERNETES_VERSION"
		sed -nE "s|^[[:space:]]+(k8s\.io/[a-z-]+) => \./staging.*|\t\1 => \1 v$KUBERNETES_STAGING_VERSION|p" "$upstream"
		printf ')\n'
	} >go.mod
	rm -f go.sum
	go mod tidy
}

# need_own NAME: one of our own programs in parts/.
need_own() {
	local name=$1 parts=$HACK/parts/$1 folder
	folder=$TOOLS/$name-$(hash_of "$parts")
	have_tool "$folder" || build "$folder" build_own "$parts" "$name"
	link "prepull-$name" "$folder/$name"
}

build_own() {
	need_go
	local out=$1 parts=$2 name=$3
	cd "$parts" || exit
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$out/$name" .
}

need_containerd() {
	local folder=$TOOLS/containerd-$CONTAINERD_VERSION program
	have_tool "$folder" || build "$folder" go_install "$CONTAINERD_VERSION" \
		github.com/containerd/containerd/v2/cmd/{containerd,containerd-shim-runc-v2,ctr}
	for program in containerd containerd-shim-runc-v2 ctr; do
		link "$program" "$folder/$program"
	done
}

need_runc() {
	local folder=$TOOLS/runc-$RUNC_VERSION
	if ! have_tool "$folder"; then
		need_c_packages
		build "$folder" build_runc
	fi
	link runc "$folder/runc"
}

# build_runc differs from the rest by seccomp, a C library.
build_runc() {
	need_go
	CGO_ENABLED=1 GOBIN=$1 go install -trimpath -tags seccomp -ldflags "-s -w" \
		"github.com/opencontainers/runc@v$RUNC_VERSION"
}

# need_go_program NAME VERSION PACKAGE: a program that is built as it comes.
need_go_program() {
	local name=$1 version=$2 package=$3
	need_go_part "$name" "$version" "$package"
	link "$name" "$TOOLS/$name-$version/$(basename "$package")"
}

# need_go_part NAME VERSION PACKAGE: the same for one that nobody looks for in the PATH.
need_go_part() {
	local folder=$TOOLS/$1-$2
	have_tool "$folder" || build "$folder" go_install "$2" "$3"
}

go_install() {
	need_go
	local out=$1 version=$2
	shift 2
	CGO_ENABLED=0 GOBIN=$out go install -trimpath -ldflags "-s -w" "${@/%/@v$version}"
}

# === Folders of tools ===

have_tool() { [[ -d $1 ]]; }

# build FOLDER COMMAND ARGS... runs the command with a temporary folder as its first argument and
# renames that in the end, so that an interrupted build never leaves half a tool.
build() {
	local folder=$1 command=$2
	shift 2
	local name part log
	name=$(basename "$folder")
	part=$TOOLS/.part-$name
	log=$CACHE/build.log
	say "building $name"
	rm -rf "$part"
	mkdir -p "$part"
	# A shell of its own, because bash ignores errors inside a function whose result is tested.
	if ! bash -euo pipefail -c 'source "$0/lib/common.sh"; source "$0/lib/tools.sh"; "$@"' \
		"$HACK" "$command" "$part" "$@" >"$log" 2>&1 9>&-; then
		show_end_of "$log"
		fail "cannot build $name; see $log"
	fi
	mv "$part" "$folder"
}

# hash_of FOLDER: twelve digits that change with the Go sources in it.
hash_of() {
	(cd "$1" && cat -- *.go go.*) | sha256sum | cut -c1-12
}

link() {
	mkdir -p "$BIN"
	[[ $(readlink "$BIN/$1" || true) == "$2" ]] || ln -sfn "$2" "$BIN/$1"
}

# === From crates ===

install_cargo_deny() {
	cargo install --locked --quiet --root "$1" --version "$CARGO_DENY_VERSION" cargo-deny
}
