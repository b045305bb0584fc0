//! The broker's access rules: who may write and read which part of the topic tree.
//!
//! Rendered for each device by name. mosquitto's patterns know only the user name and the client
//! id, and a device's topics begin with its site.

use anyhow::ensure;
use clap::Args;
use clearfilm::config::Config;

/// What a device reads of its own subtree; it writes all of it.
const DEVICE_READS: [&str; 3] = ["cmd/+/+", "exam/+/feedback", "exam/+/receipt"];

/// What a dashboard writes; it reads the whole subtree.
const DASHBOARD_WRITES: [&str; 2] = ["exam/+/feedback", "exam/+/receipt"];

/// What an operator reads: how devices do, never what an exam says.
const OPERATOR_READS: [&str; 6] =
    ["status", "about", "health", "alarm/#", "drift", "cmd/+/+/state"];

/// What an operator writes.
const OPERATOR_WRITES: [&str; 1] = ["cmd/+/+"];

/// Whose rules are rendered.
#[derive(Debug, Args)]
pub(crate) struct Acl {
    /// Site, [a-z0-9-], 1 to 32.
    #[arg(long)]
    site: String,
    /// Device id, [a-z0-9-], 4 to 32; also its user name at the broker.
    #[arg(long)]
    unit: String,
    /// Root of the topic tree.
    #[arg(long, default_value = "clearfilm/v1")]
    root: String,
    /// User name of dashboards.
    #[arg(long, value_name = "USER", default_value = "dashboard")]
    dashboard: String,
    /// User name of operators.
    #[arg(long, value_name = "USER", default_value = "operator")]
    operator: String,
}

impl Acl {
    /// The rules as mosquitto reads them.
    ///
    /// # Errors
    /// A name that no device would take, or one that would end its line or be two people's.
    pub(crate) fn render(&self) -> anyhow::Result<String> {
        self.validate()?;
        let Self { site, unit, root, dashboard, operator } = self;
        let base = format!("{root}/{site}/{unit}");
        let rule = |right: &str, topic: &str| format!("topic {right} {base}/{topic}\n");
        let rules = |right: &str, topics: &[&str]| {
            topics.iter().map(|t| rule(right, t)).collect::<String>()
        };
        Ok([
            format!("# {site}/{unit}: the device itself\nuser {unit}\n"),
            rule("write", "#"),
            rules("read", &DEVICE_READS),
            format!("\n# {site}/{unit}: dashboards\nuser {dashboard}\n"),
            rule("read", "#"),
            rules("write", &DASHBOARD_WRITES),
            format!("\n# {site}/{unit}: operators\nuser {operator}\n"),
            rules("read", &OPERATOR_READS),
            rules("write", &OPERATOR_WRITES),
            "\n".into(),
        ]
        .concat())
    }

    /// The device's own rules decide what a site, a device id and a root may be.
    fn validate(&self) -> anyhow::Result<()> {
        let mut config = Config::default();
        config.unit.site.clone_from(&self.site);
        config.unit.name.clone_from(&self.unit);
        config.mqtt.root.clone_from(&self.root);
        config.validate()?;
        for (flag, user) in [("--dashboard", &self.dashboard), ("--operator", &self.operator)] {
            let plain = !user.is_empty()
                && user.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
            ensure!(plain, "{flag}: expected a user name of [A-Za-z0-9._-], found {user:?}");
            ensure!(
                *user != self.unit,
                "{flag}: expected another user than the device, found {user:?}"
            );
        }
        ensure!(
            self.dashboard != self.operator,
            "--operator: expected another user than the dashboards', found {:?}",
            self.operator
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(site: &str, unit: &str) -> Acl {
        Acl {
            site: site.into(),
            unit: unit.into(),
            root: "clearfilm/v1".into(),
            dashboard: "dashboard".into(),
            operator: "operator".into(),
        }
    }

    /// What one user may do, in the order of the file.
    fn rights(text: &str, user: &str) -> Vec<String> {
        let section =
            text.split("user ").find(|s| s.lines().next() == Some(user)).unwrap_or_default();
        section.lines().filter_map(|l| l.strip_prefix("topic ")).map(Into::into).collect()
    }

    #[track_caller]
    fn check(user: &str, expected: &[&str]) {
        let text = acl("north", "north-dx-2").render().expect("rendered");
        let base = "clearfilm/v1/north/north-dx-2/";
        let expected: Vec<String> = expected.iter().map(|e| e.replace('~', base)).collect();
        assert_eq!(rights(&text, user), expected);
    }

    #[test]
    fn a_device_writes_its_own_subtree_and_reads_what_is_said_to_it() {
        check(
            "north-dx-2",
            &["write ~#", "read ~cmd/+/+", "read ~exam/+/feedback", "read ~exam/+/receipt"],
        );
    }

    #[test]
    fn a_dashboard_reads_all_and_writes_only_answers() {
        check("dashboard", &["read ~#", "write ~exam/+/feedback", "write ~exam/+/receipt"]);
    }

    #[test]
    fn an_operator_sees_no_exam_and_writes_only_commands() {
        let expected = [
            "read ~status",
            "read ~about",
            "read ~health",
            "read ~alarm/#",
            "read ~drift",
            "read ~cmd/+/+/state",
            "write ~cmd/+/+",
        ];
        check("operator", &expected);
    }

    #[track_caller]
    fn check_refused(acl: Acl, expected: &str) {
        let error = acl.render().expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_name_that_no_device_takes_is_refused() {
        for unit in
            ["dx2", "North-DX-2", "north/dx", "north+dx", "a-name-that-is-longer-than-32-bytes"]
        {
            check_refused(acl("north", unit), "unit.name: expected [a-z0-9-]{4,32}");
        }
        check_refused(acl("north\ntopic #", "north-dx-2"), "unit.site");
        check_refused(
            Acl { root: "clearfilm/#".into(), ..acl("north", "north-dx-2") },
            "mqtt.root",
        );
    }

    #[test]
    fn a_user_that_would_be_two_or_end_its_line_is_refused() {
        check_refused(
            Acl { operator: "ops\ntopic #".into(), ..acl("north", "north-dx-2") },
            "--operator: expected a user name",
        );
        check_refused(
            Acl { dashboard: "north-dx-2".into(), ..acl("north", "north-dx-2") },
            "--dashboard: expected another",
        );
        check_refused(
            Acl { operator: "dashboard".into(), ..acl("north", "north-dx-2") },
            "--operator: expected another",
        );
    }
}
