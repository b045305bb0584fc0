# shellcheck shell=bash disable=SC2016 # the inner shell expands
# The report: a device as it should be, everything that can be wrong with it, and a service and a
# broker that really run.
: "${scripts:?}" "${T:?}" "${CA:?}" "${CLEARFILM:?}" "${broker_pid=}" "${broker_port=}" "${service_pid=}"
need root mosquitto mosquitto_pub echoscu jq systemd-analyze || return 0
V="$T/v"
device "$V"
scp_port=$(free_port)
start_broker "$T/vb" "$CA"
rendered "$V" north-dx-2 "dicom_tls = mutual"
enrolled "$V" north-dx-2
run install --root "$V" --installed
tls="$V/etc/clearfilm/tls"
mkdir -p "$V/lib/systemd/system"
"$CLEARFILM_FLEET" render unit >"$V/lib/systemd/system/clearfilm.service"
listening() { # HEX-ADDRESS:PORT...: as the kernel shows them
    echo '  sl  local_address rem_address   st'
    local one
    for one in "$@"; do printf '   0: %s 00000000:0000 0A\n' "$one"; done
    printf '   9: 0100007F:C001 0100007F:1F90 01\n'
}
hex=$(printf '%04X' "$scp_port")
listening "00000000:$hex" 0100007F:1F90 3500007F:0035 >"$V/proc/net/tcp"
listening 00000000000000000000000001000000:0277 0000000000000000FFFF00000100007F:1F91 >"$V/proc/net/tcp6"
verify=(verify --root "$V")
snapshot "$V" >"$T/before"
expect "a device as it should be passes" 0 "ok config valid valid" "${verify[@]}" --offline
holds "no line fails, each has four words" sh -c '! grep -qvE "^(ok|warn) [a-z0-9._-]+ [^ ]+ [^ ]+$" "$1"' sh "$T/out"
for name in mode.mqtt.key mode.dicom.key mode.site.key mode.storage secret.content cert.mqtt.chain cert.mqtt.name cert.mqtt.key cert.mqtt.usage cert.mqtt.days cert.dicom.chain cert.dicom.days ports.open storage.free journald.limit unit.exposure; do
    holds "the report says ok $name" grep -q "^ok $name " "$T/out"
done
snapshot "$V" >"$T/after"
holds "it changes nothing" cmp "$T/before" "$T/after"
run "${verify[@]}" --offline --json
holds "as JSON it says the same" jq -e '.result == "ok" and (.checks | length) > 20 and
    all(.checks[]; keys == ["expected", "name", "result", "value"])' "$T/out"

# SENTENCE LINE OPTION...: one line of the report.
line() {
    local wanted=4
    case "$2" in "ok "* | "warn "*) wanted=0 ;; esac
    expect "$1" "$wanted" "$2" "${verify[@]}" --offline "${@:3}"
}
until=$(date -d "$(openssl x509 -in "$tls/mqtt.crt" -noout -enddate | cut -d= -f2)" +%s)
line "30 days left are enough" "ok cert.mqtt.days 30 " --now $((until - 30 * 86400))
line "29 days are a warning" "warn cert.mqtt.days 29 " --now $((until - 30 * 86400 + 1))
line "7 days are one too" "warn cert.mqtt.days 7 " --now $((until - 7 * 86400))
line "6 days are too few" "fail cert.mqtt.days 6 " --now $((until - 7 * 86400 + 1))
line "a certificate that has ended fails" "fail cert.mqtt.days -1 " --now $((until + 1))

# SENTENCE LINE COMMAND UNDO: with one thing wrong.
broken() {
    eval "$3"
    line "$1" "$2"
    eval "$4"
}
for one in tls/mqtt.key tls/dicom.key site.key conf.d/50-site.toml config.toml tls/ca.pem; do
    f="$V/etc/clearfilm/$one"
    mode=$(stat -c %a "$f")
    broken "$one that others can write fails" "fail mode.$(basename $one) " "chmod 666 $f" "chmod $mode $f"
done
broken "a key of another owner fails" "fail mode.mqtt.key " "chown 1234 $tls/mqtt.key" "chown 0 $tls/mqtt.key"
broken "storage that others can enter fails" "fail mode.storage " "chmod 755 $V/var/lib/clearfilm" "chmod 700 $V/var/lib/clearfilm"
broken "a replaced key that others can read fails too" "fail mode.mqtt.key.previous " "cp $tls/mqtt.key $tls/mqtt.key.previous; chmod 644 $tls/mqtt.key.previous" "rm $tls/mqtt.key.previous"
broken "a key of another certificate fails" "fail cert.mqtt.key " "mv $tls/mqtt.key $T/k; cp -p $tls/dicom.key $tls/mqtt.key" "mv $T/k $tls/mqtt.key"
broken "another device's certificate fails" "fail cert.mqtt.name north-dx-3 " "run enrol --root $T/v3 --unit north-dx-3 --kind mqtt; mkdir -p $T/v3; run enrol --root $T/v3 --unit north-dx-3 --kind mqtt; run ca sign $CA $T/v3/etc/clearfilm/tls/mqtt.csr --kind mqtt; cp -p $tls/mqtt.crt $T/c; cat $T/out >$tls/mqtt.crt" "cp -p $T/c $tls/mqtt.crt"
broken "another authority fails" "fail cert.mqtt.chain " "run ca init $T/vca --name Other; cp -p $tls/ca.pem $T/c; cat $T/vca/ca.pem >$tls/ca.pem" "cp -p $T/c $tls/ca.pem"
broken "no certificate fails" "fail cert.dicom missing" "mv $tls/dicom.crt $T/c" "mv $T/c $tls/dicom.crt"
broken "a malformed secret fails" "fail secret.content " "cp -p $V/etc/clearfilm/site.key $T/c; echo x >$V/etc/clearfilm/site.key" "cp -p $T/c $V/etc/clearfilm/site.key"
broken "no secret fails" "fail mode.site.key missing" "mv $V/etc/clearfilm/site.key $T/c" "mv $T/c $V/etc/clearfilm/site.key"
broken "an invalid configuration fails" "fail config " "echo nonsense >$V/etc/clearfilm/conf.d/99.toml" "rm $V/etc/clearfilm/conf.d/99.toml"
broken "one port more fails" "fail ports.open 22,$scp_port $scp_port" "listening 00000000:$hex 00000000:0016 >$V/proc/net/tcp" :
line "unless it is allowed" "ok ports.open 22,$scp_port 22,$scp_port" --allow-port 22
broken "a port over IPv6 counts" "fail ports.open $(printf '22\n%s\n9999\n' "$scp_port" | sort -n | paste -sd,)" "listening 00000000000000000000000000000000:270F >>$V/proc/net/tcp6" "listening >$V/proc/net/tcp6"
broken "a receiver that does not listen fails" "fail ports.open none $scp_port" "listening >$V/proc/net/tcp" "listening 00000000:$hex >$V/proc/net/tcp"
broken "a full disk fails" "fail storage.free " "printf '[storage]\nfree_min = \"900TiB\"\n' >$V/etc/clearfilm/conf.d/99.toml" "rm $V/etc/clearfilm/conf.d/99.toml"
broken "a journal without limit fails" "fail journald.limit none 500M" "mv $V/etc/systemd/journald.conf.d/clearfilm.conf $T/c" "mv $T/c $V/etc/systemd/journald.conf.d/clearfilm.conf"
broken "a unit with rights fails" "fail unit.exposure " "cp $V/lib/systemd/system/clearfilm.service $T/c; sed -i '/^ProtectSystem/d;/^SystemCall/d;/^NoNew/d;/^Capab/d' $V/lib/systemd/system/clearfilm.service" "cp $T/c $V/lib/systemd/system/clearfilm.service"
broken "no program fails" "fail config no-program" "rm $V/usr/bin/clearfilm" "ln -s $CLEARFILM $V/usr/bin/clearfilm"
digest=$(printf root | sha256sum | cut -d' ' -f1)
mkdir -p "$V/usr/lib/clearfilm/factory" && printf root >"$V/usr/lib/clearfilm/factory/root.json"
printf '[update]\nsource = "https://updates.lan"\n' >"$V/etc/clearfilm/conf.d/99.toml"
line "the root of trust of updates is told" "ok update.root $digest $digest"
line "the one that was asked for passes" "ok update.root $digest $digest" --update-root "$digest"
line "another one fails" "fail update.root $digest ${digest%?}x" --update-root "${digest%?}x"
rm "$V/usr/lib/clearfilm/factory/root.json"
line "none fails" "fail update.root missing any"
rm "$V/etc/clearfilm/conf.d/99.toml"
line "after all that it passes again" "ok config valid valid"

# The service and the broker for real.
holds "the service starts with what was rendered, enrolled and installed" start_service "$V"
expect "C-ECHO over mutual TLS, and a publication, succeed" 0 "ok dicom.echo success success" "${verify[@]}"
holds "the broker took the message" grep -Eq '^ok mqtt.publish reason-(0|16) ' "$T/out"
expect "a sender that is not listed is a warning" 0 "warn dicom.echo rejected-calling-title success" "${verify[@]}" --echo-as STRANGER
client "$T/dash" dashboard
timeout 20 mosquitto_sub -V mqttv5 -h localhost -p "$broker_port" --cafile "$CA/ca.pem" --cert "$T/dash.crt" --key "$T/dash.key" -i dashboard -t 'clearfilm/v1/north/#' -v --retained-only -W 3 >"$T/retained" 2>/dev/null
holds "the service's own messages are retained, none of verify" sh -c 'grep -q /status "$1" && ! grep -q /verify "$1"' sh "$T/retained"
sed -i 's/topic write .*/topic write clearfilm\/v1\/north\/elsewhere\/#/' "$T/vb/acl"
kill -HUP "$broker_pid"
wait_for "$T/vb/log" 'Reloading config'
expect "a broker that denies is told by its reason code" 4 "fail mqtt.publish reason-135 " "${verify[@]}"
kill "$broker_pid"
wait "$broker_pid" 2>/dev/null
expect "a broker that is away fails" 4 "fail mqtt.publish " "${verify[@]}"
kill "$service_pid"
wait "$service_pid" 2>/dev/null
expect "a service that is away fails" 4 "fail dicom.echo " "${verify[@]}"
broker_pid=''
