# Gets the programs that tools/check-deploy and tools/render-install use. Sourced by both.
#
# Everything goes to .tools/deploy, nothing is installed system-wide. Each function prints a path, or
# fails without a word: the caller decides whether to skip. A program on PATH is preferred where any
# version serves; what is fetched has a pinned version in its file name, so a new pin is a new file.

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
deploy_tools=$repository/.tools/deploy

have() { command -v "$1" >/dev/null 2>&1; }

say() { printf '%s\n' "$*" >&2; }

# A Python 3.11 or later with the packages of requirements.txt, in a venv of their own.
tool_python() {
    local wanted=$repository/deploy/checks/requirements.txt stamp=$deploy_tools/venv/requirements.txt base
    if ! cmp -s "$wanted" "$stamp"; then
        for base in python3 python3.14 python3.13 python3.12 python3.11; do
            have "$base" && "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' && break
            base=
        done
        [ -n "$base" ] || return 1
        say "getting the Python packages of deploy/checks/requirements.txt"
        "$base" -m venv "$deploy_tools/venv" >&2 || return 1
        "$deploy_tools/venv/bin/pip" --quiet --disable-pip-version-check install -r "$wanted" >&2 || return 1
        cp "$wanted" "$stamp"
    fi
    printf '%s\n' "$deploy_tools/venv/bin/python"
}

# A Go program: tool_go NAME VERSION PACKAGE.
tool_go() {
    local target=$deploy_tools/bin/$1-$2 built
    if [ ! -x "$target" ]; then
        have go || return 1
        say "building $1 $2"
        built=$(mktemp -d "$deploy_tools/build.XXXXXX")
        if ! GOBIN=$built GOFLAGS=-mod=mod go install "$3@$2" >"$built/log" 2>&1; then
            tail -n 3 "$built/log" >&2
            rm -rf "$built"
            return 1
        fi
        rm "$built/log"
        mv -f "$built"/* "$target"
        rmdir "$built"
    fi
    printf '%s\n' "$target"
}

# kustomize, or a kubectl that brings one new enough for components with generators.
tool_kustomize() {
    tool_go kustomize v5.7.1 sigs.k8s.io/kustomize/kustomize/v5 && return
    have kustomize && command -v kustomize && return
    have kubectl && kubectl version --client 2>/dev/null | grep -q 'Kustomize Version: v5' || return 1
    printf '#!/bin/sh\n[ "$1" = build ] && shift\nexec kubectl kustomize "$@"\n' >"$deploy_tools/bin/kubectl-kustomize"
    chmod 755 "$deploy_tools/bin/kubectl-kustomize"
    printf '%s\n' "$deploy_tools/bin/kubectl-kustomize"
}

# The parser of custom resources (deploy/checks/typed), built once for each state of its source. The
# first build compiles the operators' types and takes minutes; REPULL_CHECK_TYPED=0 leaves it out.
tool_typed() {
    local source=$repository/deploy/checks/typed key target
    [ "${REPULL_CHECK_TYPED:-1}" != 0 ] || return 1
    key=$(cat "$source"/go.mod "$source"/go.sum "$source"/*.go | cksum | cut -d' ' -f1)
    target=$deploy_tools/bin/typed-$key
    if [ ! -x "$target" ]; then
        have go || return 1
        say "building deploy/checks/typed, which takes minutes the first time"
        (cd "$source" && go build -o "$target.$$" .) >&2 || return 1
        mv -f "$target.$$" "$target"
    fi
    printf '%s\n' "$target"
}

# promtool: on PATH, or unpacked from a Debian package without installing it.
tool_promtool() {
    local target=$deploy_tools/bin/promtool folder
    have promtool && command -v promtool && return
    if [ ! -x "$target" ]; then
        have apt-get && have dpkg-deb || return 1
        say "getting promtool from a Debian package"
        folder=$(mktemp -d "$deploy_tools/apt.XXXXXX")
        # Newer suites have a package promtool; older ones ship it inside prometheus.
        if ! (cd "$folder" && { apt-get download promtool || apt-get download prometheus ||
            { apt-get update && { apt-get download promtool || apt-get download prometheus; }; }; }) >/dev/null 2>&1; then
            rm -rf "$folder"
            return 1
        fi
        dpkg-deb --fsys-tarfile "$folder"/*.deb | tar -x -C "$folder" ./usr/bin/promtool || return 1
        mv -f "$folder/usr/bin/promtool" "$target"
        rm -rf "$folder"
    fi
    printf '%s\n' "$target"
}

# nats-server, as the tests get it.
tool_nats_server() {
    [ -x "$repository/tools/nats-server" ] && "$repository/tools/nats-server" 2>/dev/null
}

# The schemas of one Kubernetes version, for kubeconform: tool_schemas PYTHON VERSION.
tool_schemas() {
    local folder=$deploy_tools/schemas-$2
    if [ ! -f "$folder/_definitions.json" ]; then
        "$1" "$repository/deploy/checks/schemas.py" "$2" "$folder.$$" >&2 || return 1
        rm -rf "$folder"
        mv -f "$folder.$$" "$folder"
    fi
    printf '%s\n' "$folder"
}

mkdir -p "$deploy_tools/bin"
