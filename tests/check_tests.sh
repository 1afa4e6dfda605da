#!/bin/sh
# Fails when a source file has neither tests/<folder>/test_<file>.c nor a line in untested.txt, and
# when a line in untested.txt matches nothing any more.
set -eu
cd "${1:-$(dirname "$0")/..}"
bad=0
files=$(ls proto/*.c kernels/*.c engine/*.c daemon/*.c client/*.c)
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
	if [ $excused = no ] && [ ! -e "tests/${stem%/*}/test_${stem##*/}.c" ]; then
		echo "$f has no tests/${stem%/*}/test_${stem##*/}.c"
		bad=1
	fi
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
