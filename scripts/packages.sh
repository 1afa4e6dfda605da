# Sourced by scripts/test and scripts/demo: puts the named Debian packages on this machine.
#
# need_packages NAME ... installs what is missing through apt-get, with sudo when not root. Off
# Debian it prints what is needed and returns 1 unless BN_SKIP_PACKAGES=1 says "I have them".

BUILD_PACKAGES="gcc libc6-dev cmake ninja-build pkg-config libuv1-dev libmsgpack-dev libyaml-dev
	libsystemd-dev libutf8proc-dev libjansson-dev libedit-dev libssl-dev libcurl4-openssl-dev"
TEST_PACKAGES="libcmocka-dev libpcre2-dev python3 python3-msgpack python3-pynvim python3-numpy
	clang clang-tidy clang-format libclang-rt-14-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross
	qemu-user-static"

need_packages() {
	if [ "${BN_SKIP_PACKAGES:-0}" = 1 ]; then
		return 0
	fi
	if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
		cat >&2 <<MESSAGE
This script installs its packages with apt-get and was written for Debian 12; this system has none.
Install the equivalents of these packages, then run it again with BN_SKIP_PACKAGES=1:

$(printf '    %s\n' "$@")
MESSAGE
		return 1
	fi
	missing=""
	for package in "$@"; do
		if ! dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed'; then
			missing="$missing $package"
		fi
	done
	if [ -z "$missing" ]; then
		return 0
	fi
	as_root=""
	if [ "$(id -u)" -ne 0 ]; then
		if ! command -v sudo >/dev/null; then
			echo "These packages are missing and neither root nor sudo is at hand:$missing" >&2
			return 1
		fi
		as_root=sudo
	fi
	echo "Installing:$missing"
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
		$as_root env DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends $missing >/dev/null
}
