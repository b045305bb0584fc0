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
const OPERATOR_READS: [&str; 7] =
    ["status", "about", "health", "update", "alarm/#", "drift", "cmd/+/+/state"];

/// What an operator writes.
const OPERATOR_WRITES: [&str; 1] = ["cmd/+/+"];

/// Which broker reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// `acl_file`.
    Mosquitto,
    /// `acl.conf`.
    Emqx,
}

/// What one user may do below a unit's topics.
struct Rights<'a> {
    who: &'a str,
    user: &'a str,
    reads: &'a [&'a str],
    writes: &'a [&'a str],
}

impl Rights<'_> {
    /// As mosquitto reads it (mosquitto.conf(5), `acl_file`).
    fn mosquitto(&self, base: &str) -> String {
        let rules = |right: &str, topics: &[&str]| -> String {
            topics.iter().map(|topic| format!("topic {right} {base}/{topic}\n")).collect()
        };
        format!("user {}\n{}{}", self.user, rules("read", self.reads), rules("write", self.writes))
    }

    /// As EMQX reads it (EMQX 5, "ACL file"). The first rule that matches decides, and the site's file
    /// ends with `{deny, all}.`, once.
    fn emqx(&self, base: &str) -> String {
        let rule = |action: &str, topics: &[&str]| {
            let topics: Vec<String> = topics.iter().map(|t| format!("\"{base}/{t}\"")).collect();
            format!("{{allow, {{user, \"{}\"}}, {action}, [{}]}}.\n", self.user, topics.join(", "))
        };
        rule("subscribe", self.reads) + &rule("publish", self.writes)
    }
}

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
    /// Which broker reads them.
    #[arg(long, value_enum, default_value_t = Form::Mosquitto)]
    form: Form,
    /// User name of dashboards.
    #[arg(long, value_name = "USER", default_value = "dashboard")]
    dashboard: String,
    /// User name of operators.
    #[arg(long, value_name = "USER", default_value = "operator")]
    operator: String,
}

impl Acl {
    /// The rules as the broker reads them.
    ///
    /// # Errors
    /// A name that no device would take, or one that would end its line or be two people's.
    pub(crate) fn render(&self) -> anyhow::Result<String> {
        self.validate()?;
        let Self { site, unit, root, dashboard, operator, .. } = self;
        let base = format!("{root}/{site}/{unit}");
        let device =
            Rights { who: "the device itself", user: unit, reads: &DEVICE_READS, writes: &["#"] };
        let dashboard =
            Rights { who: "dashboards", user: dashboard, reads: &["#"], writes: &DASHBOARD_WRITES };
        let operator = Rights {
            who: "operators",
            user: operator,
            reads: &OPERATOR_READS,
            writes: &OPERATOR_WRITES,
        };
        let section = |rights: &Rights<'_>| match self.form {
            Form::Mosquitto => {
                format!("# {site}/{unit}: {}\n{}\n", rights.who, rights.mosquitto(&base))
            }
            Form::Emqx => format!("%% {site}/{unit}: {}\n{}\n", rights.who, rights.emqx(&base)),
        };
        Ok([device, dashboard, operator].iter().map(section).collect())
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
            form: Form::Mosquitto,
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
            &["read ~cmd/+/+", "read ~exam/+/feedback", "read ~exam/+/receipt", "write ~#"],
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
            "read ~update",
            "read ~alarm/#",
            "read ~drift",
            "read ~cmd/+/+/state",
            "write ~cmd/+/+",
        ];
        check("operator", &expected);
    }

    #[test]
    fn emqx_is_told_the_same_in_its_own_words() {
        let rules = Acl { form: Form::Emqx, ..acl("north", "north-dx-2") };
        let text = rules.render().expect("rendered");
        let base = "clearfilm/v1/north/north-dx-2";
        let own = format!("{{allow, {{user, \"north-dx-2\"}}, publish, [\"{base}/#\"]}}.\n");
        let operator =
            format!("{{allow, {{user, \"operator\"}}, publish, [\"{base}/cmd/+/+\"]}}.\n");
        assert!(text.contains(&own) && text.contains(&operator), "{text}");
        let allowed = |line: &&str| line.starts_with("{allow, ") && line.ends_with("}.");
        assert_eq!(text.lines().filter(allowed).count(), 6, "two for each user: {text}");
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
