# shellcheck shell=bash disable=SC2016 # the inner shell expands
# Keys and certificates change while images come in and results go out: nothing is lost.
: "${scripts:?}" "${T:?}" "${CA:?}" "${CLEARFILM:?}" "${broker_port=}" "${code=}" "${service_pid=}"
need mosquitto mosquitto_sub storescu || return 0
L="$T/l" images=12
device "$L"
scp_port=$(free_port)
start_broker "$T/lb" "$CA"
rendered "$L" north-dx-2 "dicom_tls = mutual" "peer = MODALITY 127.0.0.1"
enrolled "$L" north-dx-2
run install --root "$L" --installed
client "$T/dash" dashboard
client "$T/room" modality
"$CLEARFILM" phantom --out "$T/phantoms" --count "$images" >/dev/null
stdbuf -oL mosquitto_sub -V mqttv5 -h localhost -p "$broker_port" --cafile "$CA/ca.pem" --cert "$T/dash.crt" --key "$T/dash.key" \
    -i dashboard -q 1 -t 'clearfilm/v1/north/north-dx-2/#' -F '%t' -d >"$T/heard" 2>&1 &
pids+=($!)
wait_for "$T/heard" 'received SUBACK'
holds "the service starts" start_service "$L"
holds "and connects to the broker" wait_for "$T/heard" north-dx-2/status

# KIND: the next key and certificate.
change_certificate() {
    run rotate --root "$L" --kind "$1" --before-days 398
    run ca sign "$CA" "$L/etc/clearfilm/tls/$1.csr.next" --kind "$1" --unit north-dx-2 && cp "$T/out" "$T/next.crt"
    run rotate --root "$L" --kind "$1" --import "$T/next.crt"
    [ "$code" -eq 0 ] && cmp -s "$L/etc/clearfilm/tls/$1.crt" "$T/next.crt"
}
send() {
    local file
    for file in "$T"/phantoms/*.dcm; do
        storescu +tls "$T/room.key" "$T/room.crt" +cf "$CA/ca.pem" -aet MODALITY -aec CLEARFILM localhost "$scp_port" "$file" &&
            echo accepted
    done >"$T/sent" 2>&1
}
send &
sender=$!
for turn in 1 2; do
    holds "image $((turn * 3)) is accepted" wait_for "$T/sent" accepted $((turn * 3))
    holds "the broker's certificate of the device changes, time $turn" change_certificate mqtt
    holds "and the receiver's" change_certificate dicom
done
wait "$sender"
holds "every image was accepted" test "$(grep -cx accepted "$T/sent")" = "$images"
# SUFFIX: how many exams were heard with it.
exams() { sed -n "s|.*/exam/\([^/]*\)/$1\$|\1|p" "$T/heard" | sort -u | wc -l; }
all_heard() {
    local i
    for i in $(seq 600); do
        [ "$(exams report)" -eq "$images" ] && return 0
        sleep 0.1
    done
    echo "expected $images reports, found $(exams report) after $i tries"
    return 1
}
holds "every image's report arrives" all_heard
holds "the service read the new certificates" grep -q 'certificates were replaced' "$T/service.log"
holds "and is the same process" kill -0 "$service_pid"
