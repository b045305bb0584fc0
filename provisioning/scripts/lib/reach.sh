# shellcheck shell=sh
# Checks of `verify` that speak to others: C-ECHO to the receiver, a message to the broker. Sourced
# after common.sh, certs.sh, config.sh and checks.sh.
: "${root=}" "${scratch=}"

# Longest wait for an answer on a local network.
reach_seconds=10

# CALLING-AE: C-ECHO over loopback, as a sender would. The firewall never sees it.
check_echo() {
    if ! command -v echoscu >/dev/null 2>&1; then
        result warn dicom.echo not-looked-at success
        return 0
    fi
    echo_listen=$(effective dicom.scp.listen)
    echo_host=${echo_listen%:*}
    case "$echo_host" in
    0.0.0.0 | '[::]') echo_host=127.0.0.1 ;;
    esac
    set -- -aet "$1" -aec "$(effective dicom.scp.ae_title)"
    case "$(effective dicom.scp.tls.mode)" in
    server) set -- "$@" +tla +cf "$(tls_folder)/ca.pem" ;;
    mutual) set -- "$@" +tls "$(tls_folder)/dicom.key" "$(tls_folder)/dicom.crt" +cf "$(tls_folder)/ca.pem" ;;
    esac
    if timeout "$reach_seconds" echoscu -to 5 -ta 5 -td 5 "$@" "$echo_host" "${echo_listen##*:}" \
        >"$scratch/echo" 2>&1; then
        result ok dicom.echo success success
    elif grep -q 'Calling AE Title Not Recognized' "$scratch/echo"; then
        # It answers, and keeps the stranger out; that it serves a sender was not seen.
        result warn dicom.echo rejected-calling-title success
    else
        result fail dicom.echo "$(sed -n 's/^F: //p' "$scratch/echo" | head -n 1)" success
    fi
}

# UNIT: an empty message that is not retained, as the unit, to a topic that nobody takes for data:
# .../verify stands in no list of the service's channels. The broker's rules let a unit write its
# own subtree, all of it, and nothing else (clearfilm-fleet render acl): so success says that the
# certificate, its name and the rules fit together.
check_publish() {
    publish_url=$(effective mqtt.url)
    case "$publish_url" in
    mqtts://*) ;;
    *)
        result fail mqtt.publish "$publish_url" mqtts://
        return 0
        ;;
    esac
    if ! command -v mosquitto_pub >/dev/null 2>&1; then
        result warn mqtt.publish not-looked-at success
        return 0
    fi
    publish_host=${publish_url#mqtts://}
    case "$publish_host" in
    *:*) publish_port=${publish_host##*:} ;;
    *) publish_port=8883 ;;
    esac
    mkdir -p "$scratch/home"
    # HOME: mosquitto_pub reads options of whoever runs it. A client id of its own: the service's
    # connection would be closed by a second one of the same id.
    HOME="$scratch/home" XDG_CONFIG_HOME="$scratch/home" timeout "$reach_seconds" \
        mosquitto_pub -d -V mqttv5 -h "${publish_host%:*}" -p "$publish_port" \
        --cafile "$root$(effective mqtt.ca_file)" --cert "$root$(effective mqtt.cert_file)" \
        --key "$root$(effective mqtt.key_file)" -i "$1-verify" -q 1 -n \
        -t "$(effective mqtt.root)/$(effective unit.site)/$1/verify" >"$scratch/publish" 2>&1 || :
    # Its exit code is 0 for a message that the broker denied, too: the reason code of MQTT 5 counts.
    publish_code=$(sed -n 's/.*received PUBACK .*RC:\([0-9]*\)).*/\1/p' "$scratch/publish")
    case "$publish_code" in
    0 | 16) result ok mqtt.publish "reason-$publish_code" "reason-0-or-16" ;;
    '') result fail mqtt.publish "$(tail -n 1 "$scratch/publish")" "reason-0-or-16" ;;
    *) result fail mqtt.publish "reason-$publish_code" "reason-0-or-16" ;;
    esac
}
