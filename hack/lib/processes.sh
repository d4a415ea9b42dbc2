# shellcheck shell=bash
# Starting daemons, and ending them and nothing else.
#
# Two things prove that a process is ours: the record of its id and start time, and being in a
# control group of this cluster's name, which it was born into. Containers and their shims have no
# record, but they are in the group of the containerd that made them.

RECORDS=$CLUSTER/processes
# The name holds a hash of the folder, so that a cluster of another cache folder is never taken for ours.
CGROUP=prepull-cluster-$(sha256sum <<<"$CLUSTER" | cut -c1-8)

# start_daemon NAME GROUP COMMAND...: NAME names the record and the log.
start_daemon() {
	local name=$1 group=$2
	shift 2
	mkdir -p "$RECORDS" "$LOGS"
	# A session of its own keeps Ctrl-C in the caller's terminal from ending it.
	setsid "$HACK/lib/launch" "$RECORDS/$name" "$(cgroup_list "$group")" "$@" \
		</dev/null >>"$LOGS/$name.log" 2>&1 9>&- &
	wait_until 10 "the start of $name" "$name" test -s "$RECORDS/$name"
}

# wait_until SECONDS WHAT NAME COMMAND... polls the command, while the daemon NAME lives.
wait_until() {
	local seconds=$1 what=$2 name=$3
	shift 3
	local log=$LOGS/$name.log deadline=$((SECONDS + seconds))
	# In a shell of its own a command that fails for good does not end this one unheard.
	until ("$@") >/dev/null 2>&1; do
		if [[ -s $RECORDS/$name ]] && ! is_running "$name"; then
			show_end_of "$log"
			fail "$name ended before $what; see $log"
		fi
		if ((SECONDS >= deadline)); then
			show_end_of "$log"
			fail "$what did not happen within $seconds s; see $log"
		fi
		sleep 0.1
	done
}

# is_running NAME
is_running() {
	[[ -s $RECORDS/$1 ]] && record_is_alive "$RECORDS/$1"
}

pid_of() {
	local pid
	read -r pid _ <"$RECORDS/$1"
	echo "$pid"
}

# end_daemon NAME kills one daemon and waits until it has ended.
end_daemon() {
	local name=$1 deadline=$((SECONDS + 10))
	is_running "$name" || fail "$name does not run"
	kill -KILL "$(pid_of "$name")"
	while is_running "$name"; do
		((SECONDS < deadline)) || fail "$name resists its end"
		sleep 0.1
	done
	rm "$RECORDS/$name"
}

# record_is_alive FILE: the process runs, is the same one and not yet a zombie.
record_is_alive() {
	local pid started boot stat fields
	read -r pid started boot <"$1" || return 1
	[[ $boot == "$(</proc/sys/kernel/random/boot_id)" ]] || return 1
	read -r stat 2>/dev/null </proc/"$pid"/stat || return 1
	read -r -a fields <<<"${stat##*) }"
	[[ ${fields[19]} == "$started" && ${fields[0]} != Z ]]
}

# kill_all ends every process that is provably ours, at once: nothing they would save is kept.
kill_all() {
	local deadline=$((SECONDS + 20)) pids
	while pids=$(our_processes) && [[ -n $pids ]]; do
		# shellcheck disable=SC2086 # It is a list.
		kill -KILL $pids 2>/dev/null || true
		((SECONDS < deadline)) || return 0
		sleep 0.1
	done
}

our_processes() {
	local record folder
	{
		for record in "$RECORDS"/*; do
			if [[ $record != *.part && -s $record ]] && record_is_alive "$record"; then
				cut -d' ' -f1 "$record"
			fi
		done
		while read -r folder; do
			find "$folder" -name cgroup.procs -exec cat {} + 2>/dev/null || true
		done < <(our_cgroups)
	} | sort -un
}

# === Control groups ===

# make_cgroup GROUP makes the group in every hierarchy and lists its folders in a file.
make_cgroup() {
	local group=$1 list base
	list=$(cgroup_list "$group")
	while read -r base; do
		make_cgroup_below "$base" "$CGROUP/$group"
		echo "$base/$CGROUP/$group"
	done < <(cgroup_bases) >"$list"
	[[ -s $list ]] || fail "no control groups are mounted; run this where /sys/fs/cgroup is writable"
}

cgroup_list() { echo "$CLUSTER/cgroups.${1//\//.}"; }

make_cgroup_below() {
	local folder=$1 part file
	for part in ${2//\// }; do
		# In version 2 controllers are handed down level by level, but not to our own daemons: a node's
		# group gets them from its containerd, when that has left it.
		if [[ $part != daemons ]]; then hand_down_controllers "$folder"; fi
		folder=$folder/$part
		mkdir -p "$folder"
		# In version 1 a cpuset takes no process before its two lists are filled.
		for file in cpuset.cpus cpuset.mems; do
			if [[ -e $folder/cgroup.clone_children && -e $folder/$file && -z $(<"$folder/$file") ]]; then
				cat "$folder/../$file" >"$folder/$file"
			fi
		done
	done
}

# hand_down_controllers FOLDER: those that cannot be had are missed by pods that set limits only.
hand_down_controllers() {
	local folder=$1 controller
	[[ -e $folder/cgroup.controllers ]] || return 0
	for controller in $(<"$folder/cgroup.controllers"); do
		echo "+$controller" 2>/dev/null >"$folder/cgroup.subtree_control" || true
	done
}

# cgroup_bases prints the folder of each hierarchy that ours goes into. It is below the caller's own,
# so that whoever limits or counts the caller goes on doing so; only where version 2 stands alone
# it is the root, since there a group with processes cannot hand controllers down.
cgroup_bases() {
	local version=2 controllers path mount
	grep -q '^[1-9][0-9]*:[^:]' /proc/self/cgroup && version=1
	while IFS=: read -r _ controllers path; do
		mount=$(cgroup_mount "$controllers")
		[[ -n $mount ]] || continue
		if [[ $version == 2 ]] || [[ ! -d $mount$path ]]; then path=; fi
		# Within a cluster's own group, as in a test that runs there, the path would grow for ever.
		path=${path%%"/$CGROUP"*}
		echo "$mount${path%/}"
	done </proc/self/cgroup
}

# cgroup_mount CONTROLLERS prints where a hierarchy is mounted; no controllers is version 2.
cgroup_mount() {
	awk -v first="${1%%,*}" '
		{ for (i = 7; $i != "-"; i++); type = $(i + 1); n = split($(i + 3), options, ",") }
		first == "" && type == "cgroup2" { print $5; exit }
		first != "" && type == "cgroup" { for (k = 1; k <= n; k++) if (options[k] == first) { print $5; exit } }
	' /proc/self/mountinfo
}

our_cgroups() {
	awk '{ for (i = 7; $i != "-"; i++); if ($(i + 1) ~ /^cgroup2?$/) print $5 }' /proc/self/mountinfo |
		while read -r mount; do
			find "$mount" -type d -name "$CGROUP" -prune 2>/dev/null || true
		done
}

remove_cgroups() {
	local folder
	while read -r folder; do
		find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null || true
	done < <(our_cgroups)
}
