#!/usr/bin/env bash
# A package as `cargo xtask package` makes it, from programs that are built for tests:
#
#   tests/deb.sh CLEARFILM CLEARFILM_FLEET FILE.deb
set -euo pipefail
clearfilm="$1" fleet="$2" deb="$3"
workspace="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
p="$(mktemp -d)"
trap 'rm -rf "$p"' EXIT

mkdir -p "$p/DEBIAN" "$p/usr/bin" "$p/usr/lib/clearfilm/factory/app" "$p/etc/clearfilm/conf.d" "$p/lib/systemd/system"
strip -o "$p/usr/lib/clearfilm/factory/app/clearfilm" "$clearfilm"
strip -o "$p/usr/lib/clearfilm/factory/app/clearfilm-fleet" "$fleet"
cp -r "$workspace/models/bundles/demo" "$p/usr/lib/clearfilm/factory/bundle"
cp "$workspace/provisioning/switch/switch" "$p/usr/lib/clearfilm/switch"
cp -r "$workspace/provisioning/scripts" "$p/usr/lib/clearfilm/provision"
ln -s /var/lib/clearfilm-slots/daemon/current/app/clearfilm "$p/usr/bin/clearfilm"
ln -s /var/lib/clearfilm-slots/agent/current/app/clearfilm-fleet "$p/usr/bin/clearfilm-fleet"
cp "$workspace/docs/config.toml" "$p/etc/clearfilm/config.toml"
for unit in daemon=clearfilm.service agent=clearfilm-agent.service 'switch=clearfilm-switch@.service' 'switch-path=clearfilm-switch@.path'; do
    "$fleet" render unit "${unit%%=*}" >"$p/lib/systemd/system/${unit#*=}"
done
cp "$workspace"/provisioning/debian/* "$p/DEBIAN/"
cat >"$p/DEBIAN/control" <<TEXT
Package: clearfilm
Version: 0.1.0
Architecture: $(dpkg --print-architecture)
Maintainer: Clearfilm <clearfilm@example.invalid>
Depends: passwd
Description: Clearfilm as its tests build it
TEXT
chmod -R u=rwX,go=rX "$p"
chmod 755 "$p"/DEBIAN/p*
chmod 640 "$p/etc/clearfilm/config.toml"
chmod 750 "$p/etc/clearfilm/conf.d"
dpkg-deb -Zgzip -z1 --root-owner-group -b "$p" "$deb" >/dev/null
