#!/bin/sh
# Takes the operator out of the cluster of the current kubeconfig, in order: it says what goes, asks, deletes the groups while
# the operator still runs, waits until no pod bears anything of it any more, and only then deletes what was installed.
# docs/uninstall.md says the same by hand.
set -eu

usage() {
	cat <<'END'
Usage: config/uninstall.sh [--yes | --keep-deployments] [-k DIRECTORY] [-n NAMESPACE]...

  --yes               ask nothing: groups go, and with them the Deployments that they own and their pods
  --keep-deployments  ask nothing: groups go; the Deployments that they own run on, without a leader
  -k DIRECTORY        the kustomization that was installed; default: this file's own folder
  -n NAMESPACE        one of the namespaces whose groups go, where only those were kept; default: all
  --no-check          do not look whether the operator runs: for one that runs with --leader-elect=false
  --patience SECONDS  how long to wait for what is to go; default: 120

KUBECTL names another kubectl.
END
}

fail() {
	echo "uninstall: $1" >&2
	exit "${2:-1}"
}

here=$(cd "$(dirname "$0")" && pwd)
kubectl=${KUBECTL:-kubectl}
directory=$here
namespaces=
answer=
check=true
patience=120
while [ $# -gt 0 ]; do
	case $1 in
	--yes) answer=yes ;;
	--keep-deployments) answer=keep ;;
	--no-check) check=false ;;
	-h | --help) usage && exit ;;
	-k | -n | --patience)
		[ $# -gt 1 ] || fail "$1 needs a value" 2
		case $1 in
		-k) directory=$2 ;;
		-n) namespaces="$namespaces $2" ;;
		*) patience=$2 ;;
		esac
		shift
		;;
	*) usage >&2 && fail "$1 is unknown" 2 ;;
	esac
	shift
done
case $patience in
'' | *[!0-9]*) fail "--patience takes whole seconds, not '$patience'" 2 ;;
esac

# kubectl get in all namespaces, or in those that were given.
get() {
	if [ -z "$namespaces" ]; then
		$kubectl get "$@" --all-namespaces
		return
	fi
	for namespace in $namespaces; do
		$kubectl get "$@" --namespace "$namespace" || return
	done
}

# The groups: NAMESPACE NAME owns|refers DEPLOYMENT
groups() {
	served=$($kubectl api-resources --api-group=leadergroup.io --output=name) || return
	[ -n "$served" ] || return 0
	get leadergroups.leadergroup.io --output=go-template='{{range .items}}{{.metadata.namespace}} {{.metadata.name}} {{if .spec.deploymentRef}}refers {{.spec.deploymentRef.name}}{{else}}owns {{.metadata.name}}{{end}}
{{end}}'
}

# What the operator has left on pods. The group's label is the template's and its selector, and whether a pod is a candidate is
# the user's to say. Label, fence, term and deletion cost go by one write, with the annotations by which they are known. What the
# record of who set what (managedFields) does not show as the operator's nobody takes away.
marks() {
	keys=$(get pods --output=go-template='{{range .items}}{{$pod := printf "pod %s/%s" .metadata.namespace .metadata.name}}{{$ours := false}}{{range .metadata.managedFields}}{{with .manager}}{{if eq . "leadergroup-operator" "leadergroup-operator-gives-back"}}{{$ours = true}}{{end}}{{end}}{{end}}{{if $ours}}{{range $key, $_ := .metadata.labels}}{{$pod}} {{$key}}
{{end}}{{range $key, $_ := .metadata.annotations}}{{$pod}} {{$key}}
{{end}}{{end}}{{end}}') || return
	printf '%s\n' "$keys" | sed -n '/ leadergroup\.io\/group$/d; / leadergroup\.io\/candidate$/d; / leadergroup\.io\//p'
}

# Deployments and Leases that have a group for their owner: nobody collects them once the kind of their owner is gone.
owned() {
	get deployments,leases --selector=app.kubernetes.io/managed-by=leadergroup-operator --output=go-template='{{range .items}}{{$object := printf "%s %s/%s" .kind .metadata.namespace .metadata.name}}{{range .metadata.ownerReferences}}{{if eq .kind "LeaderGroup"}}{{$object}} of group {{.name}}
{{end}}{{end}}{{end}}'
}

# What is kept of groups that are gone, and the like of groups that are made again under their names.
kept() {
	get deployments,leases --selector=app.kubernetes.io/managed-by=leadergroup-operator,leadergroup.io/group --output=go-template='{{range .items}}{{.kind}} {{.metadata.namespace}}/{{.metadata.name}}
{{end}}'
}

left() {
	objects=$(owned) || return
	keys=$(marks) || return
	printf '%s\n%s\n' "$objects" "$keys" | sed '/^$/d'
}

# Whether it runs is not told by pods that are Ready, but by the Lease that the replicas' leader renews every two seconds.
operator_runs() {
	renewal='{.spec.holderIdentity} {.spec.renewTime}'
	first=$($kubectl --namespace "$system" get lease leadergroup-operator --ignore-not-found --output=jsonpath="$renewal") || return
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		sleep 2
		now=$($kubectl --namespace "$system" get lease leadergroup-operator --ignore-not-found --output=jsonpath="$renewal") || return
		case $now in
		"$first" | " "*) ;;
		*) return 0 ;;
		esac
	done
	return 1
}

built=$($kubectl kustomize "$directory") || fail "$directory cannot be built; kubectl says why above. Nothing was changed." 2
server=$($kubectl config view --minify --output='jsonpath={.clusters[0].cluster.server}') && [ -n "$server" ] ||
	fail "there is no cluster in the current context of the kubeconfig (kubectl config view --minify). Nothing was changed." 2
cluster_wide=false
case $built in
*"kind: CustomResourceDefinition"*) cluster_wide=true ;;
esac
if $cluster_wide; then
	[ -z "$namespaces" ] || fail "-n: $directory holds the CustomResourceDefinition, with which the groups of all namespaces go; leave -n out" 2
else
	[ -n "$namespaces" ] || fail "$directory does not hold the CustomResourceDefinition: name the namespaces that its operator keeps, each by -n" 2
fi
# Of the objects of this kind that are called leadergroup-operator.
namespaces_of() {
	printf '%s\n---\n' "$built" | sed -n "/^kind: $1\$/,/^---\$/{
/^  name: leadergroup-operator\$/{
n
s/^  namespace: //p
}
}"
}
system=$(namespaces_of Deployment)
[ -n "$system" ] || fail "$directory holds no Deployment of the operator with a namespace" 2
# The namespaces that it may keep have the operator's Role; one that is left out here would keep its groups and marks.
if ! $cluster_wide; then
	of_role=$(echo $(namespaces_of Role))
	for namespace in $of_role; do
		case "$namespaces " in
		*" $namespace "*) ;;
		*) fail "$directory keeps the groups of namespace $namespace, too: add -n $namespace. Nothing was changed." 2 ;;
		esac
	done
	for namespace in $namespaces; do
		case " $of_role " in
		*" $namespace "*) ;;
		*) fail "-n $namespace: $directory holds no Role leadergroup-operator of that namespace, so its operator does not keep it; it holds one of: $of_role. Nothing was changed." 2 ;;
		esac
	done
fi
# Kinds that the server does not know are not there.
installed=$(printf '%s\n' "$built" | $kubectl get --filename=- --ignore-not-found --output=name) || installed="$installed unknown"

# The same kubectl command of what else of this folder may have been installed.
beside() {
	if [ -e "$here/policies" ]; then
		$kubectl "$@" --ignore-not-found -k "$here/policies" || return
	fi
	for file in legacy-locks.yaml metrics-secure/rbac.yaml namespaced/nodes.yaml; do
		$kubectl "$@" --ignore-not-found --filename="$here/$file" || return
	done
}
if $cluster_wide; then
	besides=$(beside get --output=name) || besides=unknown
	installed=$installed$besides
fi

# 1. What goes.
echo "Cluster: $server"
groups=$(groups)
left=$(left)
applications=0
while read -r namespace name owns deployment; do
	case $owns in
	owns)
		pods=$($kubectl --namespace "$namespace" get pods --selector="leadergroup.io/group=$name" --output=name | wc -l)
		if [ "$answer" = keep ]; then
			echo "Group $namespace/$name goes; the Deployment $deployment that it owns and its $((pods)) pods are kept, without a leader"
		else
			echo "Group $namespace/$name goes, and with it the Deployment $deployment that it owns and its $((pods)) pods"
		fi
		applications=$((applications + 1))
		;;
	refers) echo "Group $namespace/$name goes; Deployment $deployment stays, its leader's label does not" ;;
	esac
done <<END
$groups
END
if $cluster_wide; then
	echo "The CustomResourceDefinition leadergroups.leadergroup.io, the operator in namespace $system, its rights and config/policies go"
	case $built in
	*"kind: Namespace"*) echo "Namespace $system goes, with all that is in it" ;;
	esac
else
	echo "The operator in namespace $system and its rights go; the CustomResourceDefinition stays"
fi

# 2. Only the operator takes its marks away.
if [ -n "$groups$left" ] && $check && ! operator_runs; then
	fail "no operator runs: nobody has renewed Lease $system/leadergroup-operator for 20 s, and without it pods would keep labels, annotations and deletion costs. Nothing was changed.
Start it (kubectl --namespace $system get pods says what is missing) and run this again; or give --no-check (make uninstall FLAGS=--no-check) if one runs without that Lease.
Where it cannot run any more, docs/uninstall.md tells how to go on by hand."
fi

# 3. Nobody loses anything unasked.
if [ -n "$groups$installed" ] && [ -z "$answer" ]; then
	[ -t 0 ] || fail "there is no terminal to ask on: give --yes, or --keep-deployments. Nothing was changed." 2
	if [ "$applications" -gt 0 ]; then
		printf 'Delete the groups, with %s Deployments and their pods? (yes; keep: the Deployments run on, without a leader; no) ' "$applications"
	elif [ -n "$groups" ]; then
		printf 'Delete the groups? (yes; no) '
	else
		printf 'Delete that? There are no groups. (yes; no) '
	fi
	read -r answer || answer=no
	case $answer in
	yes | keep) ;;
	*) fail "not confirmed. Nothing was changed." ;;
	esac
fi

# 4. The groups, while the operator runs.
while read -r namespace name owns _; do
	[ -n "$name" ] || continue
	cascade=background
	[ "$answer $owns" != "keep owns" ] || cascade=orphan
	$kubectl --namespace "$namespace" delete leadergroups.leadergroup.io "$name" --cascade="$cascade" --ignore-not-found --timeout="${patience}s" </dev/null ||
		fail "group $namespace/$name could not be deleted: kubectl says why above, or its condition Stalled does (kubectl --namespace $namespace describe leadergroup $name). The operator and its rights are still there: run this again to go on."
done <<END
$groups
END

# 5. Nothing of it is left.
waited=0
while :; do
	left=$(left)
	[ -n "$left" ] || break
	[ "$waited" -lt "$patience" ] || fail "this is left after $waited s:
$(printf '%s\n' "$left" | sed -n '1,20p')
The operator takes its marks away while it runs (kubectl --namespace $system logs deployment/leadergroup-operator), and the API server's garbage collector what groups owned.
The operator and its rights are still there: run this again to go on."
	sleep 2
	waited=$((waited + 2))
done

# 6. What was installed. Nobody acts on a group that is made from here on, so the definition can go.
$kubectl --namespace "$system" delete deployment leadergroup-operator --cascade=foreground --ignore-not-found --timeout="${patience}s"
left=$(groups && left)
[ -z "$left" ] || fail "while this ran somebody has made:
$left
Install the operator again (kubectl apply -k $directory) and run this again."
if $cluster_wide; then
	beside delete
fi
deleted=true
$kubectl delete --ignore-not-found -k "$directory" || deleted=false
$kubectl --namespace "$system" delete lease leadergroup-operator --ignore-not-found
$deleted || fail "not all of $directory could be deleted; kubectl says why above"
kept=$(kept)
if [ -n "$kept" ]; then
	echo "The Deployments and Leases of the groups are kept, with the label leadergroup.io/group that selects their pods:
$kept"
else
	echo "Done: nothing of it is left"
fi
