#!/usr/bin/env bash
# Make the payload of both packages, build/packages/tree or the folder given: usr/lib/isthmus with the runtime, the
# locked wheels and isthmus itself, without what pruned.txt lists, and compiled; usr/share/doc/isthmus with the bill of
# materials and the licences. VERSION and SOURCE_DATE_EPOCH decide what it says of itself. Then print its sizes.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
cd "$root"
out=$(realpath -m "${1:-build/packages/tree}")
arch=${ARCH:-amd64}
version=${VERSION:-$(sed -n 's/^version = //p' setup.cfg)}
cache=${ISTHMUS_TESTBED:-${XDG_CACHE_HOME:-$HOME/.cache}/isthmus-testbed}
python=$(realpath -s "${PYTHON:-$root/.venv/bin/python}")
umask 022

if test -z "${SOURCE_DATE_EPOCH:-}" && ! SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null); then
    echo "tree: this is no git checkout, whose last commit would tell the time: set SOURCE_DATE_EPOCH" >&2 && exit 1
fi
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC

case $arch in
amd64) machine=x86_64 ;;
arm64) machine=aarch64 ;;
*) echo "tree: ARCH=$arch is neither amd64 nor arm64" >&2 && exit 1 ;;
esac
mkdir -p "$(dirname "$out")"
exec 8>"$out.lock"
flock 8
runtime=$(ARCH=$arch PYTHON=$python packaging/runtime.sh)

# What decides the result; a tree that was made from the same is left as it is.
key=$({
    echo "$arch $version $SOURCE_DATE_EPOCH ${runtime##*/}"
    find agent hooks state packaging/{tree.sh,prune.py,pruned.txt,sbom.py,bin} requirements/{runtime,development}.txt \
        setup.cfg pyproject.toml LICENSE -type f -not -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum
} | sha256sum | cut -c 1-16)
if test "$(cat "$out.key" 2>/dev/null)" = "$key" && test -d "$out"; then
    echo "$out"
    exit 0
fi

work=$out.unfinished
rm -rf "$work" "$out.key"
mkdir -p "$work"/{runtime,source} "$work/tree/usr/lib/isthmus/bin" "$work/tree/usr/share/doc/isthmus"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
pip=("$python" -m pip --quiet --disable-pip-version-check)
for_target=(--only-binary ":all:" --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none
    --platform "manylinux2014_$machine" --platform "manylinux_2_17_$machine")

tar -xf "$runtime" -C "$work/runtime"
mv "$work/runtime/python" "$work/tree/usr/lib/isthmus/python"
library=$work/tree/usr/lib/isthmus/python/lib/python3.11
site=$library/site-packages

# The wheels as locked, kept for the next tree; they need nothing newer than glibc 2.17.
wheels=$cache/wheels-$arch-$(sha256sum requirements/runtime.txt | cut -c 1-16)
mkdir -p "$cache"
exec 9>"$cache/wheels.lock"
flock 9
if ! test -d "$wheels"; then
    rm -rf "$cache/wheels.unfinished"
    "${pip[@]}" download --no-deps --require-hashes "${for_target[@]}" --dest "$cache/wheels.unfinished" \
        -r requirements/runtime.txt
    mv "$cache/wheels.unfinished" "$wheels"
fi
flock -u 9

# isthmus itself, built in a copy: nothing that an earlier build left beside the sources gets in.
cp -r agent hooks state setup.cfg pyproject.toml LICENSE README.md "$work/source"
mkdir "$work/source/requirements"
cp requirements/runtime.in "$work/source/requirements"
sed -i "s/^version = .*/version = $version/" "$work/source/setup.cfg"
find "$work/source" -name __pycache__ -prune -exec rm -rf {} +
PYTHONWARNINGS=ignore "${pip[@]}" wheel --no-deps --no-build-isolation --no-index --wheel-dir "$work" "$work/source"
"${pip[@]}" install --no-deps --no-index --no-compile --no-warn-conflicts --root-user-action ignore "${for_target[@]}" \
    --target "$site" "$wheels"/*.whl "$work"/isthmus-*.whl
rm -rf "${site:?}/bin"

install -m 755 packaging/bin/isthmus packaging/bin/isthmus-hook "$work/tree/usr/lib/isthmus/bin"
"$python" packaging/prune.py packaging/pruned.txt "$library"
"$python" packaging/sbom.py --lock packaging/runtime.lock --wheels "$wheels" --licences "$work/tree/usr/lib/isthmus/python/licences" \
    --version "$version" --arch "$arch" "$site" "$work/tree/usr/share/doc/isthmus"
rm -r "$work/tree/usr/lib/isthmus/python/licences"
# The client imports its every part at once, also those that the list names.
sed -i -E '/^from \. import (dynamic|informer|leaderelection|stream|watch)$/d' "$site/kubernetes/__init__.py"
echo "# Changed for isthmus, which uses these parts only." >>"$site/kubernetes/__init__.py"

# The compiler's own strip, so that no other version of it makes other bytes.
find "$site" -name '*.so' -exec "$work/runtime/tools/strip" --no-merge-notes {} +
# A library is not run as a script: https://lintian.debian.org/tags/script-not-executable
find "$library" -name '*.py' -exec sed -i '1s/^#!.*//' {} +
chmod -R u=rwX,go=rX "$work/tree"
find "$library" -type f -exec chmod 644 {} +

# The compiled files say that nobody need compare them with their source, whatever its time is, and carry the path of
# the installed package. No other run writes any: the launchers forbid it.
find "$library" -name __pycache__ -prune -exec rm -rf {} +
env -i PYTHONHASHSEED=0 "$work/tree/usr/lib/isthmus/python/bin/python3.11" -s -P -B -m compileall -q -f \
    --invalidation-mode unchecked-hash -s "$work/tree" -p / "$library"
find "$work/tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

rm -rf "$out.before"
if test -d "$out"; then mv "$out" "$out.before"; fi
mv "$work/tree" "$out"
rm -rf "$out.before"
echo "$key" >"$out.key"
"$python" packaging/sizes.py "$out" >&2
echo "$out"
