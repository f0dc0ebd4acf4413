//! The settings as command-line arguments, made from the table of settings.
//!
//! Values are taken as written: the configuration checks them, so that one run reports all faults.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueHint, value_parser};

use crate::config::Flags;
use crate::config::control::setting as control;
use crate::config::refused::REFUSALS;
use crate::config::setting::{
    AGENT_HEADER, AGENT_TOKEN, AGENT_TOKEN_FILE, AGENT_URL, ALL, API_SOCKET, COALESCE_MAX_BYTES,
    DELIVERY, Fallback, LOG_FORMAT, LOG_LEVEL, RETRY_INITIAL, RETRY_MAX, ROLE, SOCKET_PATH,
    Setting, Shape, TRANSPORT,
};

/// Settings that lead to the API socket of a sidecar.
static STATUS: &[&Setting] = &[&SOCKET_PATH, &API_SOCKET];

/// Settings of a producer.
static EMIT: &[&Setting] = &[&SOCKET_PATH, &LOG_LEVEL, &LOG_FORMAT];

/// Settings of a replay.
static REPLAY: &[&Setting] = &[
    &AGENT_URL,
    &AGENT_TOKEN,
    &AGENT_TOKEN_FILE,
    &AGENT_HEADER,
    &TRANSPORT,
    &ROLE,
    &DELIVERY,
    &RETRY_INITIAL,
    &RETRY_MAX,
    &COALESCE_MAX_BYTES,
    &LOG_LEVEL,
    &LOG_FORMAT,
];

macro_rules! flags {
    ($(#[$doc:meta])* $name:ident, $settings:expr, $arguments:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name(pub Flags);

        impl Args for $name {
            fn augment_args(command: Command) -> Command {
                command.args($arguments($settings))
            }

            fn augment_args_for_update(command: Command) -> Command {
                Self::augment_args(command)
            }
        }

        impl FromArgMatches for $name {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                collect($settings, matches).map(Self)
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                *self = Self::from_arg_matches(matches)?;
                Ok(())
            }
        }
    };
}

flags! {
    /// Every setting of the sidecar.
    RunFlags, ALL, with_file
}

flags! {
    /// The settings that say where a running sidecar answers.
    StatusFlags, STATUS, with_file
}

flags! {
    /// The settings that say where a producer writes, and what it logs.
    EmitFlags, EMIT, with_file
}

flags! {
    /// The settings that say how a control plane is reached, and what is logged.
    ReplayFlags, REPLAY, with_file
}

flags! {
    /// Every setting of the control plane.
    ControlFlags, control::ALL, arguments
}

/// The settings, which a file may hold too.
fn with_file(settings: &[&'static Setting]) -> Vec<Arg> {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .value_hint(ValueHint::FilePath)
        .help("TOML file with settings; keys are the flag names in snake case, unknown keys are refused");
    std::iter::once(config).chain(arguments(settings)).collect()
}

fn arguments(settings: &[&'static Setting]) -> Vec<Arg> {
    settings.iter().map(|setting| argument(setting)).collect()
}

fn argument(setting: &'static Setting) -> Arg {
    let argument = Arg::new(setting.flag)
        .long(setting.flag)
        .value_name(setting.value_name)
        .help(help(setting));
    match setting.shape {
        Shape::List => argument.action(ArgAction::Append),
        Shape::Switch => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        Shape::Path => argument.value_hint(ValueHint::AnyPath),
        Shape::Text | Shape::TextOrEmpty | Shape::Number => argument,
    }
}

fn help(setting: &Setting) -> String {
    let mut help = format!("{}\n[env: {}]", setting.help, setting.env);
    match setting.fallback {
        Fallback::Text(text) | Fallback::Derived(text) => {
            help.push_str(&format!(" [default: {text}]"));
        }
        Fallback::Required(what) => help.push_str(&format!(" [{what}]")),
        Fallback::Unset => {}
    }
    let refusals = REFUSALS
        .iter()
        .filter(|row| std::ptr::eq(row.setting, setting));
    for refusal in refusals {
        help.push_str(&format!("\n[in this version {}]", refusal.reason));
    }
    help
}

fn collect(settings: &[&'static Setting], matches: &ArgMatches) -> Result<Flags, clap::Error> {
    let mut flags = Flags::default();
    // An error: the command takes no file.
    let file = matches.try_get_one::<PathBuf>("config").unwrap_or_default();
    flags.set_config(file.cloned());
    for setting in settings {
        if let Some(values) = matches.get_many::<String>(setting.flag) {
            flags.set(setting, values.cloned().collect());
        }
    }
    Ok(flags)
}
