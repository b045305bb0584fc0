# shellcheck shell=bash disable=SC2016 # the inner shell expands
# What is put around the service on a device: user, folders, secret, journal, packet filter, package.
: "${scripts:?}" "${T:?}" "${CLEARFILM:?}"
need root nft dpkg-deb systemctl || return 0
I="$T/i"
device "$I"
sed -i '/clearfilm/d' "$I/etc/passwd" "$I/etc/group"
cat /etc/passwd /etc/group >"$T/names"
expect "a unit without settings is installed, and told what is missing" 0 "not rendered yet" install --root "$I" --installed
holds "the user and the group were made" sh -c 'grep -q "^clearfilm:.*:/usr/sbin/nologin$" "$1/passwd" && grep -q "^clearfilm:" "$1/group"' sh "$I/etc"
holds "of this machine they were not" sh -c 'cat /etc/passwd /etc/group | cmp - "$1"' sh "$T/names"
rm -rf "$I"
device "$I"
cat >"$T/i.conf" <<'TEXT'
site = north
broker = mqtts://10.9.9.9:8884
listen = 11113
peer = DX 10.1.2.3,fe80::7
peer = CT 10.1.2.4
TEXT
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$T/i.key" 2>/dev/null
openssl pkey -in "$T/i.key" -pubout -out "$T/i.pub"
openssl dgst -sha256 -sign "$T/i.key" -out "$T/i.sig" "$T/i.conf"
run render --root "$I" --key "$T/i.pub" --unit north-dx-2 --site-file "$T/i.conf" --signature "$T/i.sig"
printf '[update]\nsource = "https://updates.lan/fleet"\n' >"$I/etc/clearfilm/conf.d/60-local.toml"
options=(--ssh-from 10.5.0.0/16 --ssh-from fd00::/8 --est-host 10.8.8.8:8443)
thrice "a device is installed" "$I" install --root "$I" --installed "${options[@]}"
secret="$I/etc/clearfilm/site.key"
holds "the secret is what the service takes" sh -c '[ "$(stat -c "%a %u:%g" "$1")" = "600 971:972" ] && grep -Eqx "[0-9a-f]{64}" "$1"' sh "$secret"
holds "nothing shows the secret" sh -c '! grep -qF "$(cat "$1")" "$2"' sh "$secret" "$T/everything"
holds "folders have their modes" test "$(stat -c '%a %u:%g' "$I/etc/clearfilm/tls" "$I/etc/clearfilm/conf.d" "$I/var/lib/clearfilm" | tr '\n' ' ')" = "750 0:972 750 0:972 700 971:972 "
holds "the journal is limited" grep -qx SystemMaxUse=500M "$I/etc/systemd/journald.conf.d/clearfilm.conf"
nft="$I/etc/nftables.d/clearfilm.nft"
holds "nft takes the rules" nft -c -f "$nft"
if [ -e /etc/protocols ] && unshare -m true 2>/dev/null; then
    holds "also on a system without /etc/protocols" unshare -m sh -c 'mount --bind /dev/null /etc/protocols && nft -c -f "$1"' sh "$nft"
fi
rule() { holds "rule: $1" grep -qF "$1" "$nft"; }
rule 'ip saddr { 10.1.2.3, 10.1.2.4 } tcp dport 11113 accept'
rule 'ip6 saddr { fe80::7 } tcp dport 11113 accept'
rule 'ip saddr { 10.5.0.0/16 } tcp dport 22 accept'
rule 'ip6 saddr { fd00::/8 } tcp dport 22 accept'
rule 'ip daddr 10.9.9.9 tcp dport 8884 accept'
rule 'ip daddr 10.8.8.8 tcp dport 8443 accept'
rule 'tcp dport 443 accept comment "update updates.lan'
holds "both chains drop what is not named" test "$(grep -c 'policy drop' "$nft")" = 2
run install --root "$I" --installed
holds "without --ssh-from nobody comes in by ssh" sh -c '! grep -q "dport 22" "$1"' sh "$nft"
printf '[update]\nsource = "https://updates.lan/fleet"\nproxy = "http://10.7.7.7:3128"\n' >"$I/etc/clearfilm/conf.d/60-local.toml"
run install --root "$I" --installed "${options[@]}"
rule 'ip daddr 10.7.7.7 tcp dport 3128 accept comment "update"'
holds "with a proxy nobody else is asked for updates" sh -c '! grep -q updates.lan "$1"' sh "$nft"
printf '[update]\nsource = "https://updates.lan/fleet"\n' >"$I/etc/clearfilm/conf.d/60-local.toml"
cp "$secret" "$T/secret"
run install --root "$I" --installed "${options[@]}"
holds "the secret is never made again" cmp "$secret" "$T/secret"
chmod 640 "$secret"
expect "its mode is put right" 0 "set $secret" install --root "$I" --installed "${options[@]}"
echo short >"$secret"
refused "a damaged secret is refused, and stays" 4 "64 hexadecimal" "$I" install --root "$I" --installed "${options[@]}"
rm "$secret"
install -m 600 "$T/secret" "$I/var/lib/clearfilm/site.key"
expect "the secret of a unit that ran before is taken over" 0 "that is in use" install --root "$I" --installed "${options[@]}"
holds "the same bytes" cmp "$secret" "$T/secret"
rm "$secret"
mv "$I/var/lib/clearfilm/site.key" "$T/elsewhere"
ln -s "$T/elsewhere" "$I/var/lib/clearfilm/site.key"
refused "a link in the service's own folder is not followed" 4 "a link" "$I" install --root "$I" --installed "${options[@]}"
rm "$I/var/lib/clearfilm/site.key"
cp -p "$T/elsewhere" "$secret" && run install --root "$I" --installed "${options[@]}"
for bad in "--ssh-from 10.0.0.0/99x" "--ssh-from all" "--est-host a;b" "--broker-address lan"; do
    # shellcheck disable=SC2086 # an option and its value
    refused "$bad is a matter of usage" 2 "${bad%% *}" "$I" install --root "$I" --installed $bad
done
refused "the package or --installed, one of them" 2 "one of them" "$I" install --root "$I"

# The rules at work: two network namespaces, joined by a cable.
# Named by this process: two runs of the tests may be at work.
device_ns="cf-device-$BASHPID" room_ns="cf-room-$BASHPID"
if ip netns add "$device_ns" 2>/dev/null && ip netns add "$room_ns" 2>/dev/null; then
    ip link add cf0 netns "$device_ns" type veth peer name cf1 netns "$room_ns"
    for pair in "$device_ns cf0" "$room_ns cf1"; do
        # shellcheck disable=SC2086 # two words
        set -- $pair
        ip -n "$1" link set "$2" up && ip -n "$1" link set lo up
    done
    ip -n "$device_ns" addr add 10.1.2.1/24 dev cf0
    for a in 3 4 9; do ip -n "$room_ns" addr add "10.1.2.$a/24" dev cf1; done
    ip netns exec "$device_ns" nft -f "$nft"
    ip netns exec "$device_ns" nft -f "$nft" || fail_test "the rules can be loaded twice"
    # NAMESPACE PORT...
    listen() {
        local one
        for one in "${@:2}"; do
            ip netns exec "$1" socat -u "TCP-LISTEN:$one,fork,reuseaddr" OPEN:/dev/null &
            pids+=($!)
        done
    }
    listen "$device_ns" 11113 22 8080
    listen "$room_ns" 443 8884 80
    # NAMESPACE FROM TO PORT
    reach() { ip netns exec "$1" socat -u OPEN:/dev/null "TCP:$3:$4,bind=$2,connect-timeout=1"; }
    # The last ports that were opened answer within each room: then all of them do.
    soon() { local i; for i in $(seq 100); do "$@" 2>/dev/null && return 0; sleep 0.1; done; echo "not after $i tries"; return 1; }
    holds "the listeners are there" soon reach "$device_ns" 127.0.0.1 127.0.0.1 8080
    holds "and those in the other room" soon reach "$room_ns" 10.1.2.3 10.1.2.3 80
    closed() { ! reach "$@"; }
    holds "a listed sender reaches the receiver" reach "$room_ns" 10.1.2.3 10.1.2.1 11113
    holds "another address does not" closed "$room_ns" 10.1.2.9 10.1.2.1 11113
    holds "a listed sender reaches no other port" closed "$room_ns" 10.1.2.3 10.1.2.1 8080
    holds "nobody reaches ssh from elsewhere" closed "$room_ns" 10.1.2.3 10.1.2.1 22
    holds "the device reaches the update port" reach "$device_ns" 10.1.2.1 10.1.2.3 443
    holds "the device reaches no broker at another address" closed "$device_ns" 10.1.2.1 10.1.2.3 8884
    holds "and nothing else" closed "$device_ns" 10.1.2.1 10.1.2.3 80
    holds "itself it reaches" reach "$device_ns" 127.0.0.1 127.0.0.1 8080
    ip netns del "$device_ns"
    ip netns del "$room_ns"
else
    skip "rules at work: no network namespaces here"
    ip netns del "$device_ns" 2>/dev/null
fi

# A package, as dpkg sees it.
mine=$(dpkg --print-architecture)
deb 1.0 "$mine" clearfilm && deb 1.1 "$mine" clearfilm && deb 2.0 riscv64 clearfilm && deb 1.0 "$mine" other
for_packages "$I"
expect "a package is installed" 0 "version 1.0" install --root "$I" --package "$T/clearfilm-1.0.deb" --clearfilm "$CLEARFILM"
holds "its files are there" grep -qx 1.0 "$I/usr/share/clearfilm/version"
snapshot "$I" >"$T/before"
expect "the same version has nothing to do" 0 "nothing to do" install --root "$I" --package "$T/clearfilm-1.0.deb" --clearfilm "$CLEARFILM"
snapshot "$I" >"$T/after"
holds "and changes nothing" cmp "$T/before" "$T/after"
expect "another version is installed" 0 "version 1.1" install --root "$I" --package "$T/clearfilm-1.1.deb" --clearfilm "$CLEARFILM"
sed -i 's/^Status: .*/Status: install reinstreq half-installed/' "$I/var/lib/dpkg/status"
expect "an installation that was killed half way is made whole" 0 "version 1.1" install --root "$I" --package "$T/clearfilm-1.1.deb" --clearfilm "$CLEARFILM"
holds "and counts as installed then" grep -q 'Status: install ok installed' "$I/var/lib/dpkg/status"
refused "another machine's package is refused" 4 "riscv64" "$I" install --root "$I" --package "$T/clearfilm-2.0.deb"
refused "another package is refused" 4 "the package clearfilm" "$I" install --root "$I" --package "$T/other-1.0.deb"
"$CLEARFILM_FLEET" render unit >"$I/lib/systemd/system/clearfilm.service"
thrice "--enable enables the service" "$I" install --root "$I" --installed --enable
holds "for the next start" test -L "$I/etc/systemd/system/multi-user.target.wants/clearfilm.service"
holds "folders that programs of the system make are for everybody" test "$(stat -c %a "$I/etc/systemd/system/multi-user.target.wants")" = 755
