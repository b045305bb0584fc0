# shellcheck shell=bash disable=SC2016 # the inner shell expands
# A real mosquitto with TLS, certificates for everybody, names from certificates, and the rendered
# access rules: what a device can and cannot do there.
: "${scripts:?}" "${T:?}" "${CA:?}" "${broker_port=}" "${broker_pid=}"
need mosquitto mosquitto_pub || return 0
B="$T/b"
for unit in north-dx-2 north-dx-3; do
    device "$T/$unit"
    enrolled "$T/$unit" "$unit"
done
run ca crl "$CA"
start_broker "$B" "$CA" "crlfile $CA/crl.pem"
client "$T/dash" dashboard

of() { printf '%s/etc/clearfilm/tls/mqtt' "$T/$1"; }
# PAIR TOPIC [CA]: publishes; prints the reason code, ends with 0 where it was success.
publish() {
    timeout 8 mosquitto_pub -d -V mqttv5 -h localhost -p "$broker_port" --cafile "${3:-$CA/ca.pem}" \
        --cert "$1.crt" --key "$1.key" -i "$(basename "$1")-$RANDOM" -q 1 -t "$2" -m canary >"$T/pub" 2>&1
    grep -Eq 'received PUBACK .*RC:(0|16)\)' "$T/pub"
}
denied() { ! publish "$@" && grep -q 'RC:135' "$T/pub"; }
unwelcome() { ! publish "$@" && ! grep -q 'CONNACK (0)' "$T/pub"; }
# PAIR TOPIC PUBLISHER-PAIR PUBLISH-TOPIC: does the first one read what the second one says?
reads() {
    timeout 8 stdbuf -oL mosquitto_sub -V mqttv5 -h localhost -p "$broker_port" --cafile "$CA/ca.pem" --cert "$1.crt" --key "$1.key" \
        -i "sub-$RANDOM" -q 1 -t "$2" -C 1 -W 3 -d >"$T/sub" 2>&1 &
    local reader=$!
    wait_for "$T/sub" 'received SUBACK'
    publish "$3" "$4" || { wait "$reader"; return 2; }
    wait "$reader"
    grep -qx canary "$T/sub"
}
# As reads, but the message must not come, though it was taken.
reads_not() {
    reads "$@"
    [ $? -eq 1 ]
}
base=clearfilm/v1/north
holds "a device publishes its own topics" publish "$(of north-dx-2)" $base/north-dx-2/exam/k/findings
holds "another device's it does not" denied "$(of north-dx-3)" $base/north-dx-2/exam/k/findings
holds "nor commands to another" denied "$(of north-dx-3)" $base/north-dx-2/cmd/selftest/1
holds "nor anything outside" denied "$(of north-dx-3)" other/topic
holds "a dashboard reads a device's topics" reads "$T/dash" "$base/north-dx-2/#" "$(of north-dx-2)" $base/north-dx-2/exam/k/findings
holds "another device does not" reads_not "$(of north-dx-3)" "$base/north-dx-2/#" "$(of north-dx-2)" $base/north-dx-2/exam/k/findings
holds "nor by subscribing to everything" reads_not "$(of north-dx-3)" "#" "$(of north-dx-2)" $base/north-dx-2/exam/k/findings
holds "a device reads what is said to it" reads "$(of north-dx-2)" "$base/north-dx-2/exam/+/receipt" "$T/dash" $base/north-dx-2/exam/k/receipt
holds "another device does not read that" reads_not "$(of north-dx-3)" "$base/north-dx-2/exam/+/receipt" "$T/dash" $base/north-dx-2/exam/k/receipt

# The broker sees an honest certificate, but not an honest one of ours.
sign_dated "$T/north-dx-2/etc/clearfilm/tls/mqtt.csr" "$T/expired.crt" 20200101000000Z 20210101000000Z
cp "$(of north-dx-2).key" "$T/expired.key"
holds "an expired certificate is refused" unwelcome "$T/expired" $base/north-dx-2/x
sign_dated "$T/north-dx-2/etc/clearfilm/tls/mqtt.csr" "$T/server.crt" 20200101000000Z 20490101000000Z serverAuth
cp "$(of north-dx-2).key" "$T/server.key"
holds "one for another purpose is refused" unwelcome "$T/server" $base/north-dx-2/x
run ca init "$T/other-ca" --name "Other CA"
run ca sign "$T/other-ca" "$T/north-dx-2/etc/clearfilm/tls/mqtt.csr" --kind mqtt && cp "$T/out" "$T/foreign.crt"
cp "$(of north-dx-2).key" "$T/foreign.key"
holds "one of another authority is refused" unwelcome "$T/foreign" $base/north-dx-2/x
nobody() {
    timeout 8 mosquitto_pub -d -V mqttv5 -h localhost -p "$broker_port" --cafile "$CA/ca.pem" -q 1 -t "$base/north-dx-2/x" -m y >"$T/pub" 2>&1
    ! grep -q 'CONNACK (0)' "$T/pub"
}
holds "no certificate is refused" nobody
holds "a broker of another authority is not trusted" unwelcome "$(of north-dx-2)" $base/north-dx-2/x "$T/other-ca/ca.pem"

# What is revoked.
holds "before it is revoked a device publishes" publish "$(of north-dx-3)" $base/north-dx-3/x
timeout 60 stdbuf -oL mosquitto_sub -V mqttv5 -h localhost -p "$broker_port" --cafile "$CA/ca.pem" --cert "$(of north-dx-3).crt" --key "$(of north-dx-3).key" \
    -i open -q 1 -t "$base/north-dx-3/exam/+/receipt" -d >"$T/open" 2>&1 &
pids+=($!)
wait_for "$T/open" 'received SUBACK'
expect "a device is revoked by its id" 0 "Restart mosquitto" revoke "$CA" north-dx-3
holds "until the broker reads the list, it publishes" publish "$(of north-dx-3)" $base/north-dx-3/x
kill -HUP "$broker_pid"
wait_for "$B/log" 'Reloading config'
holds "SIGHUP keeps new connections out" unwelcome "$(of north-dx-3)" $base/north-dx-3/x
publish "$T/dash" $base/north-dx-3/exam/k/receipt
holds "but one that is open stays open, as the script says" wait_for "$T/open" canary
restart_broker "$B"
# It tries to come back each second.
holds "and is refused after a restart" wait_for "$B/log" 'certificate verify failed' "$(($(grep -c 'certificate verify failed' "$B/log") + 1))"
publish "$T/dash" $base/north-dx-3/exam/k/receipt
holds "so that it reads nothing any more" test "$(grep -cx canary "$T/open")" = 1
holds "and keeps new ones out" unwelcome "$(of north-dx-3)" $base/north-dx-3/x
holds "others go on" publish "$(of north-dx-2)" $base/north-dx-2/x
(cd "$CA" && openssl ca -config openssl.cnf -keyfile ca.key -gencrl -crlsec 1 -out "$T/ended.pem" 2>/dev/null)
sleep 2
cp "$CA/crl.pem" "$T/crl.kept" && cat "$T/ended.pem" >"$CA/crl.pem"
restart_broker "$B"
holds "a list that has ended keeps everybody out, as the script says" unwelcome "$(of north-dx-2)" $base/north-dx-2/x
expect "ca crl writes the next list" 0 "crl.pem" ca crl "$CA"
restart_broker "$B"
holds "and everybody is back" publish "$(of north-dx-2)" $base/north-dx-2/x
holds "but who was revoked" unwelcome "$(of north-dx-3)" $base/north-dx-3/x
kill "$broker_pid"
wait "$broker_pid" 2>/dev/null
broker_pid=''
