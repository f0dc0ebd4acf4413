//! Values and timestamps: what Go's `strconv` takes in Prometheus's parsers.

use std::str;

/// A value that is no number, to the user.
const NUMBER: &str = "a decimal number, NaN, +Inf or -Inf";

/// Reads a value: a decimal number, `NaN` without a sign, or `Inf` or `Infinity` with or without one, in any case.
///
/// Every NaN becomes the same one. A number that is too large is an error and not infinity; Rust's own parser says
/// infinity, and takes a sign before NaN.
///
/// # Errors
/// What was expected instead.
pub(super) fn value(token: &[u8]) -> Result<f64, &'static str> {
    let text = str::from_utf8(token).map_err(|_| NUMBER)?;
    let (sign, unsigned) = match token {
        [sign @ (b'+' | b'-'), unsigned @ ..] => (Some(*sign), unsigned),
        unsigned => (None, unsigned),
    };
    let is = |word: &str| unsigned.eq_ignore_ascii_case(word.as_bytes());
    if !unsigned.first().is_some_and(u8::is_ascii_alphabetic) {
        return match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            Ok(_) => Err("a number that a double can hold"),
            Err(_) => Err(NUMBER),
        };
    }
    match sign {
        None if is("nan") => Ok(f64::NAN),
        Some(b'-') if is("inf") || is("infinity") => Ok(f64::NEG_INFINITY),
        _ if is("inf") || is("infinity") => Ok(f64::INFINITY),
        _ => Err(NUMBER),
    }
}

/// Reads a timestamp of the text format: whole milliseconds since the epoch, with or without a sign.
///
/// # Errors
/// What was expected instead.
pub(super) fn milliseconds(token: &[u8]) -> Result<i64, &'static str> {
    let text = str::from_utf8(token).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or("a timestamp in whole milliseconds")
}

/// Reads a timestamp of OpenMetrics, seconds since the epoch, to the nearest millisecond.
///
/// # Errors
/// What was expected instead.
pub(super) fn seconds(token: &[u8]) -> Result<i64, &'static str> {
    /// Two to the power of 63, the first value that is too large.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let milliseconds = value(token)
        .map(|seconds| (seconds * 1000.0).round())
        .map_err(|_| "a timestamp in seconds")?;
    if (-LIMIT..LIMIT).contains(&milliseconds) {
        Ok(milliseconds as i64)
    } else {
        Err("a timestamp in seconds that is finite and fits 64 bits of milliseconds")
    }
}
