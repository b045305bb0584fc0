# shellcheck shell=bash disable=SC2016,SC2034 # the inner shell expands; the parts read what is set
# What every part of the tests uses: running a verb, comparing trees, counting results. Sourced by
# run.sh. A part has a folder $T and an authority $CA of its own.
: "${here:?}" "${scripts:?}" "${workspace:?}" "${T:?}" "${SH:?}" "${part:?}"

pids=() # ended with the part

begin_part() {
    CA="$T/site-ca"
    run ca init "$CA" --name "Site CA"
}

end_part() {
    local pid
    for pid in ${pids[@]+"${pids[@]}"}; do kill "$pid" 2>/dev/null; done
}

# Of all keys and secrets that a part made, none stands in what the verbs printed.
nothing_told() {
    find "$T" -type f \( -name '*.key' -o -name '*.key.*' \) -exec grep -haEx -e '[A-Za-z0-9+/=]{40,}' {} + |
        sort -u >"$T/canaries.all"
    holds "no secret is printed" sh -c '! grep -F -f "$1" "$2"' sh "$T/canaries.all" "$T/everything"
}

# VERB ARGUMENT...: a script in the shell under test; output in $T/out, both streams in $T/all.
run() {
    local verb=$1
    shift
    # shellcheck disable=SC2086 # "busybox sh" is two words
    $SH "$scripts/$verb" "$@" >"$T/out" 2>"$T/err" </dev/null
    code=$?
    cat "$T/out" "$T/err" >"$T/all"
    cat "$T/all" >>"$T/everything"
    return 0
}

pass() { echo "ok: $1"; }
fail_test() { echo "FAILED: $1${2:+: $2}"; }
# WHAT: WHY
skip() { echo "!! SKIPPED: $*"; }

# PROGRAM|root...: are they there? Where one is not, the part is skipped, loudly.
need() {
    local one
    for one in "$@"; do
        if [ "$one" = root ]; then
            [ "$(id -u)" -eq 0 ] && continue
        elif command -v "$one" >/dev/null; then
            continue
        fi
        skip "$part: it needs $one"
        return 1
    done
}

# SENTENCE COMMAND...: passes where the command succeeds.
holds() {
    local sentence=$1
    shift
    if "$@" >"$T/holds" 2>&1; then pass "$sentence"; else fail_test "$sentence" "$* ($(head -c 300 "$T/holds" | tr '\n' ' '))"; fi
}

# SENTENCE CODE TEXT VERB ARGUMENT...: ends with the code and says the text ('' for any).
expect() {
    local sentence=$1 wanted=$2 text=$3
    shift 3
    run "$@"
    if [ "$code" -ne "$wanted" ]; then
        fail_test "$sentence" "expected code $wanted, found $code: $(head -c 400 "$T/all" | tr '\n' ' ')"
    elif [ -n "$text" ] && ! grep -qF -- "$text" "$T/all"; then
        fail_test "$sentence" "expected '$text', found: $(head -c 400 "$T/all" | tr '\n' ' ')"
    else
        pass "$sentence"
    fi
}

# FOLDER...: everything about a tree: content, mode, owner, time of change, targets of links.
snapshot() {
    find "$@" -printf '%p %y %m %U:%G %T@ %l\n' | sort
    find "$@" -type f -exec sha256sum {} + | sort
}

# FOLDER...: what two runs have in common that made keys of their own.
shape() {
    find "$@" -printf '%p %y %m %U:%G %l\n' | sed -E 's/[0-9A-F]{16}/SERIAL/' | sort
}

# SENTENCE FOLDER VERB ARGUMENT...: refused with a code, and the tree is as it was.
refused() {
    local sentence=$1 wanted=$2 text=$3 tree=$4
    shift 4
    snapshot "$tree" >"$T/before"
    expect "$sentence" "$wanted" "$text" "$@"
    snapshot "$tree" >"$T/after"
    cmp -s "$T/before" "$T/after" || fail_test "$sentence, and nothing changed" "$(diff "$T/before" "$T/after" | head -n 3)"
}

# SENTENCE FOLDER VERB ARGUMENT...: a dry run changes nothing and names something; a run does it; a
# second one changes nothing, down to times, and says so.
thrice() {
    local sentence=$1 tree=$2
    shift 2
    snapshot "$tree" >"$T/before"
    expect "$sentence: a dry run says what would be done" 0 "would " "$@" --dry-run
    snapshot "$tree" >"$T/after"
    holds "$sentence: a dry run changes nothing" cmp "$T/before" "$T/after"
    expect "$sentence: a run does it" 0 "" "$@"
    if grep -q 'nothing to do' "$T/all"; then fail_test "$sentence: a run does it" "nothing to do"; fi
    cp "$T/out" "$T/first.out"
    snapshot "$tree" >"$T/before"
    expect "$sentence: a second run has nothing to do" 0 "nothing to do" "$@"
    snapshot "$tree" >"$T/after"
    holds "$sentence: a second run changes nothing" cmp "$T/before" "$T/after"
    if find "$tree" -name '.*.new' | grep -q .; then fail_test "$sentence: nothing temporary stays"; fi
}

# A root of a device with a user of its own, so that owners can be looked at without making one here.
device() {
    mkdir -p "$1/etc" "$1/usr/bin" "$1/var/lib" "$1/proc/net"
    printf 'root:x:0:0::/root:/bin/sh\nclearfilm:x:971:972::/var/lib/clearfilm:/usr/sbin/nologin\n' >"$1/etc/passwd"
    printf 'root:x:0:\nclearfilm:x:972:\n' >"$1/etc/group"
    mkdir -p "$1/etc/clearfilm/conf.d"
    chmod 755 "$1/etc" "$1/etc/clearfilm"
    cp "$workspace/docs/config.toml" "$1/etc/clearfilm/config.toml"
    ln -sf "$CLEARFILM" "$1/usr/bin/clearfilm"
}

# ROOT UNIT: enrolled for both kinds by the site's authority $CA.
enrolled() {
    run enrol --root "$1" --unit "$2" --kind both --host "$2.lan"
    local one
    for one in mqtt dicom; do
        run ca sign "$CA" "$1/etc/clearfilm/tls/$one.csr" --kind "$one"
        cp "$T/out" "$T/$2.$one.crt"
        run enrol --root "$1" --import "$T/$2.$one.crt" --ca "$CA/ca.pem"
    done
}

# PREFIX NAME: key and request of somebody who is no device.
client_request() {
    printf '[req]\ndistinguished_name = n\n[n]\n' >"$T/req.client"
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" \
        -subj "/CN=$2" -config "$T/req.client" 2>/dev/null
}

# PREFIX NAME: and a certificate.
client() {
    client_request "$1" "$2"
    run ca sign "$CA" "$1.csr" --kind mqtt
    cp "$T/out" "$1.crt"
}

# CSR OUT FROM UNTIL [SECTION]: signed by $CA with dates of our own, past the script.
sign_dated() {
    local copy
    copy=$(mktemp -d)
    cp -r "$CA/." "$copy"
    printf 'basicConstraints = critical, CA:FALSE\nextendedKeyUsage = %s\n' "${5:-clientAuth, serverAuth}" >"$copy/ext"
    (cd "$copy" && openssl ca -batch -notext -config openssl.cnf -keyfile ca.key -extfile ext \
        -startdate "$3" -enddate "$4" -in "$1" -out "$2") >/dev/null 2>&1
    rm -rf "$copy"
}

# A port that nobody listens at, below those that the kernel gives out by itself.
free_port() {
    local port
    while :; do
        port=$((RANDOM % 12000 + 20000))
        (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

# FILE TEXT [TIMES]: waits until the text stands in the file so many times, 20 s at most.
wait_for() {
    local i
    for i in $(seq 400); do
        [ "$(grep -cF -- "$2" "$1" 2>/dev/null)" -ge "${3:-1}" ] 2>/dev/null && return 0
        sleep 0.05
    done
    echo "expected '$2' in $1 within 20 s, found after $i tries: $(tail -n 3 "$1")"
    return 1
}

# Waits until something answers at a port of this machine, 10 s at most.
wait_port() {
    local i
    for i in $(seq 100); do
        if (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return 0; fi
        sleep 0.1
    done
    echo "nobody answers at port $1 after $i tries"
    return 1
}

# FOLDER CA [LINE...]: a real mosquitto that takes devices by their certificates, with the rules that
# `clearfilm-fleet render acl` gives for north-dx-2 and north-dx-3. Sets `broker_port`, `broker_pid`.
start_broker() {
    local folder=$1 authority=$2
    shift 2
    mkdir -p "$folder"
    broker_port=$(free_port)
    run ca broker "$authority" --host localhost --host 127.0.0.1
    for unit in north-dx-2 north-dx-3; do
        "$CLEARFILM_FLEET" render acl --site north --unit "$unit"
    done >"$folder/acl"
    printf '%s\n' "listener $broker_port 127.0.0.1" "cafile $authority/ca.pem" \
        "certfile $authority/broker/localhost.crt" "keyfile $authority/broker/localhost.key" \
        "require_certificate true" "use_identity_as_username true" "acl_file $folder/acl" \
        "user root" "allow_anonymous false" "$@" >"$folder/mosquitto.conf"
    restart_broker "$folder"
}

# FOLDER
restart_broker() {
    if [ -n "${broker_pid-}" ]; then
        kill "$broker_pid" 2>/dev/null
        wait "$broker_pid" 2>/dev/null
    fi
    mosquitto -c "$1/mosquitto.conf" >>"$1/log" 2>&1 &
    broker_pid=$!
    pids+=("$broker_pid")
    wait_port "$broker_port"
}

# ROOT UNIT [LINE...]: settings by a signed site file; the broker is `broker_port`, the receiver
# listens at `scp_port`.
rendered() {
    local root=$1 unit=$2
    shift 2
    if [ ! -f "$T/ops.key" ]; then
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$T/ops.key" 2>/dev/null
        openssl pkey -in "$T/ops.key" -pubout -out "$T/ops.pub"
    fi
    printf '%s\n' "site = north" "broker = mqtts://localhost:${broker_port:-8883}" "listen = ${scp_port:-11112}" \
        "peer = CF-VERIFY 127.0.0.1" "free_min = 10MiB" "$@" >"$T/rendered.conf"
    openssl dgst -sha256 -sign "$T/ops.key" -out "$T/rendered.sig" "$T/rendered.conf"
    run render --root "$root" --unit "$unit" --key "$T/ops.pub" --site-file "$T/rendered.conf" --signature "$T/rendered.sig"
}

# WORDS COMMAND [ARGUMENT...]: at a terminal of its own, where each word is typed once a line that ends
# in `: ` asks for it. Prints what the terminal shows; ends with the command's code.
typed() {
    local words shown='' one terminal
    read -ra words <<<"$1"
    shift
    printf '%q ' "$@" >"$T/typed.sh"
    # socat's own code is not the command's.
    printf '; echo "$?" >%q\n' "$T/typed.code" >>"$T/typed.sh"
    coproc terminal { socat - "EXEC:sh $T/typed.sh,pty,setsid,ctty,stderr"; }
    # shellcheck disable=SC2154 # coproc sets it
    while IFS= read -r -d '' -n 1 -t 20 one <&"${terminal[0]}"; do
        shown="$shown$one"
        if [ "${shown: -2}" = ': ' ] && [ ${#words[@]} -gt 0 ]; then
            printf '%s\n' "${words[0]}" >&"${terminal[1]}"
            words=("${words[@]:1}")
        fi
    done
    printf '%s\n' "$shown"
    return "$(cat "$T/typed.code")"
}

# FILE OFFSET: changes one bit of a byte.
flip() {
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1")
    # shellcheck disable=SC2059 # the format is an octal escape
    printf "\\$(printf %03o $((byte ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# ROOT: the appliance with what was rendered, enrolled and installed there. Paths in the configuration
# are those of a device, so the environment names the scratch tree's. Sets `service_pid`.
start_service() {
    local tls="$1/etc/clearfilm/tls"
    env CLEARFILM__MQTT__CERT_FILE="$tls/mqtt.crt" CLEARFILM__MQTT__KEY_FILE="$tls/mqtt.key" CLEARFILM__MQTT__CA_FILE="$tls/ca.pem" \
        CLEARFILM__DICOM__SCP__TLS__CERT_FILE="$tls/dicom.crt" CLEARFILM__DICOM__SCP__TLS__KEY_FILE="$tls/dicom.key" \
        CLEARFILM__DICOM__SCP__TLS__CA_FILE="$tls/ca.pem" CLEARFILM__STORAGE__PATH="$T/storage" CLEARFILM__ENGINE__ORDER='["tract"]' \
        CLEARFILM__UNIT__SECRET_FILE="$1/etc/clearfilm/site.key" CLEARFILM__HTTP__LISTEN= CLEARFILM__TELEMETRY__METRICS= \
        "$CLEARFILM" run --config "$1/etc/clearfilm/config.toml" >"$T/service.log" 2>&1 &
    service_pid=$!
    pids+=("$service_pid")
    # A program that is not optimised takes its time to look at its bundle.
    wait_port "$scp_port" >/dev/null || wait_port "$scp_port" >/dev/null || wait_port "$scp_port"
}

# FOLDER: two EST responders, for whether TLS asks for a client's certificate is decided for a port:
# `url` for those with a certificate, `open` for those with a password. `boot` are options of a device
# that has the manufacturer's certificate. The server's authority is not the one that signs devices:
# neither vouches for the other.
start_responders() {
    mkdir "$1"
    run ca init "$1/server-ca" --name "EST CA"
    run ca broker "$1/server-ca" --host localhost
    cp "$1/server-ca/broker/localhost.crt" "$1/server.crt"
    cp "$1/server-ca/broker/localhost.key" "$1/server.key"
    client "$1/boot" boot-maker
    client_request "$1/other" north-dx-2
    printf 'canary "est\\ password\n' >"$1/password"
    echo ok >"$1/mode"
    echo mqtt >"$1/kind"
    export EST_FOLDER="$1" EST_CA="$CA" EST_USER='boot:canary "est\ password'
    local port
    port=$(free_port) && responder "$1" "$port" 1 && url="https://localhost:$port"
    port=$(free_port) && responder "$1" "$port" 0 && open="https://localhost:$port"
    boot=(--est "$url" --est-ca "$1/server-ca/ca.pem" --bootstrap-cert "$1/boot.crt" --bootstrap-key "$1/boot.key")
}

# FOLDER PORT VERIFY
responder() {
    socat "OPENSSL-LISTEN:$2,bind=127.0.0.1,reuseaddr,fork,cert=$1/server.crt,key=$1/server.key,cafile=$CA/ca.pem,verify=$3" \
        "EXEC:bash $here/est-responder.sh" >>"$1/server.log" 2>&1 &
    pids+=($!)
    wait_port "$2"
}

# VERSION ARCHITECTURE NAME: a package with one file, $T/NAME-VERSION.deb.
deb() {
    rm -rf "$T/pkg" && mkdir -p "$T/pkg/DEBIAN" "$T/pkg/usr/share/clearfilm"
    printf 'Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: x <x@x.invalid>\nDescription: x\n' "$3" "$1" "$2" >"$T/pkg/DEBIAN/control"
    echo "$1" >"$T/pkg/usr/share/clearfilm/version"
    dpkg-deb -b "$T/pkg" "$T/$3-$1.deb" >/dev/null 2>&1
}

# ROOT: what dpkg and systemctl need there.
for_packages() {
    mkdir -p "$1/var/lib/dpkg/info" "$1/var/lib/dpkg/updates" "$1/var/lib/dpkg/triggers" "$1/lib/systemd/system"
    : >"$1/var/lib/dpkg/status"
    chmod 755 "$1/var/lib"
}
