#!/bin/sh
# Fails when a source file has neither tests/<folder>/test_<file>.c nor a line in untested.txt, and
# when a line in untested.txt matches nothing any more.
set -eu
cd "${1:-$(dirname "$0")/..}"
bad=0
excuses=$(sed -n 's/^\([a-z]*\/[^[:space:]]*\)[[:space:]].*/\1/p' tests/untested.txt)
for f in proto/*.c kernels/*.c engine/*.c daemon/*.c client/*.c; do
	[ -e "$f" ] || continue
	stem=${f%.c}
	[ -e "tests/${stem%/*}/test_${stem##*/}.c" ] && continue
	excused=no
	for pattern in $excuses; do
		# shellcheck disable=SC2254
		case $stem in
		$pattern) excused=yes ;;
		esac
	done
	if [ $excused = no ]; then
		echo "$f has no tests/${stem%/*}/test_${stem##*/}.c"
		bad=1
	fi
done
for pattern in $excuses; do
	# shellcheck disable=SC2086
	if ! ls $pattern.c >/dev/null 2>&1; then
		echo "tests/untested.txt: nothing matches $pattern any more"
		bad=1
	fi
done
exit $bad
