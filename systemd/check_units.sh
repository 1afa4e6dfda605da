#!/bin/sh
# Fails when systemd finds fault with the units, when the service is more exposed than 0.6 of 10, or
# when somebody added what breaks telling users apart. Usage: check_units.sh SYSTEMD_ANALYZE UNIT...
set -eu
analyze=$1
service=$2
socket=$3
if grep -q '^PrivateUsers=' "$service"; then
	echo "$service: PrivateUsers= would show all clients as one uid"
	exit 1
fi
if [ ! -x "$analyze" ]; then
	echo "systemd-analyze is not installed"
	exit 77
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# `verify` wants every program and page to be there; ours are not before `install`.
sed -e 's|^ExecStart=.*|ExecStart=/bin/true|' -e '/^Documentation=/d' "$service" >"$folder/bnd.service"
sed -e '/^Documentation=/d' "$socket" >"$folder/bnd.socket"
# It also reports on units of the machine that ours pull in: only ours are judged.
"$analyze" verify --man=no "$folder/bnd.service" "$folder/bnd.socket" >"$folder/faults" 2>&1 || true
if grep -E '(^|/)bnd\.(service|socket)' "$folder/faults"; then
	exit 1
fi
"$analyze" security --offline=true --threshold=6 "$folder/bnd.service" >"$folder/exposure" 2>&1 || {
	cat "$folder/exposure"
	exit 1
}
tail -n 1 "$folder/exposure"
