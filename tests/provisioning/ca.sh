# shellcheck shell=bash disable=SC2016 # the inner shell expands
# The site's authority: what it signs, what it does not, what it keeps.
: "${scripts:?}" "${T:?}" "${CA:?}"
need socat || return 0
A="$T/a"
mkdir "$A"
thrice "an authority is made" "$A" ca init "$A/ca" --name "North CA"
refused "another name is refused where one is" 4 "North CA" "$A" ca init "$A/ca" --name "South CA"
refused "a name that openssl would read as something else is refused" 2 "--name" "$A" ca init "$A/x" --name 'a$b'
holds "its key is for its owner only" test "$(stat -c %a "$A/ca/ca.key") $(stat -c %a "$A/ca")" = "600 700"

request() { # NAME SUBJECT [OPTION...]
    local name=$1 subject=$2
    shift 2
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$A/$name.key" \
        -out "$A/$name.csr" -subj "$subject" -config "$T/req.conf" "$@" 2>/dev/null
}
printf '[req]\ndistinguished_name = n\n[n]\n' >"$T/req.conf"

request good /CN=north-dx-2 -addext 'subjectAltName=DNS:dx2.lan,IP:10.1.2.3' -addext basicConstraints=critical,CA:TRUE \
    -addext keyUsage=keyCertSign -addext extendedKeyUsage=codeSigning
thrice "a request is signed" "$A" ca sign "$A/ca" "$A/good.csr" --kind dicom
cp "$T/first.out" "$A/good.crt"
run ca sign "$A/ca" "$A/good.csr" --kind dicom
holds "the same request gets the same certificate" cmp "$T/out" "$A/good.crt"
openssl x509 -in "$A/good.crt" -noout -text >"$A/text"
holds "nothing but names is taken over from a request" sh -c '
    grep -q "DNS:dx2.lan, IP Address:10.1.2.3" "$1" && grep -q "CA:FALSE" "$1" && ! grep -q "CA:TRUE" "$1" &&
    grep -q "TLS Web Server Authentication, TLS Web Client Authentication" "$1" && ! grep -q "Code Signing" "$1" &&
    grep -A1 "Key Usage: critical" "$1" | grep -qx " *Digital Signature"' sh "$A/text"
run ca sign "$A/ca" "$A/good.csr" --kind mqtt
openssl x509 -noout -text <"$T/out" >"$A/text"
holds "for mqtt no names, and the client's purpose alone" sh -c '
    ! grep -q "Subject Alternative Name" "$1" && ! grep -q "Server Auth" "$1" && grep -q "Client Auth" "$1"' sh "$A/text"
holds "it lasts 397 days" test "$(openssl x509 -enddate -noout <"$T/out")" = "notAfter=$(LC_ALL=C date -u -d '+397 days' '+%b %e')$(openssl x509 -enddate -noout <"$T/out" | cut -c 16-)"

refused "a request of another device than was told is refused" 4 "a request of north-dx-3" "$A" ca sign "$A/ca" "$A/good.csr" --kind mqtt --unit north-dx-3
request upper /CN=North-DX-2
refused "a name that no device has is refused" 4 "device id" "$A" ca sign "$A/ca" "$A/upper.csr" --kind mqtt
request short /CN=dx2
refused "a short name is refused" 4 "device id" "$A" ca sign "$A/ca" "$A/short.csr" --kind mqtt
request two /CN=north-dx-2/CN=north-dx-3
refused "two names are refused" 4 "device id" "$A" ca sign "$A/ca" "$A/two.csr" --kind mqtt
request sly '/O=x
    commonName = north-dx-9/CN=North'
refused "a name hidden in another attribute is refused" 4 "device id" "$A" ca sign "$A/ca" "$A/sly.csr" --kind mqtt
request wild /CN=north-dx-2 -addext 'subjectAltName=DNS:*.lan'
refused "a name for many machines is refused" 4 "DNS:*.lan" "$A" ca sign "$A/ca" "$A/wild.csr" --kind dicom
request mail /CN=north-dx-2 -addext 'subjectAltName=email:a@b.c'
refused "other kinds of names are refused" 4 "alternative names" "$A" ca sign "$A/ca" "$A/mail.csr" --kind dicom
openssl req -new -newkey rsa:1024 -nodes -keyout "$A/weak.key" -out "$A/weak.csr" -subj /CN=north-dx-2 -config "$T/req.conf" 2>/dev/null
refused "a weak RSA key is refused" 4 "2048" "$A" ca sign "$A/ca" "$A/weak.csr" --kind mqtt
openssl req -new -newkey rsa:2048 -nodes -keyout "$A/rsa.key" -out "$A/rsa.csr" -subj /CN=north-dx-7 -config "$T/req.conf" 2>/dev/null
expect "an RSA key of 2048 bits is taken" 0 "BEGIN CERTIFICATE" ca sign "$A/ca" "$A/rsa.csr" --kind mqtt
openssl ecparam -name secp224r1 -genkey -noout -out "$A/p224.key" 2>/dev/null
openssl req -new -key "$A/p224.key" -out "$A/p224.csr" -subj /CN=north-dx-2 -config "$T/req.conf" 2>/dev/null
refused "a small curve is refused" 4 "P-256" "$A" ca sign "$A/ca" "$A/p224.csr" --kind mqtt
openssl req -in "$A/good.csr" -outform DER -out "$A/bad.der"
# The last byte belongs to the signature.
flip "$A/bad.der" $(($(stat -c %s "$A/bad.der") - 1))
openssl req -inform DER -in "$A/bad.der" -out "$A/bad.csr" 2>/dev/null
refused "a request with a wrong signature is refused" 4 "signature" "$A" ca sign "$A/ca" "$A/bad.csr" --kind mqtt
echo nonsense >"$A/none.csr"
refused "what is no request is refused" 4 "a request" "$A" ca sign "$A/ca" "$A/none.csr" --kind mqtt
run ca init "$A/brief" --name Brief
openssl req -x509 -new -key "$A/brief/ca.key" -config "$A/brief/openssl.cnf" -days 10 -out "$A/brief/ca.pem"
refused "more days than the authority has are refused" 4 "valid for 11 days" "$A" ca sign "$A/brief" "$A/wild.csr" --kind mqtt --days 11
refused "no kind is a matter of usage" 2 "--kind" "$A" ca sign "$A/ca" "$A/good.csr" --kind both

thrice "a broker gets a certificate" "$A" ca broker "$A/ca" --host broker.lan --host 127.0.0.1
holds "its key is for its owner only" test "$(stat -c %a "$A/ca/broker/broker.lan.key")" = 600
request thief /CN=north-dx-2 -addext 'subjectAltName=DNS:broker.lan'
refused "a device that would be the broker is refused" 4 "broker" "$A" ca sign "$A/ca" "$A/thief.csr" --kind dicom

thrice "a certificate is revoked" "$A" revoke "$A/ca" "$A/good.crt"
holds "the list names it" sh -c 'openssl crl -in "$1/crl.pem" -noout -text | grep -q "Serial Number: $(openssl x509 -in "$2" -noout -serial | cut -d= -f2)"' sh "$A/ca" "$A/good.crt"
holds "the list is the authority's" sh -c 'openssl crl -in "$1/crl.pem" -noout -CAfile "$1/ca.pem"' sh "$A/ca"
holds "anybody may read the list" test "$(stat -c %a "$A/ca/crl.pem")" = 644
refused "another authority's certificate is not revoked here" 4 "of this authority" "$A" revoke "$A/ca" "$CA/ca.pem"
run ca sign "$A/ca" "$A/good.csr" --kind dicom
holds "a request whose certificate was revoked gets another one" sh -c '! cmp -s "$1" "$2" && grep -q BEGIN "$1"' sh "$T/out" "$A/good.crt"
rm "$A/ca/crl.pem"
thrice "a list is written" "$A" ca crl "$A/ca"
expect "what was issued is listed" 0 "" ca list "$A/ca"
holds "with state and kind" sh -c 'grep -q " revoked dicom .* /CN=north-dx-2" "$1" && grep -q " valid mqtt .* /CN=north-dx-7" "$1" && grep -q " valid broker .* /OU=broker/CN=broker.lan" "$1"' sh "$T/out"

printf 'canary-ca-passphrase\n' >"$A/pass"
expect "an authority with a passphrase is made" 0 "" ca init "$A/locked" --name Locked --passphrase-file "$A/pass"
holds "its key is encrypted" grep -q ENCRYPTED "$A/locked/ca.key"
expect "it signs with the passphrase" 0 "BEGIN CERTIFICATE" ca sign "$A/locked" "$A/rsa.csr" --kind mqtt --passphrase-file "$A/pass"
printf 'another-passphrase\n' >"$A/wrong"
refused "it does not sign with another one" 1 "openssl ca" "$A" ca sign "$A/locked" "$A/wild.csr" --kind mqtt --passphrase-file "$A/wrong"
# shellcheck disable=SC2086 # "busybox sh" is two words
holds "the passphrase can be typed" typed canary-ca-passphrase $SH "$scripts/ca" crl "$A/locked"
holds "what is typed is not shown" sh -c '! grep -q canary "$1"' sh "$T/holds"
# shellcheck disable=SC2086 # "busybox sh" is two words
holds "a typed passphrase makes an authority" typed "canary-typed-passphrase canary-typed-passphrase canary-typed-passphrase" \
    $SH "$scripts/ca" init "$A/typed" --name Typed --passphrase
holds "which is encrypted by what was typed" sh -c 'echo canary-typed-passphrase >"$1/p" && openssl pkey -in "$1/typed/ca.key" -passin "file:$1/p" -noout' sh "$A"
rm "$A/ca/index.txt"
refused "a lost index is not replaced by an empty one" 1 "index.txt" "$A" ca init "$A/ca" --name "North CA"
