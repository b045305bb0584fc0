# shellcheck shell=bash disable=SC2016 # the inner shell expands
# Rotation by files; and at every instant key and certificate match.
: "${scripts:?}" "${T:?}" "${CA:?}" "${code=}"
need root || return 0
O="$T/o"
device "$O"
enrolled "$O" north-dx-2
tls="$O/etc/clearfilm/tls"
expect "with days enough there is nothing to do" 0 "nothing to do" rotate --root "$O" --kind mqtt
thrice "the next key and request are made" "$O" rotate --root "$O" --kind mqtt --before-days 398
holds "the next key is another one, with mode and owner" sh -c '! cmp -s "$1/mqtt.key" "$1/mqtt.key.next" && [ "$(stat -c "%a %u:%g" "$1/mqtt.key.next")" = "640 0:972" ]' sh "$tls"
run ca sign "$CA" "$tls/mqtt.csr.next" --kind mqtt && cp "$T/out" "$T/next.crt"
refused "a certificate of the present key is not the next one" 4 "another key" "$O" rotate --root "$O" --kind mqtt --import "$T/north-dx-2.dicom.crt"
run ca init "$T/other-ca" --name "Other CA"
run ca sign "$T/other-ca" "$tls/mqtt.csr.next" --kind mqtt && cp "$T/out" "$T/other.crt"
refused "another authority's is not" 4 "chain" "$O" rotate --root "$O" --kind mqtt --import "$T/other.crt"
sign_dated "$tls/mqtt.csr.next" "$T/old.crt" 20200101000000Z 20210101000000Z
refused "an expired one is not" 4 "valid now" "$O" rotate --root "$O" --kind mqtt --import "$T/old.crt"
cp "$tls/mqtt.key" "$T/key.before" && cp "$tls/mqtt.crt" "$T/crt.before"
cp -a "$O" "$T/o-before"
thrice "the next pair comes into use" "$O" rotate --root "$O" --kind mqtt --import "$T/next.crt"
holds "the certificate is the new one" sh -c '[ "$(openssl x509 -in "$1" -noout -serial)" = "$(openssl x509 -in "$2" -noout -serial)" ]' sh "$tls/mqtt.crt" "$T/next.crt"
holds "the old pair stays as .previous" sh -c 'cmp "$1/mqtt.key.previous" "$2" && cmp "$1/mqtt.crt.previous" "$3"' sh "$tls" "$T/key.before" "$T/crt.before"
holds "files, not links, with modes and owners, and nothing else" test "$(find "$tls" -name '*mqtt*' -printf '%f %y %m %U:%G\n' | sort | tr '\n' ';')" = \
    "mqtt.crt f 644 0:972;mqtt.crt.previous f 644 0:972;mqtt.csr f 644 0:972;mqtt.key f 640 0:972;mqtt.key.previous f 640 0:972;"

# A reader that looks all the time, as the service would: certificate, then key. It prints how often it
# looked, how often a file was missing, how many pairs it saw at two looks in a row, and how many only
# once: a look that begins before the one rename and ends after it is mixed, at most one a change. Two
# renames would leave a mixed pair between them for many looks, which would count as a pair.
look() {
    local looks=0 missing=0 once=0 lasting=0 last='' times=0 cert key
    trap 'stop=1' TERM
    while [ -z "${stop-}" ]; do
        looks=$((looks + 1))
        if ! mapfile -d '' -t cert <"$1/mqtt.crt" || ! mapfile -d '' -t key <"$1/mqtt.key"; then
            missing=$((missing + 1))
        elif [ "${cert[0]}${key[0]}" = "$last" ]; then
            times=$((times + 1))
            if [ "$times" -eq 2 ]; then
                lasting=$((lasting + 1)) once=$((once - 1))
                echo looking >>"$T/looking"
            fi
        else
            last="${cert[0]}${key[0]}" times=1 once=$((once + 1))
        fi
    done 2>/dev/null
    echo "$looks $missing $lasting $once"
}
rm -rf "$T/o-kill" && cp -a "$T/o-before" "$T/o-kill"
look "$T/o-kill/etc/clearfilm/tls" >"$T/reader" &
reader=$!
for n in 1 2 3 4 5; do
    wait_for "$T/looking" looking "$n"
    run rotate --root "$T/o-kill" --kind mqtt --before-days 398
    run ca sign "$CA" "$T/o-kill/etc/clearfilm/tls/mqtt.csr.next" --kind mqtt && cp "$T/out" "$T/n.crt"
    expect "change $n under its eyes" 0 "change over" rotate --root "$T/o-kill" --kind mqtt --import "$T/n.crt"
done
wait_for "$T/looking" looking 6
kill -TERM "$reader"
wait "$reader" 2>/dev/null
read -r looks missing lasting once <"$T/reader"
holds "a reader that never rests ($looks looks) found every file, and six pairs, and mixed ones ($once) never twice" \
    test "$((looks > 500)) $missing $lasting $((once <= 5))" = "1 0 6 1"
