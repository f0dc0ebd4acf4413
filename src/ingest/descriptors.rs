//! The limit of open file descriptors.

use std::io;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises this process's limit of open descriptors to the hard limit, and returns it (`None`: unlimited).
///
/// Every sender takes a descriptor, and the usual soft limit is 1024. Processes started later inherit the raised
/// limit.
///
/// # Errors
/// When the kernel refuses; the limit is then as it was.
pub fn raise_descriptor_limit() -> io::Result<Option<u64>> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(limit.maximum)
}
