//! What the unit says of itself: payload of `about`.

use serde_json::{Value, json};

use super::Shared;
use super::engines::Engines;
use crate::config::Config;
use crate::publish::SCHEMAS;
use crate::store::record::BundleName;

impl Shared {
    /// Makes the payload anew, when the engines are known.
    pub(super) fn tell_about(&self) {
        let engines = self.engines.borrow().clone();
        let mut about = self.about_without_engine(&engines);
        if let Some(members) = about.as_object_mut() {
            if let Some(room) = &self.device.identity.room {
                members.insert("room".into(), json!(room));
            }
            if let Some(engine) = &engines.running {
                members.insert("engine".into(), json!(engine));
            }
        }
        self.about.send_replace(about);
    }

    fn about_without_engine(&self, engines: &Engines) -> Value {
        let (config, identity, manifest) =
            (&self.config, &self.device.identity, &self.bundle.manifest);
        let base = format!("{}/{}/{}", config.mqtt.root, identity.site, identity.name);
        let bundle = BundleName {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            digest: self.bundle.digest,
        };
        let schemas: Vec<String> =
            SCHEMAS.iter().map(|(name, _)| format!("urn:clearfilm:schema:{name}:1")).collect();
        json!({
            "unit": identity.name,
            "ae_title": config.dicom.scp.ae_title,
            "software": self.software,
            "bundle": bundle,
            "engines": engines.verdicts,
            "limits": limits(config),
            "topics": {
                "status": format!("{base}/status"),
                "about": format!("{base}/about"),
                "health": format!("{base}/health"),
                "update": format!("{base}/update"),
                "alarm": format!("{base}/alarm/{{type}}"),
                "exam": format!("{base}/exam/{{key}}/{{state,gate,findings,report}}"),
            },
            "schemas": schemas,
        })
    }
}

fn limits(config: &Config) -> Value {
    json!({
        "object_bytes": config.dicom.scp.max_object.as_u64(),
        "associations": config.dicom.scp.max_associations,
        "inbox_rows": config.storage.inbox_rows,
        "outbox_rows": config.mqtt.outbox_rows,
    })
}
