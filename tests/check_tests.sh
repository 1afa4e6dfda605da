#!/bin/sh
# Fails when a source file has neither a test of its own nor a line in untested.txt, and when a line
# in untested.txt matches nothing any more. The tests of <folder>/<file>.c are
# tests/<folder>/test_<file>.c and, where it has several ideas, test_<file>_<idea>.c; each belongs to
# the file with the longest name that fits, so test_gguf_parse.c says nothing about gguf.c.
set -eu
cd "${1:-$(dirname "$0")/..}"
bad=0
files=$(ls proto/*.c kernels/*.c engine/*.c daemon/*.c client/*.c)
tested=" "
for t in tests/proto/test_*.c tests/kernels/test_*.c tests/engine/test_*.c tests/daemon/test_*.c \
	tests/client/test_*.c; do
	folder=${t#tests/} folder=${folder%%/*}
	name=${t##*/test_} name=${name%.c}
	while [ ! -e "$folder/$name.c" ] && [ "$name" != "${name%_*}" ]; do
		name=${name%_*}
	done
	tested="$tested$folder/$name "
done
excuses=$(sed -n 's/^\([a-z]*\/[^[:space:]]*\)[[:space:]].*/\1/p' tests/untested.txt)
set -f # from here on a pattern is a pattern, not the files it matches
used=" "
for f in $files; do
	stem=${f%.c}
	excused=no
	for pattern in $excuses; do
		# shellcheck disable=SC2254
		case $stem in
		$pattern) excused=yes used="$used$pattern " ;;
		esac
	done
	case $excused$tested in
	yes* | *" $stem "*) ;;
	*)
		echo "$f has no tests/${stem%/*}/test_${stem##*/}.c"
		bad=1
		;;
	esac
done
for pattern in $excuses; do
	case $used in
	*" $pattern "*) ;;
	*)
		echo "tests/untested.txt: nothing matches $pattern any more"
		bad=1
		;;
	esac
done
exit $bad
