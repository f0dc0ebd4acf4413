//! A configuration as written, each value with its origin: flags, environment, file, defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::fault::{Fault, Origin, Wrong};
use super::file;
use super::host::Host;
use super::setting::{Fallback, Setting, Shape};

/// What the command line holds: the values as written, unchecked, so that one run can report
/// every fault. `Debug` names the flags that are set and hides their values.
#[derive(Clone, Default)]
pub struct Flags {
    config: Option<PathBuf>,
    values: BTreeMap<&'static str, Vec<String>>,
}

impl Flags {
    /// Names the configuration file.
    pub(crate) fn set_config(&mut self, path: Option<PathBuf>) {
        self.config = path;
    }

    /// Sets the values given for one flag, in their order.
    pub(crate) fn set(&mut self, setting: &'static Setting, values: Vec<String>) {
        self.values.insert(setting.flag, values);
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.values.keys().collect();
        f.debug_struct("Flags")
            .field("config", &self.config)
            .field("set", &names)
            .finish()
    }
}

/// The texts of one setting and where they came from: any number for a list, else one, or none
/// when what was given has no usable form and is a fault already.
pub(super) struct Given {
    pub(super) texts: Vec<String>,
    pub(super) origin: Origin,
}

impl Given {
    /// Given, so that it does not count as missing, but of no usable form.
    pub(super) fn unusable(origin: Origin) -> Self {
        let texts = Vec::new();
        Self { texts, origin }
    }
}

/// The strongest layer of every setting that has a value.
pub(super) struct Raw {
    given: BTreeMap<&'static str, Given>,
    /// The file could not be read or parsed: what is missing may stand in it.
    pub(super) file_missing: bool,
}

impl Raw {
    /// Lays flags over environment over file over defaults, for these settings and whatever else
    /// the file holds. What cannot be read at all goes to `faults`.
    pub(super) fn collect(
        settings: &[&'static Setting],
        flags: &Flags,
        host: &dyn Host,
        faults: &mut Vec<Fault>,
    ) -> Self {
        let in_file = match read_file(flags, host) {
            Ok(None) => Some(Vec::new()),
            Ok(Some((path, content))) => file::parse(&path, &content, faults),
            Err(fault) => {
                faults.push(fault);
                None
            }
        };
        let file_missing = in_file.is_none();

        let mut given: BTreeMap<_, _> = settings
            .iter()
            .filter_map(|setting| Some((setting.flag, default_of(setting)?)))
            .collect();
        for (setting, value) in in_file.into_iter().flatten() {
            given.insert(setting.flag, value);
        }
        for setting in settings {
            if let Some(value) = from_environment(setting, host, faults) {
                given.insert(setting.flag, value);
            }
            if let Some(value) = from_flags(setting, flags, faults) {
                given.insert(setting.flag, value);
            }
        }
        Self {
            given,
            file_missing,
        }
    }

    pub(super) fn get(&self, setting: &Setting) -> Option<&Given> {
        self.given.get(setting.flag)
    }

    /// The origin of every setting that has a value.
    pub(super) fn into_origins(self) -> BTreeMap<&'static str, Origin> {
        self.given
            .into_iter()
            .map(|(flag, given)| (flag, given.origin))
            .collect()
    }
}

fn read_file(flags: &Flags, host: &dyn Host) -> Result<Option<(PathBuf, String)>, Fault> {
    let Some(path) = flags.config.clone() else {
        return Ok(None);
    };
    let content = host.read(&path, file::MAX_BYTES).map_err(|error| {
        let message = format!("cannot read {}: {error}", path.display());
        Fault::new("--config", message, Some(Origin::Flag))
    })?;
    match String::from_utf8(content) {
        Ok(content) => Ok(Some((path, content))),
        Err(_) => {
            let message = format!(
                "expected TOML, got bytes that are not UTF-8 in {}",
                path.display()
            );
            Err(Fault::new("--config", message, Some(Origin::Flag)))
        }
    }
}

fn default_of(setting: &Setting) -> Option<Given> {
    match setting.fallback {
        Fallback::Text(text) => Some(Given {
            texts: match setting.shape {
                Shape::List => text.split(',').map(str::to_owned).collect(),
                _ => vec![text.to_owned()],
            },
            origin: Origin::Default,
        }),
        Fallback::Derived(_) | Fallback::Required(_) | Fallback::Unset => None,
    }
}

fn from_environment(setting: &Setting, host: &dyn Host, faults: &mut Vec<Fault>) -> Option<Given> {
    let value = host.variable(setting.env)?;
    if value.is_empty() && setting.shape != Shape::TextOrEmpty {
        return None;
    }
    let origin = Origin::Environment(setting.env);
    Some(match value.into_string() {
        Ok(text) => written(setting, vec![text], origin, faults),
        Err(_) => {
            let wrong = Wrong::new("UTF-8", "other bytes");
            faults.push(Fault::wrong(setting.long(), &wrong, Some(origin.clone())));
            Given::unusable(origin)
        }
    })
}

fn from_flags(setting: &Setting, flags: &Flags, faults: &mut Vec<Fault>) -> Option<Given> {
    let texts = flags.values.get(setting.flag)?;
    Some(written(setting, texts.clone(), Origin::Flag, faults))
}

/// Splits the values of a list; leaves the others as they are.
fn written(
    setting: &Setting,
    texts: Vec<String>,
    origin: Origin,
    faults: &mut Vec<Fault>,
) -> Given {
    if setting.shape != Shape::List {
        return Given { texts, origin };
    }
    let split: Result<Vec<_>, _> = texts.iter().map(|text| split_csv(text)).collect();
    match split {
        Ok(fields) => Given {
            texts: fields.concat(),
            origin,
        },
        Err(got) => {
            let wrong = Wrong::new("values separated by commas", got);
            faults.push(Fault::wrong(setting.long(), &wrong, Some(origin.clone())));
            Given::unusable(origin)
        }
    }
}

/// Fields of one CSV record: a field that starts with a quote ends with one, and holds commas and
/// doubled quotes. The error says what came, without repeating it.
fn split_csv(text: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        let mut field = String::new();
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next() {
                    Some('"') if chars.next_if_eq(&'"').is_some() => field.push('"'),
                    Some('"') => break,
                    Some(other) => field.push(other),
                    None => return Err("a quote that is not closed"),
                }
            }
        } else {
            while let Some(other) = chars.next_if(|&next| next != ',') {
                if other == '"' {
                    return Err("a quote inside a value that does not start with one");
                }
                field.push(other);
            }
        }
        fields.push(field);
        match chars.next() {
            Some(',') => {}
            Some(_) => return Err("text after a closing quote"),
            None => return Ok(fields),
        }
    }
}
