# shellcheck shell=bash disable=SC2016 # the inner shell expands
# Enrolment by files: what is made, and every certificate that must not be taken.
: "${scripts:?}" "${T:?}" "${CA:?}"
need root || return 0
E="$T/e"
tls="$E/etc/clearfilm/tls"
device "$E"
thrice "keys and requests are made" "$E" enrol --root "$E" --unit north-dx-2 --kind both --host dx2.lan --host 10.1.2.3 --host fe80::1
holds "keys have their mode and owner" test "$(stat -c '%a %u:%g' "$tls/mqtt.key" "$tls/dicom.key" | sort -u)" = "640 0:972"
holds "their folder too" test "$(stat -c '%a %u:%g' "$tls")" = "750 0:972"
holds "the keys are two" sh -c '! cmp -s "$1/mqtt.key" "$1/dicom.key"' sh "$tls"
holds "keys are P-256, PKCS#8" sh -c 'grep -q "BEGIN PRIVATE KEY" "$1" && openssl pkey -in "$1" -noout -text | grep -q prime256v1' sh "$tls/mqtt.key"
holds "the request for dicom tells names" sh -c 'openssl req -in "$1" -noout -text | grep -q "DNS:dx2.lan, IP Address:10.1.2.3, IP Address:FE80:0:0:0:0:0:0:1"' sh "$tls/dicom.csr"
for bad in dx2 North-DX-2 north/dx-2 'north-dx-2;id' a-name-that-is-longer-than-32-bytes '../../north' "north-dx-2
x"; do
    refused "the id '$(printf %s "$bad" | tr '\n' ' ')' is refused" 2 "--unit" "$E" enrol --root "$E" --unit "$bad" --kind mqtt
done
refused "a host that is none is refused" 2 "--host" "$E" enrol --root "$E" --unit north-dx-2 --kind dicom --host 'a,DNS:b'

flock "$E/etc/clearfilm" sleep 14 &
while flock -n "$E/etc/clearfilm" true; do sleep 0.05; done
refused "two runs at a time are one too many" 1 "another run" "$E" enrol --root "$E" --unit north-dx-2 --kind mqtt
wait $!
snapshot "$E" >"$T/before"
run ca sign "$CA" "$tls/mqtt.csr" --kind mqtt && cp "$T/out" "$T/mqtt.crt"
run ca sign "$CA" "$tls/dicom.csr" --kind dicom && cp "$T/out" "$T/dicom.crt"
run ca sign "$CA" "$tls/mqtt.csr" --kind dicom && cp "$T/out" "$T/both.crt"

refused "a first import without authorities is a matter of usage" 2 "--ca" "$E" enrol --root "$E" --import "$T/mqtt.crt"

reject() { # SENTENCE TEXT CERT [CA]
    refused "$1" 4 "$2" "$E" enrol --root "$E" --import "$3" --ca "${4:-$CA/ca.pem}"
}
sign_dated "$tls/mqtt.csr" "$T/old.crt" 20200101000000Z 20210101000000Z
reject "an expired certificate is refused" "valid now" "$T/old.crt"
sign_dated "$tls/mqtt.csr" "$T/future.crt" 20480101000000Z 20490101000000Z
reject "one that is not valid yet is refused" "valid now" "$T/future.crt"
sign_dated "$tls/mqtt.csr" "$T/usage.crt" 20200101000000Z 20490101000000Z serverAuth
reject "one for another purpose is refused" "clientAuth" "$T/usage.crt"
run ca init "$T/other-ca" --name "Site CA"
run ca sign "$T/other-ca" "$tls/mqtt.csr" --kind mqtt && cp "$T/out" "$T/other.crt"
reject "one of another authority of the same name is refused" "chain" "$T/other.crt"
device "$T/e2"
run enrol --root "$T/e2" --unit north-dx-3 --kind mqtt
run ca sign "$CA" "$T/e2/etc/clearfilm/tls/mqtt.csr" --kind mqtt && cp "$T/out" "$T/third.crt"
reject "another device's certificate is refused" "another key" "$T/third.crt"
openssl req -new -key "$tls/mqtt.key" -subj /CN=north-dx-3 -config "$T/req.conf.e" -out "$T/name.csr" 2>/dev/null ||
    { printf '[req]\ndistinguished_name = n\n[n]\n' >"$T/req.conf.e" && openssl req -new -key "$tls/mqtt.key" -subj /CN=north-dx-3 -config "$T/req.conf.e" -out "$T/name.csr"; }
run ca sign "$CA" "$T/name.csr" --kind mqtt && cp "$T/out" "$T/name.crt"
reject "a certificate of our key with another name is refused" "common name" "$T/name.crt"
openssl req -x509 -new -key "$tls/mqtt.key" -subj /CN=north-dx-2 -config "$T/req.conf.e" -addext basicConstraints=critical,CA:TRUE -addext extendedKeyUsage=clientAuth -days 30 -out "$T/self.crt" 2>/dev/null
reject "a certificate of an authority is refused" "authority" "$T/self.crt" "$T/self.crt"
head -c 300 "$T/mqtt.crt" >"$T/torn.crt"
reject "a torn certificate is refused" "a certificate, PEM" "$T/torn.crt"
reject "no authorities are refused" "authorities" "$T/mqtt.crt" "$T/mqtt.crt"
# As if the wrong authority were one of the operating system's.
mkdir -p "$T/system"
run ca init "$T/public-ca" --name "Public CA"
run ca sign "$T/public-ca" "$tls/mqtt.csr" --kind mqtt && cp "$T/out" "$T/public.crt"
cp "$T/public-ca/ca.pem" "$T/system/$(openssl x509 -in "$T/public-ca/ca.pem" -noout -hash).0"
export SSL_CERT_DIR="$T/system"
holds "openssl by itself would trust the system's authorities" sh -c 'openssl verify -CAfile "$1" "$2"' sh "$CA/ca.pem" "$T/public.crt"
reject "the system's authorities count for nothing" "chain" "$T/public.crt"
unset SSL_CERT_DIR
snapshot "$E" >"$T/after"
holds "after all that nothing changed" cmp "$T/before" "$T/after"

thrice "the right certificate is taken" "$E" enrol --root "$E" --import "$T/mqtt.crt" --ca "$CA/ca.pem"
holds "certificates can be read by all" test "$(stat -c '%a %u:%g' "$tls/mqtt.crt" "$tls/ca.pem" | sort -u)" = "644 0:972"
thrice "the other kind, by the authorities that are there" "$E" enrol --root "$E" --import "$T/dicom.crt" --unit north-dx-2
expect "what is enrolled stays" 0 "nothing to do" enrol --root "$E" --unit north-dx-2 --kind both --host dx2.lan
refused "another unit is refused where one is enrolled" 4 "no other device" "$E" enrol --root "$E" --unit north-dx-9 --kind mqtt
run ca sign "$T/other-ca" "$tls/mqtt.csr" --kind mqtt && cp "$T/out" "$T/other.crt"
refused "authorities that would leave the other kind without are refused" 4 "dicom.crt" "$E" enrol --root "$E" --import "$T/other.crt" --ca "$T/other-ca/ca.pem"
cat "$CA/ca.pem" "$T/other-ca/ca.pem" >"$T/two.pem"
expect "both together are taken" 0 "" enrol --root "$E" --import "$T/other.crt" --ca "$T/two.pem"

# An authority between: its certificate comes along, in any form that verifies.
openssl ecparam -name prime256v1 -genkey -noout -out "$T/mid.key"
openssl req -new -key "$T/mid.key" -subj '/CN=Middle CA' -config "$T/req.conf.e" -out "$T/mid.csr"
openssl req -x509 -new -key "$CA/ca.key" -subj '/CN=Root' -config "$T/req.conf.e" -addext basicConstraints=critical,CA:TRUE -days 30 -out "$T/root.pem" 2>/dev/null
printf 'basicConstraints = critical, CA:TRUE\n' >"$T/ext.ca"
openssl x509 -req -in "$T/mid.csr" -CA "$T/root.pem" -CAkey "$CA/ca.key" -set_serial 77 -days 30 -extfile "$T/ext.ca" -out "$T/mid.pem" 2>/dev/null
printf 'basicConstraints = critical, CA:FALSE\nextendedKeyUsage = clientAuth\n' >"$T/ext.leaf"
device "$T/e3"
run enrol --root "$T/e3" --unit north-dx-4 --kind mqtt
openssl x509 -req -in "$T/e3/etc/clearfilm/tls/mqtt.csr" -CA "$T/mid.pem" -CAkey "$T/mid.key" -set_serial 78 -days 30 -extfile "$T/ext.leaf" -out "$T/leaf.pem" 2>/dev/null
refused "a chain with a gap is refused" 4 "chain" "$T/e3" enrol --root "$T/e3" --import "$T/leaf.pem" --ca "$T/root.pem"
cat "$T/leaf.pem" "$T/mid.pem" >"$T/chain.pem"
expect "a whole chain is taken" 0 "mqtt.crt" enrol --root "$T/e3" --import "$T/chain.pem" --ca "$T/root.pem"
holds "and kept whole" test "$(grep -c BEGIN "$T/e3/etc/clearfilm/tls/mqtt.crt")" = 2

# A certificate that has ended does not stand in the way of the other kind's.
device "$T/e5"
enrolled "$T/e5" north-dx-5
sign_dated "$T/e5/etc/clearfilm/tls/dicom.csr" "$T/ended.crt" 20200101000000Z 20210101000000Z
cat "$T/ended.crt" >"$T/e5/etc/clearfilm/tls/dicom.crt"
run ca sign "$CA" "$T/e5/etc/clearfilm/tls/mqtt.csr" --kind mqtt
cp "$T/out" "$T/fifth.crt"
rm "$T/e5/etc/clearfilm/tls/mqtt.crt"
expect "the other kind's certificate may have ended" 0 "mqtt.crt" enrol --root "$T/e5" --import "$T/fifth.crt" --ca "$CA/ca.pem"
