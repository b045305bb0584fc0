# shellcheck shell=bash disable=SC2016 # the inner shell expands
# Decommissioning: nothing that is secret or a patient's stays, and nothing of another device goes.
: "${scripts:?}" "${T:?}" "${CA:?}" "${broker_port=}"
need root socat || return 0
D="$T/d-end"
device "$D"
broker_port=8883
rendered "$D" north-dx-2
enrolled "$D" north-dx-2
run install --root "$D" --installed
run rotate --root "$D" --kind mqtt --before-days 398
mkdir -p "$D/var/lib/clearfilm/spool" "$T/outside"
echo canary >"$D/var/lib/clearfilm/spool/image"
echo canary >"$T/outside/keep"
ln -s "$T/outside" "$D/var/lib/clearfilm/link"
cp "$D/etc/clearfilm/site.key" "$D/var/lib/clearfilm/site.key"
printf '[telemetry]\nlog = "warn"\n' >"$D/etc/clearfilm/conf.d/60-local.toml"
cp -a "$D" "$D.kept"
refused "another device's id is refused" 4 "a certificate of north-dx-3" "$D" decommission --root "$D" --unit north-dx-3 --yes north-dx-3
refused "an id typed wrong is refused" 2 "--yes" "$D" decommission --root "$D" --unit north-dx-2 --yes north-dx-3
refused "without a terminal it has to be told" 2 "no terminal" "$D" decommission --root "$D" --unit north-dx-2
ln "$D/etc/clearfilm/tls/mqtt.key" "$T/same-key"
ln "$D/etc/clearfilm/site.key" "$T/same-secret"
thrice "a device is decommissioned" "$D" decommission --root "$D" --unit north-dx-2 --yes north-dx-2
holds "no key, certificate, secret, image or rendered setting stays" sh -c '[ -z "$(find "$1/etc/clearfilm/tls" "$1/var/lib/clearfilm" -mindepth 1)" ] && [ ! -e "$1/etc/clearfilm/site.key" ] && [ ! -e "$1/etc/clearfilm/conf.d/50-site.toml" ]' sh "$D"
holds "a key was overwritten, not only removed" sh -c '! grep -q PRIVATE "$1"' sh "$T/same-key"
holds "the secret too" sh -c '! grep -Eq "[0-9a-f]{64}" "$1"' sh "$T/same-secret"
holds "what a link leads to stays" grep -qx canary "$T/outside/keep"
run decommission --root "$D" --unit north-dx-2 --yes north-dx-2
holds "it says what remains to be done" sh -c 'grep -q "revoke DIR north-dx-2" "$1" && grep -q "60-local.toml" "$1"' sh "$T/all"
rm -rf "$D" && cp -a "$D.kept" "$D"
printf '[storage]\npath = "/data/clearfilm"\n' >"$D/etc/clearfilm/conf.d/70.toml"
mkdir -p "$D/data/clearfilm" && echo canary >"$D/data/clearfilm/x"
expect "another storage is told, not erased" 0 "storage.path is /data/clearfilm" decommission --root "$D" --unit north-dx-2 --yes north-dx-2
holds "so it stays" test -f "$D/data/clearfilm/x"
rm -rf "$D" && cp -a "$D.kept" "$D"
wrong_id() {
    # shellcheck disable=SC2086 # "busybox sh" is two words
    typed north-dx-9 $SH "$scripts/decommission" --root "$D" --unit north-dx-2
    [ $? -eq 2 ] && [ -f "$D/etc/clearfilm/site.key" ]
}
holds "the wrong id at the terminal stops it" wrong_id
# shellcheck disable=SC2086 # "busybox sh" is two words
holds "the id at the terminal does it" typed north-dx-2 $SH "$scripts/decommission" --root "$D" --unit north-dx-2
holds "and it is done" test ! -e "$D/etc/clearfilm/site.key"
