# shellcheck shell=sh
# The configuration that is in force: what `clearfilm check` says of config.toml and conf.d.
# Sourced after common.sh.
: "${root=}" "${scratch=}"

# The program; --clearfilm names another.
clearfilm=''

clearfilm_program() { printf '%s\n' "${clearfilm:-$root/usr/bin/clearfilm}"; }

has_clearfilm() { [ -x "$(clearfilm_program)" ]; }

# FILE: checks a configuration; what is in force to $scratch/effective, what is wrong to
# $scratch/wrong. Without the environment: CLEARFILM__... would override the files here, and not in
# the service.
check_configuration() {
    env -i PATH="$PATH" "$(clearfilm_program)" check --config "$1" \
        >"$scratch/effective" 2>"$scratch/wrong"
}

# KEY: its value in force, a string without its quotes. Lines are `key = value  # origin`.
effective() {
    effective_key=$(printf '%s' "$1" | sed 's/\./\\./g')
    sed -n "s/^$effective_key *= \(.*\)  # .*/\1/p" "$scratch/effective" | sed 's/^"\(.*\)"$/\1/'
}

# The addresses of peers in force, one a line. Titles are no addresses, so each word is looked at.
peer_addresses() {
    effective dicom.peers | grep -o 'addresses = \[[^]]*\]' | grep -o '"[^"]*"' | tr -d '"' | sort -u
}

# host:port or [host]:port on standard input: the port.
port_of() { sed 's/.*://'; }

# Size as the configuration prints it ("2.0 GiB", "2GiB", "500 MB", 1024) in KiB, rounded up.
as_kib() {
    awk '{
        gsub(/"/, ""); number = $0 + 0; unit = $0; gsub(/[0-9. ]/, "", unit)
        factor = unit == "B" || unit == "" ? 1 : -1
        split("KiB MiB GiB TiB PiB", binary, " "); split("kB MB GB TB PB", decimal, " ")
        for (i = 1; i <= 5; i++) {
            if (unit == binary[i]) factor = 1024 ^ i
            if (unit == decimal[i] || (i == 1 && unit == "KB")) factor = 1000 ^ i
        }
        if (factor > 0) printf "%.0f\n", int((number * factor + 1023) / 1024)
    }'
}
