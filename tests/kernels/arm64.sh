#!/bin/sh
# Builds kernels/ and its comparisons for arm64 and runs them under qemu-user, once on a processor
# with everything and once on an old one. Exit 77 (skipped) where the tools are missing.
#   arm64.sh SOURCE_DIR WORK_DIR
set -eu
src=$1
work=$2/arm64
cc=aarch64-linux-gnu-gcc
emulator=$(command -v qemu-aarch64-static || command -v qemu-aarch64 || true)

if [ "$(uname -m)" = aarch64 ]; then
	echo "skipped: this is arm64, the other kernel tests have run natively"
	exit 77
fi
if ! command -v $cc >/dev/null; then
	echo "skipped: no $cc (Debian: gcc-aarch64-linux-gnu)"
	exit 77
fi
if [ -z "$emulator" ]; then
	echo "skipped: no qemu-aarch64-static (Debian: qemu-user-static)"
	exit 77
fi

mkdir -p "$work"
objects=
for file in cpu trits registry i2s tl1 tl2 scalar vec_scalar rope dense dense_scalar \
	i2s_neon i2s_dotprod tl1_neon vec_neon dense_neon; do
	arch=
	[ $file = i2s_dotprod ] && arch=-march=armv8.2-a+dotprod
	$cc -std=c11 -D_GNU_SOURCE -I"$src" -O2 -ffp-contract=off -fno-math-errno -Wall -Wextra \
		-Wconversion -Wshadow -Werror $arch -c "$src/kernels/$file.c" -o "$work/$file.o"
	objects="$objects $work/$file.o"
done
# shellcheck disable=SC2086
$cc -std=c11 -D_GNU_SOURCE -I"$src" -O2 -static -o "$work/compare" \
	"$src/tests/kernels/arm64_main.c" "$src/tests/kernels/rig.c" \
	"$src/tests/kernels/rig_float.c" $objects -lm
"$emulator" -cpu max "$work/compare" i2s.dotprod
"$emulator" -cpu cortex-a53 "$work/compare" i2s.neon
