//! The service file of a device.

use std::path::Path;

use anyhow::ensure;

/// The unit, with `@binary@` and `@config@` left open.
const TEMPLATE: &str = include_str!("../systemd/clearfilm.service");

/// The systemd unit of `clearfilm run`.
///
/// # Errors
/// A path that is not absolute, or that systemd would read as something else.
pub(crate) fn render(binary: &Path, config: &Path) -> anyhow::Result<String> {
    let mut text = TEMPLATE.to_owned();
    for (what, path) in [("binary", binary), ("config", config)] {
        let plain = path.to_str().filter(|p| {
            p.starts_with('/')
                && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+".contains(&b))
        });
        ensure!(
            plain.is_some(),
            "--{what}: expected an absolute path of [A-Za-z0-9/._+-], found {}",
            path.display()
        );
        text = text.replace(&format!("@{what}@"), plain.unwrap_or_default());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_runs_the_binary_with_its_configuration_and_leaves_nothing_open() {
        let text =
            render(Path::new("/opt/c/clearfilm"), Path::new("/etc/c.toml")).expect("rendered");
        assert!(text.contains("\nExecStart=/opt/c/clearfilm run --config /etc/c.toml\n"), "{text}");
        assert!(!text.contains("@binary@") && !text.contains("@config@"), "{text}");
    }

    #[track_caller]
    fn check_refused(config: &str) {
        let error = render(Path::new("/usr/bin/clearfilm"), Path::new(config))
            .expect_err("refused")
            .to_string();
        assert!(error.starts_with("--config: expected an absolute path"), "{error}");
    }

    #[test]
    fn a_path_that_systemd_would_read_as_something_else_is_refused() {
        check_refused("config.toml");
        check_refused("/etc/%h/config.toml");
        check_refused("/etc/config.toml\nUser=root");
    }
}
