# shellcheck shell=bash disable=SC2016 # the inner shell expands
# Site files: signed or refused, known or refused, accepted by clearfilm check or refused.
: "${scripts:?}" "${T:?}" "${CLEARFILM:?}"
need root || return 0
R="$T/r"
device "$R"
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$T/ops.key" 2>/dev/null
openssl pkey -in "$T/ops.key" -pubout -out "$T/ops.pub"
cat >"$T/site.conf" <<'TEXT'
# The north site.
site = north
broker = mqtts://broker.lan:8884
listen = 11113
ae_title = CLEARFILM
peer = DX ROOM 2 10.1.2.3,10.1.2.4
peer = CF-VERIFY 127.0.0.1
dicom_tls = mutual
room.north-dx-2 = Röntgen 2
room.north-dx-3 = Ward
receipts = archive,dashboard
keep_images = 96h
free_min = 1GiB
TEXT
sign() { openssl dgst -sha256 -sign "$T/ops.key" -out "$1.sig" "$1"; }
sign "$T/site.conf"
render=(render --root "$R" --key "$T/ops.pub" --unit north-dx-2)
site=("${render[@]}" --site-file "$T/site.conf" --signature "$T/site.conf.sig")
thrice "a site file is rendered" "$R" "${site[@]}"
out="$R/etc/clearfilm/conf.d/50-site.toml"
holds "it has its mode and owner" test "$(stat -c '%a %u:%g' "$out")" = "640 0:972"
"$CLEARFILM" check --config "$R/etc/clearfilm/config.toml" | sed 's/  */ /g' >"$T/effective"
in_force() { holds "in force: $1" grep -qF "$1 #" "$T/effective"; }
in_force 'unit.site = "north"'
in_force 'unit.name = "north-dx-2"'
in_force 'unit.room = "Röntgen 2"'
in_force 'unit.secret_file = "/etc/clearfilm/site.key"'
in_force 'mqtt.url = "mqtts://broker.lan:8884"'
in_force 'mqtt.key_file = "/etc/clearfilm/tls/mqtt.key"'
in_force 'mqtt.receipts = ["archive", "dashboard"]'
in_force 'dicom.scp.listen = "0.0.0.0:11113"'
in_force 'dicom.scp.tls.mode = "mutual"'
in_force 'dicom.scp.tls.ca_file = "/etc/clearfilm/tls/ca.pem"'
in_force 'dicom.peers = [{ addresses = ["10.1.2.3", "10.1.2.4"], ae_title = "DX ROOM 2" }, { addresses = ["127.0.0.1"], ae_title = "CF-VERIFY" }]'
holds "in force: storage" sh -c 'grep -q "storage.free_min = \"1.*GiB\"" "$1" && grep -q "storage.keep_images = \"96h\"" "$1"' sh "$T/effective"

bad_signature() { refused "$1" 4 "$2" "$R" "${@:3}"; }
sed 's/11113/11114/' "$T/site.conf" >"$T/changed.conf"
bad_signature "a changed file is refused" "a signature" "${render[@]}" --site-file "$T/changed.conf" --signature "$T/site.conf.sig"
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$T/thief.key" 2>/dev/null
openssl dgst -sha256 -sign "$T/thief.key" -out "$T/thief.sig" "$T/changed.conf"
bad_signature "somebody else's signature is refused" "a signature" "${render[@]}" --site-file "$T/changed.conf" --signature "$T/thief.sig"
: >"$T/empty.sig"
bad_signature "an empty signature is refused" "a signature" "${render[@]}" --site-file "$T/site.conf" --signature "$T/empty.sig"
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out "$T/rsa.key" 2>/dev/null
openssl pkey -in "$T/rsa.key" -pubout -out "$T/rsa.pub"
openssl dgst -sha256 -sign "$T/rsa.key" -out "$T/rsa.sig" "$T/site.conf"
bad_signature "another kind of key is refused" "ECDSA" render --root "$R" --key "$T/rsa.pub" --unit north-dx-2 --site-file "$T/site.conf" --signature "$T/rsa.sig"
bad_signature "no key at all is refused" "public key" render --root "$R" --key "$T/site.conf" --unit north-dx-2 --site-file "$T/site.conf" --signature "$T/site.conf.sig"
openssl genpkey -algorithm ED25519 -out "$T/ed.key"
openssl pkey -in "$T/ed.key" -pubout -out "$T/ed.pub"
if openssl pkeyutl -sign -inkey "$T/ed.key" -rawin -in "$T/site.conf" -out "$T/ed.sig" 2>/dev/null; then
    expect "an Ed25519 signature is taken" 0 "nothing to do" render --root "$R" --key "$T/ed.pub" --unit north-dx-2 --site-file "$T/site.conf" --signature "$T/ed.sig"
    bad_signature "of another file it is not" "a signature" render --root "$R" --key "$T/ed.pub" --unit north-dx-2 --site-file "$T/changed.conf" --signature "$T/ed.sig"
else
    bad_signature "Ed25519 is refused where openssl cannot verify it" "ECDSA" render --root "$R" --key "$T/ed.pub" --unit north-dx-2 --site-file "$T/site.conf" --signature "$T/site.conf.sig"
fi

# SENTENCE TEXT SED: the file with one change, rightly signed, is refused.
wrong() {
    sed "$3" "$T/site.conf" >"$T/wrong.conf"
    sign "$T/wrong.conf"
    if cmp -s "$T/site.conf" "$T/wrong.conf"; then fail_test "$1" "the test changed nothing"; fi
    refused "$1" 4 "$2" "$R" "${render[@]}" --site-file "$T/wrong.conf" --signature "$T/wrong.conf.sig"
}
wrong "an unknown key is refused by its line" "line 2: expected a known key, found sites" 's/^site =/sites =/'
wrong "a repeated key is refused" "line 4: expected the key site once" 's/^listen.*/site = south/'
wrong "a repeated room is refused" "once" 's/^room.north-dx-3/room.north-dx-2/'
wrong "a repeated title is refused" "each AE title once" 's/CF-VERIFY 127/DX ROOM 2 127/'
wrong "a missing key is refused" "broker = " '/^broker/d'
wrong "a missing peer is refused" "peer = " '/^peer/d'
wrong "a site of other letters is refused" "a site" 's/= north$/= North/'
wrong "a broker without TLS is refused" "mqtts://" 's/mqtts:/mqtt:/'
wrong "a broker's port of 0 is refused" "mqtts://" 's/:8884/:0/'
wrong "a port below 1024 is refused" "1024" 's/11113/104/'
wrong "a port that is none is refused" "1024" 's/11113/99999/'
wrong "a peer without address is refused" "peer = AE_TITLE ADDRESS" 's/^peer = CF.*/peer = CF-VERIFY/'
wrong "an address that is none is refused" "10.1.2.300" 's/10.1.2.3,/10.1.2.300,/'
wrong "an address with a leading zero is refused" "10.1.2.03" 's/10.1.2.3,/10.1.2.03,/'
wrong "an IPv6 address that is none is refused" "fe80::1::2" 's/10.1.2.3,/fe80::1::2,/'
wrong "a title of 17 letters is refused" "16 characters" 's/= CLEARFILM/= CLEARFILMCLEARFIL/'
wrong "a title with a backslash is refused" "16 characters" 's/= CLEARFILM/= CLEAR\\FILM/'
wrong "a title that would end its string is refused" "16 characters" 's/= CLEARFILM/= A"B/'
wrong "a room that would end its string is refused" "without quote" 's/Röntgen/R"\nuse = "clinical/;'
wrong "a room with a backslash is refused" "without quote" 's/Röntgen/R\\n/'
wrong "a receipt that is none is refused" "names" 's/archive,/Archive,/'
wrong "a time that is none is refused" "a number and" 's/96h/96 hours/'
wrong "a size that is none is refused" "MiB or GiB" 's/1GiB/1G/'
wrong "a mode that is none is refused" "off, server or mutual" 's/mutual/on/'
wrong "a line without = is refused" "key = value" 's/^listen.*/listen 11113/'
wrong "control characters are refused" "control" 's/Ward/Wa\x1brd/'
wrong "bytes that are no UTF-8 are refused by the service" "clearfilm check" 's/Röntgen/\xff\xfe/'
head -c 70000 /dev/zero | tr '\0' '#' >"$T/wrong.conf"
sign "$T/wrong.conf"
refused "a file beyond all measure is refused" 4 "at most 65536 bytes" "$R" "${render[@]}" --site-file "$T/wrong.conf" --signature "$T/wrong.conf.sig"
printf '[mqtt]\nmax_packet = "1KiB"\n' >"$R/etc/clearfilm/conf.d/60-local.toml"
sed 's/11113/11115/' "$T/site.conf" >"$T/more.conf" && sign "$T/more.conf"
refused "what clearfilm check refuses is not rendered, and its words are shown" 4 "mqtt.max_packet" "$R" "${render[@]}" --site-file "$T/more.conf" --signature "$T/more.conf.sig"
printf '[unit]\nname = "north-dx-9"\n' >"$R/etc/clearfilm/conf.d/60-local.toml"
refused "a later file that names another unit is refused" 4 "unit.name" "$R" "${render[@]}" --site-file "$T/more.conf" --signature "$T/more.conf.sig"
rm "$R/etc/clearfilm/conf.d/60-local.toml"
CLEARFILM__MQTT__URL=nonsense expect "the caller's environment does not count" 0 "50-site.toml" "${render[@]}" --site-file "$T/more.conf" --signature "$T/more.conf.sig"
sed 's/10.1.2.4/fe80::7/;s/$/\r/' "$T/site.conf" >"$T/dos.conf" && sign "$T/dos.conf"
expect "lines that end as on Windows, and IPv6, are taken" 0 "50-site.toml" "${render[@]}" --site-file "$T/dos.conf" --signature "$T/dos.conf.sig"
holds "IPv6 senders need the other address to listen at" grep -q 'listen = "\[::\]:11113"' "$out"
rm "$R/usr/bin/clearfilm"
expect "without the program it says that nobody checked" 0 "not there yet" "${site[@]}"
