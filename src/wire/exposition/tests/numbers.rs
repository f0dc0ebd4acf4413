use super::super::number::{milliseconds, seconds, value};

#[test]
fn a_value_is_what_go_takes() {
    for (text, number) in [
        ("0", 0.0),
        ("-1", -1.0),
        ("+1.5", 1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e5", 1e5),
        ("1E+5", 1e5),
        ("0001", 1.0),
        ("1e-400", 0.0),
        ("9007199254740993", 9_007_199_254_740_992.0),
        ("1.7976931348623157e308", f64::MAX),
        ("4.9e-324", f64::from_bits(1)),
        ("Inf", f64::INFINITY),
        ("+inf", f64::INFINITY),
        ("-INFINITY", f64::NEG_INFINITY),
    ] {
        assert_eq!(value(text.as_bytes()), Ok(number), "{text}");
    }
    assert!(value(b"-0").unwrap().is_sign_negative());
    for text in ["NaN", "nan", "NAN"] {
        assert_eq!(
            value(text.as_bytes()).map(f64::to_bits),
            Ok(f64::NAN.to_bits())
        );
    }
    for text in [
        "", "+", "-", ".", "e5", "1e", "1e+", "--1", "1.2.3", "1,5", "0x10", "0x1p4", "1_000",
        "1p5", "+NaN", "-nan", "nano", "infin", "++inf", "1f", "1 ", "\u{661}", "1\0", "1\r",
    ] {
        assert_eq!(
            value(text.as_bytes()),
            Err("a decimal number, NaN, +Inf or -Inf"),
            "{text}"
        );
    }
    for text in ["1e400", "-1e400", "1e99999999999999999999"] {
        assert_eq!(
            value(text.as_bytes()),
            Err("a number that a double can hold"),
            "{text}"
        );
    }
    assert!(value(b"\xff").is_err());
}

#[test]
fn a_timestamp_is_whole_milliseconds_or_seconds() {
    assert_eq!(milliseconds(b"1395066363000"), Ok(1_395_066_363_000));
    assert_eq!(milliseconds(b"-1"), Ok(-1));
    assert_eq!(milliseconds(b"+1"), Ok(1));
    assert_eq!(milliseconds(b"-9223372036854775808"), Ok(i64::MIN));
    for text in [
        "",
        "-",
        "9223372036854775808",
        "1.5",
        "1e3",
        "1_0",
        "NaN",
        "0x1",
    ] {
        assert!(milliseconds(text.as_bytes()).is_err(), "{text}");
    }
    assert_eq!(seconds(b"1395066363.1"), Ok(1_395_066_363_100));
    assert_eq!(seconds(b"1.001"), Ok(1001));
    assert_eq!(seconds(b"-0.0004"), Ok(0));
    assert_eq!(seconds(b"-9007199254740"), Ok(-9_007_199_254_740_000));
    for text in ["", "NaN", "+Inf", "1e300", "9223372036854776", "x"] {
        assert!(seconds(text.as_bytes()).is_err(), "{text}");
    }
}
