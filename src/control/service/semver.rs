//! Versions as `golang.org/x/mod/semver` takes them: with a leading v, and minor and patch may be absent.

/// Whether the text is a valid version.
pub(super) fn is_valid(version: &str) -> bool {
    let Some(version) = version.strip_prefix('v') else {
        return false;
    };
    let (version, build) = split_at(version, '+');
    let (numbers, prerelease) = split_at(version, '-');
    let parts = numbers.split('.').count();
    parts <= 3
        && numbers.split('.').all(is_number)
        && (parts == 3 || (prerelease.is_none() && build.is_none()))
        && prerelease.is_none_or(|list| {
            list.split('.')
                .all(|part| is_identifier(part) && (!is_digits(part) || is_number(part)))
        })
        && build.is_none_or(|list| list.split('.').all(is_identifier))
}

/// The text before the first of this character, and that behind it.
fn split_at(text: &str, character: char) -> (&str, Option<&str>) {
    match text.split_once(character) {
        Some((before, behind)) => (before, Some(behind)),
        None => (text, None),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Digits without a leading zero.
fn is_number(text: &str) -> bool {
    is_digits(text) && (text == "0" || !text.starts_with('0'))
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn versions_are_judged_as_the_reference_judges_them() {
        for valid in [
            "v1",
            "v1.2",
            "v2.30.0",
            "v0.0.0",
            "v1.2.3-rc.1",
            "v1.2.3-0a.x-y",
            "v1.2.3+build.007",
            "v1.2.3-a+b-c",
        ] {
            assert!(is_valid(valid), "{valid}");
        }
        for invalid in [
            "",
            "v",
            "2.30.0",
            "V1.2.3",
            "v01.2.3",
            "v1.02.3",
            "v1.2.3.4",
            "v1.2.",
            "v1..3",
            "v1.2-rc",
            "v1+b",
            "v1.2.3-",
            "v1.2.3-01",
            "v1.2.3-a..b",
            "v1.2.3+",
            "v1.2.3+a_b",
            "v1.2.3 ",
            "v-1.2.3",
        ] {
            assert!(!is_valid(invalid), "{invalid}");
        }
    }
}
