# shellcheck shell=bash disable=SC2016 # the inner shell expands
# Every command of "A device's life" in docs/operations.md, as it stands there, on a Debian that really
# boots: systemd, dpkg, nftables, a broker and the service; one machine is office, broker and device.
# Only where BOOT_ROOT names the root of such a system, as tests/run.sh makes it.
#
# systemd-nspawn starts it with an overlay, so that the root stays as it is.
: "${here:?}" "${scripts:?}" "${workspace:?}" "${T:?}" "${CLEARFILM:?}" "${CLEARFILM_FLEET:?}"
io="$T/io"

# The chapter's sections, a line each.
sections() { awk '/^## / { on = $0 == "## A device\x27s life" } on && sub(/^### /, "")' "$workspace/docs/operations.md"; }

# SECTION: its commands.
commands() {
    awk -v name="### $1" '/^##/ { on = $0 == name } /^```$/ { code = 0 } on && code; on && /^```sh$/ { code = 1 }' \
        "$workspace/docs/operations.md"
}

# What a reader of the chapter has, and what happens elsewhere meanwhile.
surroundings() {
    cat <<'TEXT'
exec >/io/log 2>&1
export HOME=/root SH=sh scripts=/usr/lib/clearfilm/provision
mkdir -p /media/stick /media/vault
printf '127.0.0.1 localhost broker.lan est.lan\n' >/etc/hosts
# VERIFY: an EST server at est.lan; socat asks for a client's certificate always or never.
responder() {
    if [ -n "${est-}" ]; then kill "$est"; wait "$est"; fi
    socat "OPENSSL-LISTEN:8443,bind=127.0.0.1,reuseaddr,fork,cert=/root/est-ca/broker/est.lan.crt,key=/root/est-ca/broker/est.lan.key,cafile=/root/authority/ca.pem,verify=$1" \
        EXEC:'bash /io/est-responder.sh' &
    est=$!
}
before_est() {
    mkdir /root/est
    echo ok >/root/est/mode
    echo mqtt >/root/est/kind
    export EST_FOLDER=/root/est EST_CA=/root/authority EST_USER=boot:secret EST_OPTIONS='--passphrase-file /media/vault/passphrase'
    echo secret >/media/stick/est-password
    $scripts/ca init /root/est-ca --name EST
    $scripts/ca broker /root/est-ca --host est.lan
    cp /root/est-ca/ca.pem /media/stick/est-ca.pem
    responder 0
    rm /etc/clearfilm/tls/mqtt.*
}
# FILE NAME
section() {
    echo "== $2"
    sh -eux "/io/$1"
    echo "== code $?"
}
# TEXT: waits until the service's journal has it after the last start.
journal_has() {
    for i in $(seq 60); do
        if journalctl -u clearfilm -o cat | grep -q "$1"; then return 0; fi
        sleep 0.5
    done
    echo "not in the journal after $i tries: $1"
}
dpkg -i /io/clearfilm.deb
TEXT
}

steps() {
    local number=0 name
    surroundings
    while IFS= read -r name; do
        number=$((number + 1))
        { echo 'set -eu' && commands "$name"; } >"$io/$number.sh"
        case "$name" in
        'Enrolment over EST') echo 'before_est' ;;
        Rotation) echo 'responder 1' ;;
        esac
        printf 'section %s "%s"\n' "$number.sh" "$name"
        case "$name" in
        'A new device') local first="$number" ;;
        Rotation)
            echo 'journal_has "certificates were replaced"'
            echo 'echo "== state"; systemctl show clearfilm -p NRestarts; nft list table inet clearfilm; echo "== code $?"'
            ;;
        'The end of a device') echo 'echo "== left"; find /etc/clearfilm /var/lib/clearfilm; systemctl is-enabled clearfilm || :; echo "== code $?"' ;;
        esac
    done < <(sections)
    printf 'section %s "the new board"\n' "$first.sh"
    echo 'systemctl poweroff'
}

# NAME: what a section said, and its code.
said() { sed -n "/^== $1\$/,/^== code/p" "$io/log"; }

boot() {
    # The steps run when the system is up, as a unit that the overlay alone has.
    printf '[Unit]\nAfter=multi-user.target\n[Service]\nType=oneshot\nExecStart=/bin/sh /io/steps.sh\n' >"$T/steps.service"
    printf '#!/bin/sh\nexec "$@"\n' >"$T/sudo"
    chmod 755 "$T/sudo"
    timeout 280 systemd-nspawn -q -D "$BOOT_ROOT" --volatile=overlay -b --register=no --keep-unit --private-network \
        --bind="$io:/io" --bind-ro="$T/sudo:/usr/local/bin/sudo" --bind-ro="$T/steps.service:/etc/systemd/system/steps.service" \
        systemd.wants=steps.service </dev/null >"$T/nspawn.log" 2>&1
}

if [ "$(id -u)" -ne 0 ] || [ -z "${BOOT_ROOT-}" ] || ! command -v systemd-nspawn >/dev/null; then
    skip "a system that boots: root, BOOT_ROOT or systemd-nspawn is missing"
    return 0
fi
mkdir "$io"
cp "$here/est-responder.sh" "$io/"
"$workspace/tests/deb.sh" "$CLEARFILM" "$CLEARFILM_FLEET" "$io/clearfilm.deb"
steps >"$io/steps.sh"
boot
if [ ! -s "$io/log" ]; then
    skip "a system that boots: it does not here: $(tail -n 1 "$T/nspawn.log")"
    return 0
fi
cp "$io/log" "$T/everything"
while IFS= read -r name; do
    holds "as written: $name" grep -qx '== code 0' <(said "$name")
done < <(sections && echo 'the new board')
verified() { said "$1" | grep -E '^(ok|warn|fail) ' >"$T/said" && [ "$(grep -vc '^ok' "$T/said") $(grep -c '^warn clock' "$T/said")" = "1 1" ]; }
holds "verify finds only that nobody sets the clock" verified "A new device"
holds "as it does on the new board" verified "the new board"
holds "the service takes the next certificate without a restart" grep -q NRestarts=0 <(said state)
holds "the rules are loaded" grep -q 'tcp dport 11112 accept' <(said state)
holds "in the end the service is off" grep -qx disabled <(said left)
holds "and nothing is left but the package's own" test "$(said left | grep -c '^/')" = 5
grep -hv '^ok' "$io/log" | grep -B 3 -A 25 -m 1 -E '^== code [^0]' || :
