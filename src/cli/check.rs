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
