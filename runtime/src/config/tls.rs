//! What is asked of the settings for TLS: files where they are needed, and nowhere else.
//!
//! The files themselves are read when they are used: they may be made later.

use std::path::Path;

use super::sections::{Mqtt, ScpTls, TlsMode};

/// What the URL of a broker with TLS begins with.
pub(super) const MQTTS: &str = "mqtts://";

impl ScpTls {
    pub(super) fn validate(&self, check: &mut impl FnMut(bool, String)) {
        let Self { mode, cert_file, key_file, ca_file } = self;
        for (key, file, needed) in [
            ("cert_file", cert_file, *mode != TlsMode::Off),
            ("key_file", key_file, *mode != TlsMode::Off),
            ("ca_file", ca_file, *mode == TlsMode::Mutual),
        ] {
            check(
                !needed || is_set(file),
                format!("dicom.scp.tls.{key}: expected a file for this mode, found none"),
            );
        }
    }
}

impl Mqtt {
    /// Is the broker spoken to over TLS?
    #[must_use]
    pub fn secure(&self) -> bool {
        self.url.starts_with(MQTTS)
    }

    pub(super) fn validate_tls(&self, check: &mut impl FnMut(bool, String)) {
        let Self { ca_file, cert_file, key_file, .. } = self;
        check(
            is_set(cert_file) == is_set(key_file),
            "mqtt.cert_file and mqtt.key_file: expected both or none, found one".into(),
        );
        check(
            self.secure() || ![ca_file, cert_file, key_file].into_iter().any(|f| is_set(f)),
            "mqtt.url: expected mqtts:// where certificate files are named, found mqtt://".into(),
        );
        // The library takes the brackets for a part of the name that it verifies.
        check(
            !self.secure() || !self.url.contains('['),
            "mqtt.url: expected a name or an IPv4 address with mqtts://, found an IPv6 address"
                .into(),
        );
    }
}

fn is_set(file: &Path) -> bool {
    !file.as_os_str().is_empty()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::Config;

    fn wrong(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        config.validate().map_or_else(|e| e.to_string(), |()| String::new())
    }

    #[test]
    fn a_mode_needs_its_files() {
        let scp = |mode, files: [&str; 3]| {
            let [cert_file, key_file, ca_file] = files.map(PathBuf::from);
            wrong(|c| c.dicom.scp.tls = ScpTls { mode, cert_file, key_file, ca_file })
        };
        assert_eq!(scp(TlsMode::Off, ["", "", ""]), "");
        assert_eq!(scp(TlsMode::Server, ["c", "k", ""]), "");
        assert_eq!(scp(TlsMode::Mutual, ["c", "k", "a"]), "");
        let none = scp(TlsMode::Server, ["", "", ""]);
        assert!(none.contains("tls.cert_file") && none.contains("tls.key_file"), "{none}");
        assert!(scp(TlsMode::Mutual, ["c", "k", ""]).contains("tls.ca_file"));
    }

    #[test]
    fn files_need_a_broker_with_tls_and_a_certificate_its_key() {
        let broker = |url: &str, files: [&str; 3]| {
            let [ca_file, cert_file, key_file] = files.map(PathBuf::from);
            let url = url.into();
            wrong(|c| c.mqtt = Mqtt { url, ca_file, cert_file, key_file, ..Mqtt::default() })
        };
        assert_eq!(broker("mqtts://b", ["", "", ""]), "");
        assert_eq!(broker("mqtts://b", ["a", "c", "k"]), "");
        assert!(broker("mqtts://b", ["a", "c", ""]).contains("mqtt.key_file"));
        assert!(broker("mqtt://b", ["a", "", ""]).contains("mqtts://"));
    }

    #[test]
    fn a_broker_with_tls_has_a_port_of_its_own() {
        let address = |url: &str| Mqtt { url: url.into(), ..Mqtt::default() }.address();
        assert_eq!(address("mqtts://b"), Ok(("b".into(), 8883)));
        assert_eq!(address("mqtt://b"), Ok(("b".into(), 1883)));
        assert_eq!(address("mqtts://b:1"), Ok(("b".into(), 1)));
    }
}
