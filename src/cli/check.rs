//! What `weir check` prints about a valid configuration.

use std::io::{self, Write};

use bytesize::ByteSize;

use crate::config::{Config, Host, memory_limit};

/// Writes the effective configuration and its worst-case memory to `out`, as TOML and comments,
/// and what is probably not meant to `warnings`.
///
/// # Errors
/// When either cannot be written.
pub fn report(
    config: &Config,
    host: &dyn Host,
    out: &mut dyn Write,
    warnings: &mut dyn Write,
) -> io::Result<()> {
    let bound = config.memory_bound();
    write!(out, "{config}")?;
    writeln!(out, "# memory at most {bound}")?;
    out.flush()?;
    for warning in config.warnings() {
        writeln!(warnings, "warning: {warning}")?;
    }
    if let Some(limit) = memory_limit(host).filter(|limit| *limit < bound.total()) {
        let limit = ByteSize(limit).display().iec();
        let total = ByteSize(bound.total()).display().iec();
        writeln!(
            warnings,
            "warning: the control group allows {limit} of memory, the configuration can take \
             {total}: lower --buffer-max-bytes or --buffer-max-batches, or raise the limit"
        )?;
    }
    warnings.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;
    use crate::config::fake::Fake;

    fn warnings(limit: &str) -> String {
        let host = Fake::default()
            .with_variable("CODER_AGENT_URL", "https://coder.example.com")
            .with_variable("CODER_AGENT_TOKEN", "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d")
            .with_file("/proc/self/cgroup", "0::/\n")
            .with_file("/sys/fs/cgroup/memory.max", limit);
        let config = Config::resolve(&Flags::default(), &host).unwrap();
        let (mut out, mut warnings) = (Vec::new(), Vec::new());
        report(&config, &host, &mut out, &mut warnings).unwrap();
        String::from_utf8(warnings).unwrap()
    }

    #[test]
    fn a_control_group_that_is_too_small_is_a_warning() {
        assert_eq!(warnings("max\n"), "");
        assert_eq!(warnings("1073741824\n"), "");
        let said = warnings("16777216\n");
        assert!(said.contains("allows 16.0 MiB of memory"), "{said}");
    }
}
