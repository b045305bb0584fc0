# shellcheck shell=bash disable=SC2016 # the inner shell expands
# Every verb, killed before each command that changes something: the whole group of processes, as by
# a power cut that leaves the file system whole. Run again it ends where an undisturbed run does, and
# a third run has nothing to do.
#
# With --all at every command; else at every Nth, so that a run of the tests ends while one waits.
# KILL_EVERY=N says another N.
: "${scripts:?}" "${T:?}" "${CA:?}" "${code=}" "${broker_port=}" "${url=}"
need root socat curl || return 0
every=${all:+1} every=${KILL_EVERY:-${every:-25}}
shims="$T/shims"
mkdir -p "$shims"
for command in cp cat mv rm ln mkdir chmod chown sync openssl shred find base64 systemctl dpkg groupadd useradd curl sleep; do
    real=$(command -v "$command") || continue
    cat >"$shims/$command" <<SHIM
#!/bin/sh
if [ -n "\${KILL_COUNT-}" ]; then
    n=0
    read -r n <"\$KILL_COUNT"
    n=\$((n + 1))
    echo "\$n" >"\$KILL_COUNT"
    if [ "\$n" = "\$KILL_AT" ]; then kill -KILL "-\$KILL_GROUP"; fi
fi
exec $real "\$@"
SHIM
    chmod +x "$shims/$command"
done

# AT VERB ARGUMENT...: a run that is killed before its command number AT; 0 for none. Sets
# `killed_code`: 137 where it was killed.
killed_run() {
    local at=$1 verb=$2
    shift 2
    echo 0 >"$T/count"
    # shellcheck disable=SC2086 # "busybox sh" is two words
    killed_code=$(
        PATH="$shims:$PATH" KILL_COUNT="$T/count" KILL_AT="$at" \
            setsid sh -c 'KILL_GROUP=$$; export KILL_GROUP; exec "$@"' sh $SH "$scripts/$verb" "$@" >"$T/killed" 2>&1 </dev/null
        echo $?
    ) 2>/dev/null
}

# SENTENCE CHECK VERB ARGUMENT...: the tree is $W, a copy of $W.base for each run. CHECK is asked
# after each kill and at the end.
everywhere() {
    local sentence=$1 check=$2 n total bad=''
    shift 2
    rm -rf "$W" && cp -a "$W.base" "$W"
    killed_run 0 "$@"
    total=$(cat "$T/count")
    shape "$W" >"$T/wanted"
    local kills=0 really=0
    for n in $(seq 1 "$every" "$total"); do
        rm -rf "$W" && cp -a "$W.base" "$W"
        killed_run "$n" "$@"
        # Programs of a pipe start in any order, so that a run may have fewer commands to be counted.
        [ "$killed_code" -eq 137 ] || [ "$(cat "$T/count")" -lt "$n" ] || bad="$bad $n:not-killed"
        [ "$killed_code" -ne 137 ] || really=$((really + 1))
        kills=$((kills + 1))
        $check || bad="$bad $n:after-kill"
        run "$@"
        [ "$code" -eq 0 ] || bad="$bad $n:code-$code($(tail -n 1 "$T/all"))"
        shape "$W" >"$T/found"
        cmp -s "$T/wanted" "$T/found" || bad="$bad $n:tree($(diff "$T/wanted" "$T/found" | sed -n 2p))"
        $check || bad="$bad $n:after-rerun"
        snapshot "$W" >"$T/before"
        run "$@"
        grep -q 'nothing to do' "$T/all" || bad="$bad $n:third-run"
        snapshot "$W" >"$T/after"
        cmp -s "$T/before" "$T/after" || bad="$bad $n:third-run-changes"
    done
    # Most of them: of the last ones some are not reached.
    if [ "$((really * 2))" -lt "$kills" ] || [ "$really" -eq 0 ]; then bad="$bad only $really kills"; fi
    kills=$really
    if [ -n "$bad" ]; then fail_test "$sentence: $kills kills" "$bad"; else pass "$sentence: $kills kills"; fi
}

W="$T/w"
tls="$W/etc/clearfilm/tls"
fine() { true; }
# Whatever is there matches.
pairs_match() {
    local one
    for one in mqtt dicom; do
        if [ -e "$tls/$one.crt" ] && [ "$(openssl x509 -in "$tls/$one.crt" -noout -pubkey)" != "$(openssl pkey -in "$tls/$one.key" -pubout)" ]; then return 1; fi
    done
}
# No key is ever readable by others, under whatever name.
keys_private() { [ -z "$(find "$W" -type f \( -name '*key*' -o -name 'site.key*' \) ! -name '*.pub' -perm /027 ! -perm 0640 -print -quit)" ]; }
both() { pairs_match && keys_private; }

device "$W.base"
everywhere "enrol" keys_private enrol --root "$W" --unit north-dx-2 --kind both --host dx2.lan

rm -rf "$W.base" && device "$W.base"
run enrol --root "$W.base" --unit north-dx-2 --kind mqtt
run ca sign "$CA" "$W.base/etc/clearfilm/tls/mqtt.csr" --kind mqtt && cp "$T/out" "$T/w.crt"
everywhere "enrol --import" both enrol --root "$W" --import "$T/w.crt" --ca "$CA/ca.pem"

rm -rf "$W.base" && device "$W.base"
enrolled "$W.base" north-dx-2
everywhere "rotate, the request" both rotate --root "$W" --kind mqtt --before-days 398
run rotate --root "$W.base" --kind mqtt --before-days 398
run ca sign "$CA" "$W.base/etc/clearfilm/tls/mqtt.csr.next" --kind mqtt && cp "$T/out" "$T/w.crt"
everywhere "rotate --import" both rotate --root "$W" --kind mqtt --import "$T/w.crt"

rm -rf "$W.base" && device "$W.base"
everywhere "install" keys_private install --root "$W" --installed --clearfilm "$CLEARFILM"
broker_port=8883
rendered "$W.base" north-dx-2
cp "$T/rendered.conf" "$T/w.conf" && cp "$T/rendered.sig" "$T/w.sig"
whole() { [ ! -e "$W/etc/clearfilm/site.key" ] || grep -Eqx '[0-9a-f]{64}' "$W/etc/clearfilm/site.key"; }
everywhere "install with rules" whole install --root "$W" --installed
rm "$W.base/etc/clearfilm/conf.d/50-site.toml"
valid() { "$CLEARFILM" check --config "$W/etc/clearfilm/config.toml"; } >/dev/null 2>&1
everywhere "render" valid render --root "$W" --unit north-dx-2 --key "$T/ops.pub" --site-file "$T/w.conf" --signature "$T/w.sig"

rm -rf "$W.base" && mkdir "$W.base"
everywhere "ca init" fine ca init "$W/ca" --name "North CA"
run ca init "$W.base/ca" --name "North CA"
everywhere "ca broker" fine ca broker "$W/ca" --host broker.lan
device "$T/wd"
enrolled "$T/wd" north-dx-2
cp "$T/wd/etc/clearfilm/tls/mqtt.csr" "$T/w.csr"
indexed() { # a certificate that was given out stands in the index; the index has only whole lines
    [ -f "$W/ca/index.txt" ] && ! awk -F'\t' 'NF != 6 { bad = 1 } END { exit !bad }' "$W/ca/index.txt"
}
everywhere "ca sign" indexed ca sign "$W/ca" "$T/w.csr" --kind mqtt
run ca sign "$W.base/ca" "$T/w.csr" --kind mqtt
run ca sign "$W.base/ca" "$T/wd/etc/clearfilm/tls/dicom.csr" --kind dicom
everywhere "revoke" indexed revoke "$W/ca" north-dx-2

rm -rf "$W.base" && cp -a "$T/wd" "$W.base"
broker_port=8883
rendered "$W.base" north-dx-2
run install --root "$W.base" --installed
mkdir "$W.base/stick"
printf 'canary passphrase of a board\n' >"$T/w.pass"
everywhere "replace-board --backup" fine replace-board --root "$W" --backup "$W/stick/board" --to "$T/w.pass"
cp "$W/stick/board" "$T/w.board"
mkdir -p "$W.base/var/lib/clearfilm/spool" && echo image >"$W.base/var/lib/clearfilm/spool/1"
# While anything is left, it can be told whose it is.
named() { [ -z "$(find "$tls" "$W/var/lib/clearfilm" -mindepth 1 -print -quit)" ] || [ -e "$W/etc/clearfilm/conf.d/50-site.toml" ]; }
everywhere "decommission" named decommission --root "$W" --unit north-dx-2 --yes north-dx-2
rm -rf "$W.base" && device "$W.base"
everywhere "replace-board --restore" whole replace-board --root "$W" --restore "$T/w.board" --unit north-dx-2 --ca "$CA/ca.pem" --passphrase-file "$T/w.pass"

start_responders "$T/est"
: "${boot:?}"
rm -rf "$W.base" && device "$W.base"
everywhere "enrol --est" both enrol --root "$W" --unit north-dx-2 --kind mqtt "${boot[@]}"
echo dicom >"$T/est/kind"
run enrol --root "$W.base" --unit north-dx-2 --kind dicom "${boot[@]}"
# A short certificate: after the rotation the next one has days enough.
sign_dated "$W.base/etc/clearfilm/tls/dicom.csr" "$T/brief.crt" "$(date -u +%Y%m%d%H%M%SZ)" "$(date -u -d '+20 days' +%Y%m%d%H%M%SZ)"
run enrol --root "$W.base" --import "$T/brief.crt"
everywhere "rotate --est" both rotate --root "$W" --kind dicom --est "$url" --est-ca "$T/est/server-ca/ca.pem"

deb 1.0 "$(dpkg --print-architecture)" clearfilm
rm -rf "$W.base" && device "$W.base" && for_packages "$W.base"
printf '[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n' >"$W.base/lib/systemd/system/clearfilm.service"
everywhere "install --package --enable" keys_private install --root "$W" --package "$T/clearfilm-1.0.deb" --clearfilm "$CLEARFILM" --enable

# At moments that nobody chose, down to the middle of a command.
rm -rf "$W.base" && device "$W.base"
enrolled "$W.base" north-dx-2
run rotate --root "$W.base" --kind mqtt --before-days 398
run ca sign "$CA" "$W.base/etc/clearfilm/tls/mqtt.csr.next" --kind mqtt && cp "$T/out" "$T/w.crt"
bad=''
for n in $(seq 1 $((60 / every))); do
    rm -rf "$W" && cp -a "$W.base" "$W"
    ms=$((RANDOM % 900 + 20))
    # shellcheck disable=SC2086 # "busybox sh" is two words
    : "$(timeout -s KILL "$(printf '0.%03d' $ms)" $SH "$scripts/rotate" --root "$W" --kind mqtt --import "$T/w.crt" 2>&1)"
    both || bad="$bad $ms ms after the kill"
    run rotate --root "$W" --kind mqtt --import "$T/w.crt"
    run rotate --root "$W" --kind mqtt --import "$T/w.crt"
    if ! both || ! grep -q 'nothing to do' "$T/all"; then bad="$bad $ms ms: $(tail -n 1 "$T/all")"; fi
done
holds "rotate, killed at random times" test -z "$bad"
