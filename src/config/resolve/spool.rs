//! The disk spool.

use super::Resolver;
use crate::buffer::spooler::{SpoolSettings, SpoolSync};
use crate::config::fault::Origin;
use crate::config::parse;
use crate::config::setting::{SPOOL_DIR, SPOOL_MAX_BYTES, SPOOL_SYNC};
use crate::spool::log::MIN_QUOTA;

impl Resolver<'_> {
    /// The outer `None` is a fault, the inner one is off.
    pub(super) fn spool(&mut self) -> Option<Option<SpoolSettings>> {
        let max_bytes = self.value(&SPOOL_MAX_BYTES, |text| {
            parse::size(text, MIN_QUOTA, parse::MAX_SIZE)
        });
        let sync = self.value(&SPOOL_SYNC, |text| {
            let words = [
                ("always", SpoolSync::Always),
                ("interval", SpoolSync::Interval),
                ("never", SpoolSync::Never),
            ];
            parse::choice(text, &words)
        });
        if self.raw.get(&SPOOL_DIR).is_none() {
            for setting in [&SPOOL_MAX_BYTES, &SPOOL_SYNC] {
                if self.origin(setting) != Some(Origin::Default) {
                    let (setting, dir) = (setting.long(), SPOOL_DIR.long());
                    self.warnings
                        .push(format!("{setting} has no effect without {dir}"));
                }
            }
            return max_bytes.and(sync).map(|_| None);
        }
        let dir = self.path(&SPOOL_DIR)?;
        Some(Some(SpoolSettings {
            dir,
            max_bytes: max_bytes?,
            sync: sync?,
        }))
    }
}
