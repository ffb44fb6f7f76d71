#!/bin/sh
# Installs the quinistry binary of a release: downloads it and SHA256SUMS, and installs it only if the
# checksum matches.
#
#   curl -fsSL https://github.com/quinistry/quinistry/releases/latest/download/install.sh | sh
#
# Environment:
#   PREFIX               where to: the binary becomes PREFIX/bin/quinistry. Default: /usr/local if you may
#                        write to /usr/local/bin, otherwise ~/.local
#   QUINISTRY_VERSION    the version, such as 0.1.0. Default: the newest release
#   QUINISTRY_BASE_URL   the folder of the release's files, such as that of a mirror. Default: GitHub
#
# Needs Linux on x86_64 or aarch64, curl or wget, and sha256sum. The last line calls `main`, so that an
# incompletely downloaded script does nothing.
set -eu

fail() {
  printf 'error: quinistry is not installed: %s\n' "$1" >&2
  exit 1
}

# Prints the name of the release's file for this machine.
binary_name() {
  system=$(uname -s)
  machine=$(uname -m)
  [ "$system" = Linux ] || fail "there is no binary for $system, only for Linux"
  case $machine in
    x86_64 | amd64) echo quinistry-linux-amd64 ;;
    aarch64 | arm64) echo quinistry-linux-arm64 ;;
    *) fail "there is no binary for $machine, only for x86_64 and aarch64; build it from source" ;;
  esac
}

# download URL FILE
download() {
  if command -v curl >/dev/null 2>&1; then
    # A redirection from HTTPS may only lead to HTTPS.
    protocols='=https'
    case $1 in http:*) protocols='=http,https' ;; esac
    reason=$(curl --proto "$protocols" -fsSL -o "$2" "$1" 2>&1) && return
  elif command -v wget >/dev/null 2>&1; then
    reason=$(wget -q -O "$2" "$1" 2>&1) && return
  else
    fail "neither curl nor wget is found; install one of them"
  fi
  reason=$(printf '%s\n' "$reason" | sed -n 1p)
  fail "cannot download $1: ${reason:-no reason given}; check the address, or set QUINISTRY_BASE_URL"
}

# verify FOLDER NAME: ends the script unless SHA256SUMS has the checksum of the file.
verify() {
  expected=$(sed -n "s/^\([0-9a-f]\{64\}\) [ *]$2\$/\1/p" "$1/SHA256SUMS")
  [ "${#expected}" -eq 64 ] || fail "$base/SHA256SUMS has no checksum of $2, or several"
  actual=$(sha256sum "$1/$2") || fail "sha256sum cannot read $2"
  actual=${actual%% *}
  [ "$actual" = "$expected" ] || fail "$base/$2 has the checksum $actual, expected $expected"
}

# Prints the folder to install into.
bin_folder() {
  if [ -n "${PREFIX-}" ]; then
    echo "$PREFIX/bin"
  elif [ -d /usr/local/bin ] && [ -w /usr/local/bin ]; then
    echo /usr/local/bin
  else
    echo "${HOME:?set HOME or PREFIX}/.local/bin"
  fi
}

clean_up() {
  [ -z "$work" ] || rm -rf "$work"
  [ -z "$partial" ] || rm -f "$partial"
}

main() {
  work='' partial=''
  releases=https://github.com/quinistry/quinistry/releases
  if [ -n "${QUINISTRY_BASE_URL-}" ]; then
    base=${QUINISTRY_BASE_URL%/}
  elif [ -n "${QUINISTRY_VERSION-}" ]; then
    base=$releases/download/v${QUINISTRY_VERSION#v}
  else
    base=$releases/latest/download
  fi
  command -v sha256sum >/dev/null 2>&1 || fail "sha256sum is not found; install coreutils"
  name=$(binary_name)
  folder=$(bin_folder)

  trap clean_up EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  work=$(mktemp -d)
  download "$base/SHA256SUMS" "$work/SHA256SUMS"
  download "$base/$name" "$work/$name"
  verify "$work" "$name"

  mkdir -p "$folder" || fail "cannot create $folder; set PREFIX to a folder of yours"
  # In the same folder, so that the last step is a rename: a running quinistry keeps its executable.
  partial=$folder/.quinistry.$$
  { cp "$work/$name" "$partial" && chmod 755 "$partial"; } ||
    fail "cannot write to $folder; set PREFIX to a folder of yours"
  version=$("$partial" --version) || fail "$name does not run on this machine"
  mv -f "$partial" "$folder/quinistry" || fail "cannot replace $folder/quinistry"
  printf 'installed %s as %s\n' "$version" "$folder/quinistry"
  case :$PATH: in
    *":$folder:"*) ;;
    *) printf 'note: %s is not in PATH\n' "$folder" ;;
  esac
}

main
