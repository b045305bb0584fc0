# shellcheck shell=bash disable=SC2016 # the inner shell expands
# A board is replaced: the secret and the settings come over, whole, or not at all.
: "${scripts:?}" "${T:?}" "${CA:?}" "${code=}" "${broker_port=}"
need root || return 0
N="$T/n"
device "$N"
broker_port=8883
rendered "$N" north-dx-2
enrolled "$N" north-dx-2
run install --root "$N" --installed
printf '[telemetry]\nlog = "warn"\n' >"$N/etc/clearfilm/conf.d/60-local.toml"
mkdir "$N/stick"
printf 'canary passphrase of a board\n' >"$T/pass"
printf 'another passphrase, as long\n' >"$T/wrong"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$T/ec.key" -out "$T/ec.crt" -subj /CN=Operations -days 30 2>/dev/null
openssl req -x509 -newkey rsa:2048 -passout "file:$T/pass" -keyout "$T/rsa.key" -out "$T/rsa.crt" -subj /CN=Operations -days 30 2>/dev/null
open_with() {
    case "$1" in
    pass) echo "--passphrase-file $T/pass" ;;
    ec.crt) echo "--recipient-key $T/ec.key" ;;
    rsa.crt) echo "--recipient-key $T/rsa.key --recipient-passphrase-file $T/pass" ;;
    esac
}
for to in pass ec.crt rsa.crt; do
    thrice "a backup to $to" "$N" replace-board --root "$N" --backup "$N/stick/$to" --to "$T/$to"
    holds "$to: for its owner only" test "$(stat -c %a "$N/stick/$to")" = 600
    holds "$to: nothing of it can be read" sh -c '! grep -aqF "$(cat "$1/etc/clearfilm/site.key")" "$2" && ! grep -aqE "north|broker|BEGIN|file " "$2"' sh "$N" "$N/stick/$to"
    rm -rf "$T/new" && device "$T/new"
    # shellcheck disable=SC2046 # options
    thrice "restored from $to" "$T/new" replace-board --root "$T/new" --restore "$N/stick/$to" --unit north-dx-2 --ca "$CA/ca.pem" $(open_with $to)
    holds "$to: the same secret and settings" sh -c 'cmp "$1/site.key" "$2/site.key" && diff -r "$1/conf.d" "$2/conf.d"' sh "$N/etc/clearfilm" "$T/new/etc/clearfilm"
    holds "$to: with modes and owners" test "$(stat -c '%a %u:%g' "$T/new/etc/clearfilm/site.key" "$T/new/etc/clearfilm/conf.d/50-site.toml" | tr '\n' ' ')" = "600 971:972 640 0:972 "
    holds "$to: no key of TLS came along" test ! -e "$T/new/etc/clearfilm/tls"
done
holds "no secret is below the folder for temporary files" sh -c '! grep -rqF "$(cat "$1")" "$2"' sh "$N/etc/clearfilm/site.key" "$TMPDIR"
restore=(replace-board --root "$T/new" --unit north-dx-2 --ca "$CA/ca.pem")
rm -rf "$T/new" && device "$T/new"
refused "the wrong passphrase is refused" 4 "a backup" "$T/new" "${restore[@]}" --restore "$N/stick/pass" --passphrase-file "$T/wrong"
refused "the wrong key is refused" 4 "a backup" "$T/new" "${restore[@]}" --restore "$N/stick/ec.crt" --recipient-key "$T/ops.key"
refused "another way of opening it is refused" 4 "expected a backup" "$T/new" "${restore[@]}" --restore "$N/stick/ec.crt" --passphrase-file "$T/pass"
refused "another unit is refused" 4 "a backup of north-dx-3" "$T/new" replace-board --root "$T/new" --restore "$N/stick/pass" --unit north-dx-3 --ca "$CA/ca.pem" --passphrase-file "$T/pass"
run ca init "$T/other-ca" --name "Other CA"
refused "a backup that no unit of ours signed is refused" 4 "signed by" "$T/new" replace-board --root "$T/new" --restore "$N/stick/pass" --unit north-dx-2 --ca "$T/other-ca/ca.pem" --passphrase-file "$T/pass"
touch "$N/etc/clearfilm/conf.d/70 mine.toml"
refused "settings whose name a backup cannot hold are told, not left out" 1 "70 mine.toml" "$N" replace-board --root "$N" --backup "$N/stick/x" --to "$T/pass"
rm "$N/etc/clearfilm/conf.d/70 mine.toml"
printf -- '-----BEGIN CERTIFICATE-----\n' >"$T/torn.crt"
refused "a torn certificate is no recipient" 4 "a certificate, PEM" "$N" replace-board --root "$N" --backup "$N/stick/x" --to "$T/torn.crt"
printf 'short\n' >"$T/short"
refused "a short passphrase is refused" 4 "16 characters" "$N" replace-board --root "$N" --backup "$N/stick/x" --to "$T/short"

# Bits that changed; then some with the sum over the file put right, as an attacker would.
mkdir "$T/flips"
board="$N/stick/pass" size=$(stat -c %s "$N/stick/pass")
# FROM TO N: N places; with --all ten times as many.
dense=1
[ -z "${all-}" ] || dense=10
places() { seq "$1" $((($2 - $1) / ($3 * dense) + 1)) $(($2 - 1)); }
for n in $(places 0 200 4) $(places 200 "$size" 8) $((size - 1)); do
    cp "$board" "$T/flips/byte-$n" && flip "$T/flips/byte-$n" "$n"
done
head -c -40 "$board" >"$T/flips/short"
(cat "$board" && echo) >"$T/flips/long"
tail -n +2 "$board" | base64 -d >"$T/inside"
inside=$(stat -c %s "$T/inside")
# The first 16 bytes are the salt's, the last ones the padding's.
for n in 8 $(places 16 "$inside" 8) $(places $((inside - 48)) "$inside" 4); do
    cp "$T/inside" "$T/flipped" && flip "$T/flipped" "$n"
    base64 <"$T/flipped" >"$T/flipped.body"
    {
        printf '%s %s\n' "$(head -n 1 "$board" | cut -d' ' -f1-4)" "$(sha256sum <"$T/flipped.body" | cut -d' ' -f1)"
        cat "$T/flipped.body"
    } >"$T/flips/inside-$n"
done
taken_anyway='' tried=0
snapshot "$T/new" >"$T/before"
for flip in "$T"/flips/*; do
    run "${restore[@]}" --restore "$flip" --passphrase-file "$T/pass"
    tried=$((tried + 1))
    [ "$code" -eq 4 ] || taken_anyway="$taken_anyway $(basename "$flip"):$code"
done
snapshot "$T/new" >"$T/after"
holds "$tried damaged and forged backups are refused" test -z "$taken_anyway"
holds "and nothing was written" cmp "$T/before" "$T/after"

# Somebody who knows the passphrase, but has no unit's key; and a unit that signs for another one.
forge() { # SIGNER-CRT SIGNER-KEY CONTENT OUT
    openssl cms -sign -binary -nodetach -md sha256 -signer "$1" -inkey "$2" -outform DER -in "$3" |
        openssl enc -aes-256-cbc -md sha256 -pbkdf2 -iter 600000 -salt -pass "file:$T/pass" | base64 >"$T/forged.body"
    printf 'clearfilm-board 1 passphrase %s %s\n' "$(sha256sum <"$3" | cut -d' ' -f1)" "$(sha256sum <"$T/forged.body" | cut -d' ' -f1)" >"$4"
    cat "$T/forged.body" >>"$4"
}
content() { # NAME: a content with one file of that name
    printf 'clearfilm-board-content 1\nunit north-dx-2\nfile %s %s %s\nend\n' "$1" "$(printf x | sha256sum | cut -d' ' -f1)" "$(printf x | base64)"
}
content conf.d/50-site.toml >"$T/content"
forge "$N/etc/clearfilm/tls/mqtt.crt" "$N/etc/clearfilm/tls/mqtt.key" "$T/content" "$T/honest"
expect "the forger's tools make a backup that is taken, with the unit's key" 0 "50-site.toml" "${restore[@]}" --restore "$T/honest" --passphrase-file "$T/pass"
rm -f "$T/new/etc/clearfilm/conf.d/50-site.toml"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$T/thief2.key" -out "$T/thief2.crt" -subj /CN=north-dx-2 -days 30 2>/dev/null
forge "$T/thief2.crt" "$T/thief2.key" "$T/content" "$T/forged"
refused "a certificate of its own name is no signature of ours" 4 "signed by" "$T/new" "${restore[@]}" --restore "$T/forged" --passphrase-file "$T/pass"
device "$T/n3" && enrolled "$T/n3" north-dx-3
forge "$T/n3/etc/clearfilm/tls/mqtt.crt" "$T/n3/etc/clearfilm/tls/mqtt.key" "$T/content" "$T/forged"
refused "another unit's signature is refused" 4 "the signature of north-dx-2" "$T/new" "${restore[@]}" --restore "$T/forged" --passphrase-file "$T/pass"
for name in ../../passwd conf.d/../../x.toml conf.d/.x.toml /etc/passwd tls/mqtt.key conf.d/x.sh; do
    content "$name" >"$T/content"
    forge "$N/etc/clearfilm/tls/mqtt.crt" "$N/etc/clearfilm/tls/mqtt.key" "$T/content" "$T/forged"
    refused "a backup that holds $name is refused" 4 "names of settings" "$T/new" "${restore[@]}" --restore "$T/forged" --passphrase-file "$T/pass" --force
done
content conf.d/50-site.toml | sed '/^end/d' >"$T/content"
forge "$N/etc/clearfilm/tls/mqtt.crt" "$N/etc/clearfilm/tls/mqtt.key" "$T/content" "$T/forged"
refused "one that is cut off is refused" 4 "cut off" "$T/new" "${restore[@]}" --restore "$T/forged" --passphrase-file "$T/pass"

openssl rand -hex 32 >"$T/new/etc/clearfilm/site.key"
cp "$T/new/etc/clearfilm/site.key" "$T/theirs"
refused "a different secret is not replaced" 4 "--force" "$T/new" "${restore[@]}" --restore "$N/stick/pass" --passphrase-file "$T/pass"
holds "it is still there" cmp "$T/theirs" "$T/new/etc/clearfilm/site.key"
expect "--force replaces it" 0 "site.key" "${restore[@]}" --restore "$N/stick/pass" --passphrase-file "$T/pass" --force
holds "by the backup's" cmp "$N/etc/clearfilm/site.key" "$T/new/etc/clearfilm/site.key"
device "$T/n4" && enrolled "$T/n4" north-dx-4
refused "a board that is another unit is refused" 4 "another unit" "$T/n4" replace-board --root "$T/n4" --restore "$N/stick/pass" --unit north-dx-2 --ca "$CA/ca.pem" --passphrase-file "$T/pass"
