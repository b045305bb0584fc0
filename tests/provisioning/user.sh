# shellcheck shell=bash disable=SC2016 # the inner shell expands
# Whoever is not root can make requests and keep an authority; owners are then left as they are.
: "${scripts:?}" "${T:?}"
need root || return 0
U=$(mktemp -d /var/tmp/clearfilm-user.XXXXXX)
cp -r "$scripts" "$U/sh"
mkdir "$U/root" "$U/tmp"
chown -R 65534:65534 "$U"
chmod 755 "$U"
# COMMAND...: as nobody.
nobody() {
    # shellcheck disable=SC2086 # "busybox sh" is two words
    env TMPDIR="$U/tmp" setpriv --reuid=65534 --regid=65534 --clear-groups $SH "$U/sh/$1" "${@:2}" >"$T/out" 2>"$T/err"
    code=$?
    cat "$T/out" "$T/err" >"$T/all"
}
nobody enrol --root "$U/root" --unit north-dx-2 --kind both
holds "somebody else makes keys and requests" test "$code" = 0
holds "and is told once that owners are not set" test "$(grep -c 'is not set' "$T/err")" = 1
holds "keys are private all the same" test "$(stat -c %a "$U/root/etc/clearfilm/tls/mqtt.key")" = 640
snapshot "$U/root" >"$T/before"
nobody enrol --root "$U/root" --unit north-dx-2 --kind both
snapshot "$U/root" >"$T/after"
holds "a second run has nothing to do" sh -c 'grep -q "nothing to do" "$1" && cmp "$2" "$3"' sh "$T/out" "$T/before" "$T/after"
nobody ca init "$U/tmp/ca" --name "Small CA"
nobody ca sign "$U/tmp/ca" "$U/root/etc/clearfilm/tls/mqtt.csr" --kind mqtt
holds "an authority needs no root, and no word about owners" sh -c 'grep -q "BEGIN CERTIFICATE" "$1" && ! grep -q owner "$2"' sh "$T/out" "$T/err"
nobody enrol --unit north-dx-2 --kind mqtt
holds "on the running system it fails, and says where" sh -c '[ "$1" != 0 ] && grep -q /etc/clearfilm "$2"' sh "$code" "$T/all"
rm -rf "$U"
