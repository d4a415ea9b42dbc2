# shellcheck shell=bash disable=SC2034
# What every script here needs: messages, places, the lock.

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
HACK=$REPOSITORY/hack
# shellcheck source=hack/versions
source "$HACK/versions"

CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/prepull
TOOLS=$CACHE/tools
# Everything a cluster writes is in this one folder, which goes when the cluster goes.
CLUSTER=$CACHE/cluster
# Logs outlive the cluster, for those who ask afterwards what went wrong; the next start clears them.
LOGS=$CACHE/logs

say() { printf '%s\n' "$*" >&2; }

# fail takes one sentence: what, cause, what to do.
fail() {
	say "error: $*"
	exit 1
}

misused() {
	say "error: $*"
	exit 2
}

# with_lock keeps a second start from coming in between. The lock is held until this process ends;
# whatever outlives the process must be started with the descriptor closed (9>&-).
with_lock() {
	mkdir -p "$CACHE"
	exec 9>"$CACHE/lock"
	flock --nonblock 9 && return
	say "waiting for another hack/cluster to finish (lock $CACHE/lock)"
	flock --timeout 1800 9 ||
		fail "another hack/cluster has held the lock for 30 minutes; find it with: fuser $CACHE/lock"
}

show_end_of() {
	[[ -f $1 ]] || return 0
	say "--- last lines of $1"
	tail -n 15 "$1" >&2
	say "---"
}
